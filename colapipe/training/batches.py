"""From stored slices to what a network is shown: target, sources, mask, tissues, densities.

Everything random of a sample comes from the seed, the number of the iteration and its place in the
batch, so that a run that was killed goes on exactly where it stopped, and several processes
together see what one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from colapipe.coladiff.configuration import TISSUE_CHANNELS
from colapipe.coladiff.density import BINS, class_histograms
from colapipe.coladiff.density import densities as to_densities
from colapipe.coladiff.intensity import BOUNDS, Scale, find_scale, put_to_scale
from colapipe.coladiff.window import WINDOWS, choose_window
from colapipe.contrasts import CONTRASTS
from colapipe.training import augment
from colapipe.training.augment import LEVELS, Augmentation
from colapipe.training.store import SliceStore

Agree = Callable[[int], int]
Choose = Callable[[list[str], str, float, np.random.Generator], list[str]]


@dataclass(frozen=True)
class Preparation:
    """How slices are put to a network; taken from its configuration.

    Attributes
    ----------
    contrasts : tuple of str
    neighbours : int
    intensity : str
    densities : bool
        Whether class-conditional densities are needed.
    """

    contrasts: tuple[str, ...]
    neighbours: int = 0
    intensity: str = "range"
    densities: bool = False


@dataclass(frozen=True)
class Batch:
    """Slices as :meth:`CoLaDiffNetwork.condition` wants them, with the truth.

    Attributes
    ----------
    truth : Tensor, (batch, 1, x, y), in [-1, 1]
    contrasts : Tensor, (batch, M, slab, x, y), in [-bound, bound], 0 where not available
    available : Tensor, (batch, M), bool
    tissues : Tensor, (batch, 4, x, y), in [0, 1]
    target : Tensor, (batch,), int64
    mask : Tensor, (batch, 1, x, y), 0 or 1
        The brain as the best source shows it.
    densities : Tensor, (batch, M, 4, bins), or None
    others : Tensor, (batch, M, x, y), in [-1, 1]
        Every contrast that the participant has, the target too, for losses that compare several.
    known : Tensor, (batch, M), bool
        Which those are.
    seeds : tuple of int
        One per sample, for the noise of its losses.
    """

    truth: Tensor
    contrasts: Tensor
    available: Tensor
    tissues: Tensor
    target: Tensor
    mask: Tensor
    densities: Tensor | None
    others: Tensor
    known: Tensor
    seeds: tuple[int, ...]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """Return the batch on a device, its images in a floating point type."""

        def move(tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                return tensor.to(device, dtype, non_blocking=True)
            return tensor.to(device, non_blocking=True)

        moved: dict[str, Any] = {
            name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def choose_sources(
    available: Sequence[str], target: str, drop: float, rng: np.random.Generator
) -> list[str]:
    """Return the contrasts but the target, each dropped with a probability; one at least stays."""
    others = [contrast for contrast in CONTRASTS if contrast in available and contrast != target]
    kept = [contrast for contrast in others if rng.random() >= drop]
    return kept or [others[rng.integers(len(others))]]


def training_batch(
    store: SliceStore,
    preparation: Preparation,
    size: int,
    seed: int,
    iteration: int,
    drop: float = 0.3,
    augmentation: Augmentation | None = None,
    part: slice = slice(None),
    agree: Agree = int,
    choose: Choose | None = None,
) -> Batch:
    """Return the batch of an iteration: random slices, targets, sources and augmentation.

    Parameters
    ----------
    size : int
        Of the whole batch.
    part : slice
        Which of its samples are wanted: one process's share.
    agree : callable
        Given the number of the window that this share needs, returns what all processes take.
    choose : callable
        ``choose(known, target, drop, rng)`` returns the sources; :func:`choose_sources` by default.
    """
    augmentation = augmentation or Augmentation()
    picked = []
    for place in range(size)[part]:
        rng = np.random.default_rng([seed, iteration, place])
        position = int(rng.integers(len(store)))
        there = store.available(position)
        known = [contrast for contrast in preparation.contrasts if contrast in there]
        target = known[rng.integers(len(known))]
        sources = (choose or choose_sources)(known, target, drop, rng)
        picked.append(_sample(store, position, preparation, target, sources, rng, augmentation))
    return _collate(picked, preparation, agree)


def fixed_batch(
    store: SliceStore,
    positions: Sequence[int],
    preparation: Preparation,
    target: str,
    sources: Sequence[str],
) -> Batch:
    """Return slices as they are, for a given task."""
    return _collate(
        [
            _sample(store, position, preparation, target, list(sources), None, None)
            for position in positions
        ],
        preparation,
    )


@dataclass(frozen=True)
class _Sample:
    """One sample before it is put into a batch: planes that move together, and the rest."""

    planes: Tensor  # truth, mask, CSF, GM, WM, others (M), sources (M * slab)
    available: list[bool]
    known: list[bool]
    target: int
    densities: Tensor | None
    seed: int


def _sample(
    store: SliceStore,
    position: int,
    preparation: Preparation,
    target: str,
    sources: list[str],
    rng: np.random.Generator | None,
    augmentation: Augmentation | None,
) -> _Sample:
    contrasts, bound = preparation.contrasts, BOUNDS[preparation.intensity]
    best = next(contrast for contrast in CONTRASTS if contrast in sources)
    slab = [
        store.neighbour(position, offset)
        for offset in range(-preparation.neighbours, preparation.neighbours + 1)
    ]
    inside = np.stack([store.mask(place, best) for place in slab])
    mask = inside[len(slab) // 2]
    there = store.available(position)
    others = np.zeros((len(contrasts), *mask.shape), dtype=np.float32)
    shown = np.zeros((len(contrasts), len(slab), *mask.shape), dtype=np.float32)
    densities = torch.zeros(len(contrasts), len(TISSUE_CHANNELS), BINS)
    for slot, contrast in enumerate(contrasts):
        if contrast in there:
            others[slot] = LEVELS[store.image(position, contrast)] * mask * 2 - 1
        if contrast not in sources:
            continue
        levels = LEVELS
        if rng is not None and augmentation is not None and rng.random() < augmentation.curve:
            levels = augment.random_curve(rng, augmentation.curve_spread)
        image = np.stack([levels[store.image(place, contrast)] for place in slab])
        if rng is not None and augmentation is not None:
            if rng.random() < augmentation.bias:
                image = augment.vary_bias(image, rng)
            if rng.random() < augmentation.blur:
                image = augment.vary_resolution(image, rng)
            if rng.random() < augmentation.noise:
                image = augment.vary_noise(image, rng)
        counts = store.histogram(position, best, contrast)
        order = np.argsort(levels, kind="stable")
        scale = find_scale(levels[order], preparation.intensity, counts[-1][order])
        if preparation.densities:
            densities[slot] = _densities(counts, levels, scale, bound)
        shown[slot] = put_to_scale(torch.from_numpy(image), torch.from_numpy(inside), scale, bound)
    tissues = LEVELS[store.tissues(position, best)] * mask
    if rng is not None and augmentation is not None and rng.random() < augmentation.no_tissues:
        tissues = np.zeros_like(tissues)
        densities.zero_()
    truth = others[contrasts.index(target)]
    planes = torch.from_numpy(
        np.concatenate(
            [truth[None], mask[None], tissues, others, shown.reshape(-1, *mask.shape)]
        ).astype(np.float32)
    )
    seed = 0
    if rng is not None and augmentation is not None:
        if rng.random() < augmentation.geometry:
            # What moves in from beyond the edge is background.
            fill = torch.zeros(len(planes), 1, 1)
            fill[0] = fill[5 : 5 + len(contrasts)] = -1.0
            fill[5 + len(contrasts) :] = -bound
            moved = augment.vary_geometry(planes - fill, augment.random_affine(rng))
            planes = moved + fill
        if rng.random() < augmentation.flip:
            planes = planes.flip(1)  # left and right
        seed = int(rng.integers(2**62))
    return _Sample(
        planes,
        [contrast in sources for contrast in contrasts],
        [contrast in there for contrast in contrasts],
        contrasts.index(target),
        densities if preparation.densities else None,
        seed,
    )


def _densities(
    counts: npt.NDArray[np.float32], levels: npt.NDArray[np.float32], scale: Scale, bound: float
) -> Tensor:
    """Return the densities (4, bins) of a histogram over 256 levels that were given new values."""
    everywhere = torch.ones(len(levels), dtype=torch.bool)
    unit = (put_to_scale(torch.from_numpy(levels), everywhere, scale, bound) / bound + 1) / 2
    tissues = torch.zeros(len(TISSUE_CHANNELS), len(levels))
    tissues[: len(counts) - 1] = torch.from_numpy(counts[:-1])
    # Every level is a voxel that belongs to each tissue as often as it was counted there.
    return to_densities(class_histograms(unit, tissues, everywhere))


def _collate(picked: list[_Sample], preparation: Preparation, agree: Agree = int) -> Batch:
    planes = torch.stack([sample.planes for sample in picked])
    # The windows lie within each other, so the largest of several processes' suits them all.
    shape = (int(planes.shape[2]), int(planes.shape[3]))
    sizes = [size for size in (*WINDOWS, shape) if size[0] <= shape[0] and size[1] <= shape[1]]
    (top, bottom), (left, right) = choose_window((planes[:, 1] > 0.5).any(dim=0).numpy())
    height, width = sizes[agree(sizes.index((bottom - top, right - left)))]
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    planes = planes[:, :, top : top + height, left : left + width].contiguous()
    count, slab = len(preparation.contrasts), 2 * preparation.neighbours + 1
    mask = (planes[:, 1:2] > 0.5).float()
    available = torch.tensor([sample.available for sample in picked])
    known = torch.tensor([sample.known for sample in picked])
    tissues = torch.cat([planes[:, 2:5], torch.zeros_like(mask)], dim=1) * mask
    others = planes[:, 5 : 5 + count]
    bound = BOUNDS[preparation.intensity]
    shown = planes[:, 5 + count :].unflatten(1, (count, slab))
    # Geometry has softened the edge of the brain; the app's is sharp.
    shown[:, :, slab // 2] = torch.where(mask > 0, shown[:, :, slab // 2], -bound)
    densities = None
    if preparation.densities:
        densities = torch.stack([s.densities for s in picked if s.densities is not None])
    return Batch(
        truth=torch.where(mask > 0, planes[:, :1], -1.0),
        contrasts=shown * available[:, :, None, None, None],
        available=available,
        tissues=tissues,
        target=torch.tensor([sample.target for sample in picked]),
        mask=mask,
        densities=densities,
        others=torch.where(mask > 0, others, -1.0) * known[:, :, None, None],
        known=known,
        seeds=tuple(sample.seed for sample in picked),
    )
