"""The table of the self-check: one row for each contrast that exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe.bids.names import template
from colapipe.bids.tables import write_table
from colapipe.contrasts import CONTRASTS
from colapipe.quality.arrays import has_data
from colapipe.quality.lights import Verdict, judge
from colapipe.quality.limits import COVERAGE
from colapipe.quality.selfcheck import Measures, Pair, measure_pairs
from colapipe.quality.stored import Quality

NOT_CALIBRATED = (
    "not calibrated: the model does not know what is usual (colapipe-model calibrate tells it)"
)

SELFCHECK_COLUMNS: dict[str, dict[str, Any]] = template("columns_selfcheck.json")
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
    measured = measure_pairs(pairs, unusable)
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
