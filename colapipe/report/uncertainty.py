"""What a standard deviation is worth, read from its sidecar: an interval, or not calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from colapipe.quality.intervals import interval_of
from colapipe.report.text import as_text


def calibrated_level(sidecar: Mapping[str, Any]) -> float | None:
    """Return the level of the intervals; None where nothing usable says that there are any."""
    interval = interval_of(sidecar)
    return None if interval is None else interval.level


def interval_in_words(sidecar: Mapping[str, Any]) -> str:
    """Return one sentence: how the standard deviation becomes an interval, or why it does not."""
    found = sidecar.get("UncertaintyCalibration")
    interval = interval_of(sidecar)
    if interval is not None:
        level, factor, floor = interval
        return (
            f"{100 * level:g} % interval: the synthesised image ± {factor:.3g} times the larger of "
            f"this standard deviation and {floor:.3g}, in the image's units."
        )
    reason = found.get("Reason") if isinstance(found, Mapping) else None
    return f"This standard deviation is not calibrated{f': {as_text(reason)}' if reason else ''}."
