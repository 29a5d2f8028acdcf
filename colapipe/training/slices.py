"""From a BIDS dataset to normalised slices that training reads at random.

Each participant (and session) becomes one memory-mapped array of uint8, made once:
(slice, plane, x, y) on the model grid, where the planes are

- each contrast, normalised by :func:`colapipe.anatomy.intensity.normalise` (255 is 1; the
  rounding is 59 dB below the range);
- for each contrast, the probabilities of CSF, GM and WM that were computed from it alone;
- one plane of bits: bit m is the brain mask that was computed from contrast m alone.

So a sample can take mask and tissues from a source, and nothing from its target.

``index.json`` beside the arrays says what each of them holds. Since its version 2 it also says, by
the model grid and the crop box, where on the scans the slices lie; entries of before do not.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt

from colapipe.anatomy.images import load_scan, same_grid
from colapipe.anatomy.intensity import normalise
from colapipe.anatomy.maps import load_mask
from colapipe.bids.sidecars import write_text
from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.errors import DatasetError, UsageError
from colapipe.slices import (
    CropBox,
    ModelGrid,
    crop,
    crop_box,
    mask_to_model_grid,
    model_grid,
    to_model_grid,
)

MIN_FRACTION = 0.03
"""Part of a slice that must be brain for it to be learned from; the app asks for every slice."""

INDEX_FILE = "index.json"
INDEX_VERSION = 2

Segment = Callable[[nib.Nifti1Image, nib.Nifti1Image, str], npt.NDArray[np.float32]]


def tissue_planes(source: str) -> slice:
    """Return which planes of a slice are CSF, GM and WM as ``source`` shows them."""
    first = len(CONTRASTS) + len(TISSUES) * CONTRASTS.index(source)
    return slice(first, first + len(TISSUES))


@dataclass(frozen=True)
class Scans:
    """The co-registered, brain-extracted scans of one participant and session.

    Attributes
    ----------
    name : str
        ``sub-X`` or ``sub-X_ses-Y``.
    participant : str
        Label without ``sub-``.
    images : dict
        Contrast to file.
    masks, tissues : dict
        Contrast to the mask, or the three probability maps, computed from it; where a
        preprocessing-only run has left them.
    """

    name: str
    participant: str
    images: dict[str, Path]
    masks: dict[str, Path]
    tissues: dict[str, tuple[Path, ...]]


def find_scans(dataset: Path) -> list[Scans]:
    """Find the scans of derivatives of a preprocessing-only run, or of a raw dataset.

    Where a folder has ``space-<ref>_desc-preproc_<contrast>`` files these are taken, else its raw
    scans, which must then be co-registered and brain-extracted already.

    Raises
    ------
    DatasetError
        If no participant has two contrasts.
    """
    found = []
    for folder in sorted([*dataset.glob("sub-*/anat"), *dataset.glob("sub-*/ses-*/anat")]):
        name = "_".join(part for part in folder.relative_to(dataset).parts[:-1])
        files = sorted(folder.glob(f"{name}_*.nii*"))
        scans = _derivatives(name, files) or _raw(name, files)
        if scans and len(scans.images) >= 2:
            found.append(scans)
    if not found:
        raise DatasetError(
            f"{dataset}: no participant with two or more contrasts; expected the output of a "
            "preprocessing-only run, or a raw dataset that is co-registered and brain-extracted"
        )
    return found


def _derivatives(name: str, files: Sequence[Path]) -> Scans | None:
    images, masks, tissues = {}, {}, {}
    probabilities: dict[str, dict[str, Path]] = {}
    for path in files:
        stem = path.name.removeprefix(f"{name}_").split(".")[0]
        if match := re.fullmatch(r"(ce-\w+?_)?space-\w+?_desc-preproc_(\w+)", stem):
            contrast = "T1ce" if match[1] and match[2] == "T1w" else match[2]
            if contrast in CONTRASTS:
                images[contrast] = path
        elif match := re.fullmatch(r"space-\w+_label-brain_desc-from(\w+)_mask", stem):
            masks[match[1]] = path
        elif match := re.fullmatch(r"space-\w+_label-(\w+)_desc-from(\w+)_probseg", stem):
            probabilities.setdefault(match[2], {})[match[1]] = path
    for contrast, maps in probabilities.items():
        if set(TISSUES) <= set(maps):
            tissues[contrast] = tuple(maps[tissue] for tissue in TISSUES)
    if not images:
        return None
    return Scans(name, _participant(name), images, masks, tissues)


def _raw(name: str, files: Sequence[Path]) -> Scans | None:
    images: dict[str, Path] = {}
    for path in files:
        stem = path.name.removeprefix(f"{name}_").split(".")[0]
        match = re.fullmatch(r"(ce-\w+?_)?(?:acq-\w+?_)?(?:run-\d+_)?(T1w|T2w|FLAIR|PDw)", stem)
        if match and "part-phase" not in stem:
            contrast = "T1ce" if match[1] and match[2] == "T1w" else match[2]
            images.setdefault(contrast, path)
    return Scans(name, _participant(name), images, {}, {}) if images else None


def _participant(name: str) -> str:
    return name.split("_")[0].removeprefix("sub-")


class Planes(NamedTuple):
    """What a cache keeps of one participant and session.

    Attributes
    ----------
    array : ndarray, (slices, 4 * M + 1, 224, 224), uint8
    slices : list of int
        Indices along z on the model grid.
    grid : ModelGrid
    box : CropBox
        Where on the grid the slices were cut.
    """

    array: npt.NDArray[np.uint8]
    slices: list[int]
    grid: ModelGrid
    box: CropBox


def planes(scans: Scans, segment: Segment | None = None) -> Planes:
    """Return the planes of every slice with enough brain, and which slices these are.

    Parameters
    ----------
    scans : Scans
    segment : callable, optional
        ``segment(image, mask, contrast)`` -> (X, Y, Z, 3) probabilities in [0, 1];
        :func:`colapipe.anatomy.tissue.segment_tissue` by default.

    Raises
    ------
    DatasetError
        If the scans are not on one grid.
    """
    if segment is None:
        from colapipe.anatomy.tissue import segment_tissue

        segment = segment_tissue
    reference = load_scan(next(scans.images[c] for c in CONTRASTS if c in scans.images))
    grid = model_grid(reference.affine, reference.shape)
    volumes: dict[str, npt.NDArray[np.float32]] = {}
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    tissues: dict[str, npt.NDArray[np.float32]] = {}
    for contrast, path in scans.images.items():
        image = load_scan(path)
        if not same_grid(image, reference):
            raise DatasetError(f"{path}: not on the grid of the participant's other scans")
        if contrast in scans.masks:
            mask = load_mask(scans.masks[contrast], image)
        else:
            mask = nib.Nifti1Image((image.get_fdata() != 0).astype(np.uint8), image.affine)
        masks[contrast] = mask_to_model_grid(mask, grid) > 0
        on_grid = to_model_grid(image, grid, order=3, mask=np.asarray(mask.dataobj))
        volumes[contrast] = normalise(on_grid, masks[contrast])[0]
        if contrast in scans.tissues:
            maps = [to_model_grid(load_scan(p), grid, order=1) for p in scans.tissues[contrast]]
        else:
            probabilities = segment(image, mask, contrast)
            maps = [
                to_model_grid(nib.Nifti1Image(probabilities[..., k], image.affine), grid, order=1)
                for k in range(len(TISSUES))
            ]
        tissues[contrast] = np.stack(maps) * masks[contrast]

    first = next(masks[c] for c in CONTRASTS if c in masks)
    box = crop_box(first)
    area = crop(first, box).mean(axis=(0, 1))
    chosen = [int(z) for z in np.flatnonzero(area >= MIN_FRACTION)]
    count = len(CONTRASTS)
    out = np.zeros((len(chosen), 4 * count + 1, box.size, box.size), dtype=np.uint8)

    def put(plane: int, volume: npt.NDArray[Any]) -> None:
        cropped = crop(volume, box)[:, :, chosen]
        out[:, plane] = np.moveaxis(np.rint(np.clip(cropped, 0, 1) * 255), 2, 0)

    for index, contrast in enumerate(CONTRASTS):
        if contrast not in volumes:
            continue
        put(index, volumes[contrast])
        for k in range(len(TISSUES)):
            put(tissue_planes(contrast).start + k, tissues[contrast][k])
        bits = crop(masks[contrast], box)[:, :, chosen].astype(np.uint8) << index
        out[:, -1] |= np.moveaxis(bits, 2, 0)
    return Planes(out, chosen, grid, box)


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
        return (self._plane(position, -1) >> CONTRASTS.index(source) & 1).astype(bool)

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
                _save(path, count_levels(self.arrays[name]))
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
        planes = np.asarray(array[row]).reshape(4 * count + 1, -1)
        for source in range(count):
            brain = (planes[-1] >> source & 1).astype(bool)
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

    An entry has ``participant``, ``contrasts``, ``slices`` and ``origin``, and since version 2
    ``grid`` and ``box`` (:class:`~colapipe.slices.ModelGrid`, :class:`~colapipe.slices.CropBox`).

    Raises
    ------
    DatasetError
        If it is of a version that is not known here.
    OSError
        If there is none.
    """
    path = folder / INDEX_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    if not 1 <= content["format_version"] <= INDEX_VERSION:
        raise DatasetError(
            f"{path}: format version {content['format_version']}; this colapipe reads 1 to "
            f"{INDEX_VERSION}. Choose another folder"
        )
    return dict(content["scans"])


