"""Lesion masks on the slices of a cache: drawn by people on scans, used for scores alone.

A cache has no room for them, but says where on the scans its slices were cut. One that was made
before it said so has this found again from the scans, by the steps of
:func:`colapipe.training.slices.planes`, and checked against the brain mask that the cache holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from colapipe.anatomy.images import load_scan
from colapipe.anatomy.maps import load_mask
from colapipe.bids.derivatives import find_derivatives
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError
from colapipe.evaluation.cases import open_again
from colapipe.slices import CropBox, ModelGrid, crop, crop_box, mask_to_model_grid, model_grid
from colapipe.training.slices import Scans, SliceStore, find_scans


def find_lesion(folder: Path, name: str) -> Path | None:
    """Return the file of a participant's lesion mask, if there is one.

    Parameters
    ----------
    folder : Path
        A dataset of lesion masks, or a raw dataset with one under ``derivatives``: files
        ``label-lesion_mask``, or, where the dataset is for lesions (by its name, or because it is
        the one that was asked for), any ``_dseg``, ``_mask`` or ``_roi``.
    name : str
        ``sub-X`` or ``sub-X_ses-Y``.
    """
    participant, session = split_name(name)
    inner = sorted(path for path in folder.glob("derivatives/*") if path.is_dir())
    roots = [("lesion", folder), *((path.name, path) for path in inner)]
    found = find_derivatives(roots, participant, session).lesions
    return found[0].path if found else None


def split_name(name: str) -> tuple[str, str | None]:
    """Return participant and session of ``sub-X`` or ``sub-X_ses-Y``, without their prefixes."""
    participant, _, session = name.partition("_ses-")
    return participant.removeprefix("sub-"), session or None


def lesion_slices(path: Path, store: SliceStore, name: str) -> npt.NDArray[np.bool_]:
    """Return a lesion mask on the slices that a cache has of a participant and session.

    Parameters
    ----------
    path : Path
        A mask, labels (every one counts) or probabilities (from half of their maximum on), over
        the field of view of the scans.
    store : SliceStore
    name : str
        ``sub-X`` or ``sub-X_ses-Y``.

    Returns
    -------
    ndarray, (slices, height, width), bool

    Raises
    ------
    DatasetError
        If the mask is on another grid; or, for a cache that does not say where its slices lie, if
        the scans are gone or are not those that it was made from.
    """
    entry = store.entries[name]
    lesion = load_mask(path)
    if "grid" in entry:
        grid, box = ModelGrid.from_dict(entry["grid"]), CropBox.from_dict(entry["box"])
    else:
        grid, box = _find_window(store, name)
    try:
        on_grid = mask_to_model_grid(lesion, grid)
    except ValueError as error:
        raise DatasetError(f"{path}: not on the grid of {entry['origin']}") from error
    return _on_slices(on_grid, box, entry["slices"])


def _find_window(store: SliceStore, name: str) -> tuple[ModelGrid, CropBox]:
    """Find again where the slices of a cache were cut.

    Raises
    ------
    DatasetError
        If the scans are gone, or are not those of the cache.
    """
    entry = store.entries[name]
    scans = _scans(entry, name)
    contrast = next(contrast for contrast in CONTRASTS if contrast in scans.images)
    reference = load_scan(scans.images[contrast])
    grid = model_grid(reference.affine, reference.shape)
    if contrast in scans.masks:
        inside = np.asarray(load_mask(scans.masks[contrast], reference).dataobj) > 0
    else:
        inside = reference.get_fdata() != 0
    brain = mask_to_model_grid(nib.Nifti1Image(inside.astype(np.uint8), reference.affine), grid)
    cached = np.asarray(open_again(store.arrays[name])[:, -1]) >> CONTRASTS.index(contrast) & 1
    box = crop_box(brain, cached.shape[-1])
    rows = entry["slices"]
    if max(rows, default=0) >= brain.shape[2] or not np.array_equal(
        _on_slices(brain, box, rows), cached.astype(bool)
    ):
        raise DatasetError(
            f"{scans.images[contrast]}: its brain is not that of the cache's {name}; the cache "
            "was made from other files. Make it anew"
        )
    return grid, box


def _on_slices(volume: npt.ArrayLike, box: CropBox, rows: list[int]) -> npt.NDArray[np.bool_]:
    return np.moveaxis(crop(volume, box)[:, :, rows], 2, 0) > 0


def _scans(entry: dict[str, Any], name: str) -> Scans:
    """Return the scans that a cache entry was made from."""
    origin = Path(entry["origin"])
    dataset = origin.parents[name.count("_ses-") + 2]
    if origin.is_file():
        for scans in find_scans(dataset):
            if scans.name == name:
                return scans
    raise DatasetError(
        f"{origin}: not here any more, so it cannot be found where the lesions of {name} lie on "
        "its slices"
    )
