"""The part of a 224x224 slice that the network looks at.

Most of a slice is background, and time is proportional to area. The window depends on nothing
but the slice's own brain mask, so a slice's result depends on no other slice. Training uses the
same windows: the statistics of GroupNorm depend on how much background there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from colapipe.coladiff.batching import in_batches

Window = tuple[tuple[int, int], tuple[int, int]]
"""First index and the one past the last, along x and along y."""

Part = tuple[list[int], slice, slice]
"""The index of some slices of an array (slices, x, y), cut to a window."""

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


def part_of(rows: Sequence[int], window: Window) -> Part:
    """Return what cuts some slices to a window: the index of arrays (slices, x, y)."""
    return list(rows), slice(*window[0]), slice(*window[1])


def in_windows(
    inside: npt.NDArray[np.bool_],
    rows: Sequence[int] | None,
    size: int,
    work: Callable[[Window, Sequence[int]], None],
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Call ``work`` on batches of slices that share a window, smaller ones where memory runs out.

    Parameters
    ----------
    inside, rows
        As in :func:`rows_by_window`.
    size : int
        Of the first batch; see :func:`~colapipe.coladiff.batching.in_batches`.
    work : callable
        ``work(window, rows)``.
    progress : callable, optional
        Called with the number of slices done and of all.

    Returns
    -------
    int
        The size that worked in the end.

    Raises
    ------
    MemoryError
        If a batch of one does not fit.
    """
    together = rows_by_window(inside, rows)
    total = sum(len(batch) for batch in together.values())
    done = 0

    def counted(window: Window, batch: Sequence[int]) -> None:
        nonlocal done
        work(window, batch)
        done += len(batch)
        if progress is not None:
            progress(done, total)

    for window, batch in together.items():
        size = in_batches(batch, size, partial(counted, window))
    return size


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
