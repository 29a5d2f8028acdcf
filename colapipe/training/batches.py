"""From stored slices to what the network is shown: target, sources, mask and tissues.

Everything random of an iteration comes from the seed and the number of the iteration, so that a
run that was killed goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from colapipe.coladiff.configuration import TISSUE_CHANNELS
from colapipe.coladiff.window import choose_window
from colapipe.contrasts import CONTRASTS
from colapipe.training.augment import vary_geometry, vary_intensity
from colapipe.training.slices import Sample, SliceStore


@dataclass(frozen=True)
class Batch:
    """Slices as :meth:`CoLaDiffNetwork.condition` wants them, with the truth.

    Attributes
    ----------
    truth : Tensor, (batch, 1, x, y), in [-1, 1]
    contrasts : Tensor, (batch, M, x, y), in [-1, 1], 0 where not available
    available : Tensor, (batch, M), bool
    tissues : Tensor, (batch, 4, x, y), in [0, 1]
    target : Tensor, (batch,), int64
    mask : Tensor, (batch, 1, x, y), 0 or 1
        The brain as the best source shows it.
    """

    truth: Tensor
    contrasts: Tensor
    available: Tensor
    tissues: Tensor
    target: Tensor
    mask: Tensor


def choose_sources(
    available: Sequence[str], target: str, drop: float, rng: np.random.Generator
) -> list[str]:
    """Return the contrasts but the target, each dropped with a probability; one at least stays."""
    others = [contrast for contrast in CONTRASTS if contrast in available and contrast != target]
    kept = [contrast for contrast in others if rng.random() >= drop]
    return kept or [others[rng.integers(len(others))]]


def training_batch(
    store: SliceStore,
    contrasts: Sequence[str],
    size: int,
    seed: int,
    iteration: int,
    drop: float = 0.3,
) -> Batch:
    """Return the batch of an iteration: random slices, targets, sources and augmentation."""
    rng = np.random.default_rng([seed, iteration])
    picked = []
    for position in rng.integers(len(store), size=size):
        sample = store.read(int(position))
        known = [contrast for contrast in contrasts if contrast in sample.available]
        target = known[rng.integers(len(known))]
        sources = choose_sources(known, target, drop, rng)
        picked.append(_sample_planes(sample, contrasts, target, sources, rng))
    return _collate(picked, contrasts)


def fixed_batch(
    samples: Sequence[Sample], contrasts: Sequence[str], target: str, sources: Sequence[str]
) -> Batch:
    """Return samples as they are, for a given task."""
    return _collate(
        [_sample_planes(sample, contrasts, target, list(sources), None) for sample in samples],
        contrasts,
    )


def _sample_planes(
    sample: Sample,
    contrasts: Sequence[str],
    target: str,
    sources: list[str],
    rng: np.random.Generator | None,
) -> tuple[Tensor, list[bool], int]:
    """Stack truth, mask, tissues and contrasts of one sample, augmented if ``rng`` is given."""
    best = CONTRASTS.index(next(contrast for contrast in CONTRASTS if contrast in sources))
    mask = sample.masks[best]
    tissues = sample.tissues[best]
    images = []
    for contrast in contrasts:
        image = sample.contrasts[CONTRASTS.index(contrast)] * mask
        if contrast not in sources:
            image = np.zeros_like(image)
        elif rng is not None and rng.random() < 0.5:
            image = vary_intensity(image, mask, rng)
        images.append(image)
    if rng is not None and rng.random() < 0.1:
        tissues = np.zeros_like(tissues)
    truth = sample.contrasts[CONTRASTS.index(target)] * mask
    lesion = np.zeros_like(truth)
    stacked = torch.from_numpy(
        np.stack([truth, mask.astype(np.float32), *tissues, lesion, *images])
    )
    if rng is not None:
        if rng.random() < 0.3:
            stacked = vary_geometry(stacked, rng)
        if rng.random() < 0.5:
            stacked = stacked.flip(1)  # left and right
    return stacked, [contrast in sources for contrast in contrasts], contrasts.index(target)


def _collate(picked: list[tuple[Tensor, list[bool], int]], contrasts: Sequence[str]) -> Batch:
    planes = torch.stack([item[0] for item in picked])
    window = choose_window((planes[:, 1] > 0.5).any(dim=0).numpy())
    planes = planes[:, :, slice(*window[0]), slice(*window[1])].contiguous()
    available = torch.tensor([item[1] for item in picked])
    mask = (planes[:, 1:2] > 0.5).float()
    tissues = planes[:, 2 : 2 + len(TISSUE_CHANNELS)]
    images = planes[:, 2 + len(TISSUE_CHANNELS) :]
    return Batch(
        truth=planes[:, :1] * mask * 2 - 1,
        contrasts=(images * mask * 2 - 1) * available[:, :, None, None],
        available=available,
        tissues=tissues * mask,
        target=torch.tensor([item[2] for item in picked]),
        mask=mask,
    )
