"""From a standard deviation over samples to a calibrated interval, as its sidecar says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from colapipe.files import is_number


class Interval(NamedTuple):
    """How a standard deviation becomes the half-width of an interval.

    Attributes
    ----------
    level : float
        Part of a brain's voxels that is expected inside, 0 to 1.
    factor : float
    floor : float
        Least standard deviation that counts, in the image's units.
    """

    level: float
    factor: float
    floor: float

    def half_width(self, std: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return ``factor * max(std, floor)``, in the image's units."""
        return self.factor * np.maximum(std, self.floor)


def interval_of(sidecar: Mapping[str, Any]) -> Interval | None:
    """Return what ``UncertaintyCalibration`` says; None if it is not calibrated or no number."""
    found = sidecar.get("UncertaintyCalibration")
    if not isinstance(found, Mapping) or found.get("Calibrated") is not True:
        return None
    numbers = [found.get(key) for key in ("Level", "Factor", "Floor")]
    known = [float(number) for number in numbers if is_number(number)]
    return Interval(*known) if len(known) == len(numbers) else None
