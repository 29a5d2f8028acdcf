"""What makes a finished participant unfinished again, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from colapipe.bids.reader import Scan
from colapipe.config import Settings
from colapipe.finished import FinishedParticipants
from colapipe.plan import SessionPlan, Space, Target


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a run whose one participant is finished."""
    for name in ("raw", "out/sub-01/anat"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "raw" / "sub-01_T1w.nii.gz").write_bytes(b"scan")
    (tmp_path / "out" / "sub-01" / "anat" / "sub-01_synth.nii.gz").write_bytes(b"synthesised")
    (tmp_path / "out" / "sub-01.html").write_text("report")
    settings = Settings(tmp_path / "raw", tmp_path / "out")
    notes = notes_of(settings)
    notes.note("01", notes.key(plans_of(settings)))
    return settings


def notes_of(settings: Settings, engine: str = "builtin") -> FinishedParticipants:
    return FinishedParticipants(settings, engine, "1", None)


def plans_of(settings: Settings, target: str = "T2w") -> list[SessionPlan]:
    path = settings.bids_dir / "sub-01_T1w.nii.gz"
    scan = Scan(path, path.name, "T1w", "01", None)
    space = Space("T1w", ("T1w",), ("T1w",), (Target(target, ("T1w",)),))
    return [SessionPlan("01", None, {"T1w": scan}, (space,), notes=("only words",))]


def holds(settings: Settings, **changes: str) -> bool:
    engine = changes.pop("engine", "builtin")
    notes = notes_of(settings, engine)
    return notes.holds("01", notes.key(plans_of(settings, **changes)))


def test_the_same_run_again_finds_it_finished(settings: Settings) -> None:
    assert holds(settings)
    assert not notes_of(settings).holds("02", "a key")


@pytest.mark.parametrize(
    "changes",
    [
        {"nprocs": 3, "omp_nthreads": 2, "mem_gb": 4.0, "device": "cuda", "verbosity": 2},
        {"participants": ("01",), "work_dir": Path("/elsewhere"), "clean_workdir": "success"},
    ],
)
def test_what_changes_no_output_does_not_count(settings: Settings, changes) -> None:
    assert holds(replace(settings, **changes))


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"steps": 4}, {"samples": 2}, {"show_head": True}, {"sloppy": True}]
)
def test_another_option_counts(settings: Settings, changes) -> None:
    assert not holds(replace(settings, **changes))


def test_another_engine_or_target_counts(settings: Settings) -> None:
    assert not holds(settings, engine="fsl")
    assert not holds(settings, target="FLAIR")


@pytest.mark.parametrize(
    "name", ["raw/sub-01_T1w.nii.gz", "out/sub-01/anat/sub-01_synth.nii.gz", "out/sub-01.html"]
)
def test_a_file_that_is_gone_counts(settings: Settings, name: str) -> None:
    (settings.out_dir.parent / name).unlink()
    assert not holds(settings)


def test_a_scan_that_was_written_again_counts(settings: Settings) -> None:
    (settings.bids_dir / "sub-01_T1w.nii.gz").write_bytes(b"other")
    assert not holds(settings)


def test_a_note_that_cannot_be_read_does_not_count(settings: Settings) -> None:
    for path in (settings.out_dir / "logs" / "finished").iterdir():
        path.write_text("[]")
    assert not holds(settings)
