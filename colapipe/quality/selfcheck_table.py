"""The table of the self-check: one row for each contrast that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe.bids.tables import write_table
from colapipe.contrasts import CONTRASTS
from colapipe.quality.arrays import has_data
from colapipe.quality.lights import Verdict, judge
from colapipe.quality.limits import COVERAGE
from colapipe.quality.selfcheck import SLICES, Measures, Pair, measure_session
from colapipe.quality.stored import Quality

NOT_CALIBRATED = (
    "not calibrated: the model does not know what is usual (colapipe-model calibrate tells it)"
)

SELFCHECK_COLUMNS: dict[str, dict[str, Any]] = {
    "contrast": {
        "LongName": "Contrast",
        "Description": "The acquired contrast that was left out, synthesised from the others on "
        f"{SLICES} axial slices, and compared with the scan.",
    },
    "sources": {
        "LongName": "Source contrasts",
        "Description": "The contrasts that it was synthesised from, joined by '+'.",
    },
    "light": {
        "LongName": "Traffic light",
        "Description": "What the numbers mean, by limits found on validation participants.",
        "Levels": {
            "green": "As usual",
            "amber": "Unusual: look at the scan",
            "red": "Something is very likely wrong with this scan, its name or its sources",
            "n/a": "Not checked, or the model is not calibrated; see the reasons",
        },
    },
    "reasons": {
        "LongName": "Reasons",
        "Description": "What is unusual and what to look at, the gravest first, joined by '; '.",
    },
    "score": {
        "LongName": "Score",
        "Description": "The correlation on a scale (Fisher's z) where 1 is the mean of the "
        "validation participants and 0 is where red begins.",
    },
    "correlation": {
        "LongName": "Correlation",
        "Description": "Pearson's correlation of scan and synthesis over the brain's voxels.",
    },
    "asymmetry": {
        "LongName": "Correlation of left-right differences",
        "Description": "Correlation of scan and synthesis in what differs between the two halves "
        "of the brain. 1: the same differences; below 0: a mirrored scan fits better.",
    },
    "turn": {
        "LongName": "Turn",
        "Description": "Angle by which the scan must be turned to fit its synthesis best.",
        "Units": "degree",
    },
    "shift": {
        "LongName": "Shift",
        "Description": "How far its middle must be shifted for that.",
        "Units": "mm",
    },
    "displacement": {
        "LongName": "Displacement",
        "Description": "How far turn and shift together move the brain's voxels, on average.",
        "Units": "mm",
    },
    "exchange": {
        "LongName": "Margin against exchanged names",
        "Description": "By how much this scan and the one in 'exchange_with' fit their own "
        "syntheses better than each other's (sum of Fisher's z); the other contrast is the one "
        "with the smallest margin.",
    },
    "exchange_with": {
        "LongName": "Most alike contrast",
        "Description": "The contrast that 'exchange' is about.",
    },
    "psnr_fitted": {
        "LongName": "PSNR, fitted",
        "Description": "Peak signal-to-noise ratio of the synthesis in the brain, data range 1, "
        "after the best gain and offset.",
        "Units": "dB",
    },
    "ssim_fitted": {
        "LongName": "SSIM, fitted",
        "Description": "Structural similarity in the brain, after the best gain and offset.",
    },
    "intensity_distance": {
        "LongName": "Distance to the training intensities",
        "Description": "Earth mover's distance of the scan's histogram in the brain, normalised "
        "to [0, 1], to the mean one of the model's training participants.",
    },
    "out_of_distribution": {
        "LongName": "Out of distribution",
        "Description": "Whether that distance is beyond what 19 of 20 participants like those of "
        "the training have.",
        "Levels": {"true": "Unlike the training data", "false": "Like the training data"},
    },
    "calibrated_on": {
        "LongName": "Participants of the calibration",
        "Description": "How many validation participants the limits come from.",
    },
}
"""Every column of ``*_desc-selfcheck_qc.tsv``, in order, described as BIDS asks."""

Row = dict[str, Any]


def check_session(
    pairs: Mapping[str, Pair], problems: Mapping[str, str], quality: Quality | None
) -> list[Row]:
    """Compare and judge all contrasts of a session.

    Parameters
    ----------
    pairs : dict of Pair
        By contrast; those that could be synthesised.
    problems : dict of str
        By contrast: why it could not be checked.
    quality : Quality or None
        What the model carries.

    Returns
    -------
    list of dict
        Rows with columns of :data:`SELFCHECK_COLUMNS`.
    """
    unusable = dict(problems)
    measured = measure_session(pairs, unusable)
    session = [*pairs, *problems]
    rows = []
    for contrast in sorted(session, key=CONTRASTS.index):
        if contrast in measured:
            rows.append(_row(contrast, pairs[contrast], measured[contrast], quality, session))
        else:
            rows.append({"contrast": contrast, "light": "n/a", "reasons": unusable[contrast]})
    return rows


def _row(
    contrast: str, pair: Pair, found: Measures, quality: Quality | None, session: Sequence[str]
) -> Row:
    """Return the row of a contrast that was compared with its synthesis."""
    limits = None if quality is None else quality.self_check.find(contrast, session)
    verdict = judge(contrast, found, limits)
    if quality is None or not quality.self_check.sets:
        verdict = Verdict("n/a", (NOT_CALIBRATED,))
    row: Row = {
        "contrast": contrast,
        "sources": "+".join(found.sources),
        "score": verdict.score,
        **{
            name: getattr(found, name)
            for name in SELFCHECK_COLUMNS
            if name in Measures.__dataclass_fields__ and name not in ("exchange", "sources")
        },
    }
    if found.exchange:
        other = min(found.exchange, key=lambda name: found.exchange[name])
        row |= {"exchange": found.exchange[other], "exchange_with": other}
    if limits is not None:
        row["calibrated_on"] = limits.participants
    light, reasons = verdict.light, list(verdict.reasons)
    trained = None if quality is None else quality.histograms.get(contrast)
    if trained is not None:
        values = pair.real[pair.mask]
        row["intensity_distance"] = trained.distance(values)
        row["out_of_distribution"] = trained.is_outside(values)
        if row["out_of_distribution"]:
            reasons.append(
                "its intensities are unlike those of the training data: look at its histogram, "
                "and expect less of everything synthesised from it"
            )
            light = "amber" if light == "green" else light
    covered = float(has_data(pair.real[pair.mask]).mean())
    if COVERAGE.is_beyond(covered):
        reasons.append(
            f"it covers {100 * covered:.0f} % of the brain, and was compared as if it covered all: "
            "look at its field of view"
        )
        light = "amber" if light == "green" else light
    return {**row, "light": light, "reasons": "; ".join(reasons)}


def write_selfcheck(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a self-check as a BIDS table, with its data dictionary.

    Parameters
    ----------
    path : Path
        The ``.tsv`` file; the JSON goes beside it.
    rows : sequence of mapping
        As from :func:`check_session`.

    Raises
    ------
    ReadWriteError, OutputError
        If a file cannot be written.
    """
    write_table(path, rows, SELFCHECK_COLUMNS, digits=4)
