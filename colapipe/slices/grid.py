"""The model grid of a reference: resampling to 1 mm, and back.

The **model grid** has 1 mm voxels along the reference's own axes, reordered and flipped to the
closest Right-Anterior-Superior (RAS) order. Nothing is rotated: an oblique reference keeps its
oblique axes, so an axial slice of the model is the slice that was acquired.

Voxels are cells with edges, and a value is the mean over its cell, as in a scanner. The two fields
of view have the same centre; the model grid has the fewest voxels that cover the reference's, so
it reaches beyond it by less than half a voxel at each end (and not at all where the extent is a
whole number of millimetres). An axis whose voxels are 1 mm already, within 0.001 mm, keeps its
voxels: a 1 mm isotropic reference is only permuted and flipped, and comes back bit for bit.

Otherwise the resampling is separable, one axis at a time. The round trip reference -> model grid
-> reference has a tolerance, kept by ``tests/test_slices.py`` on an image that is smooth on the
scale of 2 mm, for voxels of 0.9 mm, 0.94 x 0.94 x 1.2 mm and 0.5 x 0.5 x 4 mm at the default
``order=3``: the mean absolute error inside the brain is at most 0.1 % of the image's range, 0.2 %
where the background is blank and the mask is passed (1.5 % if it is not), and a brain mask comes
back with a Dice overlap of at least 0.99. In real scans detail and noise finer than 1 mm are lost:
0.3 to 0.9 % on scans of 0.7 x 0.7 x 3 mm to 0.94 x 0.94 x 1.2 mm. Cropping and pasting back are
exact.

Why not linear interpolation: on scans whose 1 mm slices were averaged to 3 or 4 mm, ``order=3``
brought the 1 mm slices back 1.0 to 1.7 dB closer to the truth than ``order=1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from colapipe.slices.resampling import FloatArray, Shape, resample

SPACING = 1.0
"""Voxel size of the model grid in millimetres."""

_SAME_SPACING = 1e-3
"""Voxel sizes that differ from ``SPACING`` by no more than this (mm) are kept as they are."""

_EXTENSION_MARGIN = 8
"""How far, in voxels, a masked image is extended: beyond it the spline's weights are < 1e-4."""


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """The model grid of one reference: RAS order, 1 mm.

    Attributes
    ----------
    affine : ndarray, (4, 4), float64
        Voxel indices to RAS+ world millimetres.
    shape : tuple of int
        Voxels to the Right, to Anterior and to Superior.
    """

    affine: npt.NDArray[np.float64]
    shape: Shape

    def to_dict(self) -> dict[str, Any]:
        """Return the grid as plain lists, for JSON."""
        return {"affine": self.affine.tolist(), "shape": list(self.shape)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelGrid:
        """Rebuild a grid from :meth:`to_dict`."""
        x, y, z = (int(n) for n in fields["shape"])
        return cls(np.asarray(fields["affine"], dtype=np.float64), (x, y, z))


def model_grid(affine: npt.ArrayLike, shape: Sequence[int]) -> ModelGrid:
    """Return the model grid of a reference.

    It depends on where the reference lies, not on the order in which its voxels are stored.

    Parameters
    ----------
    affine : array_like, (4, 4)
        The reference's voxel indices to RAS+ world millimetres.
    shape : sequence of int
        The reference's three dimensions.

    Raises
    ------
    ValueError
        If the shape is not three-dimensional or the affine is singular.
    """
    reoriented, ras_shape, zooms = _as_ras(affine, shape)
    counts, steps = [], []
    for count, zoom in zip(ras_shape, zooms, strict=True):
        keep = abs(zoom - SPACING) <= _SAME_SPACING
        counts.append(count if keep else _cells_to_cover(count * zoom))
        steps.append(zoom if keep else SPACING)
    grid_shape = np.asarray(counts)
    ratio = np.asarray(steps) / zooms
    # The first model voxel's centre, in voxel indices of the reoriented reference (whose first
    # cell begins at -0.5), so that both fields of view share their centre.
    first = (np.asarray(ras_shape) - grid_shape * ratio) / 2 + ratio / 2 - 0.5
    to_reference = np.diag([*ratio, 1.0])
    to_reference[:3, 3] = first
    grid_affine = reoriented @ to_reference
    grid_affine.flags.writeable = False
    return ModelGrid(grid_affine, (counts[0], counts[1], counts[2]))


def to_model_grid(
    image: SpatialImage,
    grid: ModelGrid,
    order: int = 3,
    mask: npt.ArrayLike | None = None,
) -> npt.NDArray[Any]:
    """Resample an image from its reference's grid to the model grid.

    Parameters
    ----------
    image : nibabel image, 3-D
        An image on the grid of the reference that ``grid`` was made for.
    grid : ModelGrid
    order : {3, 1, 0}
        3, for intensities: a cubic spline whose mean over each reference voxel is that voxel's
        value (a histospline), averaged over each model voxel; clipped to the image's range.
        1, for masks and probabilities: weights are never negative and sum to 1; linear
        interpolation between voxel centres along axes that get finer, averages over the cells
        that a voxel covers along axes that get coarser.
        0, for labels: the nearest voxel; the image's data type is kept.
    mask : array_like, the image's shape, optional
        Where the image means something. Voxels outside take the value of the nearest one inside
        before resampling, so that a blank background does not darken the rim of the brain; blank
        the result again with a mask on the model grid (:func:`mask_to_model_grid`).

    Returns
    -------
    ndarray, ``grid.shape``, float32 (for order 0, the data type of the image)

    Raises
    ------
    ValueError
        If the image is not on the reference grid of ``grid``, or the order is not 0, 1 or 3.
    """
    ornt = _check_reference(image, grid)
    data = _voxels(image, order)
    if mask is not None and order != 0:
        _check_shape(mask, data.shape, "mask")
        data = _extend(data, np.asarray(mask) != 0, _zooms(image.affine))
    reoriented = nib.orientations.apply_orientation(data, ornt)
    spacing_in = _as_ras(image.affine, image.shape)[2]
    return resample(reoriented, spacing_in, _zooms(grid.affine), grid.shape, order)


def from_model_grid(
    array: npt.ArrayLike,
    grid: ModelGrid,
    reference: SpatialImage,
    order: int = 3,
    mask: npt.ArrayLike | None = None,
) -> nib.Nifti1Image:
    """Resample an array from the model grid to the reference's own stored grid.

    Along axes where the reference is coarser, values are averaged over its voxels: a 4 mm slice
    is the mean of the 4 mm that it covers.

    Parameters
    ----------
    array : array_like, ``grid.shape``
        Values on the model grid.
    grid : ModelGrid
    reference : nibabel image, 3-D
        The reference that ``grid`` was made for; only its geometry is used.
    order : {3, 1, 0}
        As for :func:`to_model_grid`.
    mask : array_like, ``grid.shape``, optional
        As for :func:`to_model_grid`; blank the result with a mask on the reference grid.

    Returns
    -------
    Nifti1Image
        The reference's shape, affine, and qform and sform codes; float32 (for order 0, the data
        type of ``array``).

    Raises
    ------
    ValueError
        If ``array`` is not on the grid, the grid is not the reference's, or the order is not 0,
        1 or 3.
    """
    ornt = _check_reference(reference, grid)
    _check_shape(array, grid.shape, "array")
    data = np.array(array, dtype=None if order == 0 else np.float32)
    if mask is not None and order != 0:
        _check_shape(mask, grid.shape, "mask")
        data = _extend(data, np.asarray(mask) != 0, _zooms(grid.affine))
    _, ras_shape, spacing_out = _as_ras(reference.affine, reference.shape)
    out = resample(data, _zooms(grid.affine), spacing_out, ras_shape, order)
    # The inverse of "reference to RAS": where each RAS axis goes, and whether it is flipped.
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), ornt)
    stored = np.ascontiguousarray(nib.orientations.apply_orientation(out, back))
    return _image_like(stored, reference)


