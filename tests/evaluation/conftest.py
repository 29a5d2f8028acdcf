"""What the tests of the evaluation share: a small slice cache, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.contrasts import CONTRASTS
from colapipe.training.store import INDEX_VERSION

SIZE = 64

MakeCache = Callable[..., Path]
MakeDataset = Callable[..., Path]


def slices_of(seed: int, contrasts: tuple[str, ...], count: int) -> np.ndarray:
    """Return the planes of a participant: T2w and FLAIR follow from T1w and T1ce."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, count, SIZE, SIZE)), (0, 0, 4, 4))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    t1w, t1ce = smooth[0], 0.7 * smooth[0] + 0.3 * smooth[1]
    images = {
        "T1w": t1w,
        "T1ce": t1ce,
        "T2w": 1 - 0.6 * t1w - 0.3 * t1w * t1ce,
        "FLAIR": 0.2 + 0.5 * t1ce + 0.2 * rng.random(t1w.shape),
        "PDw": 0.3 + 0.5 * t1w,
    }
    planes = np.zeros((count, 4 * len(CONTRASTS) + 1, SIZE, SIZE), dtype=np.uint8)
    for index, contrast in enumerate(CONTRASTS):
        if contrast not in contrasts:
            continue
        # Each contrast shows a slightly different brain; the first slices have little of it.
        radius = np.linspace(0.1, 0.9, count)[:, None, None] + 0.01 * index
        brain = x**2 + y**2 < radius**2
        planes[:, index] = np.rint(images[contrast] * brain * 255)
        classes = np.digitize(images[contrast], [0.35, 0.65])
        for k in range(3):
            planes[:, len(CONTRASTS) + 3 * index + k] = ((classes == k) & brain) * 255
        planes[:, -1] |= brain.astype(np.uint8) << index
    return planes


@pytest.fixture
def make_cache(tmp_path: Path) -> MakeCache:
    """Return what writes a cache of participants, each with its contrasts."""

    def make(
        participants: dict[str, tuple[str, ...]], count: int = 8, folder: str = "slices"
    ) -> Path:
        cache = tmp_path / folder
        cache.mkdir(exist_ok=True)
        scans = {}
        for seed, (name, contrasts) in enumerate(participants.items()):
            np.save(cache / f"{name}.npy", slices_of(seed, contrasts, count))
            scans[name] = {
                "participant": name.partition("_")[0].removeprefix("sub-"),
                "contrasts": [contrast for contrast in CONTRASTS if contrast in contrasts],
                "slices": list(range(10, 10 + count)),
                "origin": str(tmp_path / "gone" / f"{name}_T1w.nii.gz"),
            }
        content = {"format_version": INDEX_VERSION, "scans": scans}
        (cache / "index.json").write_text(json.dumps(content), encoding="utf-8")
        return cache

    return make


def half_tissues(image: nib.Nifti1Image, mask: nib.Nifti1Image, contrast: str) -> np.ndarray:
    """Return two tissues, cut at half the range: enough of a segmentation for a test."""
    inside, bright = np.asarray(mask.dataobj) > 0, image.get_fdata() > 250
    return np.stack([inside & bright, inside & ~bright, 0 * inside], axis=-1).astype(np.float32)


@pytest.fixture
def make_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeDataset:
    """Return what writes a dataset of scans with two slices each, quick to segment."""
    monkeypatch.setattr("colapipe.anatomy.tissue.segment_tissue", half_tissues)

    def make(labels: Sequence[str], folder: str = "data") -> Path:
        x, y = np.mgrid[-1:1:112j, -1:1:112j]
        brain = np.repeat((x**2 + y**2 < 1)[..., None], 2, axis=2)
        for seed, label in enumerate(labels):
            anat = tmp_path / folder / f"sub-{label}" / "anat"
            anat.mkdir(parents=True)
            values = np.random.default_rng(seed).uniform(10, 500, (2, *brain.shape))
            for contrast, volume in zip(("T1w", "T2w"), values * brain, strict=True):
                image = nib.Nifti1Image(volume.astype(np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]))
                nib.save(image, anat / f"sub-{label}_{contrast}.nii.gz")
        return tmp_path / folder

    return make
