"""The cache of slices, read at random by training and as a whole by evaluation.

Each participant (and session) is one memory-mapped array of uint8, (slice, plane, x, y) on the
model grid, where the planes are

- each contrast, as :mod:`colapipe.slices.present` shows it (255 is 1; the rounding is 59 dB below
  the range);
- for each contrast, the probabilities of CSF, GM and WM that were computed from it alone;
- one plane of bits: bit m is the brain mask that was computed from contrast m alone.

So a sample can take mask and tissues from a source, and nothing from its target. ``index.json``
beside the arrays says what each of them contains and where on the scans its slices lie. Nobody but
this module and :mod:`colapipe.training.cache` needs to know how planes are stored.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.errors import DatasetError
from colapipe.files import whole, write_text

INDEX_FILE = "index.json"
INDEX_VERSION = 3

Rows = slice | Sequence[int] | npt.NDArray[np.intp]
"""Which slices of a participant: all of them are ``slice(None)``."""


def plane_count() -> int:
    """Return how many planes a slice has."""
    return (1 + len(TISSUES)) * len(CONTRASTS) + 1


def tissue_planes(source: str) -> slice:
    """Return which planes of a slice are CSF, GM and WM as ``source`` shows them."""
    first = len(CONTRASTS) + len(TISSUES) * CONTRASTS.index(source)
    return slice(first, first + len(TISSUES))


class CachedScans:
    """All cached slices of one participant and session.

    Parameters
    ----------
    array : ndarray, (slices, planes, 224, 224), uint8
    entry : mapping
        What the index says of it.

    Attributes
    ----------
    contrasts : tuple of str
    slices : list of int
        Indices along z on the model grid.
    """

    def __init__(self, array: npt.NDArray[np.uint8], entry: Mapping[str, Any]) -> None:
        self._array = array
        self.contrasts = tuple(entry["contrasts"])
        self.slices = [int(index) for index in entry["slices"]]

    def levels(self, contrast: str, rows: Rows = slice(None)) -> npt.NDArray[np.uint8]:
        """Return a contrast, (slices, 224, 224); 255 is 1."""
        return np.asarray(self._array[rows, CONTRASTS.index(contrast)])

    def image(self, contrast: str, rows: Rows = slice(None)) -> npt.NDArray[np.float32]:
        """Return a contrast, (slices, 224, 224) in [0, 1]."""
        return _unit(self.levels(contrast, rows))

    def mask(self, source: str, rows: Rows = slice(None)) -> npt.NDArray[np.bool_]:
        """Return the brain as ``source`` shows it, (slices, 224, 224)."""
        return brain_of(np.asarray(self._array[rows, -1]), source)

    def tissues(self, source: str, rows: Rows = slice(None)) -> dict[str, npt.NDArray[np.float32]]:
        """Return CSF, GM and WM as ``source`` shows them, each (slices, 224, 224) in [0, 1]."""
        # Plane by plane: a slice has 21 of them, and only these three are read.
        first = tissue_planes(source).start
        return {
            tissue: _unit(np.asarray(self._array[rows, first + k]))
            for k, tissue in enumerate(TISSUES)
        }

    def checksum(self) -> int:
        """Return the CRC-32 of all planes."""
        value = 0
        for part in self._array:
            value = zlib.crc32(part.tobytes(), value)
        return value


def brain_of(bits: npt.NDArray[np.uint8], source: str) -> npt.NDArray[np.bool_]:
    """Return the brain mask of one contrast from planes of bits."""
    return (bits >> CONTRASTS.index(source) & 1).astype(bool)


def _unit(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return levels.astype(np.float32) / np.float32(255)


class SliceStore:
    """The cached slices of some participants, read at random.

    Parameters
    ----------
    folder : Path
        The cache, as :func:`build_cache` left it.
    participants : sequence of str, optional
        Labels to read; all by default.

    Attributes
    ----------
    index : list of (str, int)
        One entry per slice: the name of participant and session, and the row of its array.
    """

    def __init__(self, folder: Path, participants: Sequence[str] | None = None) -> None:
        entries = read_index(folder)
        self.entries: dict[str, dict[str, Any]] = {
            name: entry
            for name, entry in sorted(entries.items())
            if participants is None or entry["participant"] in participants
        }
        self.arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in self.entries
        }
        self.index = [
            (name, row) for name, array in self.arrays.items() for row in range(len(array))
        ]
        self.folder = folder
        self._histograms: dict[str, npt.NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self.index)

    def read(self, name: str) -> CachedScans:
        """Return all slices of a participant and session.

        They are mapped anew: a mapping counts as memory as long as it is kept, and the store keeps
        those of all participants.
        """
        array = self.arrays[name]
        if isinstance(array, np.memmap) and array.filename is not None:
            array = np.load(array.filename, mmap_mode="r")
        return CachedScans(np.asarray(array), self.entries[name])

    def available(self, position: int) -> tuple[str, ...]:
        """Return the contrasts that the participant of a slice has."""
        return tuple(self.entries[self.index[position][0]]["contrasts"])

    def positions(self, name: str) -> list[int]:
        """Return the positions of all slices of a participant and session."""
        return [position for position, (owner, _) in enumerate(self.index) if owner == name]

    def neighbour(self, position: int, offset: int) -> int:
        """Return the position of the slice ``offset`` above; its own where there is none."""
        if offset == 0:
            return position
        name, row = self.index[position]
        slices = self.entries[name]["slices"]
        there = 0 <= row + offset < len(slices) and slices[row + offset] == slices[row] + offset
        return position + offset if there else position

    def image(self, position: int, contrast: str) -> npt.NDArray[np.uint8]:
        """Return a contrast of a slice, (224, 224); 255 is 1."""
        return self._plane(position, CONTRASTS.index(contrast))

    def mask(self, position: int, source: str) -> npt.NDArray[np.bool_]:
        """Return the brain as ``source`` shows it, (224, 224)."""
        return brain_of(self._plane(position, -1), source)

    def tissues(self, position: int, source: str) -> npt.NDArray[np.uint8]:
        """Return CSF, GM and WM as ``source`` shows them, (3, 224, 224); 255 is 1."""
        name, row = self.index[position]
        return np.asarray(self.arrays[name][row, tissue_planes(source)])

    def histogram(self, position: int, source: str, contrast: str) -> npt.NDArray[np.float32]:
        """Return how often a participant's contrast has each of the 256 levels.

        Shape (4, 256): weighted by CSF, GM and WM as ``source`` shows them, and by the brain.
        """
        name = self.index[position][0]
        if name not in self._histograms:
            # Training alone needs them, so they are counted when it first asks, and kept.
            path = self.folder / f"{name}.histograms.npy"
            if not path.is_file():
                save_array(path, count_levels(self.arrays[name]))
            self._histograms[name] = np.load(path)
        found = self._histograms[name][CONTRASTS.index(source), CONTRASTS.index(contrast)]
        return np.asarray(found)

    def _plane(self, position: int, plane: int) -> npt.NDArray[np.uint8]:
        name, row = self.index[position]
        return np.asarray(self.arrays[name][row, plane])


def count_levels(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the histograms of a participant's planes, (M, M, 4, 256).

    First axis: the contrast that mask and tissues came from; second: the contrast that is counted;
    third: weighted by CSF, GM and WM, and by the brain.
    """
    count = len(CONTRASTS)
    found = np.zeros((count, count, 4, 256), dtype=np.float32)
    for row in range(len(array)):
        planes = np.asarray(array[row]).reshape(plane_count(), -1)
        for source in range(count):
            brain = brain_of(planes[-1], CONTRASTS[source])
            if not brain.any():
                continue
            weights = planes[tissue_planes(CONTRASTS[source]), brain] / np.float32(255)
            for contrast in range(count):
                levels = planes[contrast, brain]
                for tissue in range(3):
                    found[source, contrast, tissue] += np.bincount(
                        levels, weights=weights[tissue], minlength=256
                    )
                found[source, contrast, 3] += np.bincount(levels, minlength=256)
    return found


def read_index(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what a cache says of its arrays, by name of participant and session.

    An entry has ``participant``, ``contrasts``, ``slices``, ``origin``, ``grid`` and ``box``
    (:class:`~colapipe.slices.ModelGrid`, :class:`~colapipe.slices.CropBox`).

    Raises
    ------
    DatasetError
        If it is of another version: a network learns from what the app will show it, and caches of
        other versions show something else.
    OSError
        If there is none.
    """
    path = folder / INDEX_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["format_version"] != INDEX_VERSION:
        raise DatasetError(
            f"{path}: format version {content['format_version']}; this colapipe reads version "
            f"{INDEX_VERSION} only, in which intensities are those that the app shows a model. "
            "Choose another folder, or delete this one: it is made from the scans again"
        )
    return dict(content["scans"])


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array whole; several processes may make the same file at the same moment."""
    with whole(path) as temporary:
        np.save(temporary, array)


def write_index(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write what a cache contains, see `read_index`."""
    content = {"format_version": INDEX_VERSION, "scans": dict(entries)}
    write_text(folder / INDEX_FILE, json.dumps(content, indent=1))
