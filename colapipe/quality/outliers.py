"""Who is unlike the others: outliers by the median and the median absolute deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FAR = 3.5
"""Deviations from the median beyond which a value is an outlier (Iglewicz and Hoaglin 1993)."""

FEWEST = 5
"""Values without which nobody can be said to be unlike the others."""

LEAST = {
    "nmi": 0.003,
    "shift": 0.5,
    "turn": 0.5,
    "mask_dice": 0.005,
    "coverage": 0.005,
    "clipped_low": 0.001,
    "clipped_high": 0.001,
    "selfcheck_shift": 0.5,
    "selfcheck_turn": 0.5,
    "selfcheck_displacement": 0.5,
}
"""Least deviation that is taken for usual, by column: where nearly all values are the same (a
coverage of 1), a difference that means nothing must not stand out. Elsewhere 2 % of the median.
"""

# Makes the median absolute deviation of normal values their standard deviation.
_NORMAL = 1.4826


@dataclass(frozen=True)
class Spread:
    """What is usual.

    Attributes
    ----------
    median : float
    deviation : float
        The median absolute deviation, scaled to the standard deviation of normal values, or the
        least that counts; 0 where nothing can be said.
    """

    median: float
    deviation: float

    @property
    def low(self) -> float:
        """The least value that is no outlier."""
        return self.median - FAR * self.deviation

    @property
    def high(self) -> float:
        """The largest value that is no outlier."""
        return self.median + FAR * self.deviation

    def distance(self, value: float) -> float:
        """Return how many deviations a value is from the median; 0 where nothing can be said."""
        return abs(value - self.median) / self.deviation if self.deviation else 0.0

    def is_outlier(self, value: float) -> bool:
        """Tell whether a value is unlike the others."""
        return self.distance(value) > FAR


def spread(values: Sequence[float], column: str) -> Spread:
    """Return what is usual among the values of one measure.

    Parameters
    ----------
    values : sequence of float
        All finite.
    column : str
        Its column, for the least deviation that counts.

    Returns
    -------
    Spread
        Without a deviation if there are fewer than five values.

    References
    ----------
    Iglewicz B, Hoaglin DC. How to detect and handle outliers. ASQC Quality Press, 1993.
    """
    if not values:
        return Spread(math.nan, 0.0)
    numbers = np.asarray(values, dtype=np.float64)
    median = float(np.median(numbers))
    if numbers.size < FEWEST:
        return Spread(median, 0.0)
    deviation = _NORMAL * float(np.median(np.abs(numbers - median)))
    return Spread(median, max(deviation, LEAST.get(column, 0.02 * abs(median))))
