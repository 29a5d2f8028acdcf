"""The part of a 224x224 slice that the network looks at.

Most of a slice is background, and time is proportional to area. The window depends on nothing
but the slice's own brain mask, so a slice's result depends on no other slice. Training uses the
same windows: the statistics of GroupNorm depend on how much background there is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WINDOWS = ((160, 192), (192, 224), (224, 224))
"""Sizes (x, y) in voxels, all centred, of which the smallest that holds the brain is taken."""

MULTIPLE = 32
"""Windows are multiples of this: the latent's factor 4 times three halvings in the denoiser."""


def choose_window(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest centred window that holds every brain voxel of a slice.

    Parameters
    ----------
    mask : ndarray, shape (x, y), bool
        A slice, or the union of several.

    Returns
    -------
    tuple of slice
        The whole slice if no smaller window holds the brain.
    """
    for size in WINDOWS:
        window = tuple(
            slice((full - part) // 2, (full - part) // 2 + part)
            for full, part in zip(mask.shape, size, strict=True)
        )
        if any(part.start < 0 for part in window):
            continue
        outside = mask.copy()
        outside[window] = False
        if not outside.any():
            return window[0], window[1]
    return slice(0, mask.shape[0]), slice(0, mask.shape[1])
