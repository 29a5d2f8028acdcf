"""Measures of how well images fit, on arrays and sidecars alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.slices.intensity import PERCENTILES

Mask = npt.NDArray[np.bool_]

_BINS = 32
# Share of the brightest intensities. Measured on a scan cut by a third: 0.663 of its brain had data
# as it was, 0.829 after a turn by 0.8 degrees without this threshold, 0.671 with it.
_NOTHING = 0.002
# Weight of a blurred mask two standard deviations from a flat rim.
_FAR_FROM_RIM = 0.97


def normalised_mutual_information(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return (H(A) + H(B)) / H(A, B) of two contrasts in the same voxels.

    Each is scaled by the percentiles of the app's intensity normalisation and put into 32 bins.

    Parameters
    ----------
    one, other : array_like, (n,)
        Intensities in any units.

    Returns
    -------
    float
        1 where they are independent, 2 where each follows from the other; NaN where there are no
        voxels or one image is constant.

    References
    ----------
    Studholme C, Hill DLG, Hawkes DJ. An overlap invariant entropy measure of 3D medical image
    alignment. Pattern Recognition 1999;32(1):71-86.
    """
    a, b = _binned(np.asarray(one)), _binned(np.asarray(other))
    if a is None or b is None:
        return math.nan
    joint = np.bincount(a * _BINS + b, minlength=_BINS**2).reshape(_BINS, _BINS) / a.size
    both = _entropy(joint)
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both if both else math.nan


def _binned(values: npt.NDArray[Any]) -> npt.NDArray[np.int64] | None:
    if values.size == 0:
        return None
    low, high = np.percentile(values, PERCENTILES)
    if high <= low:
        return None
    scaled = (np.clip(values, low, high) - low) * (_BINS / (high - low))
    return np.minimum(scaled, _BINS - 1).astype(np.int64)


def _entropy(probabilities: npt.NDArray[np.float64]) -> float:
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())


def dice(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the Dice coefficient of two masks of one shape; NaN if both are empty."""
    a, b = np.asarray(one) != 0, np.asarray(other) != 0
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return float(2 * np.count_nonzero(a & b) / total) if total else math.nan


def correlation(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return Pearson's correlation of two lists of numbers.

    0 where one of them is constant or there are none.
    """
    x, y = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if x.size == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0 else 0.0


def blur_inside(
    volume: npt.NDArray[np.float32], inside: Mask, sigma: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Blur what is inside a mask, as if there were nothing else.

    Parameters
    ----------
    volume : ndarray, float32
    inside : ndarray, bool
        Of the same shape.
    sigma : array_like
        Standard deviations of the Gaussian, in voxels, one for each axis.

    Returns
    -------
    ndarray, float32
        NaN outside, and near the rim (closer than about two standard deviations), where resampling
        mixes inside and outside.
    """
    from scipy import ndimage

    widths = [float(width) for width in np.asarray(sigma)]

    def blur(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(ndimage.gaussian_filter(values, widths, mode="constant", truncate=3))

    blurred = blur(np.where(inside, volume, np.float32(0)))
    weights = blur(inside.astype(np.float32))
    nothing = np.full(volume.shape, np.nan, dtype=np.float32)
    return np.divide(blurred, weights, out=nothing, where=inside & (weights > _FAR_FROM_RIM))


def shift_and_turn(sidecar: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return how far a rigid transform moves a scan.

    Parameters
    ----------
    sidecar : mapping
        The JSON of a transform, see :func:`colapipe.bids.sidecars.xfm`.

    Returns
    -------
    (shift, turn) : tuple of float, or None
        Shift of the middle of the moving scan in mm, and the angle of the rotation in degrees;
        None if the sidecar does not hold the matrix or the grid.
    """
    try:
        matrix = np.array(sidecar["MovingToReference"], dtype=float).reshape(4, 4)
        grid = sidecar["MovingGrid"]
        affine = np.array(grid["Affine"], dtype=float).reshape(4, 4)
        middle = affine @ [*((np.array(grid["Shape"], dtype=float) - 1) / 2), 1.0]
    except (KeyError, TypeError, ValueError):
        return None
    shift = float(np.linalg.norm((matrix @ middle - middle)[:3]))
    # The trace of a rotation by an angle t is 1 + 2 cos t.
    cosine = float(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))
    turn = math.degrees(math.acos(cosine))
    return (shift, turn) if math.isfinite(shift) and math.isfinite(turn) else None


def has_data(values: npt.ArrayLike) -> Mask:
    """Tell where a scan holds data, and not the nothing beyond its field of view.

    Resampling by splines leaves ripples there, so that less than 0.002 of the brightest voxels
    counts as nothing, too.

    Parameters
    ----------
    values : array_like, (n,)
        Intensities in the brain, 0 where there is nothing.
    """
    intensities = np.abs(np.asarray(values))
    if intensities.size == 0:
        return np.zeros(0, dtype=bool)
    return intensities > _NOTHING * np.percentile(intensities, PERCENTILES[1])


def share_clipped(values: npt.ArrayLike, low: float, high: float) -> tuple[float, float]:
    """Return the shares of values at or below ``low`` and at or above ``high``; NaN without any."""
    intensities = np.asarray(values)
    if intensities.size == 0:
        return math.nan, math.nan
    return float((intensities <= low).mean()), float((intensities >= high).mean())


def synthesised_region(
    sidecar: Mapping[str, Any], grid: tuple[tuple[int, ...], npt.NDArray[np.float64]]
) -> Mask:
    """Return where slices were synthesised, on another grid.

    Parameters
    ----------
    sidecar : mapping
        Of the synthesised image: ``SynthesizedSlices`` holds ranges of slices and their 1 mm grid.
    grid : (shape, affine)
        The grid of the answer.

    Returns
    -------
    ndarray, bool
        Of a shape that broadcasts to that of ``grid``; True everywhere if the sidecar does not say.
    """
    shape, affine = grid
    try:
        slices = sidecar["SynthesizedSlices"]
        model = np.array(slices["Grid"]["Affine"], dtype=float).reshape(4, 4)
        ranges = [(int(first), int(last)) for first, last in slices["Ranges"]]
        row = (np.linalg.inv(model) @ affine)[2]
    except (KeyError, TypeError, ValueError, OverflowError, np.linalg.LinAlgError):
        return np.ones((1, 1, 1), dtype=bool)
    # Slice numbers of the model's grid: of one axis only where both grids are aligned.
    number: npt.NDArray[np.float64] = np.full((1, 1, 1), row[3])
    for axis, index in enumerate(np.ogrid[tuple(slice(0, n) for n in shape)]):
        if abs(row[axis]) * shape[axis] > 1e-3:
            number = number + row[axis] * index
    inside = np.zeros(number.shape, dtype=bool)
    for first, last in ranges:
        inside |= (number >= first - 0.5) & (number <= last + 0.5)
    return inside
