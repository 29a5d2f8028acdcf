"""Make the cache of slices that networks learn from, out of a BIDS dataset.

What it contains, and how it is read, is in :mod:`colapipe.training.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt

from colapipe.anatomy.images import load_scan, same_grid
from colapipe.anatomy.maps import load_mask
from colapipe.bids.derivatives import Prepared, find_derivatives
from colapipe.bids.ignore import read_bidsignore
from colapipe.bids.reader import RawDataset, choose_scans, participants_in
from colapipe.bids.unread import say_unread
from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.errors import DatasetError, UsageError
from colapipe.slices import CropBox, ModelGrid, select_slices
from colapipe.slices.present import present_contrast, present_mask, present_probability
from colapipe.slices.record import Geometry, plan_geometry
from colapipe.training.store import (
    INDEX_FILE,
    plane_count,
    read_index,
    save_array,
    tissue_planes,
    write_index,
)

LEAST_BRAIN = 0.03
"""Part of a slice that must be brain for it to be learned from; the app asks for every slice."""

Segment = Callable[[nib.Nifti1Image, nib.Nifti1Image, str], npt.NDArray[np.float32]]


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


def find_scans(dataset: Path, report: Callable[[str], None] = lambda line: None) -> list[Scans]:
    """Find the scans of derivatives of a preprocessing-only run, or of a raw dataset.

    A folder is read as the app reads it. Where a run has left ``desc-preproc`` images these are
    taken, on the grid of the best reference; else the raw scans, which must then be co-registered
    and brain-extracted already.

    Parameters
    ----------
    dataset : Path
    report : callable
        Told which scans were passed over or could not be read, and why.

    Raises
    ------
    DatasetError
        If no participant has two contrasts.
    """
    found = []
    raw = RawDataset(dataset, {}, read_bidsignore(dataset))
    for participant in participants_in(dataset):
        listing = raw.listing(participant)
        chosen, notes = choose_scans(listing.scans)
        notes += listing.unreadable.values()
        for session in (None, *listing.sessions):
            derivatives = find_derivatives([("", dataset)], participant, session)
            prepared = next(iter(derivatives.prepared().values()), None)
            if prepared is not None:
                found.append(_prepared(participant, session, prepared))
            elif session in chosen:
                images = {contrast: scan.path for contrast, scan in chosen[session].items()}
                found.append(Scans(_name(participant, session), participant, images, {}, {}))
                unread = [one for one in raw.unread(listing) if one.session == session]
                notes += say_unread(unread, images, ())[0]
        for note in notes if chosen else ():
            report(f"sub-{participant}: {note}")
    found = [scans for scans in found if len(scans.images) >= 2]
    if not found:
        raise DatasetError(
            f"{dataset}: no participant with two or more contrasts; expected the output of a "
            "preprocessing-only run, or a raw dataset that is co-registered and brain-extracted"
        )
    return found


def _prepared(participant: str, session: str | None, prepared: Prepared) -> Scans:
    return Scans(
        _name(participant, session),
        participant,
        {contrast: image.path for contrast, image in prepared.images.items()},
        {contrast: mask.path for contrast, mask in prepared.masks.items()},
        {
            contrast: tuple(maps[tissue].path for tissue in TISSUES)
            for contrast, maps in prepared.tissues.items()
        },
    )


def _name(participant: str, session: str | None) -> str:
    return f"sub-{participant}" + (f"_ses-{session}" if session else "")


class Planes(NamedTuple):
    """What a cache keeps of one participant and session.

    Attributes
    ----------
    array : ndarray, (slices, planes, 224, 224), uint8
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


class Presented(NamedTuple):
    """A participant's volumes as the model is shown them, before they are rounded for the cache.

    Attributes
    ----------
    geometry : Geometry
        Of the best contrast.
    contrasts : dict of ndarray, (224, 224, Z), float32 in [0, 1]
    masks : dict of ndarray, (224, 224, Z), uint8
        Contrast to the brain mask that was computed from it.
    tissues : dict of list of ndarray, (224, 224, Z), float32 in [0, 1]
        Contrast to CSF, GM and WM that were computed from it.
    """

    geometry: Geometry
    contrasts: dict[str, npt.NDArray[np.float32]]
    masks: dict[str, npt.NDArray[np.uint8]]
    tissues: dict[str, list[npt.NDArray[np.float32]]]


def present(scans: Scans, segment: Segment | None = None) -> Presented:
    """Show a participant's scans as the app does, where the best contrast is the reference.

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
    names = [contrast for contrast in CONTRASTS if contrast in scans.images]
    images = {contrast: load_scan(scans.images[contrast]) for contrast in names}
    reference = images[names[0]]
    for contrast, image in images.items():
        if not same_grid(image, reference):
            raise DatasetError(
                f"{scans.images[contrast]}: not on the grid of the participant's other scans"
            )
    brains = {contrast: _brain(scans, contrast, image) for contrast, image in images.items()}
    geometry, brain = plan_geometry(brains[names[0]])
    masks = {contrast: present_mask(mask, geometry) for contrast, mask in brains.items()}
    tissues = {}
    for contrast, image in images.items():
        if contrast in scans.tissues:
            maps = [load_scan(path) for path in scans.tissues[contrast]]
        else:
            probabilities = segment(image, brains[contrast], contrast)
            maps = [
                nib.Nifti1Image(probabilities[..., k], image.affine) for k in range(len(TISSUES))
            ]
        tissues[contrast] = [present_probability(m, geometry, masks[contrast]) for m in maps]
    shown = {
        contrast: present_contrast(image, geometry, brain) for contrast, image in images.items()
    }
    return Presented(geometry, shown, masks, tissues)


def _brain(scans: Scans, contrast: str, image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return the brain mask of a contrast: its own, or where a brain-extracted scan is not 0."""
    if contrast in scans.masks:
        return load_mask(scans.masks[contrast], image)
    return nib.Nifti1Image((np.asarray(image.dataobj) != 0).astype(np.uint8), image.affine)


def planes(scans: Scans, segment: Segment | None = None) -> Planes:
    """Return the planes of every slice with enough brain, and which slices these are.

    Parameters and errors are those of `present`.
    """
    shown = present(scans, segment)
    first = next(shown.masks[contrast] for contrast in CONTRASTS if contrast in shown.masks)
    chosen = select_slices(first, LEAST_BRAIN)
    out = np.zeros((len(chosen), plane_count(), *first.shape[:2]), dtype=np.uint8)

    def put(plane: int, volume: npt.NDArray[Any]) -> None:
        out[:, plane] = np.moveaxis(np.rint(volume[:, :, chosen] * 255), 2, 0)

    for index, contrast in enumerate(CONTRASTS):
        if contrast not in shown.contrasts:
            continue
        put(index, shown.contrasts[contrast])
        for k, tissue in enumerate(shown.tissues[contrast]):
            put(tissue_planes(contrast).start + k, tissue)
        out[:, -1] |= np.moveaxis(shown.masks[contrast][:, :, chosen] << index, 2, 0)
    return Planes(out, chosen, shown.geometry.grid, shown.geometry.box)


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
    for scans in find_scans(dataset, report):
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
        save_array(folder / f"{scans.name}.npy", found.array)
        entries[scans.name] = {
            "participant": scans.participant,
            "contrasts": [c for c in CONTRASTS if c in scans.images],
            "slices": found.slices,
            "grid": found.grid.to_dict(),
            "box": found.box.to_dict(),
            "origin": origin,
        }
        write_index(folder, entries)
    if not (folder / INDEX_FILE).is_file():
        write_index(folder, entries)  # of nobody: the caller knows who was expected


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
