"""The slow change of brightness across a scan, estimated on a coarse grid and divided out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Image
from scipy import interpolate

from colapipe.anatomy.images import image_like

# Coil fields vary over centimetres: 5 mm between samples are plenty, and N4's time follows the
# number of samples. Thick slices are all kept.
_SAMPLING_MM = 5.0
_ITERATIONS = (50, 50, 50)
# N4 takes logarithms: in noise around zero they say nothing of the field.
_DARKEST = 0.05
# Below this no field can be told from anatomy (1000 samples are 5 cm in each direction).
_FEWEST_SAMPLES = 1000
_FEWEST_PER_AXIS = 4


def correct_bias(image: Nifti1Image, mask: Nifti1Image, threads: int = 1) -> Nifti1Image:
    """Divide a scan by its bias field, estimated in the brain with N4 [1]_.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) scan, arbitrary units. Zeros and negative voxels may occur; they do not take
        part in the estimation.
    mask : Nifti1Image
        (X, Y, Z), above 0 in the brain, on the grid of ``image``.
    threads : int
        Threads of N4.

    Returns
    -------
    Nifti1Image
        float32 on the grid of ``image``, with the same mean inside the mask. Outside the mask,
        where no field is known, the voxels are those of ``image``. Scans in which no field can
        be estimated come back unchanged: masks of less than a few centimetres, and intensities
        that are constant or for the most part not positive (z-scores), which no multiplicative
        field has shaped.

    Raises
    ------
    ValueError
        If the mask is empty or has another shape than the image.

    References
    ----------
    .. [1] Tustison et al. N4ITK: improved N3 bias correction. IEEE Trans Med Imaging 2010;
       29:1310-1320.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    inside = np.asarray(mask.dataobj) > 0
    if inside.shape != data.shape:
        raise ValueError(f"a mask of shape {inside.shape} for a scan of shape {data.shape}")
    if not inside.any():
        raise ValueError("the brain mask is empty: there is nothing to estimate a bias field in")

    box = tuple(
        slice(int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1)
        for used in (inside.any(axis=(1, 2)), inside.any(axis=(0, 2)), inside.any(axis=(0, 1)))
    )
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    log_field = _log_field(data[box], inside[box], zooms, threads)
    corrected = data.copy()
    if log_field is not None:
        brain = inside[box]
        values = data[box][brain]
        flat = values * np.exp(-log_field[brain])
        flat *= np.float32(values.mean(dtype=np.float64) / flat.mean(dtype=np.float64))
        corrected[box][brain] = flat
    return image_like(corrected, image)


def _log_field(
    data: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    zooms: npt.NDArray[np.float64],
    threads: int,
) -> npt.NDArray[np.float32] | None:
    """Estimate the logarithm of the field, (X, Y, Z) like ``data``; None where there is none."""
    import SimpleITK as sitk

    steps = [
        int(np.clip(np.floor(_SAMPLING_MM / zoom), 1, max(n // _FEWEST_PER_AXIS, 1)))
        for zoom, n in zip(zooms, data.shape, strict=True)
    ]
    starts = [(n - 1) % step // 2 for n, step in zip(data.shape, steps, strict=True)]
    coarse = tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))
    samples = data[coarse]
    floor = float(_DARKEST * np.median(data[inside]))
    used = inside[coarse] & (samples > floor)
    if (
        floor <= 0
        or np.count_nonzero(used) < _FEWEST_SAMPLES
        or min(samples.shape) < _FEWEST_PER_AXIS
        or np.ptp(samples[used]) <= 1e-6 * samples[used].max()
    ):
        return None

    # N4 is not told the voxel sizes by an array; SimpleITK's axis order is the reverse of numpy's.
    scan = sitk.GetImageFromArray(np.where(used, samples, np.float32(floor)))
    where = sitk.GetImageFromArray(used.astype(np.uint8))
    for itk_image in (scan, where):
        itk_image.SetSpacing([float(z * s) for z, s in zip(zooms, steps, strict=True)][::-1])
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(threads)
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.Execute(scan, where)
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(scan))

    # The field is a smooth tensor-product spline, so interpolate along one axis after another.
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True)):
        at = start + step * np.arange(field.shape[axis])
        spline = interpolate.make_interp_spline(at, np.eye(at.size), k=3)
        wanted = np.clip(np.arange(data.shape[axis]), at[0], at[-1])
        weights = spline(wanted).astype(np.float32)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.asarray(field, dtype=np.float32)
