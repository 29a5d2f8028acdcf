"""Whether two images of one brain lie on each other: turned, shifted or mirrored.

Volumes are (X, Y, Z) on the model grid, 1 mm, axes Right, Anterior, Superior. One of the two may
exist in some axial slices only, so the other, which is whole, is moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from colapipe.quality.arrays import correlation

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

SMOOTHING = (4.0, 2.0)
"""Standard deviations in mm of the blur before a fit: a coarse one finds what a fine one misses."""

ITERATIONS = 12
"""Of each fit; most need five."""

FURTHEST = 30.0
"""mm or degrees: a fit that goes further has lost its way."""

NOTICEABLE = 0.02
"""Gain in Fisher's z of the correlation below which another place is no better than this one."""

FEWEST = 100
"""Voxels without which nobody can say where an image lies."""

_VOXELS = 20_000  # enough for six numbers
_RADIUS = 60.0  # mm at which a degree of turn and a mm of shift are weighed against each other


@dataclass(frozen=True)
class Pose:
    """How far an image must be moved to lie on another.

    Attributes
    ----------
    turn : float
        Degrees, about an axis through the middle of the brain.
    shift : float
        Of the middle of the brain, in mm.
    displacement : float
        Of the brain's voxels on average, in mm.
    """

    turn: float
    shift: float
    displacement: float


LOST = Pose(float("nan"), float("nan"), float("nan"))


def fit_pose(moving: FloatArray, fixed: FloatArray, mask: BoolArray, slices: Sequence[int]) -> Pose:
    """Find the rigid move of an image that makes it most like another, up to gain and offset.

    Gauss-Newton on the squared difference in the brain, after a gain and an offset (Friston et al.
    1995, doi:10.1002/hbm.460030303).

    Parameters
    ----------
    moving, fixed : ndarray, (X, Y, Z)
        ``fixed`` is looked at in ``slices`` only.
    mask : ndarray, (X, Y, Z)
        The brain, of both.
    slices : sequence of int
        Ascending.

    Returns
    -------
    Pose
        0 where no other place is noticeably better, NaN where the fit does not settle.
    """
    points = _points(mask, slices)
    if points.shape[1] < FEWEST:
        return LOST
    centre = points.mean(axis=1, keepdims=True)
    chosen = list(slices)
    x, y, z = points.astype(int)
    places = x, y, np.searchsorted(chosen, z)
    parameters = np.zeros(6)
    inside = mask.astype(np.uint8)
    for sigma in SMOOTHING:
        blurred = _blur(moving, mask, sigma)
        target = _blur(fixed[..., chosen], mask[..., chosen], sigma)[*places]
        for _ in range(ITERATIONS):
            step = _step(blurred, inside, target, points, centre, parameters)
            parameters = parameters + step
            if not np.abs(parameters).max() <= FURTHEST:
                return LOST
            if np.abs(step).max() < 0.02:
                break
    there = _move(points, centre, parameters)
    kept = ndimage.map_coordinates(inside, there, order=0) > 0
    before = correlation(blurred[x, y, z][kept], target[kept])
    after = correlation(ndimage.map_coordinates(blurred, there[:, kept], order=1), target[kept])
    if fisher(after) - fisher(before) < NOTICEABLE:
        return Pose(0.0, 0.0, 0.0)
    return Pose(
        turn=float(np.degrees(np.linalg.norm(parameters[:3] / _RADIUS))),
        shift=float(np.linalg.norm(parameters[3:])),
        displacement=float(np.linalg.norm(there - points, axis=0).mean()),
    )


def fisher(r: float) -> float:
    """Return Fisher's z of a correlation, which has about the same spread everywhere."""
    return math.atanh(min(max(r, -0.999), 0.999))


def _move(points: FloatArray, centre: FloatArray, parameters: FloatArray) -> FloatArray:
    """Turn points about the centre and shift them, (3, n)."""
    turned = Rotation.from_rotvec(parameters[:3] / _RADIUS).as_matrix() @ (points - centre)
    return np.asarray(turned + centre + parameters[3:, None])


