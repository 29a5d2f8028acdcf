"""How bright brains are in a contrast: the range of the training data, and what lies outside it.

Intensities are those of :func:`colapipe.slices.intensity.normalise`, in [0, 1]. The ranges are
stored in a model's metadata by ``colapipe-model calibrate`` (:mod:`colapipe.quality.stored`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.files import is_number

FloatArray = npt.NDArray[np.float64]

BINS = 64
BAND = (5.0, 95.0)
"""Percentiles over participants between which the band of a training range lies."""

UNUSUAL = 0.05
"""Part of participants like those of the training that may be called out of distribution."""

_DECIMALS = 5  # of a share of voxels; a bin of an even histogram holds 0.0156


@dataclass(frozen=True)
class TrainingRange:
    """Histograms of one contrast over the training participants.

    Attributes
    ----------
    bins : ndarray, (65,)
        Edges of the bins, from 0 to 1.
    low, mean, high : ndarray, (64,)
        Share of a brain's voxels in each bin: mean over participants, and the band that holds
        90 % of them.
    participants : int
    limit : float or None
        Distance beyond which an image is out of distribution; None for too few participants.
    """

    bins: FloatArray
    low: FloatArray
    mean: FloatArray
    high: FloatArray
    participants: int
    limit: float | None

    def distance(self, values: npt.ArrayLike) -> float:
        """Return how far an image's histogram is from the mean one.

        It is the earth mover's distance: by how much intensities must be moved, on average, to
        make one of the other. 0 for the same histogram, 1 for black against white.

        Parameters
        ----------
        values : array_like
            Normalised intensities of the brain's voxels, in [0, 1].
        """
        return move(histogram(values), self.mean)

    def is_outside(self, values: npt.ArrayLike) -> bool | None:
        """Say whether an image is out of distribution; None where no limit is known."""
        return None if self.limit is None else self.distance(values) > self.limit

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint's metadata holds."""
        shares = {name: getattr(self, name).round(_DECIMALS).tolist() for name in _SHARES}
        limit = None if self.limit is None else round(self.limit, 4)
        return {"participants": self.participants, "limit": limit, **shares}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TrainingRange:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If it is malformed; the message says how.
        """
        for name in _SHARES:
            shares = content.get(name)
            if not isinstance(shares, list) or len(shares) != BINS:
                raise ValueError(f"{name!r} must be a list of {BINS} shares")
            if not all(is_number(share) and 0 <= share <= 1 for share in shares):
                raise ValueError(f"{name!r} must hold numbers from 0 to 1")
        participants, limit = content.get("participants"), content.get("limit")
        if type(participants) is not int or participants < 1:
            raise ValueError("'participants' must be a whole number of 1 or more")
        if limit is not None and not (is_number(limit) and limit > 0):
            raise ValueError("'limit' must be null or a number above 0")
        arrays = {name: np.asarray(content[name], dtype=np.float64) for name in _SHARES}
        return cls(edges(), **arrays, participants=participants, limit=limit)


_SHARES = ("low", "mean", "high")


def edges() -> FloatArray:
    """Return the edges of the bins, (65,)."""
    return np.linspace(0, 1, BINS + 1)


def histogram(values: npt.ArrayLike) -> FloatArray:
    """Return the share of voxels in each bin, (64,).

    Parameters
    ----------
    values : array_like
        Normalised intensities of the brain's voxels, in [0, 1]; others are clipped.

    Raises
    ------
    ValueError
        If there are none, or one is not finite.
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    if found.size == 0 or not np.isfinite(found).all():
        raise ValueError("a histogram needs at least one voxel, and finite intensities")
    return np.histogram(np.clip(found, 0, 1), edges())[0] / found.size


def histogram_of_levels(levels: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the share of voxels in each bin, (64,), of intensities in steps of 1/255."""
    counts = np.bincount(levels, minlength=256).reshape(BINS, -1).sum(axis=1)
    return np.asarray(counts / max(1, counts.sum()))


def move(one: FloatArray, other: FloatArray) -> float:
    """Return the earth mover's distance of two histograms, in units of intensity."""
    return float(np.abs(np.cumsum(one - other)).sum() / BINS)


def fit_range(training: Sequence[FloatArray], held_out: Sequence[FloatArray] = ()) -> TrainingRange:
    """Return the range of some participants, with the limit of what is usual.

    The limit is the distance that a participant like these exceeds in 5 % of cases at most
    (split conformal prediction; Angelopoulos and Bates 2021, arXiv 2107.07511): of the distances of
    all participants, each to a mean that it has no part in. It takes 19 participants.

    Parameters
    ----------
    training, held_out : sequence of ndarray, (64,)
        One histogram for each participant; the range is that of ``training``.
    """
    shares = np.stack(training)
    total = shares.sum(axis=0)
    distances = [move(one, shares.mean(axis=0)) for one in held_out]
    if len(shares) > 1:
        distances += [move(one, (total - one) / (len(shares) - 1)) for one in shares]
    rank = math.ceil((1 - UNUSUAL) * (len(distances) + 1))
    low, high = np.percentile(shares, BAND, axis=0)
    return TrainingRange(
        bins=edges(),
        low=low,
        mean=shares.mean(axis=0),
        high=high,
        participants=len(shares),
        limit=sorted(distances)[rank - 1] if rank <= len(distances) else None,
    )
