"""Masks and probability maps: images that may be empty, unlike scans, and live on a known grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nibabel import Nifti1Image

from colapipe.anatomy.images import image_like, read_image, same_grid
from colapipe.anatomy.resample import resample
from colapipe.errors import InputFileError

_A_MAP = "a mask or probability map in NIfTI format (.nii or .nii.gz), 3-D"
# Whole numbers that fill a range up to here are probabilities in percent, or in steps of 1/255.
_SOFT_MAXIMUM = 50, 255
_FILLED = 0.75


def load_map(path: Path | str) -> Nifti1Image:
    """Read a mask or a probability map: (X, Y, Z) float32, in its stored orientation.

    Raises
    ------
    InputFileError
        If the file cannot be read as a 3-D image of finite numbers.
    """
    return read_image(path, _A_MAP, least=1)[0]


def load_array(path: Path | str) -> np.ndarray:
    """Read the voxels of a map alone: (X, Y, Z) float32."""
    return np.asarray(load_map(path).dataobj, dtype=np.float32)


def load_mask(path: Path | str, scan: Nifti1Image | None = None) -> Nifti1Image:
    """Read a mask as uint8 (0 and 1), as `read_mask` understands it.

    Parameters
    ----------
    path : Path
    scan : Nifti1Image, optional
        The image that the mask belongs to.

    Raises
    ------
    InputFileError
        If it is no mask, or not on the grid of ``scan``.
    """
    mask, _ = read_mask(path)
    if scan is not None and not same_grid(mask, scan):
        raise InputFileError(
            path,
            f"a mask of shape {mask.shape} on a grid of its own",
            f"a mask on the grid of its scan, shape {scan.shape[:3]}",
            "Resample it to the scan, or leave it out (--derivatives).",
        )
    return mask


def read_mask(path: Path | str) -> tuple[Nifti1Image, str]:
    """Read a mask of any tool as uint8 (0 and 1), and say how it was understood.

    Of two values the larger is inside. Whole numbers are labels, and every label is inside, unless
    they fill the range as probabilities do that are stored as percentages or as 0 to 255. Anything
    else is soft: voxels of at least half of the maximum are inside, as of a mask that is resampled.

    Returns
    -------
    mask : Nifti1Image
        It may be empty.
    remark : str
        What a user should know: values other than two, a header that contradicts itself. Else "".

    Raises
    ------
    InputFileError
        If the values are not those of a mask.
    """
    path = Path(path)
    image, remarks = read_image(path, _A_MAP, least=1)
    inside, about_values = _inside(path, np.asarray(image.dataobj))
    said = [remark for remark in (*remarks, about_values) if remark]
    remark = f"{path.name}: {' '.join(said)}" if said else ""
    return image_like(inside.astype(np.uint8), image), remark


def given_mask(
    path: Path | str,
    reference: Nifti1Image,
    mask_to_reference: np.ndarray | None = None,
    *,
    may_be_empty: bool = False,
) -> tuple[Nifti1Image, str]:
    """Read a mask that somebody made before, and bring it to the grid of a scan.

    Parameters
    ----------
    path : Path
    reference : Nifti1Image
    mask_to_reference : (4, 4) ndarray, optional
        RAS+ mm; the identity by default. The grid of the mask may be any.
    may_be_empty : bool
        As a lesion mask of a healthy person.

    Returns
    -------
    mask : Nifti1Image
        uint8 (0 and 1) on the grid of ``reference``.
    remark : str
        As of `read_mask`.

    Raises
    ------
    InputFileError
        If it is no mask, covers everything, or nothing of it lies in the scan.
    """
    mask, remark = read_mask(path)
    expected = "a mask of a part of its scan"
    action = "Make it again, or leave it out (--derivatives)."
    if np.asarray(mask.dataobj).all():
        raise InputFileError(path, "every voxel is inside the mask", expected, action)
    empty = not np.asarray(mask.dataobj).any()
    moved = resample_mask(
        mask, reference, np.eye(4) if mask_to_reference is None else mask_to_reference
    )
    if np.asarray(moved.dataobj).all():
        raise InputFileError(path, "the mask covers the whole scan", expected, action)
    if not np.asarray(moved.dataobj).any() and not (empty and may_be_empty):
        found = "an empty mask" if empty else "a mask that lies outside its scan"
        raise InputFileError(path, found, expected, action)
    return moved, remark


def _inside(path: Path, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Tell which voxels are inside a mask: bool, and a remark if that is not beyond doubt."""
    low, high = float(values.min()), float(values.max())
    two_valued = bool(((values == low) | (values == high)).all())
    # Splines overshoot a little below 0; a map of distances or intensities does so by far.
    if (high <= 0 and low < 0) or (-low > high / 2 and not two_valued):
        raise InputFileError(
            path,
            f"values from {low:g} to {high:g}",
            "a mask: 0 outside, one value above 0 inside",
            "Make it again, or leave it out.",
        )
    if low == high:
        return values > 0, ""
    if two_valued:
        remark = f"the mask has the values {low:g} and {high:g}; the larger one is taken as inside."
        return values == high, "" if low == 0 else remark
    if low >= 0 and np.array_equal(values, np.round(values)):
        labels = np.unique(values[values > 0])
        if not (_SOFT_MAXIMUM[0] <= high <= _SOFT_MAXIMUM[1] and len(labels) > _FILLED * high):
            return values > 0, (
                f"the mask has {len(labels)} labels, {labels[0]:g} to {high:g}; every label is "
                "taken as inside."
            )
    return values >= high / 2, (
        f"the mask is not binary, its values are {low:.3g} to {high:.3g}; voxels of at least half "
        "of the maximum are taken as inside."
    )


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
