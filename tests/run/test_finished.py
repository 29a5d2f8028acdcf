"""What makes a finished participant unfinished again, and what does not."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colapipe.bids.derivatives import Derivative, Found
from colapipe.bids.reader import Scan
from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Space, Target
from colapipe.run.finished import FinishedParticipants
from colapipe.run.model import ModelInfo

SCAN = "sub-01/anat/sub-01_T1w.nii.gz"
MASK = "sub-01/anat/sub-01_desc-brain_mask.nii.gz"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a run whose one participant is finished."""
    write(tmp_path / "raw" / SCAN, "scan")
    write(tmp_path / "masks" / MASK, "mask")
    write(tmp_path / "out" / "sub-01" / "anat" / "sub-01_synth.nii.gz", "synthesised")
    write(tmp_path / "out" / "sub-01.html", "report")
    settings = Settings(
        tmp_path / "raw", tmp_path / "out", derivatives=(f"masks={tmp_path / 'masks'}",)
    )
    notes = notes_of(settings)
    notes.note("01", notes.task(plans_of(settings)))
    return settings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def a_model(sha256: str = "1" * 64) -> ModelInfo:
    defaults = {"steps": 4, "samples": 1, "sampler": "ddim"}
    return ModelInfo(Path("x"), "tiny", sha256, ("T1w", "T2w"), 1, 4, 1, "", {"defaults": defaults})


def notes_of(settings: Settings, engine: str = "builtin", **model: Any) -> FinishedParticipants:
    return FinishedParticipants(settings, engine, "1", a_model(**model))


def plans_of(
    settings: Settings, target: str = "T2w", name: str = SCAN, **changes: Any
) -> list[SessionPlan]:
    scan = Scan(settings.bids_dir / name, name, "T1w", "01", None)
    space = Space("T1w", ("T1w",), ("T1w",), (Target(target, ("T1w",)),))
    root = Path(settings.derivatives[0].partition("=")[2])
    mask = Derivative(root / MASK, MASK, "masks", False, "T1w", None)
    plan = SessionPlan(
        "01", None, {"T1w": scan}, (space,), ("only words",), derivatives=Found(masks=(mask,))
    )
    return [replace(plan, **changes)]


def holds(settings: Settings, **changes: Any) -> bool:
    known = {name: changes.pop(name) for name in ("engine", "sha256") if name in changes}
    notes = notes_of(settings, **known)
    return notes.holds("01", notes.task(plans_of(settings, **changes)))


def test_the_same_run_again_finds_it_finished(settings: Settings) -> None:
    assert holds(settings)
    # Also by the note that was renewed then.
    assert holds(settings)
    notes = notes_of(settings)
    assert not notes.holds("02", notes.task(plans_of(settings)))


@pytest.mark.parametrize(
    "changes",
    [
        {"nprocs": 3, "omp_nthreads": 2, "mem_gb": 4.0, "device": "cuda", "verbosity": 2},
        {"participants": ("01",), "work_dir": Path("/elsewhere"), "clean_workdir": "success"},
        {"steps": 4, "samples": 1, "sampler": "ddim"},
        {"engine": "builtin", "model": Path("copy"), "export": Path("/elsewhere")},
        {"targets": ("T2w",)},
    ],
)
def test_what_changes_no_output_does_not_count(settings: Settings, changes: Any) -> None:
    assert holds(replace(settings, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        *({"seed": 1}, {"steps": 5}, {"samples": 2}, {"sampler": "ddpm"}, {"show_head": True}),
        *({"sloppy": True}, {"self_check": "off"}, {"viewer": True}, {"slices": "selected"}),
    ],
)
def test_another_option_counts(settings: Settings, changes: Any) -> None:
    assert not holds(replace(settings, **changes))


def test_what_only_a_synthesis_looks_at_does_not_count_without_one(settings: Settings) -> None:
    settings = replace(settings, mode="preproc-only")
    notes = notes_of(settings)
    notes.note("01", notes.task(plans_of(settings)))
    assert holds(replace(settings, seed=7, steps=9, self_check="off", sloppy=True))
    assert not holds(replace(settings, skull_strip="force"))


def test_another_engine_model_or_target_counts(settings: Settings) -> None:
    assert not holds(settings, engine="fsl")
    assert not holds(settings, sha256="2" * 64)
    assert not holds(settings, target="FLAIR")


@pytest.mark.parametrize(
    "name", [f"raw/{SCAN}", f"masks/{MASK}", "out/sub-01/anat/sub-01_synth.nii.gz"]
)
def test_a_file_that_is_gone_or_was_changed_counts(settings: Settings, name: str) -> None:
    path = settings.out_dir.parent / name
    content, before = path.read_bytes(), path.stat()
    path.write_bytes(content[::-1])
    # As rsync -t, cp -p and touch -r leave it: the size and the time of another file.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not holds(settings)
    path.write_bytes(content)
    assert holds(settings)
    path.unlink()
    assert not holds(settings)


def test_a_report_that_is_gone_counts(settings: Settings) -> None:
    (settings.out_dir / "sub-01.html").unlink()
    assert not holds(settings)


def test_a_dataset_that_was_moved_copied_or_touched_is_what_it_was(settings: Settings) -> None:
    root = settings.bids_dir.parent
    for name in ("raw", "masks", "out"):
        shutil.copytree(root / name, root / "elsewhere" / name, copy_function=shutil.copyfile)
    shutil.rmtree(settings.bids_dir)
    moved = replace(
        settings,
        bids_dir=root / "elsewhere" / "raw",
        out_dir=root / "elsewhere" / "out",
        derivatives=(f"masks={root / 'elsewhere' / 'masks'}",),
    )
    assert holds(moved)


def test_a_scan_that_changed_its_name_counts(settings: Settings) -> None:
    name = "sub-01/anat/sub-01_acq-mprage_T1w.nii.gz"
    (settings.bids_dir / SCAN).rename(write(settings.bids_dir / name, ""))
    assert not holds(settings, name=name)


def test_a_scan_that_changed_during_the_run_counts(settings: Settings) -> None:
    notes = notes_of(settings)
    task = notes.task(plans_of(settings))
    write(settings.bids_dir / SCAN, "SCAN")
    notes.note("01", task)
    assert not holds(settings)


def test_words_of_a_plan_do_not_count(settings: Settings) -> None:
    assert holds(settings, notes=("other words",))


def test_who_only_asks_writes_nothing(settings: Settings) -> None:
    (note,) = (settings.out_dir / "logs" / "finished").iterdir()
    before = note.read_bytes()
    os.utime(settings.bids_dir / SCAN, ns=(1, 1))
    assert holds(replace(settings, dry_run=True))
    assert note.read_bytes() == before
    assert holds(settings)
    assert note.read_bytes() != before


@pytest.mark.parametrize("text", ["[]", '{"key": "k", "files": {"sub-01.html": [1, 2]}}'])
def test_a_note_that_cannot_be_read_does_not_count(settings: Settings, text: str) -> None:
    for path in (settings.out_dir / "logs" / "finished").iterdir():
        path.write_text(text)
    assert not holds(settings)


def test_a_note_names_no_place_outside_the_datasets(settings: Settings) -> None:
    (note,) = (settings.out_dir / "logs" / "finished").iterdir()
    assert str(settings.bids_dir.parent) not in note.read_text()
    assert set(json.loads(note.read_text())["inputs"]) == {f"bids:raw:{SCAN}", f"bids:masks:{MASK}"}
