"""Reports are written again from what a run has left, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colapipe.cli.app import main
from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.report.record import read_record, recorded_participants, write_report
from colapipe.run.finished import FinishedParticipants
from colapipe.run.locks import lock


@pytest.fixture
def out(derivatives) -> Path:
    """The output of a run of which only the derivatives are left."""
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    (derivatives.out_dir / "dataset_description.json").write_text(
        json.dumps({"Name": "out", "GeneratedBy": [{"Name": "colapipe", "Version": "0.0.9"}]})
    )
    return derivatives.out_dir


def again(out: Path, *options: str) -> int:
    """Write the reports again, as a user does where the raw dataset is not at hand."""
    return main([str(out.parent / "raw"), str(out), "participant", "--reports-only", *options])


def test_the_page_is_written_again_as_it_was(out, run, tmp_path, fingerprints, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert again(out) == 0  # The tables of quality are there from now on.
    write_report(out, "01", run({"session": None, "targets": ["T2w"], "notes": ["a note"]}))
    page = (out / "sub-01.html").read_bytes()
    assert b"a note" in page
    before = fingerprints(out, "**/*")
    (out / "sub-01.html").unlink()
    assert again(out) == 0
    assert (out / "sub-01.html").read_bytes() == page
    after = fingerprints(out, "**/*")
    assert {name for name in after if after[name] != before.get(name)} <= {"logs/locks/sub-01.lock"}
    # No work directory, no folder for a dataset.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_tables_of_quality_are_made_again(out):
    assert again(out) == 0
    (table,) = out.glob("sub-01/anat/*_desc-quality_qc.tsv")
    text = table.read_bytes()
    table.unlink()
    assert again(out) == 0
    assert table.read_bytes() == text


def test_a_failure_on_record_stays_in_the_report(out, run):
    failure = {"node": "sub_02_wf.scan", "message": "the disk was full", "crash_file": ""}
    write_report(out, "02", run(failures=[failure]))
    (out / "sub-02.html").unlink()
    assert again(out, "--participant-label", "02") == 0
    assert "the disk was full" in (out / "sub-02.html").read_text(encoding="utf-8")
    assert not (out / "sub-01.html").exists()


def test_without_a_record_the_files_tell_what_they_can(out, derivatives):
    sidecar = {"Engine": {"Name": "fsl", "Version": "6.0.7"}, "Sources": ["bids:raw:sub-01/x.nii"]}
    derivatives.write_text("space-T1w_desc-preproc_T1w.json", json.dumps(sidecar))
    record = read_record(out, "01")
    assert (record["version"], record["engine"], record["engine_version"]) == (
        *("0.0.9", "fsl", "6.0.7"),
    )
    assert record["model"]["sha256"] == "ab" * 32
    assert record["sessions"][0]["contrasts"] == {"T1w": "sub-01/x.nii"}
    assert again(out) == 0
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    assert "sub-01/x.nii" in page and "not recorded" in page


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"model": ["x"], "sessions": "x", "failures": {"a": 1}}']
)
def test_a_spoiled_record_does_not_stop_the_report(out, content):
    record = out / "logs" / "reports" / "sub-01.json"
    record.parent.mkdir(parents=True)
    record.write_text(content)
    assert again(out) == 0
    assert (out / "sub-01.html").is_file()


def test_a_finished_participant_stays_finished(out):
    notes, task = notes_of(out)
    assert again(out) == 0
    notes.note("01", task)
    table = next(out.glob("sub-01/anat/*_desc-quality_qc.tsv"))
    table.write_text(table.read_text() + "\n")
    assert not notes.holds("01", task)
    notes.note("01", task)
    assert again(out) == 0
    assert notes.holds("01", task)


def test_a_participant_who_was_not_finished_does_not_become_so(out):
    notes, task = notes_of(out)
    notes.note("01", task)
    next(out.glob("sub-01/anat/*_desc-synth_T2w.nii.gz")).unlink()
    assert again(out) == 0
    assert not notes.holds("01", task)


def notes_of(out):
    notes = FinishedParticipants(Settings(out.parent / "raw", out), "builtin", "1", None)
    return notes, notes.task([SessionPlan("01", None)])


def test_a_participant_of_another_run_is_left_alone(out, capsys):
    (out / "logs" / "locks").mkdir(parents=True)
    with lock(out / "logs" / "locks" / "sub-01.lock", "sub-01"):
        assert again(out) == 75
    assert not (out / "sub-01.html").exists()


def test_what_cannot_be_is_refused(out, tmp_path, capsys):
    assert again(out, "--participant-label", "07") == 2
    assert again(tmp_path / "none") == 65
    assert "earlier run" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        again(out, "--synth-only")
    with pytest.raises(SystemExit):
        again(out, "--export", "to")


def test_a_dry_run_only_counts(out, fingerprints, capsys):
    before = fingerprints(out, "**/*")
    assert again(out, "--dry-run") == 0
    assert "1 participant(s)" in capsys.readouterr().out
    assert fingerprints(out, "**/*") == before


def test_only_labels_are_participants(out):
    folder = out / "logs" / "reports"
    folder.mkdir(parents=True)
    for name in ("sub-03.json", "sub-<b>.json", "sub-.json", "sub-a_b.json"):
        (folder / name).write_text("{}")
    assert recorded_participants(out) == ["01", "03"]
