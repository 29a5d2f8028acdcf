"""Who gets what, and why not: decisions are made on names and headers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.config import Settings
from colapipe.errors import DatasetError, UsageError
from colapipe.plan import (
    Request,
    Space,
    Target,
    choose_reference,
    choose_targets,
    plan_run,
    plan_spaces,
)


def make_dataset(root: Path, files: dict[str, list[str]]) -> Path:
    """Write a dataset: participant[/session] to suffixes, ``ce`` for a T1w with contrast agent."""
    root.mkdir()
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "test", "BIDSVersion": "1.10.0"})
    )
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    for who, names in files.items():
        participant, _, session = who.partition("/")
        stem = f"sub-{participant}" + (f"_ses-{session}" if session else "")
        folder = root / f"sub-{participant}" / (f"ses-{session}" if session else "") / "anat"
        folder.mkdir(parents=True)
        for name in names:
            nib.save(image, folder / f"{stem}_{name}.nii.gz")
    return root


def plan(root: Path, request: Request | None = None, **settings: object) -> dict[str, object]:
    """Return plans by label."""
    run = Settings(root, root.parent / "out", **settings)  # type: ignore[arg-type]
    return {p.label: p for p in plan_run(run, request or Request())}


@pytest.mark.parametrize(
    ("available", "target", "expected"),
    [
        ({"FLAIR", "T2w", "T1w"}, None, "T1w"),
        ({"FLAIR", "T2w", "T1w"}, "T1w", "T2w"),
        ({"FLAIR", "T1ce"}, "FLAIR", "T1ce"),
        ({"FLAIR"}, "FLAIR", None),
    ],
)
def test_reference_is_the_best_contrast_that_is_not_the_target(available, target, expected):
    assert choose_reference(available, target) == expected


def test_auto_takes_what_is_missing_here_and_there_elsewhere():
    targets, _, errors = choose_targets({"T1w", "FLAIR"}, {"T1w", "T2w"}, Request())
    assert targets == [Target("T2w", ("T1w", "FLAIR"))]
    assert not errors


def test_auto_never_takes_what_nobody_has():
    targets, notes, _ = choose_targets({"T1w"}, {"T1w"}, Request())
    assert targets == []
    assert "nothing to synthesise" in notes[0]


@pytest.mark.parametrize("contrast", ["T1ce", "PDw"])
def test_auto_leaves_contrasts_that_must_be_named(contrast):
    targets, notes, _ = choose_targets({"T1w"}, {contrast}, Request())
    assert targets == []
    assert any(contrast in note and "named" in note for note in notes)
    named, _, _ = choose_targets({"T1w"}, {contrast}, Request(targets=(contrast,)))
    assert [target.contrast for target in named] == [contrast]


def test_a_named_target_that_exists_is_skipped_unless_evaluated():
    request = Request(targets=("T2w",))
    targets, notes, errors = choose_targets({"T1w", "T2w"}, set(), request)
    assert (targets, errors) == ([], [])
    assert "it exists" in notes[0]
    evaluated, _, _ = choose_targets(
        {"T1w", "T2w"}, set(), Request(targets=("T2w",), evaluate=True)
    )
    assert evaluated == [Target("T2w", ("T1w",), has_truth=True)]


def test_too_few_sources_fail_a_named_target_and_skip_an_automatic_one():
    named = choose_targets({"T1w"}, {"T2w"}, Request(targets=("T2w",), min_sources=2))
    auto = choose_targets({"T1w"}, {"T2w"}, Request(min_sources=2))
    assert named[2] and not named[0]
    assert not auto[2] and not auto[0] and "at least 2" in auto[1][0]


def test_sources_that_the_model_does_not_know_are_not_given_to_it():
    request = Request(targets=("T2w",), model_contrasts=("T1w", "T2w"))
    targets, _, _ = choose_targets({"T1w", "FLAIR"}, set(), request)
    assert targets == [Target("T2w", ("T1w",))]


def test_evaluating_every_contrast_uses_one_grid_for_each_reference():
    request = Request(evaluate=True)
    targets, _, _ = choose_targets({"T1w", "T2w", "FLAIR"}, set(), request)
    spaces = {space.reference: space for space in plan_spaces({"T1w", "T2w", "FLAIR"}, targets)}
    assert set(spaces) == {"T1w", "T2w"}
    assert [target.contrast for target in spaces["T2w"].targets] == ["T1w"]
    # Maps for a synthesis never come from its target.
    for space in spaces.values():
        assert space.reference not in {target.contrast for target in space.targets}


def test_a_lone_truth_gets_no_tissue_maps_on_the_grid_of_its_synthesis():
    target = Target("T2w", ("T1w", "FLAIR"), has_truth=True)
    (space,) = plan_spaces({"T1w", "T2w", "FLAIR"}, [target])
    assert space == Space("T1w", ("T1w", "T2w", "FLAIR"), ("T1w", "FLAIR"), (target,))


def test_preprocessing_makes_maps_of_the_two_best_contrasts():
    (space,) = plan_spaces({"FLAIR", "T2w", "T1ce"}, [])
    assert space == Space("T2w", ("T2w", "T1ce", "FLAIR"), ("T2w", "T1ce"))


def test_a_dataset_is_planned_per_participant_and_session(tmp_path):
    root = make_dataset(
        tmp_path / "raw",
        {"01": ["T1w", "T2w"], "02": ["T1w"], "03/a": ["T1w", "T2w"], "03/b": ["T2w"]},
    )
    plans = plan(root)
    assert [t.contrast for t in plans["sub-02"].targets] == ["T2w"]
    assert plans["sub-01"].targets == ()
    assert plans["sub-03/ses-a"].targets == ()
    # Never across sessions: the T1w of the other session does not count.
    assert [t.contrast for t in plans["sub-03/ses-b"].targets] == ["T1w"]


def test_for_an_export_a_session_that_lacks_nothing_is_preprocessed(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1w"]})
    assert plan(root)["sub-01"].spaces == ()
    plans = plan(root, export=tmp_path / "to")
    (space,) = plans["sub-01"].spaces
    assert space.contrasts == ("T1w", "T2w") and space.targets == ()
    assert plans["sub-02"] == plan(root)["sub-02"]


def test_a_scan_with_a_broken_header_fails_its_session_alone(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1w"]})
    series = nib.Nifti1Image(np.ones((4, 5, 6, 7), np.float32), np.eye(4))
    nib.save(series, root / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    plans = plan(root, Request(targets=("FLAIR",)))
    (error,) = plans["sub-02"].errors
    assert "sub-02_T1w.nii.gz" in error and "7" in error
    assert plans["sub-02"].spaces == ()
    assert plans["sub-01"].spaces and not plans["sub-01"].errors


def test_the_source_option_narrows_reference_and_sources(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w", "FLAIR"]})
    request = Request(targets=("PDw",), sources=("FLAIR",))
    (space,) = plan(root, request)["sub-01"].spaces
    assert space.contrasts == ("FLAIR",)
    assert space.targets == (Target("PDw", ("FLAIR",)),)


def test_the_choice_among_runs_is_reported(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["run-1_T1w", "run-2_T1w"]})
    planned = plan(root, mode="preproc-only")["sub-01"]
    assert planned.scans["T1w"].name == "sub-01_run-1_T1w.nii.gz"
    assert any("run-2" in note for note in planned.notes)


def test_an_unknown_participant_is_answered_with_near_matches(tmp_path):
    root = make_dataset(tmp_path / "raw", {"patient01": ["T1w"], "patient02": ["T1w"]})
    with pytest.raises(UsageError, match="patient01"):
        plan(root, participants=("patint01",))


def test_an_unknown_session_is_an_error(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01/a": ["T1w"]})
    with pytest.raises(UsageError, match="--session-label"):
        plan(root, sessions=("z",))


def test_a_session_without_scans_is_a_note_where_another_has_some(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01/a": ["T1w", "T2w"], "01/b": ["bold"]})
    planned = plan(root)["sub-01/ses-b"]
    assert not planned.errors
    assert any("no scan was found" in note for note in planned.notes)


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="empty"):
        plan(make_dataset(tmp_path / "raw", {}))
