"""The window of the model on one reference, as one record: grid, crop box and slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import Nifti1Image

from colapipe.slices import (
    CropBox,
    ModelGrid,
    crop,
    crop_box,
    cropped_affine,
    from_model_grid,
    mask_to_model_grid,
    model_grid,
    paste_back,
    select_slices,
    slices_with_brain,
    to_model_grid,
)


@dataclass(frozen=True)
class Geometry:
    """Where a reference's slices come from, so that they can be put back there.

    Parameters
    ----------
    grid : ModelGrid
        The 1 mm grid over the whole reference.
    box : CropBox
        The 224 x 224 window on it.
    selected : list of int
        Axial slices that brain covers well enough (``select_slices``).
    with_brain : list of int
        Axial slices with any brain.
    """

    grid: ModelGrid
    box: CropBox
    selected: list[int]
    with_brain: list[int]

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) affine of the cropped volumes."""
        return cropped_affine(self.grid.affine, self.box)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain lists and numbers, for JSON."""
        return {
            "grid": self.grid.to_dict(),
            "box": self.box.to_dict(),
            "selected": self.selected,
            "with_brain": self.with_brain,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Geometry:
        """Rebuild the record from `to_dict`; further keys are ignored."""
        return cls(
            ModelGrid.from_dict(fields["grid"]),
            CropBox.from_dict(fields["box"]),
            [int(index) for index in fields["selected"]],
            [int(index) for index in fields["with_brain"]],
        )


def plan_geometry(mask: Nifti1Image) -> tuple[Geometry, np.ndarray]:
    """Lay the model grid over a reference and centre the crop on its brain.

    Parameters
    ----------
    mask : Nifti1Image
        Brain mask on the reference grid.

    Returns
    -------
    geometry : Geometry
    cropped : (224, 224, Z) uint8
        The mask on the cropped model grid.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    grid = model_grid(mask.affine, mask.shape)
    on_grid = mask_to_model_grid(mask, grid)
    box = crop_box(on_grid)
    cropped = crop(on_grid, box)
    geometry = Geometry(grid, box, select_slices(cropped), slices_with_brain(cropped))
    return geometry, cropped


def crop_to_model(
    image: Nifti1Image, geometry: Geometry, *, mask: np.ndarray | None = None, order: int = 3
) -> np.ndarray:
    """Bring a volume from the reference grid to the cropped model grid.

    Parameters
    ----------
    image : Nifti1Image
        On the reference grid.
    geometry : Geometry
    mask : (X, Y, Z) bool ndarray, optional
        Where the image means something; its values are carried on beyond, so that the edge of a
        brain does not mix with the background.
    order : int
        0 nearest, 1 linear, 3 spline.

    Returns
    -------
    (224, 224, Z) ndarray
    """
    return crop(to_model_grid(image, geometry.grid, order=order, mask=mask), geometry.box)


def paste_to_reference(
    cropped: np.ndarray,
    geometry: Geometry,
    reference: Nifti1Image,
    *,
    mask: np.ndarray | None = None,
    order: int = 3,
) -> np.ndarray:
    """Bring a cropped volume back to the reference grid; 0 outside the crop.

    Parameters
    ----------
    cropped : (224, 224, Z) ndarray
    geometry : Geometry
    reference : Nifti1Image
        Any image on the reference grid.
    mask : (224, 224, Z) bool ndarray, optional
        Where the volume means something, as in `crop_to_model`.
    order : int

    Returns
    -------
    (X, Y, Z) float32 ndarray
    """
    shape = geometry.grid.shape
    whole = paste_back(np.asarray(cropped, dtype=np.float32), geometry.box, shape)
    inside = None if mask is None else paste_back(mask, geometry.box, shape)
    image = from_model_grid(whole, geometry.grid, reference, order=order, mask=inside)
    return np.asarray(image.dataobj, dtype=np.float32)
