"""Who gets what, and why not: decisions are made on names and headers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.config import Settings
from colapipe.errors import DatasetError, UsageError
from colapipe.plan.participants import plan_run
from colapipe.plan.targets import (
    Request,
    Space,
    Target,
    choose_reference,
    choose_targets,
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


def everything_said(planned) -> list[str]:
    """Return notes, warnings and errors of a session."""
    return [*planned.notes, *(one.message for one in planned.warnings), *planned.errors]


def write_filter(root: Path, filters: object) -> Path:
    path = root.parent / "filter.json"
    path.write_text(json.dumps(filters))
    return path


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


def test_a_scan_that_is_not_preprocessed_is_neither_made_up_nor_called_missing():
    for request in (Request(), Request(targets=("T2w",))):
        targets, notes, errors = choose_targets({"T1w"}, {"T2w"}, request, {"T2w"})
        assert (targets, errors) == ([], [])
        assert "T2w is not synthesised: it exists" in notes[0]


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


def test_a_header_that_contradicts_itself_is_a_warning_of_its_contrast(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1w", "FLAIR"]})
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    image.set_qform(np.diag([1, 1, 3, 1]), 1)
    image.set_sform(np.eye(4), 2)
    nib.save(image, root / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz")
    plans = plan(root, Request(targets=("T2w",)))
    (first, *_) = plans["sub-02"].warnings
    assert {warning.contrast for warning in plans["sub-02"].warnings} == {"FLAIR"}
    assert "sub-02_FLAIR.nii.gz" in first.message and "sform is used" in first.message
    assert plans["sub-02"].spaces and plans["sub-01"].warnings == ()
    # A scan that is left out is not spoken of.
    alone = plan(root, Request(targets=("T2w",), sources=("T1w",)))
    assert alone["sub-02"].warnings == ()


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


@pytest.mark.parametrize(
    "name",
    [
        "t2w.nii",
        "T2Weighted.nii.gz",
        "T2w.nii.gZ",
        "T2w.mnc",
        "acq-hi_res_T2w.nii.gz",
        "desc-sharp_T2w.nii.gz",
    ],
)
def test_a_file_that_looks_like_the_target_is_a_warning_before_it_is_made(tmp_path, name):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1w"]})
    (root / "sub-02" / "anat" / f"sub-02_{name}").touch()
    planned = plan(root)["sub-02"]
    assert [target.contrast for target in planned.targets] == ["T2w"]
    (warning,) = planned.warnings
    assert warning.contrast == "T2w" and f"sub-02/anat/sub-02_{name}" in warning.message
    assert sum(name in said for said in everything_said(planned)) == 1
    # Where nothing is made up, it is a note.
    others = {
        "preproc-only": plan(root, mode="preproc-only"),
        "other target": plan(root, Request(targets=("FLAIR",))),
    }
    for plans in others.values():
        assert plans["sub-02"].warnings == ()
        assert sum(name in note for note in plans["sub-02"].notes) == 1
    assert not any("sub-02_" in said for said in everything_said(plan(root)["sub-01"]))


def test_a_misnamed_scan_of_another_session_does_not_warn_of_this_one(tmp_path):
    root = make_dataset(
        tmp_path / "raw", {"01": ["T1w", "T2w"], "02/a": ["T1w"], "02/b": ["T1w", "t2w"]}
    )
    (root / "sub-02" / "ses_c" / "anat").mkdir(parents=True)
    (root / "sub-02" / "ses_c" / "anat" / "sub-02_ses_c_T2w.nii.gz").touch()
    plans = plan(root)
    assert plans["sub-02/ses-a"].warnings == ()
    assert [one.contrast for one in plans["sub-02/ses-b"].warnings] == ["T2w"]
    said = [text for planned in plans.values() for text in everything_said(planned)]
    assert sum("ses_c/" in text for text in said) == 1


def test_a_file_of_no_session_is_named_once_and_warned_of_in_each(tmp_path):
    root = make_dataset(
        tmp_path / "raw", {"01": ["T1w", "T2w"], "02/a": ["T1w"], "02/b": ["T1w", "T2w"]}
    )
    (root / "sub-02" / "sub-02_T2w.nii.gz").touch()
    (root / "sub-02" / "anat").mkdir()
    (root / "sub-02" / "anat" / "sub-02_T2starw.nii.gz").touch()
    plans = plan(root)
    assert [one.contrast for one in plans["sub-02/ses-a"].warnings] == ["T2w"]
    assert plans["sub-02/ses-b"].warnings == ()


def test_no_scan_at_all_is_an_error_that_names_what_is_nearly_right(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1", "acq-x_flair"]})
    planned = plan(root)["sub-02"]
    (error,) = planned.errors
    for word in ("no scan was found", "sub-02_T1.nii.gz", "sub-02_acq-x_FLAIR.nii.gz"):
        assert word in error
    assert planned.notes == () and planned.warnings == ()


def test_an_image_in_a_template_space_is_never_a_source(tmp_path):
    root = make_dataset(
        tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["space-MNI_T1w", "FLAIR", "res-2_T2w"]}
    )
    planned = plan(root, Request(targets=("PDw",)))["sub-02"]
    assert list(planned.scans) == ["FLAIR"]
    assert any("space-MNI_T1w" in note for note in planned.notes)
    assert any("res-2_T2w" in note for note in planned.notes)


def test_a_filter_that_matches_nothing_anywhere_is_refused(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["rec-norm_T2w", "T1w"], "02": ["rec-norm_T2w"]})
    path = write_filter(root, {"T2w": {"reconstruction": "NORM"}})
    with pytest.raises(UsageError, match="none of the 2 T2w") as caught:
        plan(root, bids_filter_file=path)
    assert "did you mean norm?" in str(caught.value)


def test_a_filter_that_leaves_one_participant_nothing_is_a_warning_there(tmp_path):
    root = make_dataset(
        tmp_path / "raw", {"01": ["rec-a_T1w", "T2w"], "02": ["T1w", "rec-b_T1w", "T2w"]}
    )
    path = write_filter(root, {"T1w": {"reconstruction": "a"}})
    plans = plan(root, bids_filter_file=path)
    assert plans["sub-01"].warnings == ()
    (warning,) = plans["sub-02"].warnings
    assert warning.contrast == "T1w" and "sub-02_rec-b_T1w.nii.gz" in warning.message
    # The scan may be somebody else's business, and the filter theirs.
    assert plan(root, bids_filter_file=path, participants=("02",))["sub-02"].warnings


def test_folders_of_forbidden_labels_are_said_once_for_the_dataset(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w"], "A_2": ["T1w"], "b-3/x": ["T1w"]})
    said: list[str] = []
    settings = Settings(root, tmp_path / "out")
    assert [p.participant for p in plan_run(settings, Request(), said.append)] == ["01"]
    assert [line.partition("/")[0] for line in said] == ["sub-A_2", "sub-b-3"]
    with pytest.raises(UsageError, match="letters, digits"):
        plan(root, participants=("A_2",))
    # Whoever asks for somebody is not told of others.
    said.clear()
    plan_run(Settings(root, tmp_path / "out", participants=("01",)), Request(), said.append)
    assert said == []


@pytest.mark.parametrize("line", ["sub-02/", "sub-02", "sub-02/**", "sub-02/*/*.nii.gz"])
def test_a_participant_of_bidsignore_is_left_out_with_a_word(tmp_path, line):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w"], "02": ["T1w", "T2w"]})
    (root / ".bidsignore").write_text(f"{line}\n")
    said: list[str] = []
    (planned,) = plan_run(Settings(root, tmp_path / "out"), Request(), said.append)
    # What is ignored is nobody's, so nobody lacks it.
    assert planned.participant == "01" and planned.targets == ()
    assert len(said) == 1 and "sub-02/" in said[0] and ".bidsignore" in said[0]


def test_a_scan_of_bidsignore_is_left_out_with_a_word(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w"], "02": ["T1w", "run-1_T2w"]})
    (root / ".bidsignore").write_text("*_run-1_*\n")
    planned = plan(root)["sub-02"]
    assert [target.contrast for target in planned.targets] == ["T2w"]
    assert any("sub-02_run-1_T2w" in note and ".bidsignore" in note for note in planned.notes)


def test_what_nobody_has_can_be_asked_for_and_the_plan_says_how(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "FLAIR"]})
    nothing, note = plan(root)["sub-01"].notes
    assert "nothing to synthesise" in nothing
    assert "--target T2w" in note and "T1w, FLAIR" in note
    # Not where the model cannot make it, and not for what only a request can mean.
    for request in (
        Request(model_contrasts=("T1w", "FLAIR")),
        Request(min_sources=3),
        Request(model_contrasts=("T1w", "FLAIR", "T1ce", "PDw")),
    ):
        assert plan(root, request)["sub-01"].notes == (nothing,)


def test_what_nobody_has_is_told_beside_what_only_a_request_can_mean(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01": ["T1w"], "02": ["T1w", "PDw"]})
    notes = plan(root)["sub-01"].notes
    assert any("PDw is missing" in note for note in notes)
    assert any("--target T2w" in note for note in notes)


def test_what_only_another_session_of_the_same_participant_has_is_not_made(tmp_path):
    root = make_dataset(tmp_path / "raw", {"01/a": ["T1w", "T2w"], "01/b": ["T1w"], "02": ["T1w"]})
    plans = plan(root)
    assert plans["sub-01/ses-b"].targets == ()
    assert [target.contrast for target in plans["sub-02"].targets] == ["T2w"]


def test_headers_that_contradict_themselves_are_warned_of_in_the_plan_of_a_run(tmp_path):
    """Next to whatever else the plan of that session warns of."""
    root = make_dataset(tmp_path / "raw", {"01": ["T1w", "T2w", "FLAIR"], "02": ["T1w", "FLAIR"]})
    anat = root / "sub-02" / "anat"
    scan = anat / "sub-02_FLAIR.nii.gz"
    image = nib.load(scan)
    image.set_qform(np.diag([1.0, 1.0, 1.0, 1.0]), 1)
    image.set_sform(nib.affines.from_matvec(np.eye(3), [0, 15.0, 0]), 1)
    nib.save(image, scan)
    nib.save(image, anat / "sub-02_t2w.nii.gz")
    warnings = plan(root)["sub-02"].warnings
    assert {warning.contrast for warning in warnings} == {"FLAIR", "T2w"}
    assert any("sub-02_FLAIR.nii.gz" in warning.message for warning in warnings)
