"""One table for the cohort: what it holds, and what it makes of files that are broken."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from colapipe import __version__
from colapipe.bids.dataset import BIDSIGNORE, validate
from colapipe.cli.app import main
from colapipe.quality.scores import write_scores_tsv
from colapipe.quality.table import write_quality
from colapipe.report.group import write_group


@pytest.fixture
def derivatives(tmp_path: Path) -> Path:
    """Outputs of four participants: one scored, one with sessions, one preprocessed, one failed."""
    out = tmp_path / "out"
    write_json(out / "dataset_description.json", {"Name": "out", "BIDSVersion": "1.10.0"})
    synthesised(out, "sub-01", "sub-01", "T2w")
    rows = [
        {"target": "T2w", "region": region, "psnr": psnr, "ssim": 0.5, "nmse": 0.1}
        for region, psnr in (("brain", 20.5), ("GM", 11.0))
    ]
    anat = out / "sub-01" / "anat"
    write_scores_tsv(anat / "sub-01_space-T1w_desc-synth_qc.tsv", rows)
    measured(anat, "sub-01", {"contrast": "T2w", "synthetic": True, "sd_brain": 40.0})
    synthesised(out, "sub-02/ses-A", "sub-02_ses-A", "FLAIR")
    synthesised(out, "sub-02/ses-B", "sub-02_ses-B_ce-gadolinium", "T1w")
    (out / "sub-03" / "anat").mkdir(parents=True)
    measured(
        out / "sub-03" / "anat",
        "sub-03",
        {"contrast": "T1w", "synthetic": False, "coverage": 1.0},
        {"contrast": "FLAIR", "synthetic": False, "coverage": 0.75, "identity_kept": False},
    )
    failure = {"node": "sub_04_wf.scan", "message": "the scan\tis broken", "crash_file": ""}
    write_json(out / "logs" / "reports" / "sub-04.json", {"failures": [failure]})
    return out


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def measured(anat: Path, start: str, *rows: dict[str, Any], space: str = "T1w") -> Path:
    path = anat / f"{start}_space-{space}_desc-quality_qc.tsv"
    write_quality(path, rows, [])
    return path


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


def selfchecked(anat: Path, start: str, **cells: str) -> Path:
    """A self-check of FLAIR that is red."""
    path = anat / f"{start}_space-T1w_desc-selfcheck_qc.tsv"
    cells = {"contrast": "FLAIR", "light": "red", "reasons": "turned by 8 degrees", **cells}
    path.write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def rows_of(out: Path) -> list[dict[str, str]]:
    return read(write_group(out).table)


def test_each_image_has_a_row_and_so_has_a_failure(derivatives: Path) -> None:
    written = write_group(derivatives)
    rows = read(written.table)
    assert len(written.group.rows) == len(rows) == 6 and written.group.problems == []
    assert written.table.name == "group_quality.tsv" and written.page.name == "group.html"
    names = ("participant_id", "session_id", "reference", "contrast", "synthetic")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("sub-01", "n/a", "T1w", "T2w", "true"),
        ("sub-02", "ses-A", "T1w", "FLAIR", "true"),
        ("sub-02", "ses-B", "T1w", "T1ce", "true"),
        ("sub-03", "n/a", "T1w", "T1w", "false"),
        ("sub-03", "n/a", "T1w", "FLAIR", "false"),
        ("sub-04", "n/a", "n/a", "n/a", "n/a"),
    ]


def test_quality_numbers_scores_and_the_way_it_was_made_stand_in_one_row(derivatives: Path) -> None:
    scored, other, *_ = rows_of(derivatives)
    assert scored["sd_brain"] == "40" and scored["psnr"] == "20.5"
    assert scored["sources"] == "T1w+PDw" and scored["model"] == "a name of two"
    assert scored["steps"] == "4" and scored["slices"] == "80"
    assert other["psnr"] == other["sd_brain"] == "n/a" and other["samples"] == "2"


def test_quality_numbers_keep_what_they_were(derivatives: Path) -> None:
    t1w, flair = rows_of(derivatives)[3:5]
    assert (t1w["coverage"], flair["coverage"]) == ("1", "0.75")
    assert flair["identity_kept"] == "false" and t1w["identity_kept"] == "n/a"


def test_a_failed_participant_is_listed_with_what_went_wrong(derivatives: Path) -> None:
    *others, failed = rows_of(derivatives)
    assert failed["failure"] == "the scan is broken"
    assert {row["failure"] for row in others} == {"n/a"}


def test_what_an_earlier_run_left_of_a_failed_participant_is_passed_over(derivatives: Path) -> None:
    measured(derivatives / "sub-01" / "anat", "sub-01", {"contrast": "T1w", "synthetic": False})
    start = "sub-01/anat/sub-01_space-T1w_desc-"
    left = [f"{start}synth_T2w.nii.gz", f"{start}quality_qc.tsv", f"{start}synth_qc.tsv"]
    record = {"failures": [{"message": "the disk was full"}], "earlier": left}
    write_json(derivatives / "logs" / "reports" / "sub-01.json", record)
    first, *others = rows_of(derivatives)
    assert first["failure"].startswith("the disk was full (what an earlier run has left")
    assert "sub-01" not in {row["participant_id"] for row in others}
    # What this run has made is in the table.
    record["earlier"] = left[1:2]
    write_json(derivatives / "logs" / "reports" / "sub-01.json", record)
    made = rows_of(derivatives)[1]
    assert (made["contrast"], made["psnr"], made["sd_brain"]) == ("T2w", "20.5", "n/a")


def test_files_of_an_unknown_run_or_version_are_named(derivatives: Path, capsys) -> None:
    write_json(derivatives / "logs" / "reports" / "sub-01.json", {"version": "0.0.1"})
    write_json(derivatives / "logs" / "reports" / "sub-02.json", {"version": __version__})
    assert main([str(derivatives.parent / "raw"), str(derivatives), "group"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "sub-01: colapipe 0.0.1 wrote it" in said
    assert "sub-03: no run has left a record" in said and "sub-02:" not in said


def test_a_real_scan_and_its_synthesis_are_two_rows(derivatives: Path) -> None:
    anat = derivatives / "sub-01" / "anat"
    both = [{"contrast": "T2w", "synthetic": synthetic} for synthetic in (True, False)]
    measured(anat, "sub-01", *both)
    real, made = rows_of(derivatives)[:2]
    assert (real["synthetic"], real["psnr"], real["model"]) == ("false", "n/a", "n/a")
    assert (made["synthetic"], made["psnr"], made["steps"]) == ("true", "20.5", "4")


def test_the_self_check_joins_the_real_scan_it_is_about(derivatives: Path) -> None:
    selfchecked(derivatives / "sub-03" / "anat", "sub-03", shift="0.25")
    written = write_group(derivatives)
    rows = read(written.table)
    assert len(rows) == 6
    assert rows[4]["contrast"] == "FLAIR" and rows[4]["coverage"] == "0.75"
    assert rows[4]["selfcheck_light"] == "red" and rows[4]["selfcheck_shift"] == "0.25"
    assert rows[4]["selfcheck_reasons"] == "turned by 8 degrees"
    assert rows[3]["selfcheck_light"] == "n/a"
    described = json.loads(written.table.with_suffix(".json").read_text(encoding="utf-8"))
    assert described["selfcheck_shift"]["LongName"] == "Self-check: Shift"
    assert described["shift"]["LongName"] == "Shift"


def test_every_column_is_described(derivatives: Path) -> None:
    selfchecked(derivatives / "sub-03" / "anat", "sub-03", shift="0.25", unknown="1")
    path = write_group(derivatives).table
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert all(described[name]["Description"] for name in read(path)[0])


def test_grids_are_kept_apart(derivatives: Path) -> None:
    anat = derivatives / "sub-03" / "anat"
    measured(anat, "sub-03", {"contrast": "FLAIR", "synthetic": False, "nmi": 1.5}, space="T2w")
    found = {
        (row["reference"], row["contrast"]): (row["nmi"], row["coverage"])
        for row in rows_of(derivatives)
        if row["participant_id"] == "sub-03"
    }
    assert found["T1w", "FLAIR"] == ("n/a", "0.75") and found["T2w", "FLAIR"] == ("1.5", "n/a")


def test_whoever_comes_later_is_in_it_and_whoever_was_mended_is(derivatives: Path) -> None:
    before = write_group(derivatives)
    page = before.page.read_text(encoding="utf-8")
    synthesised(derivatives, "sub-05", "sub-05", "T2w")
    write_json(derivatives / "logs" / "reports" / "sub-04.json", {"failures": []})
    after = write_group(derivatives)
    assert [row["participant_id"] for row in read(after.table)][-1] == "sub-05"
    assert "sub-04" not in after.table.read_text(encoding="utf-8")
    assert after.page.read_text(encoding="utf-8") != page


def test_the_same_files_give_the_same_table_and_page(derivatives: Path) -> None:
    first = write_group(derivatives)
    contents = [path.read_bytes() for path in (first.table, first.page)]
    write_group(derivatives)
    assert [path.read_bytes() for path in (first.table, first.page)] == contents


def test_broken_files_are_named_and_the_others_gathered(derivatives: Path) -> None:
    anat = derivatives / "sub-01" / "anat"
    broken = [
        anat / "sub-01_space-T1w_desc-synth_T2w.json",
        anat / "sub-01_space-T1w_desc-quality_qc.tsv",
        derivatives / "sub-03" / "anat" / "sub-03_space-T1w_desc-selfcheck_qc.tsv",
    ]
    broken[0].write_text("{", encoding="utf-8")
    broken[1].write_bytes(b"contrast\tsynthetic\n\xff\xfe")
    broken[2].write_text("what\nis this\n", encoding="utf-8")
    written = write_group(derivatives)
    rows = read(written.table)
    # The scores of sub-01 are left.
    assert rows[0]["psnr"] == "20.5" and rows[0]["sd_brain"] == "n/a" and len(rows) == 6
    assert len(written.group.problems) == 3
    page = written.page.read_text(encoding="utf-8")
    for path in broken:
        assert any(str(path) in problem for problem in written.group.problems)
        assert str(path) in page


def test_what_could_not_be_measured_is_passed_on(derivatives: Path) -> None:
    path = derivatives / "sub-03" / "anat" / "sub-03_space-T1w_desc-quality_qc.tsv"
    write_quality(path, [{"contrast": "T1w", "synthetic": False}], ["the mask is broken"])
    written = write_group(derivatives)
    assert written.group.warnings == ["the mask is broken"] and written.group.problems == []
    assert "the mask is broken" in written.page.read_text(encoding="utf-8")


def test_the_files_of_the_group_leave_the_output_valid(derivatives: Path, capsys) -> None:
    raw = derivatives.parent / "raw"
    write_json(raw / "dataset_description.json", {"Name": "raw", "BIDSVersion": "1.10.0"})
    assert main([str(raw), str(derivatives), "group"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 row(s), 3 of synthetic images" in said and "group.html" in said
    (derivatives / ".bidsignore").write_text("\n".join(BIDSIGNORE), encoding="utf-8")
    validation = validate(derivatives)
    if validation is None:
        pytest.skip("bids-validator-deno is not installed")
    assert not [error for error in validation.errors if "group" in error]


def test_a_folder_without_participants_makes_an_empty_group(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "out", "BIDSVersion": "1.10.0"})
    written = write_group(tmp_path)
    assert read(written.table) == []
    assert "No participant was found" in written.page.read_text(encoding="utf-8")


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path), str(tmp_path / "out"), "group"]) == 65
    assert "participant level" in " ".join(capsys.readouterr().err.split())
