"""The model's square window on axial slices: crop, paste back, and which slices have brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CROP_SIZE = 224
"""Edge of the model's square axial slices in voxels."""

MIN_FRACTION = 0.15
"""Part of a cropped slice that brain must cover for the slice to be selected."""


@dataclass(frozen=True)
class CropBox:
    """A square window on the first two axes of the model grid; the third is kept whole.

    Attributes
    ----------
    start : tuple of int
        First index along x and y. Negative where the window reaches out of the grid.
    size : int
        Edge in voxels.
    clipped : int
        Brain voxels that lie outside the window; not zero when a brain is wider than ``size``.
    """

    start: tuple[int, int]
    size: int = CROP_SIZE
    clipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the box as plain numbers, for JSON."""
        return {"start": list(self.start), "size": self.size, "clipped": self.clipped}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> CropBox:
        """Rebuild a box from :meth:`to_dict`."""
        x, y = (int(index) for index in fields["start"])
        return cls((x, y), int(fields["size"]), int(fields["clipped"]))


def crop_box(mask: npt.ArrayLike, size: int = CROP_SIZE) -> CropBox:
    """Return the window of ``size`` x ``size`` voxels centred on a brain.

    Parameters
    ----------
    mask : array_like, (X, Y, Z) on the model grid
        The brain; the box is centred on its bounding box along x and y.
    size : int

    Raises
    ------
    ValueError
        If the mask is empty or not three-dimensional.
    """
    inside = np.asarray(mask) != 0
    if inside.ndim != 3:
        raise ValueError(f"the mask has {inside.ndim} dimensions; expected 3")
    if not inside.any():
        raise ValueError("the brain mask is empty, so there is nothing to crop around")
    footprint = inside.any(axis=2)
    starts = []
    for axis in (0, 1):
        indices = np.flatnonzero(footprint.any(axis=1 - axis))
        starts.append((int(indices[0]) + int(indices[-1]) + 1 - size) // 2)
    box = CropBox((starts[0], starts[1]), size)
    clipped = int(inside.sum()) - int(crop(inside, box).sum())
    return CropBox(box.start, size, clipped)


def crop(volume: npt.ArrayLike, box: CropBox) -> npt.NDArray[Any]:
    """Cut the box out of a volume on the model grid; what lies outside the grid is 0.

    Parameters
    ----------
    volume : array_like, (X, Y, Z) or (X, Y, Z, ...)
    box : CropBox

    Returns
    -------
    ndarray, (size, size, Z, ...), the data type of ``volume``
        A copy.
    """
    array = np.asarray(volume)
    cropped = np.zeros((box.size, box.size, *array.shape[2:]), dtype=array.dtype)
    in_grid, in_box = _overlap(box, array.shape)
    cropped[in_box] = array[in_grid]
    return cropped


def paste_back(
    cropped: npt.ArrayLike, box: CropBox, shape: Sequence[int], fill: float = 0
) -> npt.NDArray[Any]:
    """Put a cropped volume back where :func:`crop` took it from.

    Parameters
    ----------
    cropped : array_like, (size, size, Z, ...)
    box : CropBox
    shape : sequence of int
        The model grid's three dimensions.
    fill : float
        The value outside the box.

    Returns
    -------
    ndarray, (X, Y, Z, ...), the data type of ``cropped``

    Raises
    ------
    ValueError
        If ``cropped`` does not have the size of the box or the number of slices of the grid.
    """
    array = np.asarray(cropped)
    expected = (box.size, box.size, shape[2])
    if array.shape[:3] != expected:
        raise ValueError(f"the cropped volume has shape {array.shape}; expected {expected}")
    pasted = np.full((*shape[:2], *array.shape[2:]), fill, dtype=array.dtype)
    in_grid, in_box = _overlap(box, shape)
    pasted[in_grid] = array[in_box]
    return pasted


def cropped_affine(affine: npt.ArrayLike, box: CropBox) -> npt.NDArray[np.float64]:
    """Return the affine of a cropped volume, so that every voxel keeps its place in the world.

    Parameters
    ----------
    affine : array_like, (4, 4)
        Of the model grid.
    box : CropBox
    """
    shifted = np.array(affine, dtype=np.float64)
    shifted[:3, 3] += shifted[:3, :2] @ np.asarray(box.start, dtype=np.float64)
    return shifted


def select_slices(mask: npt.ArrayLike, min_fraction: float = MIN_FRACTION) -> list[int]:
    """Return the axial slices that brain covers well enough to be worth learning from.

    CoLa-Diff selects cross-sections by their "perceptible effective area" (Jiang et al., MICCAI
    2023, "Datasets and Baselines") without giving a number; 15 % of 224 x 224 is this project's.

    Parameters
    ----------
    mask : array_like, (224, 224, Z)
        The cropped brain mask.
    min_fraction : float
        Smallest part of the slice that is brain, in [0, 1].

    Returns
    -------
    list of int
        Indices along the third axis, ascending.
    """
    inside = np.asarray(mask) != 0
    area = inside.sum(axis=(0, 1))
    return [int(z) for z in np.flatnonzero(area >= min_fraction * inside[..., 0].size)]


def slices_with_brain(mask: npt.ArrayLike) -> list[int]:
    """Return the axial slices that hold at least one voxel of brain.

    Parameters
    ----------
    mask : array_like, (X, Y, Z)

    Returns
    -------
    list of int
        Indices along the third axis, ascending.
    """
    return [int(z) for z in np.flatnonzero((np.asarray(mask) != 0).any(axis=(0, 1)))]


def _overlap(box: CropBox, shape: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return what box and grid have in common, as indices of the grid and of the box."""
    in_grid, in_box = [], []
    for start, length in zip(box.start, shape[:2], strict=True):
        low, high = max(start, 0), max(min(start + box.size, length), max(start, 0))
        in_grid.append(slice(low, high))
        in_box.append(slice(low - start, high - start))
    return (in_grid[0], in_grid[1]), (in_box[0], in_box[1])
