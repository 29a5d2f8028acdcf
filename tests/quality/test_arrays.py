"""Measures on arrays: their ends, and what they do between."""

from __future__ import annotations

import math

import numpy as np
import pytest

from colapipe.quality.arrays import (
    dice,
    has_data,
    normalised_mutual_information,
    share_clipped,
    shift_and_turn,
    synthesised_region,
)

RNG = np.random.default_rng(0)


def transform(degrees: float, shift: tuple[float, float, float]) -> dict[str, object]:
    """A turn about the vertical axis through the world's origin, then a shift."""
    angle = math.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:3, 3] = shift
    affine = np.eye(4)
    affine[:3, 3] = -5.0
    return {
        "MovingToReference": matrix.tolist(),
        "MovingGrid": {"Shape": [11, 11, 11], "Affine": affine.tolist()},
    }


def test_an_image_and_any_function_of_it_that_can_be_undone_share_all_information() -> None:
    image = np.repeat(np.arange(32.0), 100)
    assert normalised_mutual_information(image, image) == pytest.approx(2)
    assert normalised_mutual_information(image, 5 - 3 * image) == pytest.approx(2)


def test_independent_images_share_none() -> None:
    one, other = RNG.random(300_000), RNG.random(300_000)
    assert normalised_mutual_information(one, other) == pytest.approx(1, abs=2e-3)


def test_mutual_information_falls_with_misalignment() -> None:
    image = np.cumsum(RNG.normal(size=20_000))
    found = [normalised_mutual_information(image, np.roll(image, by)) for by in (0, 5, 50, 500)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("other", [np.zeros(10), np.zeros(0)])
def test_mutual_information_with_nothing_is_not_known(other: np.ndarray) -> None:
    assert math.isnan(normalised_mutual_information(other, other))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 1, 0, 0], [1, 1, 0, 0], 1), ([1, 0], [0, 1], 0), ([1, 1, 1, 0], [1, 0, 0, 0], 0.5)],
)
def test_dice_of_masks(one: list[int], other: list[int], expected: float) -> None:
    assert dice(one, other) == expected


def test_dice_of_empty_masks_is_not_known() -> None:
    assert math.isnan(dice([0, 0], [0, 0]))


def test_a_transform_is_told_as_shift_of_the_middle_and_turn() -> None:
    # The middle of the grid is the world's origin, so that the turn does not move it.
    assert shift_and_turn(transform(8, (3, 4, 0))) == pytest.approx((5, 8))


@pytest.mark.parametrize(
    "sidecar",
    [
        {},
        {"MovingToReference": "far"},
        {"MovingToReference": [[0] * 4] * 4, "MovingGrid": []},
        transform(0, (math.nan, 0, 0)),
    ],
)
def test_a_transform_that_cannot_be_read_is_not_known(sidecar: dict[str, object]) -> None:
    assert shift_and_turn(sidecar) is None


def test_ripples_beyond_the_field_of_view_are_no_data() -> None:
    assert has_data([0, 0.1, -0.1, 5, 900, 1000]).tolist() == [False] * 3 + [True] * 3
    assert has_data([]).tolist() == []


def test_shares_at_both_ends_count_the_ends_themselves() -> None:
    assert share_clipped([0, 0, 1, 5, 10], 0, 10) == (0.4, 0.2)
    assert all(math.isnan(share) for share in share_clipped([], 0, 1))


def slices(*ranges: list[int]) -> dict[str, object]:
    grid = {"Shape": [4, 4, 10], "Affine": np.eye(4).tolist()}
    return {"SynthesizedSlices": {"Ranges": list(ranges), "Grid": grid}}


def test_the_synthesised_region_of_the_same_grid_is_its_slices() -> None:
    region = synthesised_region(slices([2, 3], [7, 7]), ((4, 4, 10), np.eye(4)))
    assert np.flatnonzero(np.broadcast_to(region, (4, 4, 10))[0, 0]).tolist() == [2, 3, 7]


def test_the_synthesised_region_follows_another_storage_order_and_spacing() -> None:
    # The first axis runs downwards in steps of 2 mm, from z = 9 to z = 1.
    affine = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-2, 0, 0, 9], [0, 0, 0, 1]], dtype=float)
    region = synthesised_region(slices([3, 5]), ((5, 4, 4), affine))
    assert np.flatnonzero(np.broadcast_to(region, (5, 4, 4))[:, 0, 0]).tolist() == [2, 3]


@pytest.mark.parametrize(
    "sidecar",
    [
        {},
        {"SynthesizedSlices": [1, 2]},
        {"SynthesizedSlices": {"Ranges": [[0, 0]], "Grid": {"Affine": [[0] * 4] * 4}}},
        slices([0, math.inf]),  # type: ignore[list-item]
    ],
)
def test_without_usable_slices_everything_was_synthesised(sidecar: dict[str, object]) -> None:
    assert synthesised_region(sidecar, ((2, 2, 2), np.eye(4))).all()
