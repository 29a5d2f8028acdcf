"""One table for the cohort: what it holds, and what it makes of files that are broken."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from colapipe.bids.dataset import validate
from colapipe.cli.app import main
from colapipe.evaluation.scores import write_scores_tsv
from colapipe.group import write_group_table


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    """Outputs of three participants: one scored, one with sessions, one without a synthesis."""
    write_json(tmp_path / "dataset_description.json", {"Name": "out", "BIDSVersion": "1.10.0"})
    synthesised(tmp_path, "sub-01", "sub-01", "T2w")
    rows = [
        {"target": "T2w", "region": region, "psnr": psnr, "ssim": 0.5, "nmse": 0.1}
        for region, psnr in (("brain", 20.5), ("GM", 11.0))
    ]
    anat = tmp_path / "sub-01" / "anat"
    write_scores_tsv(anat / "sub-01_space-T1w_desc-synth_qc.tsv", rows)
    synthesised(tmp_path, "sub-02/ses-A", "sub-02_ses-A", "FLAIR")
    synthesised(tmp_path, "sub-02/ses-B", "sub-02_ses-B_ce-gadolinium", "T1w")
    (tmp_path / "sub-03" / "anat").mkdir(parents=True)
    return tmp_path


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def synthesised(root: Path, folder: str, start: str, suffix: str) -> None:
    """Write what a run writes beside a synthesised image, with a model's name that is none."""
    path = root / folder / "anat" / f"{start}_space-T1w_desc-synth_{suffix}.json"
    model = {"Name": "a\tname\nof two", "Sampler": "ddim", "Steps": 4, "Samples": 2}
    sources = ["T1w", "PDw"]
    write_json(
        path,
        {
            "Synthetic": True,
            "SynthesisModel": model,
            "SynthesizedFrom": sources,
            "SynthesizedSlices": {"Count": 80},
        },
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_each_synthesised_contrast_has_a_row(derivatives: Path) -> None:
    path, count, problems = write_group_table(derivatives)
    rows = read(path)
    assert count == len(rows) == 3 and problems == []
    who = [(row["participant_id"], row["session_id"], row["target"]) for row in rows]
    assert who == [
        ("sub-01", "n/a", "T2w"),
        ("sub-02", "ses-A", "FLAIR"),
        ("sub-02", "ses-B", "T1ce"),
    ]
    assert {row["sources"] for row in rows} == {"T1w+PDw"}
    assert {row["model"] for row in rows} == {"a name of two"}
    assert rows[0]["steps"] == "4" and rows[0]["slices"] == "80"


def test_scores_are_those_of_the_brain(derivatives: Path) -> None:
    scored, *others = read(write_group_table(derivatives)[0])
    assert scored["psnr"] == "20.5"
    assert {row["psnr"] for row in others} == {"n/a"}


def test_every_column_is_described(derivatives: Path) -> None:
    path, _, _ = write_group_table(derivatives)
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert all(described[name]["Description"] for name in read(path)[0])


def test_broken_files_are_named_and_the_others_gathered(derivatives: Path) -> None:
    broken = derivatives / "sub-01" / "anat" / "sub-01_space-T1w_desc-synth_T2w.json"
    broken.write_text("{", encoding="utf-8")
    _, count, problems = write_group_table(derivatives)
    assert count == 2
    assert len(problems) == 1 and str(broken) in problems[0]


def test_the_table_leaves_the_output_valid(derivatives: Path, capsys) -> None:
    raw = derivatives.parent / "raw"
    write_json(raw / "dataset_description.json", {"Name": "raw", "BIDSVersion": "1.10.0"})
    assert main([str(raw), str(derivatives), "group"]) == 0
    assert "3 synthesised contrast(s)" in capsys.readouterr().out
    (derivatives / ".bidsignore").write_text("group_*\nlogs\n*_qc.*\n", encoding="utf-8")
    validation = validate(derivatives)
    if validation is None:
        pytest.skip("bids-validator-deno is not installed")
    assert not [error for error in validation.errors if "group_" in error]


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path), str(tmp_path / "out"), "group"]) == 65
    assert "participant level" in " ".join(capsys.readouterr().err.split())
