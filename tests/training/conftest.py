"""A small dataset of three made-up participants, and its cache of slices."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.training.cache import build_cache


def tissues(image: nib.Nifti1Image, mask: nib.Nifti1Image, contrast: str) -> np.ndarray:
    """Cut an image's range in three: enough of a segmentation for a test."""
    values = image.get_fdata() / max(image.get_fdata().max(), 1e-6)
    inside = np.asarray(mask.dataobj) > 0
    classes = np.digitize(values, [0.33, 0.66])
    return np.stack([(classes == k) & inside for k in range(3)], axis=-1).astype(np.float32)


def write_dataset(folder: Path, participants: tuple[str, ...]) -> Path:
    """Write smooth, brain-extracted, co-registered scans: T2w and FLAIR follow from T1w."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, label in enumerate(participants):
        anat = folder / f"sub-{label}" / "anat"
        anat.mkdir(parents=True)
        rng = np.random.default_rng(number)
        smooth = ndimage.gaussian_filter(rng.normal(size=(80, 90, 6)), (4, 4, 1))
        x, y = np.mgrid[-1:1:80j, -1:1:90j]
        brain = np.repeat((x**2 + y**2 < 0.8)[..., None], 6, axis=2)
        t1w = (smooth - smooth.min() + 0.2) * brain
        scans = {
            "T1w": t1w,
            "FLAIR": (t1w.max() * 1.2 - t1w) * brain,
            "T2w": (t1w.max() * 1.1 - t1w) ** 2 * brain,
        }
        for suffix, volume in scans.items():
            image = nib.Nifti1Image((volume * 100).astype(np.float32), affine)
            nib.save(image, anat / f"sub-{label}_{suffix}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), ("01", "02", "03"))


@pytest.fixture(scope="session")
def cache(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    build_cache(dataset, folder, tissues)
    return folder
