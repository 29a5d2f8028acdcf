"""Lesion masks on the slices of a cache: drawn by people on scans, used for scores alone.

A cache has no room for them, but says where on the scans its slices were cut.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from colapipe.anatomy.maps import load_mask
from colapipe.bids.derivatives import find_derivatives
from colapipe.errors import DatasetError
from colapipe.slices import CropBox, ModelGrid, crop, mask_to_model_grid
from colapipe.training.store import SliceStore


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
        If the mask is on another grid.
    """
    entry = store.entries[name]
    lesion = load_mask(path)
    grid, box = ModelGrid.from_dict(entry["grid"]), CropBox.from_dict(entry["box"])
    try:
        on_grid = mask_to_model_grid(lesion, grid)
    except ValueError as error:
        raise DatasetError(f"{path}: not on the grid of {entry['origin']}") from error
    return _on_slices(on_grid, box, entry["slices"])


def _on_slices(volume: npt.ArrayLike, box: CropBox, rows: list[int]) -> npt.NDArray[np.bool_]:
    return np.moveaxis(crop(volume, box)[:, :, rows], 2, 0) > 0
