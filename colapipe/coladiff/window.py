"""The part of a 224x224 slice that the network looks at.

Most of a slice is background, and time is proportional to area. The window depends on nothing
but the slice's own brain mask, so a slice's result depends on no other slice. Training uses the
same windows: the statistics of GroupNorm depend on how much background there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Window = tuple[tuple[int, int], tuple[int, int]]
"""First index and the one past the last, along x and along y."""

MULTIPLE = 4
"""A window starts at multiples of this: the largest factor of a latent."""

WINDOWS = ((160, 192), (192, 224), (224, 224))
"""Sizes (x, y) in voxels, all centred, of which the smallest that holds the brain is taken.

Multiples of 32, the latent's factor 4 times three halvings in the denoiser, so that a window
starts on the grid of the latent, and a network that halves never meets an odd size.
"""


def choose_window(mask: npt.NDArray[np.bool_]) -> Window:
    """Return the smallest centred window that holds every brain voxel of a slice.

    Parameters
    ----------
    mask : ndarray, shape (x, y), bool
        A slice, or the union of several.

    Returns
    -------
    tuple
        The whole slice if no smaller window holds the brain.
    """
    full_x, full_y = mask.shape
    for size_x, size_y in WINDOWS:
        x, y = (full_x - size_x) // 2, (full_y - size_y) // 2
        if x < 0 or y < 0 or x % MULTIPLE or y % MULTIPLE:
            continue
        if mask[x : x + size_x, y : y + size_y].sum() == mask.sum():
            return (x, x + size_x), (y, y + size_y)
    return (0, full_x), (0, full_y)


def rows_by_window(
    inside: npt.NDArray[np.bool_], rows: Sequence[int] | None = None
) -> dict[Window, list[int]]:
    """Return which slices with brain share a window, and so can be worked on together.

    Parameters
    ----------
    inside : ndarray, shape (slices, x, y), bool
        The brain.
    rows : sequence of int, optional
        The slices to look at, all by default.

    Returns
    -------
    dict
        From each window to the slices that have it, ascending.
    """
    wanted = np.zeros(len(inside), dtype=bool)
    wanted[list(range(len(inside)) if rows is None else rows)] = True
    together: dict[Window, list[int]] = {}
    for row in np.flatnonzero(inside.any(axis=(1, 2)) & wanted):
        together.setdefault(choose_window(inside[row]), []).append(int(row))
    return together
