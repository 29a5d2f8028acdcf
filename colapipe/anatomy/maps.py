"""Masks and probability maps: images that may be empty, unlike scans, and live on a known grid."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel import Nifti1Image
from nibabel.filebasedimages import ImageFileError

from colapipe.anatomy.images import image_like, same_grid
from colapipe.anatomy.resample import resample
from colapipe.errors import InputFileError


def load_map(path: Path | str) -> Nifti1Image:
    """Read a mask or a probability map: (X, Y, Z) float32, in its stored orientation.

    Raises
    ------
    InputFileError
        If the file cannot be read as a 3-D image of finite numbers.
    """
    try:
        image = nib.squeeze_image(nib.load(path))
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as err:
        raise InputFileError(
            path,
            f"it cannot be read ({err})",
            "a mask or probability map in NIfTI format",
            "Make it again, or leave it out.",
        ) from err
    if data.ndim != 3 or not np.isfinite(data).all():
        raise InputFileError(
            path,
            f"shape {image.shape}, {np.count_nonzero(~np.isfinite(data))} values not finite",
            "a 3-D mask or probability map of finite numbers",
            "Make it again, or leave it out.",
        )
    return image_like(data, Nifti1Image(data, image.affine, image.header))


def load_array(path: Path | str) -> np.ndarray:
    """Read the voxels of a map alone: (X, Y, Z) float32."""
    return np.asarray(load_map(path).dataobj, dtype=np.float32)


def load_mask(path: Path | str, scan: Nifti1Image | None = None) -> Nifti1Image:
    """Read a mask as uint8 (0 and 1); every value above 0 is inside.

    Parameters
    ----------
    path : Path
    scan : Nifti1Image, optional
        The image that the mask belongs to.

    Raises
    ------
    InputFileError
        If the mask is not on the grid of ``scan``.
    """
    image = load_map(path)
    if scan is not None and not same_grid(image, scan):
        raise InputFileError(
            path,
            f"a mask of shape {image.shape} on a grid of its own",
            f"a mask on the grid of its scan, shape {scan.shape[:3]}",
            "Resample it to the scan, or leave it out (--derivatives).",
        )
    return image_like((np.asarray(image.dataobj) > 0).astype(np.uint8), image)


def apply_mask(image: Nifti1Image, mask: Nifti1Image) -> Nifti1Image:
    """Return the image, float32, with 0 outside the mask."""
    inside = np.asarray(mask.dataobj) > 0
    return image_like(np.where(inside, image.dataobj, 0).astype(np.float32), image)


def resample_mask(
    mask: Nifti1Image, reference: Nifti1Image, moving_to_reference: np.ndarray
) -> Nifti1Image:
    """Resample a mask to the reference grid: uint8, inside where at least half a voxel is."""
    soft = image_like(np.asarray(mask.dataobj, dtype=np.float32), mask)
    moved = resample(soft, reference, moving_to_reference, interpolation="linear")
    return image_like((np.asarray(moved.dataobj) >= 0.5).astype(np.uint8), reference)


def resample_probabilities(
    maps: Sequence[Nifti1Image], mask: Nifti1Image, moving_to_reference: np.ndarray
) -> np.ndarray:
    """Resample tissue maps to the grid of ``mask``.

    Parameters
    ----------
    maps : sequence of K Nifti1Image
        Probabilities on one grid.
    mask : Nifti1Image
        Brain mask on the reference grid.
    moving_to_reference : (4, 4) ndarray

    Returns
    -------
    (X, Y, Z, K) float32
        Sums to 1 inside the mask and is 0 outside it. A voxel of the mask that no map reaches is
        shared evenly.
    """
    inside = np.asarray(mask.dataobj) > 0
    moved = [resample(m, mask, moving_to_reference, interpolation="linear") for m in maps]
    stack = np.stack([np.clip(np.asarray(m.dataobj), 0, 1) for m in moved], axis=-1)
    total = stack.sum(axis=-1, keepdims=True)
    shares = np.divide(stack, total, out=np.full_like(stack, 1 / len(maps)), where=total > 1e-3)
    return np.where(inside[..., None], shares, 0).astype(np.float32)
