"""The border between nibabel's images and ITK's: voxel order, LPS coordinates, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ to LPS+ millimetres, and back."""


def to_itk(data: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """Make an image of ITK.

    Parameters
    ----------
    data : numpy.ndarray
        (X, Y, Z).
    affine : numpy.ndarray
        4x4, voxels to RAS+ mm. Shears are lost: ITK's images have none.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = LPS @ affine
    zooms = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(zooms.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / zooms).ravel().tolist())
    return image


def from_itk(image: sitk.Image) -> np.ndarray:
    """Return the voxels of an image of ITK, (X, Y, Z)."""
    return np.asarray(sitk.GetArrayFromImage(image).T)


@contextmanager
def itk_threads(threads: int) -> Iterator[None]:
    """Limit the threads of everything that ITK does inside the block."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
