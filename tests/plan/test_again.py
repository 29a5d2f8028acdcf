"""A session without the transforms that were refused: what is made from what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from colapipe.bids.derivatives import Derivative, Found
from colapipe.bids.reader import Scan
from colapipe.plan.again import RefusedTransform, plan_again
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Target, plan_spaces


def session(*contrasts: str, targets: tuple[Target, ...] = (), matrices=()) -> SessionPlan:
    """A session of participant 01 with these scans."""
    scans = {
        contrast: Scan(Path(f"/data/{contrast}.nii.gz"), f"{contrast}.nii.gz", contrast, "01", None)
        for contrast in contrasts
    }
    return SessionPlan(
        "01",
        None,
        scans,
        plan_spaces(contrasts, targets),
        derivatives=Found(matrices=tuple(matrices)),
    )


def matrix(moving: str, reference: str, name: str = "given.mat") -> Derivative:
    return Derivative(Path("/given") / name, name, "given", False, moving, reference)


T2W = Target("T2w", ("T1w", "FLAIR", "PDw"))
BAD = ("60 mm off",)


def test_a_scan_that_cannot_be_registered_is_no_source_and_is_said_with_its_file():
    plan = plan_again(
        session("T1w", "FLAIR", "PDw", targets=(T2W,)), [RefusedTransform("FLAIR", "T1w", BAD)]
    )
    assert plan.targets == (Target("T2w", ("T1w", "PDw")),)
    assert plan.spaces[0].contrasts == ("T1w", "PDw")
    assert not plan.errors
    (warning,) = plan.warnings
    assert warning.contrast == "FLAIR"
    assert "/data/FLAIR.nii.gz" in warning.message and "60 mm off" in warning.message


def test_a_reference_to_which_nothing_fits_is_taken_out_and_not_all_the_others():
    refused = [RefusedTransform(c, "T1w", BAD) for c in ("FLAIR", "PDw")]
    plan = plan_again(session("T1w", "FLAIR", "PDw", targets=(T2W,)), refused)
    assert plan.spaces[0].reference == "FLAIR"
    assert plan.targets == (Target("T2w", ("FLAIR", "PDw")),)
    assert [warning.contrast for warning in plan.warnings] == ["T1w"]


def test_with_two_scans_the_reference_stays():
    plan = plan_again(
        session("T1w", "FLAIR", targets=(Target("T2w", ("T1w", "FLAIR")),)),
        [RefusedTransform("FLAIR", "T1w", BAD)],
    )
    assert plan.targets == (Target("T2w", ("T1w",)),)


def test_with_two_scans_a_reference_without_a_brain_is_taken_out():
    plan = plan_again(
        session("T1w", "FLAIR", targets=(Target("T2w", ("T1w", "FLAIR")),)),
        [RefusedTransform("FLAIR", "T1w", BAD, reference_to_blame=True)],
    )
    assert plan.targets == (Target("T2w", ("FLAIR",)),)
    assert [warning.contrast for warning in plan.warnings] == ["T1w"]


def test_a_target_for_which_too_little_is_left_fails_with_the_file_that_is_to_blame():
    plan = plan_again(
        session("T1w", "FLAIR", targets=(Target("T2w", ("T1w", "FLAIR")),)),
        [RefusedTransform("FLAIR", "T1w", BAD)],
        min_sources=2,
    )
    assert not plan.targets and not plan.spaces
    assert "at least 2" in plan.errors[0] and "/data/FLAIR.nii.gz" in plan.errors[0]


def test_a_truth_that_cannot_be_registered_scores_nothing_and_the_target_is_still_made():
    target = Target("T2w", ("T1w", "FLAIR"), has_truth=True)
    plan = plan_again(
        session("T1w", "T2w", "FLAIR", targets=(target,)), [RefusedTransform("T2w", "T1w", BAD)]
    )
    assert plan.targets == (Target("T2w", ("T1w", "FLAIR"), has_truth=False),)
    assert "T2w" not in plan.spaces[0].contrasts


def test_a_given_transform_is_dropped_and_its_scan_stays():
    plan = session(
        "T1w",
        "FLAIR",
        targets=(Target("T2w", ("T1w", "FLAIR")),),
        matrices=[matrix("FLAIR", "T1w"), matrix("FLAIR", "T1w", "second.txt")],
    )
    again = plan_again(plan, [RefusedTransform("FLAIR", "T1w", BAD)])
    assert again.spaces == plan.spaces
    assert [m.path.name for m in again.derivatives.matrices] == ["second.txt"]
    assert "/given/given.mat" in again.warnings[0].message
    # Without any given one it is the engine's that was refused.
    for _ in range(2):
        again = plan_again(again, [RefusedTransform("FLAIR", "T1w", BAD)])
    assert again.targets == (Target("T2w", ("T1w",)),)
    assert len(again.warnings) == 3


def test_preprocessing_goes_on_with_what_is_left():
    plan = plan_again(session("T1w", "T2w", "FLAIR"), [RefusedTransform("T2w", "T1w", BAD)])
    assert plan.spaces[0].contrasts == ("T1w", "FLAIR")
    assert not plan.errors


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_what_is_taken_out_is_not_made_up_in_its_own_place(contrast):
    """A scan that is there is not missing, though nothing can be done with it."""
    others = tuple(c for c in ("T1w", "T2w", "FLAIR") if c != contrast)
    plan = session("T1w", "T2w", "FLAIR", targets=(Target("PDw", ("T1w", "T2w", "FLAIR")),))
    reference = plan.spaces[0].reference
    refused = [
        RefusedTransform(moving, reference, BAD)
        for moving in (others if contrast == reference else (contrast,))
    ]
    assert {target.contrast for target in plan_again(plan, refused).targets} == {"PDw"}
