"""What the tests of the baselines share: small slices with a brain in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

Slices = dict[str, npt.NDArray[np.float32]]

NAMES = ("T1w", "T2w", "T1ce", "FLAIR")


@pytest.fixture
def mask() -> npt.NDArray[np.bool_]:
    """Return four slices of 64 x 64, the last one without brain."""
    x, y = np.mgrid[-1:1:64j, -1:1:64j]
    disc = x**2 + 1.4 * y**2 < 0.7
    return np.stack([disc, disc & (x < 0.5), disc, np.zeros_like(disc)])


@pytest.fixture
def sources(mask: npt.NDArray[np.bool_]) -> Slices:
    """Return contrasts that have nothing to do with each other, in [0, 1], 0 outside the brain."""
    rng = np.random.default_rng(0)
    return {name: (rng.random(mask.shape) * mask).astype(np.float32) for name in NAMES}
