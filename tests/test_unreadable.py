"""A folder that cannot be read is its participant's problem, and nobody else's."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.bids.derivatives import find_derivatives
from colapipe.bids.reader import open_dataset
from colapipe.config import Settings
from colapipe.errors import DatasetError
from colapipe.plan.participants import plan_run
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Request
from colapipe.quality.gather import gather


def put_scan(raw: Path, participant: str, *contrasts: str, session: str = "") -> None:
    folder = raw / f"sub-{participant}" / session / "anat"
    folder.mkdir(parents=True)
    stem = "_".join([f"sub-{participant}", *([session] if session else [])])
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    for contrast in contrasts:
        nib.save(image, folder / f"{stem}_{contrast}.nii")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A dataset of two whole participants; the second lacks T2w."""
    raw = tmp_path / "raw"
    put_scan(raw, "01", "T1w", "T2w")
    put_scan(raw, "02", "T1w")
    description = {"Name": "test", "BIDSVersion": "1.10.0"}
    (raw / "dataset_description.json").write_text(json.dumps(description))
    return raw


def plan(raw: Path, *participants: str, **settings: object) -> dict[str, SessionPlan]:
    given = Settings(raw, raw.parent / "out", participants=participants, **settings)
    return {one.label: one for one in plan_run(given, Request())}


def loop(folder: Path) -> None:
    folder.symlink_to(folder.name)


def dangle(folder: Path) -> None:
    folder.symlink_to("nowhere")


def write(folder: Path) -> None:
    folder.write_text("no folder")


@pytest.mark.parametrize("spoil", [loop, dangle, write])
@pytest.mark.parametrize("place", ["sub-03", "sub-03/anat", "sub-03/ses-A", "sub-03/ses-A/anat"])
def test_whose_folder_cannot_be_read_fails_by_name_and_the_others_go_on(spoil, place, raw) -> None:
    (raw / place).parent.mkdir(parents=True, exist_ok=True)
    spoil(raw / place)
    plans = plan(raw)
    spoilt = "sub-03/ses-A" if "ses-A" in place else "sub-03"
    assert list(plans) == ["sub-01", "sub-02", spoilt]
    assert str(raw / place) in plans[spoilt].errors[0]
    assert "cannot be read" in plans[spoilt].errors[0]
    assert [target.contrast for target in plans["sub-02"].targets] == ["T2w"]
    assert list(plan(raw, "01", "02")) == ["sub-01", "sub-02"]


@pytest.mark.parametrize("code", ["EACCES", "EIO", "ESTALE", "ENAMETOOLONG"])
@pytest.mark.parametrize("place", ["sub-03", "sub-03/ses-B", "sub-03/ses-B/anat"])
def test_what_the_system_refuses_is_said_in_its_words(code, place, raw, monkeypatch) -> None:
    put_scan(raw, "03", "T1w", "T2w", session="ses-A")
    put_scan(raw, "03", "T1w", "T2w", session="ses-B")
    refuse(raw / place, getattr(errno, code), monkeypatch)
    plans = plan(raw)
    errors = [error for one in plans.values() for error in one.errors]
    assert len(errors) == 1 and os.strerror(getattr(errno, code)) in errors[0]
    # A session that can be read goes on.
    assert ("sub-03/ses-A" in plans) == ("ses-B" in place)
    assert all(plans[label].scans for label in ("sub-01", "sub-02"))


def refuse(folder: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to list a folder, and everything in it."""

    def refusing(function: Callable[..., object]) -> Callable[..., object]:
        def call(path: object = ".", *args: object, **options: object) -> object:
            if not isinstance(path, int) and Path(os.fspath(path)).is_relative_to(folder):
                raise OSError(code, os.strerror(code), str(path))
            return function(path, *args, **options)

        return call

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


def test_an_unreadable_participant_may_be_all_that_was_asked_for(raw) -> None:
    loop(raw / "sub-03")
    plans = plan(raw, "03", sessions=("A",))
    assert "sub-03" in plans["sub-03"].errors[0]


def test_an_unreadable_session_stays_an_error_beside_a_whole_one(raw) -> None:
    put_scan(raw, "03", "T1w", session="ses-A")
    loop(raw / "sub-03" / "ses-B")
    plans = plan(raw)
    assert plans["sub-03/ses-B"].errors and not plans["sub-03/ses-A"].errors


def test_a_scan_that_is_a_link_to_itself_fails_its_session_alone(raw) -> None:
    put_scan(raw, "03", "T1w")
    loop(raw / "sub-03" / "anat" / "sub-03_T2w.nii.gz")
    plans = plan(raw)
    assert "sub-03_T2w.nii.gz" in plans["sub-03"].errors[0]
    assert not plans["sub-02"].errors


def test_a_filter_is_not_stopped_by_somebody_elses_folder(raw, tmp_path) -> None:
    loop(raw / "sub-03")
    (raw / "sub-04").mkdir()
    dangle(raw / "sub-04" / "anat")
    rules = tmp_path / "filter.json"
    rules.write_text('{"T1w": {"acquisition": null}}')
    plans = plan(raw, bids_filter_file=rules)
    assert [label for label, one in plans.items() if one.errors] == ["sub-03", "sub-04"]


@pytest.mark.parametrize("spoil", [loop, write])
def test_the_dataset_itself_must_be_readable(spoil, tmp_path) -> None:
    spoil(tmp_path / "raw")
    with pytest.raises(DatasetError, match="raw"):
        open_dataset(tmp_path / "raw")


def test_a_description_is_looked_for_only_where_one_may_look(raw) -> None:
    (raw / "dataset_description.json").unlink()
    loop(raw / "a_link")
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(raw)


def test_names_that_no_text_can_hold_are_spelt_out(raw) -> None:
    name = os.fsdecode(b"sub-01_T1w_donn\xe9e_T1w.nii.gz")
    (raw / "sub-01" / "anat" / name).write_bytes(b"")
    notes = "".join(plan(raw)["sub-01"].notes)
    assert "sub-01_T1w_donn\\udce9e_T1w.nii.gz" in notes.encode().decode()


# --- derivatives and outputs ---------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [loop, dangle, write])
@pytest.mark.parametrize("place", ["sub-01", "sub-01/anat"])
def test_derivatives_that_cannot_be_read_are_named(spoil, place, tmp_path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    spoil(tmp_path / place)
    found = find_derivatives([("masks", tmp_path)], "01", None)
    assert len(found.unreadable) == 1 and place in found.unreadable[0]


def test_prepared_files_that_cannot_be_read_are_not_called_missing(raw, tmp_path) -> None:
    prepared = tmp_path / "prepared"
    (prepared / "sub-01").mkdir(parents=True)
    loop(prepared / "sub-01" / "anat")
    plans = plan(raw, mode="synth-only", derivatives=(str(prepared),))
    assert "Too many levels of symbolic links" in plans["sub-01"].errors[0]


@pytest.mark.parametrize(
    ("place", "spoil"),
    [("sub-01", loop), ("sub-01/ses-A", loop), ("sub-01/anat", loop), ("sub-01/anat", write)],
)
def test_outputs_that_cannot_be_read_are_a_problem_of_the_group(place, spoil, tmp_path) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    spoil(tmp_path / place)
    problems = gather(tmp_path, {}).problems
    assert len(problems) == 1 and place in problems[0]
