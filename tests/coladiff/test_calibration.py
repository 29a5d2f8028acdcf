"""Calibrated intervals hold what they promise, on participants that were not seen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from colapipe.coladiff.calibration import (
    Calibration,
    CalibrationError,
    TargetCalibration,
    Voxels,
    coverage,
    fit,
    guaranteed_coverage,
    leave_one_out,
)

STORED: dict[str, Any] = {
    "level": 0.9,
    "samples": 8,
    "steps": 4,
    "sampler": "ddim",
    "targets": {"T2w": {"floor": 0.02, "factor": 2.5, "participants": 5}},
}


def person(
    rng: np.random.Generator, count: int = 3000, scale: float = 1.0, agree: float = 0.0
) -> Voxels:
    """Errors whose size differs from voxel to voxel, and a std that knows it roughly.

    ``agree`` is the part of the voxels where all samples are the same.
    """
    size = rng.gamma(2.0, 0.02, count)
    std = size * rng.uniform(0.3, 0.9, count)
    std[rng.random(count) < agree] = 0
    return Voxels(rng.normal(size=count) * size * scale, std)


def of_brain(participants: list[Voxels], fitted: TargetCalibration) -> float:
    named = {str(number): voxels for number, voxels in enumerate(participants)}
    return float(np.mean([found["brain"] for found in coverage(named, fitted).values()]))


def mean_width(participants: list[Voxels], fitted: TargetCalibration) -> float:
    return float(np.mean([2 * fitted.half_width(voxels.std).mean() for voxels in participants]))


def with_floor(participants: list[Voxels], floor: float, level: float) -> TargetCalibration:
    """The calibration with a floor that is given, for participants of one size."""
    scores = np.concatenate([voxels.scores(floor) for voxels in participants])
    factor = float(np.quantile(scores, level, method="higher"))
    return TargetCalibration(floor, factor, len(participants))


# --- coverage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_level_of_the_voxels_of_new_participants_is_covered(level: float) -> None:
    rng = np.random.default_rng(0)
    fitted = fit([person(rng, agree=0.05) for _ in range(8)], level)
    assert of_brain([person(rng, agree=0.05) for _ in range(20)], fitted) == pytest.approx(
        level, abs=0.03
    )
    # The std of the samples as it is covers far less: it is too small.
    raw = TargetCalibration(1e-9, 1.645, 2)
    assert of_brain([person(rng, agree=0.05) for _ in range(20)], raw) < 0.75


def test_few_participants_who_differ_do_not_make_intervals_too_narrow() -> None:
    rng = np.random.default_rng(1)
    ours, plain = [], []
    for _ in range(60):
        known = [person(rng, 200, float(np.exp(rng.normal(0, 1)))) for _ in range(4)]
        new = [person(rng, 200, float(np.exp(rng.normal(0, 1)))) for _ in range(20)]
        fitted = fit(known)
        ours.append(of_brain(new, fitted))
        plain.append(of_brain(new, with_floor(known, fitted.floor, 0.9)))
    assert np.mean(ours) == pytest.approx(0.9, abs=0.03)
    assert np.mean(plain) < 0.87


def test_a_participant_unlike_the_only_other_needs_the_widest_intervals() -> None:
    ones = np.ones(10)
    low, high = (Voxels(np.arange(first, first + 10.0), ones) for first in (1, 11))
    assert fit([low, high]) == TargetCalibration(floor=1.0, factor=20.0, participants=2)
    # Of two who are the same, nine of ten voxels are within the ninth error.
    assert fit([low, low]) == TargetCalibration(floor=1.0, factor=9.0, participants=2)


def test_what_is_guaranteed_grows_with_the_participants() -> None:
    assert guaranteed_coverage(0.9, 5) == pytest.approx(0.75)
    assert guaranteed_coverage(0.9, 99) == pytest.approx(0.891)
    # The worst that can be: the new participant has nothing to do with the others.
    ones = np.ones(10)
    people = [Voxels(np.full(10, 10.0**number), ones) for number in range(1, 7)]
    worst = leave_one_out({str(number): voxels for number, voxels in enumerate(people)})
    mean = np.mean([found["brain"] for found in worst.values()])
    assert mean == pytest.approx(5 / 6) and mean >= guaranteed_coverage(0.9, 5)


def test_who_is_left_out_has_no_say() -> None:
    rng = np.random.default_rng(2)
    people = {name: person(rng) for name in "abcd"} | {"e": person(rng, scale=1000)}
    found = leave_one_out(people)
    assert found["e"]["brain"] < 0.01
    assert all(found[name]["brain"] > 0.95 for name in "abcd")


def test_all_participants_weigh_the_same_whatever_their_number_of_voxels() -> None:
    rng = np.random.default_rng(3)
    people = [person(rng, 500, scale) for scale in (1.0, 2.0, 4.0)]
    large = Voxels(np.tile(people[2].error, 9), np.tile(people[2].std, 9))
    one, other = fit(people), fit([*people[:2], large])
    assert (one.floor, one.factor) == pytest.approx((other.floor, other.factor))


# --- the floor -----------------------------------------------------------------------------------


def test_the_floor_is_the_one_that_makes_intervals_narrow() -> None:
    rng = np.random.default_rng(4)
    people = [person(rng, agree=0.2) for _ in range(4)]
    fitted = fit(people)
    width = mean_width(people, fitted)
    floors = np.quantile(np.concatenate([v.std[v.std > 0] for v in people]), [0, 0.1, 0.3, 0.9, 1])
    others = [mean_width(people, with_floor(people, floor, 0.9)) for floor in floors]
    assert all(width < 1.02 * other for other in others)
    # Without a floor, the voxels where all samples agree would ask for a factor without bound.
    assert others[0] > 10 * width


def test_the_floor_covers_voxels_where_all_samples_agree() -> None:
    rng = np.random.default_rng(5)
    fitted = fit([person(rng, agree=0.2) for _ in range(4)])
    new = person(rng, agree=0.2)
    agree = Voxels(new.error[new.std == 0], new.std[new.std == 0])
    assert fitted.floor > 0 and of_brain([agree], fitted) > 0.75


def test_a_std_that_says_nothing_is_replaced_by_one_width() -> None:
    rng = np.random.default_rng(6)
    people = [Voxels(rng.normal(size=2000), rng.lognormal(0, 1, 2000)) for _ in range(4)]
    fitted = fit(people)
    widths = fitted.half_width(people[0].std)
    assert np.mean(widths == widths.min()) > 0.9
    assert widths.min() == pytest.approx(1.645, rel=0.1)


def test_the_unit_of_the_std_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    people = [person(rng, agree=0.1) for _ in range(3)]
    scaled = [Voxels(voxels.error, voxels.std * 7) for voxels in people]
    one, other = fit(people), fit(scaled)
    assert other.half_width(scaled[0].std) == pytest.approx(one.half_width(people[0].std))


# --- regions, intervals, refusals ----------------------------------------------------------------


def test_coverage_is_told_by_participant_and_region() -> None:
    error, lesion = np.array([0.0, 0.1, 0.2, 0.4]), np.array([False, False, True, True])
    regions = {"lesion": lesion, "GM": ~lesion, "WM": np.zeros(4, dtype=bool)}
    people = {"a": Voxels(error, np.zeros(4), regions), "b": Voxels(-error, np.full(4, 0.2))}
    assert coverage(people, TargetCalibration(0.1, 2.0, 2)) == {
        "a": {"brain": 0.75, "lesion": 0.5, "GM": 1.0},
        "b": {"brain": 1.0},
    }


def test_intervals_are_as_wide_as_said_and_stay_within_the_range() -> None:
    calibration = Calibration.from_dict(STORED)
    std = np.array([[0.0, 0.01], [0.1, 0.2]], dtype=np.float32)
    half = calibration.half_width(std, "T2w")
    np.testing.assert_allclose(half, [[0.05, 0.05], [0.25, 0.5]], rtol=1e-6)
    mean = np.array([[0.02, 0.6], [0.6, 0.6]], dtype=np.float32)
    low, high = calibration.interval(mean, std, "T2w")
    np.testing.assert_allclose(low, [[0.0, 0.55], [0.35, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(high, [[0.07, 0.65], [0.85, 1.0]], rtol=1e-6)


def test_a_calibration_says_what_it_does_not_hold_for() -> None:
    calibration = Calibration.from_dict(STORED)
    fitting: dict[str, Any] = {"sampler": "ddim", "steps": 4, "samples": 8}
    assert calibration.objection("T2w", **fitting) is None
    assert "T1w" in str(calibration.objection("T1w", **fitting))
    for change in ({"samples": 4}, {"steps": 1}, {"sampler": "ddpm"}):
        (word,) = change.values()
        assert str(word) in str(calibration.objection("T2w", **{**fitting, **change}))


def test_one_participant_is_too_few() -> None:
    rng = np.random.default_rng(8)
    for people in ([], [person(rng)]):
        with pytest.raises(ValueError, match="2 or more"):
            fit(people)
    with pytest.raises(ValueError, match="2 or more"):
        leave_one_out({"a": person(rng), "b": person(rng)})


def test_samples_that_never_differ_are_refused() -> None:
    same = Voxels(np.ones(5), np.zeros(5))
    with pytest.raises(ValueError, match="do not differ"):
        fit([same, same])


@pytest.mark.parametrize(
    ("error", "std"),
    [
        ([], []),
        ([1.0], [1.0, 2.0]),
        ([[1.0]], [[1.0]]),
        ([np.nan], [1.0]),
        ([1.0], [np.inf]),
        ([1.0], [-1.0]),
    ],
)
def test_voxels_that_make_no_sense_are_refused(error: Any, std: Any) -> None:
    with pytest.raises(ValueError):
        Voxels(np.array(error), np.array(std))


def test_a_calibration_survives_json() -> None:
    calibration = Calibration({"T1w": TargetCalibration(1 / 3, 2 / 7, 9)}, 8, 4, "ddim", 0.95)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert Calibration.from_dict(STORED).to_dict() == STORED


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("level",), 1.0),
        (("level",), "0.9"),
        (("level",), float("nan")),
        (("samples",), 1),
        (("samples",), True),
        (("samples",), 8.0),
        (("steps",), 0),
        (("sampler",), None),
        (("targets",), {}),
        (("targets",), []),
        (("targets", "T2w"), 2.5),
        (("targets", "T2w", "floor"), 0.0),
        (("targets", "T2w", "floor"), float("inf")),
        (("targets", "T2w", "factor"), -1.0),
        (("targets", "T2w", "factor"), None),
        (("targets", "T2w", "participants"), 1),
        (("targets", "T2w", "participants"), True),
        (("targets", "T2w", "more"), 1),
        (("more",), 1),
    ],
)
def test_a_malformed_calibration_is_refused(path: tuple[str, ...], value: Any) -> None:
    content = json.loads(json.dumps(STORED))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(CalibrationError):
        Calibration.from_dict(content)
    del place[path[-1]]
    if path[-1] != "more":
        with pytest.raises(CalibrationError):
            Calibration.from_dict(content)


@pytest.mark.parametrize("content", [None, [], "x", 0.9])
def test_what_is_no_calibration_at_all_is_refused(content: Any) -> None:
    with pytest.raises(CalibrationError, match="JSON object"):
        Calibration.from_dict(content)
