"""The group level: one table of every contrast that was synthesised, and its scores."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from colapipe.bids.names import contrast_of, parse_name
from colapipe.bids.reader import labels_in, read_json
from colapipe.bids.sidecars import write_json, write_text
from colapipe.evaluation.scores import SCORE_COLUMNS

TABLE = "group_synth.tsv"

_SCORES = ("psnr", "ssim", "nmse", "psnr_fitted", "ssim_fitted", "nmse_fitted")

COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": SCORE_COLUMNS["participant_id"],
    "session_id": SCORE_COLUMNS["session_id"],
    "target": {
        "LongName": "Target contrast",
        "Description": "The contrast that was synthesised. Nobody acquired it.",
    },
    "reference": {
        "LongName": "Reference contrast",
        "Description": "The scan on whose grid the synthesised image lies.",
    },
    "sources": SCORE_COLUMNS["sources"],
    "model": {"LongName": "Model", "Description": "Name of the model."},
    "weights_sha256": {
        "LongName": "Weights",
        "Description": "SHA-256 of the model's weights.",
    },
    "sampler": {"LongName": "Sampler", "Description": "How the model was sampled."},
    "steps": {"LongName": "Steps", "Description": "Sampling steps."},
    "samples": {"LongName": "Samples", "Description": "Samples that were averaged."},
    "slices": {
        "LongName": "Slices",
        "Description": "Axial slices of 1 mm that were synthesised.",
    },
    **{
        name: {
            **SCORE_COLUMNS[name],
            "Description": SCORE_COLUMNS[name]["Description"]
            + " In the brain; n/a where the contrast does not exist or --evaluate was not given.",
        }
        for name in _SCORES
    },
}
"""The columns of the table, in order, described as BIDS asks."""


def write_group_table(out_dir: Path) -> tuple[Path, int, list[str]]:
    """Write ``group_synth.tsv`` and its data dictionary from what participants' runs have left.

    Parameters
    ----------
    out_dir : Path
        Output folder of runs at the participant level.

    Returns
    -------
    path : Path
        The table.
    count : int
        Its rows, one for each synthesised contrast.
    problems : list of str
        Files that could not be read; the rows that need them have ``n/a`` or are left out.
    """
    rows: list[dict[str, str]] = []
    problems: list[str] = []
    for participant in labels_in(out_dir, "sub"):
        folder = out_dir / f"sub-{participant}"
        for session in (None, *labels_in(folder, "ses")):
            anat = (folder / f"ses-{session}" if session else folder) / "anat"
            who = {"participant_id": f"sub-{participant}"}
            if session:
                who["session_id"] = f"ses-{session}"
            rows += [who | row for row in _rows(anat, problems)]
    path = out_dir / TABLE
    write_json(path.with_suffix(".json"), COLUMNS)
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(row.get(name, "n/a") for name in COLUMNS) for row in rows]
    write_text(path, "\n".join(lines) + "\n")
    return path, len(rows), problems


def _rows(anat: Path, problems: list[str]) -> Iterator[dict[str, str]]:
    """Yield a row for each synthesised contrast of one session."""
    scores: dict[tuple[str, str], Mapping[str, str]] = {}
    for path in sorted(anat.glob("*_desc-synth_qc.tsv")):
        reference = parse_name(path.name).get("space") or ""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    if row["region"] == "brain" and row.get("method", "model") == "model":
                        scores[reference, row["target"]] = row
        except (OSError, UnicodeDecodeError, KeyError, csv.Error) as err:
            problems.append(f"{path}: is not a table of scores ({type(err).__name__}: {err})")
    for path in sorted(anat.glob("*_desc-synth_*.json")):
        name = parse_name(path.name)
        # What says that it is synthesised would make it no contrast.
        target = contrast_of({k: v for k, v in name.values.items() if k != "desc"}, name.suffix)
        if target is None:
            continue
        sidecar, problem = read_json(path)
        if problem is not None:
            problems.append(problem)
            continue
        reference = name.get("space") or ""
        found = scores.get((reference, target), {})
        yield {
            "target": target,
            "reference": reference,
            **_how(sidecar),
            **{column: _cell(found.get(column)) for column in _SCORES},
        }


def _how(sidecar: Mapping[str, Any]) -> dict[str, str]:
    """Return what a sidecar says about the synthesis, as cells."""
    model = sidecar.get("SynthesisModel")
    model = model if isinstance(model, dict) else {}
    sources = sidecar.get("SynthesizedFrom")
    slices = sidecar.get("SynthesizedSlices")
    return {
        "sources": "+".join(map(_cell, sources)) if isinstance(sources, list) else "n/a",
        "model": _cell(model.get("Name")),
        "weights_sha256": _cell(model.get("WeightsSHA256")),
        "sampler": _cell(model.get("Sampler")),
        "steps": _cell(model.get("Steps")),
        "samples": _cell(model.get("Samples")),
        "slices": _cell(slices.get("Count")) if isinstance(slices, dict) else "n/a",
    }


def _cell(value: Any) -> str:
    """Return the text of one cell: no tabs or line ends, n/a for nothing."""
    return "n/a" if value in (None, "") else " ".join(str(value).split())
