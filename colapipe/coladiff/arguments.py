"""What a model is asked for and given, checked: the same for CoLa-Diff and for its baselines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from colapipe.coladiff.configuration import TISSUE_CHANNELS

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_ROUNDING = 1e-3
"""How far values may lie outside [0, 1]: what interpolation and storage do to them."""


class UnsuitableModelError(ValueError):
    """The model cannot do what is asked: it does not know the target, or needs more sources."""


class Volume(NamedTuple):
    """What a model is given of one participant.

    Attributes
    ----------
    images, tissues : dict of ndarray, (slices, height, width), float32
        About [0, 1].
    inside : ndarray, same shape, bool
        The brain.
    ids : list of int
        What the slices are called.
    """

    images: dict[str, FloatArray]
    inside: BoolArray
    tissues: dict[str, FloatArray]
    ids: list[int]


def check_task(
    contrasts: Collection[str],
    target: str,
    tissue_source: str | None,
    known: Sequence[str],
    fewest: int = 1,
) -> list[str]:
    """Return those of the sources that a model knows, in its order.

    Parameters
    ----------
    contrasts : collection of str
        The sources.
    target : str
    tissue_source : str or None
        The contrast that mask and tissue maps came from, where that is said.
    known : sequence of str
        The contrasts that the model knows.
    fewest : int
        Sources that it needs; at least one.

    Raises
    ------
    UnsuitableModelError
        If the model does not know the target, or needs more sources.
    ValueError
        If the target is among the sources or is where the tissues came from.
    """
    if target in contrasts:
        raise ValueError(f"the target {target} is among its own sources")
    if tissue_source == target:
        raise ValueError(f"the tissue maps come from the target {target}")
    if target not in known:
        raise UnsuitableModelError(f"the model does not know {target}; it knows {', '.join(known)}")
    found = [name for name in known if name in contrasts]
    fewest = max(1, fewest)
    if len(found) < fewest:
        raise UnsuitableModelError(
            f"the model needs {fewest} or more of {', '.join(known)} besides the target {target}; "
            f"there {'is' if len(found) == 1 else 'are'} {len(found)}"
        )
    return found


def read_volume(
    images: Mapping[str, npt.ArrayLike],
    multiple: int,
    mask: npt.ArrayLike | None = None,
    tissues: Mapping[str, npt.ArrayLike] | None = None,
    slice_ids: Sequence[int] | None = None,
) -> Volume:
    """Return arrays as the networks take them, after a look at their shapes and ranges.

    Parameters
    ----------
    images : mapping of str to array_like, (slices, height, width), in [0, 1]
        At least one.
    multiple : int
        What must divide height and width.
    mask : array_like, same shape, optional
        The brain: every value above 0. By default, where an image is above 0.
    tissues : mapping of str to array_like, same shape, in [0, 1], optional
        Some of :data:`~colapipe.coladiff.configuration.TISSUE_CHANNELS`.
    slice_ids : sequence of int, optional
        0, 1, 2 ... by default.

    Raises
    ------
    ValueError
        If a shape, a range, a name or the number of ``slice_ids`` is wrong.
    """
    shown = {name: _slices(values, name) for name, values in images.items()}
    if mask is None:
        inside = np.logical_or.reduce([values > 0 for values in shown.values()])
    else:
        inside = np.asarray(mask) > 0
    maps = {name: _slices(values, name) for name, values in (tissues or {}).items()}
    if inside.ndim != 3 or inside.shape[1] % multiple or inside.shape[2] % multiple:
        raise ValueError(
            f"the mask has shape {inside.shape}; expected (slices, height, width) with height "
            f"and width multiples of {multiple}"
        )
    if unknown := sorted(set(maps) - set(TISSUE_CHANNELS)):
        raise ValueError(f"unknown tissue {unknown[0]!r}; known are {list(TISSUE_CHANNELS)}")
    for name, values in [*shown.items(), *maps.items()]:
        if values.shape != inside.shape:
            raise ValueError(f"{name} has shape {values.shape}; the mask has {inside.shape}")
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        # Not "low < 0 or high > 1": NaN must not pass.
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise ValueError(f"{name} has values from {low:g} to {high:g}; expected [0, 1]")
    ids = list(range(len(inside))) if slice_ids is None else [int(z) for z in slice_ids]
    if len(ids) != len(inside):
        raise ValueError(f"there are {len(inside)} slices, but {len(ids)} slice_ids")
    return Volume(shown, inside, maps, ids)


def _slices(values: npt.ArrayLike, name: str) -> FloatArray:
    """Return an array of slices as float32, in the layout that torch takes: no negative strides.

    Raises
    ------
    ValueError
        If it is not three-dimensional.
    """
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 3:
        raise ValueError(f"{name} has {array.ndim} dimensions; expected (slices, height, width)")
    return array
