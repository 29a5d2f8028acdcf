"""What the model is shown of a volume, in the app and in training alike.

The node ``Crop`` and the training cache both call these functions, so that a network meets in use
what it has learned from: the same grid, window, mask and intensities.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nibabel import Nifti1Image

from colapipe.slices.intensity import normalise
from colapipe.slices.record import Geometry, crop_to_model


def present_contrast(
    image: Nifti1Image, geometry: Geometry, mask: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Bring a contrast to the model grid, and its intensities to the model's scale.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) on the reference grid, in any units, 0 outside the brain.
    geometry : Geometry
        Of the reference.
    mask : array_like, (224, 224, Z)
        Brain mask of the reference on the model grid. It is the mask of all contrasts: whichever
        else a contrast has of its own, percentiles in another mask are another scale.

    Returns
    -------
    ndarray, (224, 224, Z), float32 in [0, 1]
        0 outside the mask.

    Raises
    ------
    ValueError
        As :func:`colapipe.slices.intensity.normalise`.
    """
    with_data = np.asarray(image.dataobj) != 0
    return normalise(crop_to_model(image, geometry, mask=with_data), mask)[0]


def present_probability(
    image: Nifti1Image, geometry: Geometry, mask: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Bring a probability map to the model grid.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) on the reference grid, in [0, 1].
    geometry : Geometry
    mask : array_like, (224, 224, Z)
        Brain mask on the model grid, of the contrast that the map was computed from.

    Returns
    -------
    ndarray, (224, 224, Z), float32 in [0, 1]
        0 outside the mask.
    """
    volume = crop_to_model(image, geometry, order=1)
    return np.where(np.asarray(mask) != 0, np.clip(volume, 0, 1), 0).astype(np.float32)


def present_mask(image: Nifti1Image, geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Bring a mask to the model grid: (224, 224, Z), 1 where at least half of a voxel is inside.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) on the reference grid; every voxel above 0 is inside.
    geometry : Geometry
    """
    inside = Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.float32), image.affine)
    return (crop_to_model(inside, geometry, order=1) >= 0.5).astype(np.uint8)
