"""What the tests of the evaluation share: a small slice cache, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from colapipe.contrasts import CONTRASTS

SIZE = 64

MakeCache = Callable[..., Path]


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
        content = {"format_version": 1, "scans": scans}
        (cache / "index.json").write_text(json.dumps(content), encoding="utf-8")
        return cache

    return make