def _step(
    moving: Float32Array,
    inside: npt.NDArray[np.uint8],
    target: FloatArray,
    points: FloatArray,
    centre: FloatArray,
    parameters: FloatArray,
) -> FloatArray:
    """Return the next step of the six parameters: turn (mm at _RADIUS) and shift (mm)."""
    there = _move(points, centre, parameters)
    arms = there - centre - parameters[3:, None]
    kept = ndimage.map_coordinates(inside, there, order=0) > 0
    there, arms, target = there[:, kept], arms[:, kept], target[kept]
    if target.size < max(points.shape[1] / 4, FEWEST):
        return np.full(6, np.inf)
    value = ndimage.map_coordinates(moving, there, order=1)
    slope = np.stack(
        [
            (
                ndimage.map_coordinates(moving, there + step, order=1, mode="nearest")
                - ndimage.map_coordinates(moving, there - step, order=1, mode="nearest")
            )
            / 2
            for step in np.eye(3)[:, :, None]
        ]
    )
    # A turn about axis k moves a voxel by e_k x arm.
    turned = np.cross(arms.T, slope.T).T / _RADIUS
    columns = np.stack([*turned, *slope, value, np.ones_like(value)], axis=1)
    solution, *_ = np.linalg.lstsq(columns, target, rcond=None)
    gain = solution[6]
    # An image that gets brighter where the other gets darker has no place on it.
    return solution[:6] / gain if gain > 0 else np.full(6, np.inf)


def _points(mask: BoolArray, slices: Sequence[int]) -> FloatArray:
    """Return voxels of the brain in some slices, away from its edge, (3, n)."""
    inner = np.zeros_like(mask)
    for z in slices:
        inner[:, :, z] = ndimage.binary_erosion(mask[:, :, z], iterations=3)
    found = np.argwhere(inner)
    return found[:: max(1, len(found) // _VOXELS)].T.astype(np.float64)


def _blur(volume: FloatArray, mask: BoolArray, sigma: float) -> Float32Array:
    """Blur axial slices inside the brain alone, so that its outline does not guide the fit."""
    weights = mask.astype(np.float32)

    def blur(values: Float32Array) -> Float32Array:
        return np.asarray(ndimage.gaussian_filter(values, (sigma, sigma, 0), truncate=3))

    inside = blur(weights)
    blurred = blur(volume.astype(np.float32) * weights)
    return np.divide(blurred, inside, out=np.zeros_like(blurred), where=inside > 1e-3)


def middle_plane(mask: BoolArray) -> FloatArray:
    """Return where the plane between left and right cuts every row of voxels, (Y, Z).

    A plane through the middles of the rows: x = a + b y + c z.
    """
    rows = mask.any(axis=0)
    if not rows.any():
        return np.full(rows.shape, (mask.shape[0] - 1) / 2)
    first = mask.argmax(axis=0)[rows]
    last = mask.shape[0] - 1 - mask[::-1].argmax(axis=0)[rows]
    y, z = np.nonzero(rows)
    columns = np.stack([np.ones(y.size), y, z], axis=1)
    # Short rows, at the brain's rim, say little about its middle.
    weights = (last - first + 1.0)[:, None]
    a, b, c = np.linalg.lstsq(columns * weights, (first + last) / 2 * weights[:, 0], rcond=None)[0]
    everywhere = np.indices(rows.shape)
    return np.asarray(a + b * everywhere[0] + c * everywhere[1])


def differences(
    volume: FloatArray, mask: BoolArray, slices: Sequence[int], sigma: float = 1.5
) -> FloatArray:
    """Return the difference of each voxel to its counterpart in the other half of the brain, (n,).

    Parameters
    ----------
    volume, mask : ndarray, (X, Y, Z)
    slices : sequence of int
    sigma : float
        Blur in mm, because halves are alike to that accuracy at best.
    """
    chosen = list(slices)
    inside = mask[:, :, chosen]
    blurred = _blur(volume[:, :, chosen], inside, sigma)
    x, y, z = np.nonzero(inside)
    across = 2 * middle_plane(mask)[:, chosen][y, z] - x
    other = np.stack([across, y, z])
    kept = ndimage.map_coordinates(inside.astype(np.uint8), other, order=0) > 0
    kept &= np.abs(across - x) > 4  # the two sides of a voxel in the middle are the same
    own = blurred[x[kept], y[kept], z[kept]]
    return np.asarray(own - ndimage.map_coordinates(blurred, other[:, kept], order=1))