def build_cache(
    dataset: Path,
    folder: Path,
    segment: Segment | None = None,
    report: Callable[[str], None] = lambda line: None,
    participants: Collection[str] | None = None,
) -> None:
    """Make the cache of a dataset, or finish one that was interrupted.

    Parameters
    ----------
    dataset : Path
        See :func:`find_scans`.
    folder : Path
        Gets one ``.npy`` per participant and session, and ``index.json``.
    segment : callable, optional
        See :func:`planes`.
    report : callable
        Told about each participant.
    participants : collection of str, optional
        Labels without ``sub-``: nobody else is read. Another dataset may hold those who are not in
        this one.

    Raises
    ------
    DatasetError
        If nobody in the dataset has two contrasts, scans are not on one grid, or a participant is
        in the cache from another dataset.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = read_index(folder) if (folder / INDEX_FILE).is_file() else {}
    for scans in find_scans(dataset):
        if participants is not None and scans.participant not in participants:
            continue
        origin = str(scans.images[min(scans.images)].resolve())
        if scans.name in entries and entries[scans.name]["origin"] != origin:
            raise DatasetError(
                f"{dataset}: {scans.name} is in another dataset too "
                f"({entries[scans.name]['origin']}); labels must be unique"
            )
        if scans.name in entries and (folder / f"{scans.name}.npy").is_file():
            continue
        report(f"reading {scans.name}")
        found = planes(scans, segment)
        _save(folder / f"{scans.name}.npy", found.array)
        entries[scans.name] = {
            "participant": scans.participant,
            "contrasts": [c for c in CONTRASTS if c in scans.images],
            "slices": found.slices,
            "grid": found.grid.to_dict(),
            "box": found.box.to_dict(),
            "origin": origin,
        }
        _write_index(folder, entries)
    if not (folder / INDEX_FILE).is_file():
        _write_index(folder, entries)  # of nobody: the caller knows who was expected


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    # Several processes may make the same file at the same moment.
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    np.save(temporary, array)
    temporary.replace(path)


def _write_index(folder: Path, entries: dict[str, Any]) -> None:
    content = {"format_version": INDEX_VERSION, "scans": entries}
    write_text(folder / INDEX_FILE, json.dumps(content, indent=1))


def cache_split(
    datasets: Sequence[Path],
    folder: Path,
    participants: Sequence[str],
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Make the cache of those whom a split names, and say in the report who is nowhere.

    Parameters
    ----------
    datasets : sequence of Path
        May be none, where the cache is there.
    folder, participants, report
        See :func:`build_cache`.

    Raises
    ------
    UsageError
        If there is no cache, and no dataset to make it from.
    DatasetError
        See :func:`build_cache`.
    """
    for dataset in datasets:
        build_cache(dataset, folder, report=report, participants=participants)
    if not (folder / INDEX_FILE).is_file():
        raise UsageError(f"{folder}: no cached slices; name a dataset with --data")
    found = {entry["participant"] for entry in read_index(folder).values()}
    if missing := [f"sub-{label}" for label in participants if label not in found]:
        report(
            f"warning: no slices of {', '.join(missing)}, whom the split names: in no dataset with "
            "two or more contrasts"
        )
