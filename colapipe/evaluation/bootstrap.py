"""How sure a mean over participants is: bootstrap intervals, of one model and of a difference.

Slices of one brain are alike, so the participant is the unit that is drawn, never the slice. Two
models are compared on the same participants, drawn together ("paired"): most of the spread between
participants then cancels.

With few participants the intervals are narrower than they should be (with five, about 85 % of
them hold the true mean instead of 95 %): no method can know what five people do not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 0

_AT_ONCE = 1_000_000  # numbers that are drawn at a time, to bound memory


class Interval(NamedTuple):
    """A mean over participants with its bootstrap interval.

    Attributes
    ----------
    mean, low, high : float
        ``low`` and ``high`` are NaN for fewer than two participants.
    participants : int
    """

    mean: float
    low: float
    high: float
    participants: int


def bootstrap_mean(
    values: Sequence[float] | npt.NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Return the mean of one value per participant, with its percentile bootstrap interval.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.

    Parameters
    ----------
    values : sequence of float
        NaN (no figure) is left out.
    resamples : int
    level : float
        The part of the resamples that lies in the interval.
    seed : int
        The same seed draws the same participants for every model.

    Returns
    -------
    Interval
        NaN and 0 participants if there is no value.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if known.size == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if known.size == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    if not np.isfinite(known).all():
        # Two images that are the same have an infinite PSNR, and so has any mean with them.
        return Interval(mean, float("nan"), float("nan"), known.size)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _AT_ONCE // known.size)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        drawn = rng.integers(known.size, size=(count, known.size))
        means[first : first + count] = known[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), known.size)


def pairs(
    one: Mapping[str, float], other: Mapping[str, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the values of the participants that both have, in the same order.

    Without those of which there is no difference: one is NaN, or both are infinite.
    """
    both = [
        name
        for name in sorted(set(one) & set(other))
        if not (np.isnan(one[name]) or np.isnan(other[name]))
        and (np.isfinite(one[name]) or np.isfinite(other[name]))
    ]
    return (
        np.array([one[name] for name in both], dtype=np.float64),
        np.array([other[name] for name in both], dtype=np.float64),
    )


def bootstrap_difference(
    one: Mapping[str, float],
    other: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """Return the mean of ``one - other`` over participants, with its paired bootstrap interval.

    Parameters
    ----------
    one, other : mapping of str to float
        Participant to figure; those that only one of the two has are left out.
    resamples, level, seed
        See :func:`bootstrap_mean`.
    """
    first, second = pairs(one, other)
    return bootstrap_mean(first - second, resamples=resamples, level=level, seed=seed)


def wilcoxon(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the p-value of the paired two-sided Wilcoxon signed-rank test.

    With n participants it is at least 2 / 2^n: 0.0625 with five, so it cannot be "significant".

    Parameters
    ----------
    one, other : mapping of str to float
        As in :func:`bootstrap_difference`.

    Returns
    -------
    float
        1 if all differences are 0, NaN without any participant or if a difference is infinite.
    """
    from scipy import stats

    first, second = pairs(one, other)
    difference = first - second
    if difference.size == 0 or not np.isfinite(difference).all():
        return float("nan")
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference).pvalue)
