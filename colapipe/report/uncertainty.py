"""What a standard deviation is worth, read from its sidecar: an interval, or not calibrated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from colapipe.report.files import as_text


def calibrated_level(sidecar: Mapping[str, Any]) -> float | None:
    """Return the level of the intervals; None where nothing usable says that there are any."""
    numbers = _level_factor_floor(sidecar.get("UncertaintyCalibration"))
    return None if numbers is None else numbers[0]


def interval_in_words(sidecar: Mapping[str, Any]) -> str:
    """Return one sentence: how the standard deviation becomes an interval, or why it does not."""
    found = sidecar.get("UncertaintyCalibration")
    numbers = _level_factor_floor(found)
    if numbers is not None:
        level, factor, floor = numbers
        return (
            f"{100 * level:g} % interval: the synthesised image ± {factor:.3g} times the larger of "
            f"this standard deviation and {floor:.3g}, in the image's units."
        )
    reason = found.get("Reason") if isinstance(found, Mapping) else None
    return f"This standard deviation is not calibrated{f': {as_text(reason)}' if reason else ''}."


def _level_factor_floor(found: object) -> tuple[float, float, float] | None:
    """Return the three numbers; None if it is not calibrated, or one of them is no number."""
    if not isinstance(found, Mapping) or found.get("Calibrated") is not True:
        return None
    numbers = []
    for number in (found.get(key) for key in ("Level", "Factor", "Floor")):
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        if not math.isfinite(number):
            return None
        numbers.append(float(number))
    level, factor, floor = numbers
    return level, factor, floor
