"""How a model does during training: one figure per target, and a picture to look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from colapipe.files import make_folder, whole
from colapipe.training.batches import Batch, fixed_batch
from colapipe.training.recipes import Recipe
from colapipe.training.store import SliceStore

_AT_ONCE = 8


@torch.no_grad()
def validate(
    recipe: Recipe, store: SliceStore, device: torch.device, every: int = 12
) -> dict[str, float]:
    """Return the PSNR inside the brain of one-step synthesis of each target from all others.

    The mean over participants of the PSNR of every twelfth of their slices together (data range
    1). ``colapipe-model evaluate`` has the figures to report.
    """
    scores: dict[str, list[float]] = {}
    for name in store.entries:
        positions = store.positions(name)
        positions = positions[min(every, len(positions)) // 2 :: every]
        for target, sources in _tasks(recipe, store, name):
            squares, voxels = 0.0, 0.0
            for first in range(0, len(positions), _AT_ONCE):
                chosen = positions[first : first + _AT_ONCE]
                batch, image = _synthesise(recipe, store, chosen, target, sources, device)
                error = (image - batch.truth) / 2 * batch.mask
                squares += float(error.square().sum())
                voxels += float(batch.mask.sum())
            mse = squares / max(voxels, 1.0)
            scores.setdefault(target, []).append(-10 * math.log10(max(mse, 1e-10)))
    return {target: sum(values) / len(values) for target, values in scores.items()}


@torch.no_grad()
def save_pictures(
    recipe: Recipe, store: SliceStore, path: Path, device: torch.device, participants: int = 3
) -> None:
    """Write a PNG: a row per participant and target, with the truth, the synthetic image, errors.

    The middle slice of each of the first participants; errors from 0 (black) to 0.25 (white).
    """
    rows = []
    for name in list(store.entries)[:participants]:
        positions = store.positions(name)
        for target, sources in _tasks(recipe, store, name):
            middle = [positions[len(positions) // 2]]
            batch, image = _synthesise(recipe, store, middle, target, sources, device)
            image = torch.where(batch.mask > 0, image, -1.0)
            truth, synthetic = (
                (x[0, 0].float().cpu().numpy() + 1) / 2 for x in (batch.truth, image)
            )
            panels = [truth, synthetic, np.clip(np.abs(truth - synthetic) * 4, 0, 1)]
            rows.append(np.concatenate([_upright(panel) for panel in panels], axis=1))
    if rows:
        grey = np.rint(np.concatenate(rows) * 255).astype(np.uint8)
        make_folder(path.parent)
        with whole(path) as temporary:
            Image.fromarray(grey).save(temporary, format="PNG")


def _tasks(recipe: Recipe, store: SliceStore, name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each contrast of a participant that the model knows, and all the others."""
    there = store.entries[name]["contrasts"]
    known = [contrast for contrast in recipe.preparation.contrasts if contrast in there]
    for target in known:
        yield target, [contrast for contrast in known if contrast != target]


def _synthesise(
    recipe: Recipe,
    store: SliceStore,
    positions: Sequence[int],
    target: str,
    sources: Sequence[str],
    device: torch.device,
) -> tuple[Batch, Tensor]:
    """Return slices as they are shown, and what the model makes of them, in [-1, 1]."""
    batch = fixed_batch(store, positions, recipe.preparation, target, sources)
    batch = batch.to(device, next(recipe.network.parameters()).dtype)
    return batch, recipe.estimate(batch).clamp(-1, 1)


def _upright(panel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a slice (x, y) as a picture of 224x224: anterior up, the person's left on the left."""
    grown = [(224 - size) // 2 for size in panel.shape]
    padded = np.pad(
        panel,
        [(before, 224 - size - before) for before, size in zip(grown, panel.shape, strict=True)],
    )
    return np.flipud(padded.T)
