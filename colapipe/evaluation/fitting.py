"""Fit the baselines that need no training loop, on the training participants of a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from colapipe.baselines.classmean import ClassMeanFit
from colapipe.baselines.copy import CopyFit
from colapipe.baselines.quadratic import QuadraticFit
from colapipe.coladiff.checkpoint import (
    BASELINES,
    CheckpointError,
    read_metadata,
    save_checkpoint,
)
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError
from colapipe.slices import MIN_FRACTION
from colapipe.training.store import CachedScans, SliceStore

Fit = CopyFit | QuadraticFit | ClassMeanFit

FITTED: dict[str, type[Fit]] = {
    "copy": CopyFit,
    "quadratic": QuadraticFit,
    "class-mean": ClassMeanFit,
}
"""The baselines that are fitted here."""

EVERY = 2
"""Neighbouring slices say almost the same: every second one is looked at."""


def fit_baselines(
    kinds: Sequence[str],
    store: SliceStore,
    folder: Path,
    split_sha256: str,
    report: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Fit baselines in one pass over the data, and return their checkpoints.

    Parameters
    ----------
    kinds : sequence of str
        Some of :data:`FITTED`.
    store : SliceStore
        The training participants.
    folder : Path
        Gets a file per kind. One of the same split and contrasts is not made again.
    split_sha256 : str
    report : callable

    Raises
    ------
    DatasetError
        If the store is empty.
    """
    there = {contrast for entry in store.entries.values() for contrast in entry["contrasts"]}
    contrasts = tuple(contrast for contrast in CONTRASTS if contrast in there)
    paths = {kind: folder / f"{kind}.safetensors" for kind in kinds}
    missing = [kind for kind in kinds if not _is_of(paths[kind], split_sha256, contrasts)]
    if not missing:
        return list(paths.values())
    if not store.entries:
        raise DatasetError("the cache holds no training participant to fit a baseline on")
    fits = {kind: FITTED[kind](contrasts) for kind in missing}
    for number, name in enumerate(store.entries, start=1):
        report(f"fitting {' and '.join(missing)} [{number}/{len(store.entries)}] {name}")
        cached = store.read(name)
        first = next(c for c in CONTRASTS if c in cached.contrasts)
        area = cached.mask(first).mean(axis=(1, 2))
        rows = np.flatnonzero(area >= MIN_FRACTION)[::EVERY]
        images = {contrast: cached.image(contrast, rows) for contrast in cached.contrasts}
        masks = {contrast: cached.mask(contrast, rows) for contrast in cached.contrasts}
        for fit in fits.values():
            if isinstance(fit, ClassMeanFit):
                fit.add(images, masks, _tissues(cached, rows))
            else:
                fit.add(images, masks)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, fit in fits.items():
        model = fit.model(
            training_data=f"{len(store.entries)} scan sessions",
            licence="not stated",
            split_sha256=split_sha256,
        )
        save_checkpoint(paths[kind], model.tensors(), model.metadata)
    return list(paths.values())


def _tissues(cached: CachedScans, rows: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the tissue maps of those contrasts that are the best source of some target.

    Each (slices, 3, 224, 224).
    """
    return {
        contrast: np.stack(list(cached.tissues(contrast, rows).values()), axis=1)
        for contrast in cached.contrasts[:2]
    }


def _is_of(path: Path, split_sha256: str, contrasts: Sequence[str]) -> bool:
    try:
        metadata = read_metadata(path, BASELINES)
    except (OSError, CheckpointError):
        return False
    return metadata["split_sha256"] == split_sha256 and metadata["contrasts"] == list(contrasts)
