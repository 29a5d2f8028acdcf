"""Mean and standard deviation of samples that arrive one at a time (Welford, 1962), in float64.

The paper generates 100 images per slice and shows their pixel-wise variance; two buffers hold
what is needed of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class RunningStatistics:
    """Pixel-wise mean and unbiased standard deviation of the arrays given to :meth:`update`."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: npt.NDArray[np.float64] | None = None
        self._squares: npt.NDArray[np.float64] | None = None

    def update(self, sample: npt.ArrayLike) -> None:
        """Take in one sample; all must have one shape."""
        values = np.asarray(sample, dtype=np.float64)
        if self._mean is None or self._squares is None:
            self._mean, self._squares = np.zeros_like(values), np.zeros_like(values)
        if values.shape != self._mean.shape:
            raise ValueError(f"a sample has shape {values.shape}; expected {self._mean.shape}")
        self.count += 1
        delta = values - self._mean
        self._mean += delta / self.count
        self._squares += delta * (values - self._mean)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """The mean of the samples so far.

        Raises
        ------
        ValueError
            If there was none.
        """
        if self._mean is None:
            raise ValueError("there is no mean of no samples")
        return self._mean

    @property
    def std(self) -> npt.NDArray[np.float64] | None:
        """The unbiased standard deviation; None for fewer than two samples, which have none."""
        if self._squares is None or self.count < 2:
            return None
        return np.sqrt(self._squares / (self.count - 1))
