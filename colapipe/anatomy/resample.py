"""Resampling a scan onto the grid of another."""

from __future__ import annotations

from typing import Literal

import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.anatomy.images import image_like, same_grid

Interpolation = Literal["cubic", "linear", "nearest"]

_ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
# Below this ratio of voxel sizes, smoothing would cost more detail than it saves from aliasing.
_ALIASING_RATIO = 1.5


def resample(
    moving: Nifti1Image,
    reference: Nifti1Image,
    moving_to_reference: np.ndarray,
    interpolation: Interpolation = "cubic",
) -> Nifti1Image:
    """Resample ``moving`` onto the grid of ``reference``.

    Parameters
    ----------
    moving : Nifti1Image
        (X, Y, Z) scan, mask or label image.
    reference : Nifti1Image
        Image that gives the grid; its voxels are not used.
    moving_to_reference : numpy.ndarray
        4x4, RAS+ mm: ``x_reference = moving_to_reference @ x_moving``.
    interpolation : {"cubic", "linear", "nearest"}
        Cubic B-spline [1]_, its overshoot clipped to the range of the input; linear; or the
        nearest voxel, for labels.

    Returns
    -------
    Nifti1Image
        On the reference's grid, zero outside the field of view of ``moving``. float32, or the
        type of the input for "nearest". With the identity on the same grid, the very voxels of
        ``moving``.

    Notes
    -----
    Where the reference is coarser than ``moving`` by more than half, ``moving`` is smoothed first
    along that axis, to the full width at half maximum that the coarser voxel implies [2]_.

    References
    ----------
    .. [1] Unser, IEEE Signal Processing Magazine 16(6):22-38, 1999.
    .. [2] Cardoso et al., MICCAI 2015, "Scale factor point spread function matching".
    """
    data = np.asarray(moving.dataobj)
    if interpolation != "nearest":
        data = data.astype(np.float32, copy=False)
    if np.array_equal(moving_to_reference, np.eye(4)) and same_grid(moving, reference):
        return image_like(data, reference)

    # Voxels of the reference to voxels of the moving image.
    to_moving = np.linalg.inv(moving.affine) @ np.linalg.inv(moving_to_reference) @ reference.affine
    low, high = data.min(), data.max()
    if interpolation != "nearest":
        data = _anti_aliased(data, to_moving[:3, :3])
    resampled = ndimage.affine_transform(
        data,
        to_moving[:3, :3],
        offset=to_moving[:3, 3],
        output_shape=reference.shape[:3],
        order=_ORDERS[interpolation],
        mode="nearest",
        output=data.dtype,
    )
    if interpolation == "cubic":
        np.clip(resampled, low, high, out=resampled)
    resampled[~_inside(data.shape, to_moving, reference.shape)] = 0
    return image_like(resampled, reference)


def _inside(
    shape: tuple[int, ...], to_moving: np.ndarray, reference_shape: tuple[int, ...]
) -> np.ndarray:
    """Tell which voxels of the reference lie within a voxel of the moving image.

    A voxel reaches half its size beyond its centre: 2 mm in a slice of 4 mm.
    """
    i, j, k = np.ogrid[tuple(slice(0, n) for n in reference_shape[:3])]
    inside = np.ones(reference_shape[:3], dtype=bool)
    for row, count in zip(to_moving[:3], shape, strict=True):
        position = row[0] * i + row[1] * j + (row[2] * k + row[3])
        inside &= np.abs(position - (count - 1) / 2) <= count / 2
    return inside


def _anti_aliased(data: np.ndarray, to_moving: np.ndarray) -> np.ndarray:
    """Smooth along the axes on which the reference skips voxels of the moving image."""
    # Moving voxels passed by one step along each reference axis: the widest counts.
    ratios = np.abs(to_moving).max(axis=1)
    sigmas = np.where(
        ratios > _ALIASING_RATIO,
        np.sqrt(np.maximum(ratios**2 - 1, 0)) / (2 * np.sqrt(2 * np.log(2))),
        0,
    )
    if not sigmas.any():
        return data
    return np.asarray(ndimage.gaussian_filter(data, sigmas, mode="nearest", truncate=3))
