"""The self-check: each contrast is synthesised from the others and compared with the real scan.

No truth is needed for the contrast that is missing. What is compared are volumes (X, Y, Z) on the
model grid, in [0, 1]; the synthesised ones exist in a few axial slices. What the numbers mean for a
scan is judged in :mod:`colapipe.quality.lights`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.contrasts import CONTRASTS
from colapipe.quality import metrics
from colapipe.quality.arrays import correlation
from colapipe.quality.pose import differences, fisher, fit_pose

SLICES = 12
"""Slices that a self-check synthesises; thresholds hold for this number."""

STEPS, SAMPLES = 1, 1
"""Of a self-check's syntheses."""

_MARGIN = 8  # mm: more than the window of SSIM reaches
_MIDDLE = (0.15, 0.85)  # beyond, there is little brain in a slice


@dataclass(frozen=True)
class Pair:
    """A real scan and its synthesis from the other contrasts.

    Attributes
    ----------
    real, synthetic : ndarray, (X, Y, Z), in [0, 1]
    mask : ndarray of bool, (X, Y, Z)
        The brain, as another contrast shows it.
    slices : tuple of int
        Those that were synthesised.
    sources : tuple of str
        What it was synthesised from.
    """

    real: npt.NDArray[Any]
    synthetic: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    slices: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Measures:
    """How well the real scan of a contrast and its synthesis fit each other.

    Attributes
    ----------
    sources : tuple of str
    psnr_fitted, ssim_fitted : float
        In the brain, after the best gain and offset.
    correlation : float
        Pearson's, over the brain's voxels.
    asymmetry : float
        Correlation of the differences between left and right: -1 for a mirrored scan.
    turn, shift, displacement : float
        How far the real scan must be moved to fit best, in degrees, mm, and mm on average over
        the brain. NaN where no place is found.
    exchange : dict of float
        For each other contrast: by how much the two scans fit their own syntheses better than
        each other's, in Fisher's z. Negative where they seem to have each other's name.
    """

    sources: tuple[str, ...]
    psnr_fitted: float
    ssim_fitted: float
    correlation: float
    asymmetry: float
    turn: float
    shift: float
    displacement: float
    exchange: Mapping[str, float] = field(default_factory=dict)


def spread_slices(with_brain: Sequence[int], count: int = SLICES) -> list[int]:
    """Return slices spread evenly over the middle of the brain, without its top and bottom.

    Parameters
    ----------
    with_brain : sequence of int
        Slices with any brain, from inferior to superior.
    count : int
        How many to return; all of the middle, if there are no more.
    """
    places = np.linspace(*_MIDDLE, count) * (len(with_brain) - 1)
    return sorted({int(with_brain[round(place)]) for place in places}) if len(with_brain) else []


def measure_pairs(
    pairs: Mapping[str, Pair], problems: dict[str, str] | None = None
) -> dict[str, Measures]:
    """Compare all contrasts of a session with their syntheses.

    Parameters
    ----------
    pairs : dict of Pair
        By contrast, all on one grid.
    problems : dict, optional
        Takes the words about contrasts that cannot be compared, which are left out then.

    Raises
    ------
    ValueError
        Without ``problems``, if shapes differ or a mask is empty in the slices.
    """
    usable: dict[str, Pair] = {}
    shapes = Counter(pair.mask.shape for pair in pairs.values())
    shape = shapes.most_common(1)[0][0] if shapes else ()
    for name, pair in pairs.items():
        words = _objection(pair, shape)
        if words and problems is None:
            raise ValueError(f"{name}: {words}")
        if words and problems is not None:
            problems[name] = f"could not be compared: {words}"
        else:
            usable[name] = pair
    if not usable:
        return {}
    cut = _cut(usable)
    exchange = _exchange(cut)
    measured = {}
    for name, pair in cut.items():
        try:
            measured[name] = _measure(pair, exchange[name])
        except Exception as err:
            # Whatever is wrong with one contrast must not hide what the others show.
            if problems is None:
                raise
            problems[name] = f"could not be compared: {type(err).__name__}: {err}"
    return measured


def _objection(pair: Pair, shape: tuple[int, ...]) -> str:
    """Return why a contrast cannot be compared with its synthesis; empty if it can."""
    shapes = {pair.real.shape, pair.synthetic.shape, pair.mask.shape}
    if shapes != {shape}:
        return f"its images have the shapes {', '.join(map(str, sorted(shapes)))}"
    chosen = list(pair.slices)
    inside = pair.mask[:, :, chosen]
    if not inside.any():
        return "the brain mask has no voxel in the slices that were synthesised"
    values = np.concatenate([pair.real[pair.mask], pair.synthetic[pair.mask]])
    if not np.isfinite(values).all():
        return "it holds values that are no finite numbers"
    return ""


def _cut(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    """Cut all volumes to the brain and a margin in x and y, since half of a crop is empty."""
    brain = np.any([pair.mask.any(axis=2) for pair in pairs.values()], axis=0)
    box = tuple(
        slice(max(0, places.min() - _MARGIN), places.max() + 1 + _MARGIN)
        for places in np.nonzero(brain)
    )
    return {
        name: replace(pair, real=pair.real[box], synthetic=pair.synthetic[box], mask=pair.mask[box])
        for name, pair in pairs.items()
    }


def _measure(pair: Pair, exchange: Mapping[str, float]) -> Measures:
    """Compare one contrast with its synthesis."""
    chosen = list(pair.slices)
    inside = pair.mask[:, :, chosen]
    real = np.where(pair.mask, pair.real, 0.0).astype(np.float64)
    synthetic = np.where(pair.mask, pair.synthetic, 0.0).astype(np.float64)
    r, s = real[:, :, chosen], synthetic[:, :, chosen]
    fitted = metrics.apply_gain_offset(s, *metrics.fit_gain_offset(s, r, inside), inside)
    pose = fit_pose(real, synthetic, pair.mask, chosen)
    return Measures(
        sources=pair.sources,
        psnr_fitted=metrics.psnr(fitted, r, inside),
        ssim_fitted=metrics.ssim(fitted, r, inside),
        correlation=correlation(r[inside], s[inside]),
        asymmetry=correlation(
            differences(real, pair.mask, chosen), differences(synthetic, pair.mask, chosen)
        ),
        turn=pose.turn,
        shift=pose.shift,
        displacement=pose.displacement,
        exchange=exchange,
    )


def _exchange(pairs: Mapping[str, Pair]) -> dict[str, dict[str, float]]:
    """Return the margin against exchanged names of each two contrasts."""
    found: dict[str, dict[str, float]] = {name: {} for name in pairs}
    for a, b in combinations([name for name in CONTRASTS if name in pairs], 2):
        found[a][b] = found[b][a] = exchange_margin(pairs[a], pairs[b])
    return found


def exchange_margin(one: Pair, other: Pair) -> float:
    """Return by how much two scans fit their own syntheses better than each other's.

    The sum of Fisher's z of the two correlations, less that of the two crossed ones. A synthesis
    was made from the other scan among others, so the margin need not be above 0 for contrasts
    that are much alike, such as T1w and T1ce.
    """

    def alike(real: Pair, made: Pair) -> float:
        chosen = list(made.slices)
        inside = made.mask[:, :, chosen]
        scan, synthesis = real.real[:, :, chosen], made.synthetic[:, :, chosen]
        return fisher(correlation(scan[inside], synthesis[inside]))

    return alike(one, one) + alike(other, other) - alike(one, other) - alike(other, one)
