"""Where an image lies on another: found from its voxels, up to gain, offset and noise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from colapipe.quality import arrays
from colapipe.quality.pose import differences, fit_pose, middle_plane

SHAPE = (70, 80, 50)
SLICES = list(range(10, 40, 3))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


@pytest.fixture(scope="module")
def brain() -> tuple[np.ndarray, np.ndarray]:
    """A lopsided texture in an ellipsoid whose middle is not that of the grid."""
    random = np.random.default_rng(3)
    texture = ndimage.gaussian_filter(random.normal(size=SHAPE), 4)
    x, y, z = np.indices(SHAPE)
    mask = ((x - 38) / 28) ** 2 + ((y - 40) / 34) ** 2 + ((z - 25) / 22) ** 2 < 1
    return (texture / texture.std() * 0.2 + 0.5) * mask, mask


def moved(volume: np.ndarray, degrees: float, axis: str, shift: tuple[float, ...]) -> np.ndarray:
    centre = np.array([38, 40, 25])
    turn = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return ndimage.affine_transform(volume, turn, centre - turn @ centre + np.array(shift), order=1)


@pytest.mark.parametrize(
    ("degrees", "axis", "shift"),
    [(8, "x", (0, 0, 0)), (-5, "z", (0, 0, 0)), (0, "z", (0, 4, 0)), (4, "y", (2, -1, 2))],
)
def test_a_turn_and_a_shift_are_found(degrees, axis, shift, brain):
    volume, mask = brain
    noise = np.random.default_rng(0).normal(0, 0.05, SHAPE)
    made = (0.3 + 0.5 * volume + noise) * mask
    pose = fit_pose(moved(volume, degrees, axis, shift) * mask, made, mask, SLICES)
    assert pose.turn == pytest.approx(abs(degrees), abs=0.5)
    # The centre of the slices is not quite that of the turn.
    assert pose.shift == pytest.approx(np.linalg.norm(shift), abs=0.8)
    assert pose.displacement > 1


def test_an_image_that_lies_right_is_not_moved(brain):
    volume, mask = brain
    pose = fit_pose(volume, volume**2, mask, SLICES)
    assert (pose.turn, pose.shift, pose.displacement) == (0, 0, 0)


def test_an_image_that_has_no_place_is_lost(brain):
    volume, mask = brain
    assert np.isnan(fit_pose((1 - volume) * mask, volume, mask, SLICES).displacement)


def test_only_the_slices_that_exist_count(brain):
    volume, mask = brain
    made = np.zeros_like(volume)
    made[:, :, SLICES] = volume[:, :, SLICES]
    turned = moved(volume, 6, "x", (0, 0, 0)) * mask
    assert fit_pose(turned, made, mask, SLICES).turn == pytest.approx(6, abs=0.5)


def test_the_middle_of_a_tilted_brain_is_found():
    x, y, z = np.indices(SHAPE)
    middle = 36 + 0.1 * (y - 40) - 0.05 * (z - 25)
    mask = ((x - middle) / 25) ** 2 + ((y - 40) / 34) ** 2 + ((z - 25) / 22) ** 2 < 1
    inside = mask.any(axis=0)
    np.testing.assert_allclose(middle_plane(mask)[inside], middle[0][inside], atol=0.5)


def test_differences_between_left_and_right_change_their_sign_in_a_mirror(brain):
    volume, mask = brain
    own = differences(volume, mask, SLICES)
    mirror = volume[(2 * 38 - np.arange(SHAPE[0])) % SHAPE[0]] * mask
    assert correlation(own, differences(mirror, mask, SLICES)) < -0.95
    assert correlation(own, differences(0.2 + 3 * volume, mask, SLICES)) > 0.99


def test_a_symmetric_brain_has_no_differences(brain):
    _, mask = brain
    x, y, z = np.indices(SHAPE)
    symmetric = (np.cos((x - 38) / 5) + y / 40 + z / 25) * mask
    assert np.abs(differences(symmetric, mask, SLICES)).max() < 0.2 * np.ptp(symmetric)


def test_nothing_to_compare_is_said_by_numbers_and_not_by_numpy() -> None:
    nothing = np.zeros((40, 40, 4))
    empty, speck = np.zeros(nothing.shape, dtype=bool), np.zeros(nothing.shape, dtype=bool)
    speck[20, 20, 2] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert arrays.correlation([], []) == 0
        for mask in (empty, speck):
            assert math.isnan(fit_pose(nothing, nothing, mask, [1, 2]).displacement)
            assert differences(nothing, mask, [1, 2]).size == 0
            assert np.isfinite(middle_plane(mask)).all()
