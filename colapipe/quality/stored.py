"""What a model carries about quality, under ``quality`` of its metadata: of ``calibrate``.

::

    {"format_version": 1,
     "histograms": {CONTRAST: {"participants", "limit", "low", "mean", "high"}},
     "self_check": {"slices", "sets": {"T1w+T2w": {"T1w": {...}, "T2w": {...}}}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from colapipe.contrasts import CONTRASTS
from colapipe.quality.histograms import TrainingRange
from colapipe.quality.lights import SelfCheckLimits

KEY = "quality"
FORMAT_VERSION = 1

_AGAIN = "Calibrate it again."


class QualityError(ValueError):
    """The quality numbers that a model carries are malformed; the message says how."""


@dataclass(frozen=True)
class Quality:
    """What a model knows of its data.

    Attributes
    ----------
    histograms : dict of TrainingRange
        By contrast.
    self_check : SelfCheckLimits
    """

    histograms: Mapping[str, TrainingRange] = field(default_factory=dict)
    self_check: SelfCheckLimits = field(default_factory=SelfCheckLimits)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint's metadata holds under ``quality``."""
        return {
            "format_version": FORMAT_VERSION,
            "histograms": {name: entry.to_dict() for name, entry in self.histograms.items()},
            "self_check": self.self_check.to_dict(),
        }


def read_model_quality(metadata: Mapping[str, Any]) -> Quality | None:
    """Return the quality numbers that a model carries, or None if it has none.

    Parameters
    ----------
    metadata : mapping
        The description of a checkpoint (``ModelInfo.metadata``).

    Raises
    ------
    QualityError
        If they are malformed; the message names the key.
    """
    content = metadata.get(KEY)
    if content is None:
        return None
    if not isinstance(content, dict):
        raise QualityError(f"the model's {KEY!r} must be a JSON object. {_AGAIN}")
    if content.get("format_version") != FORMAT_VERSION:
        raise QualityError(
            f"the model's {KEY!r} has format version {content.get('format_version')!r}; this "
            f"colapipe reads version {FORMAT_VERSION}. {_AGAIN}"
        )
    checks = content.get("self_check")
    if checks is not None and not isinstance(checks, dict):
        raise QualityError(f"the model's '{KEY}.self_check' must be a JSON object. {_AGAIN}")
    try:
        limits = SelfCheckLimits() if checks is None else SelfCheckLimits.from_dict(checks)
    except ValueError as error:
        raise QualityError(f"the model's '{KEY}.self_check': {error}. {_AGAIN}") from error
    return Quality(_entries(content, "histograms", TrainingRange.from_dict), limits)


def _entries(content: Mapping[str, Any], key: str, read: Any) -> dict[str, Any]:
    """Read one entry for each contrast; errors name the entry."""
    entries = content.get(key, {})
    if not isinstance(entries, dict):
        raise QualityError(f"the model's '{KEY}.{key}' must be a JSON object. {_AGAIN}")
    found = {}
    for name, entry in entries.items():
        where = f"the model's '{KEY}.{key}.{name}'"
        if name not in CONTRASTS:
            raise QualityError(f"{where}: {name!r} is not a contrast. {_AGAIN}")
        if not isinstance(entry, dict):
            raise QualityError(f"{where} must be a JSON object. {_AGAIN}")
        try:
            found[name] = read(entry)
        except ValueError as error:
            raise QualityError(f"{where}: {error}. {_AGAIN}") from error
    return found
