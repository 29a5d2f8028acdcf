"""Correction of the smooth intensity field that coils leave in a scan."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.anatomy.images import image_like
from colapipe.anatomy.itk import from_itk, itk_threads, to_itk
from colapipe.errors import ParticipantError

# The field is smooth: voxels of 4 mm describe it, at a hundredth of the work.
_WORKING_MM = 4.0
# Knots of the spline on the first of the levels; each level halves their distance, to 50 mm.
_KNOTS_MM = 200.0
_ITERATIONS = (15, 10, 10)
_CONVERGENCE = 1e-3


def correct_bias(image: Nifti1Image, mask: Nifti1Image, threads: int = 1) -> Nifti1Image:
    """Divide a scan by its bias field, estimated by N4 [1]_ inside the mask.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) scan in arbitrary units. Only positive voxels tell about the field.
    mask : Nifti1Image
        Brain mask on the same grid, above 0 inside.
    threads : int
        Threads of ITK.

    Returns
    -------
    Nifti1Image
        float32 on the same grid. Inside the mask the scan divided by the field, with its mean
        kept; outside, untouched.

    Raises
    ------
    ParticipantError
        If nothing inside the mask is positive.

    References
    ----------
    .. [1] Tustison et al., IEEE Transactions on Medical Imaging 29(6):1310-1320, 2010.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    inside = np.asarray(mask.dataobj) > 0
    valid = inside & (data > 0)
    if not valid.any():
        raise ParticipantError("nothing inside the brain mask of a scan is brighter than zero.")
    with itk_threads(threads):
        log_field = _log_field(data, valid, np.asarray(image.affine))
    field = np.exp(log_field)
    corrected = np.where(inside, data / field, data)
    total = corrected[inside].sum(dtype=np.float64)
    if total > 0:
        corrected[inside] *= np.float32(data[inside].sum(dtype=np.float64) / total)
    return image_like(corrected.astype(np.float32), image)


def _log_field(data: np.ndarray, valid: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Estimate the logarithm of the field on blocks of voxels; return it at every voxel."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    steps = np.maximum(np.floor(_WORKING_MM / zooms).astype(int), 1)
    # Blocks of steps voxels; the mean of the valid ones is less noisy than one of them.
    weight = _block_sum(valid.astype(np.float32), steps)
    mean = _block_sum(np.where(valid, data, 0), steps) / np.maximum(weight, 1)
    block_affine = affine @ np.diag([*steps, 1])
    # Blocks on the border of the mask hold some of the background's partial volume.
    good = weight >= 0.5 * steps.prod()
    if not good.any():
        good = weight > 0

    extent = np.array(mean.shape) * zooms * steps
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.SetConvergenceThreshold(_CONVERGENCE)
    order = n4.GetSplineOrder()
    n4.SetNumberOfControlPoints([int(np.ceil(e / _KNOTS_MM)) + order for e in extent])
    blocks = to_itk(np.where(good, mean, 1).astype(np.float32), block_affine)
    n4.Execute(blocks, to_itk(good.astype(np.uint8), block_affine))
    log_field = from_itk(n4.GetLogBiasFieldAsImage(blocks))

    # Voxel i lies at (i - (step - 1) / 2) / step among the blocks.
    return np.asarray(
        ndimage.affine_transform(
            log_field.astype(np.float32),
            1 / steps,
            -(steps - 1) / 2 / steps,
            data.shape,
            order=1,
            mode="nearest",
        )
    )


def _block_sum(data: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Sum blocks of ``steps`` voxels; the last blocks may be incomplete."""
    for axis, step in enumerate(steps):
        data = np.add.reduceat(data, np.arange(0, data.shape[axis], step), axis=axis)
    return data