def mask_to_model_grid(mask: SpatialImage, grid: ModelGrid) -> npt.NDArray[np.uint8]:
    """Resample a binary mask to the model grid: voxels of which at least half lies inside.

    Parameters
    ----------
    mask : nibabel image, 3-D
        On the reference's grid; every voxel above 0 is inside.
    grid : ModelGrid

    Returns
    -------
    ndarray, ``grid.shape``, uint8 of 0 and 1
    """
    binary = nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.uint8), mask.affine)
    return (to_model_grid(binary, grid, order=1) >= 0.5).astype(np.uint8)


def _zooms(affine: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the voxel size along each axis of an affine."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    return np.sqrt((matrix**2).sum(axis=0))


def _as_ras(
    affine: npt.ArrayLike, shape: Sequence[int]
) -> tuple[npt.NDArray[np.float64], Shape, npt.NDArray[np.float64]]:
    """Return affine, shape and voxel sizes of an image after its axes are put in RAS order."""
    ornt = _orientation(affine, shape)
    matrix = np.asarray(affine, dtype=np.float64)
    reoriented = matrix @ nib.orientations.inv_ornt_aff(ornt, tuple(shape))
    x, y, z = (int(shape[axis]) for axis in np.argsort(ornt[:, 0]))
    return reoriented, (x, y, z), _zooms(reoriented)


def _orientation(affine: npt.ArrayLike, shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return for each axis which RAS axis is closest, and whether it points the other way."""
    matrix = np.asarray(affine, dtype=np.float64)
    if len(shape) != 3:
        raise ValueError(f"the image has shape {tuple(shape)}; expected three dimensions")
    singular = matrix.shape != (4, 4) or not np.isfinite(matrix).all()
    if singular or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise ValueError("the affine is singular: it does not say where the voxels are")
    ornt = nib.orientations.io_orientation(matrix)
    return np.asarray(ornt, dtype=np.float64)


def _cells_to_cover(extent: float) -> int:
    """Return how many model voxels cover ``extent`` millimetres.

    A hundredth of a millimetre is forgiven, so that rounding of voxel sizes adds no slice.
    """
    return max(1, math.ceil(extent / SPACING - 0.01))


def _check_reference(image: SpatialImage, grid: ModelGrid) -> npt.NDArray[np.float64]:
    """Return the orientation of an image, after checking that it is on the grid's reference."""
    expected = model_grid(image.affine, image.shape)
    same_place = np.allclose(expected.affine, grid.affine, rtol=0, atol=1e-3)
    if expected.shape != grid.shape or not same_place:
        raise ValueError(
            f"the image of shape {image.shape} is not on the reference grid that the model grid "
            f"of shape {grid.shape} was made for"
        )
    return _orientation(image.affine, image.shape)


def _check_shape(array: npt.ArrayLike, shape: Sequence[int], name: str) -> None:
    """Raise if an array does not have the expected shape."""
    if np.shape(array) != tuple(shape):
        raise ValueError(f"the {name} has shape {np.shape(array)}; expected {tuple(shape)}")


def _voxels(image: SpatialImage, order: int) -> npt.NDArray[Any]:
    """Return an image's voxels: as they are for labels, float32 otherwise."""
    # A copy: what is returned to the caller must not share memory with the image.
    data = np.asarray(image.dataobj)
    return data.astype(data.dtype if order == 0 else np.float32, copy=True)


def _image_like(data: npt.NDArray[Any], reference: SpatialImage) -> nib.Nifti1Image:
    """Return an image with the reference's affine and its qform and sform codes."""
    image = nib.Nifti1Image(data, reference.affine)
    if isinstance(reference, nib.Nifti1Image):
        image.set_qform(*reference.get_qform(coded=True))
        image.set_sform(*reference.get_sform(coded=True))
    image.header.set_xyzt_units("mm")
    return image


def _extend(
    data: FloatArray, inside: npt.NDArray[np.bool_], zooms: npt.NDArray[np.float64]
) -> FloatArray:
    """Give the voxels around a mask the value of the nearest voxel inside it."""
    if not inside.any():
        raise ValueError("the mask is empty, so there is nothing to resample")
    box = tuple(
        slice(max(0, part.start - _EXTENSION_MARGIN), part.stop + _EXTENSION_MARGIN)
        for part in ndimage.find_objects(inside.astype(np.uint8))[0]
    )
    nearest = ndimage.distance_transform_edt(
        ~inside[box], sampling=zooms, return_distances=False, return_indices=True
    )
    extended = data.copy()
    extended[box] = data[box][tuple(nearest)]
    return extended
