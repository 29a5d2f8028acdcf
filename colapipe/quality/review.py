"""What to look at first in a group: failures, warnings (red lights among them), and outliers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colapipe.quality.columns import BOOLEAN_COLUMNS
from colapipe.quality.gather import MADE, SELFCHECK, Group, Row
from colapipe.quality.limits import RED_LIGHT
from colapipe.quality.outliers import Spread, spread
from colapipe.quality.warnings import split_warnings

FAILED, WARNED, OUTLIER, AMBER, FINE = range(5)
"""How urgent it is to look at a row, the most urgent first."""

LIGHT = f"{SELFCHECK}light"
REASONS = f"{SELFCHECK}reasons"

_NO_MEASURE = ("interval_level", f"{SELFCHECK}calibrated_on", *BOOLEAN_COLUMNS, *MADE)
_MOST_NAMED = 3


@dataclass(frozen=True)
class Series:
    """The values of one measure for one kind of image, on one kind of grid.

    Attributes
    ----------
    reference, contrast : str
    synthetic : bool
    values : tuple of (int, float)
        Index of the row and value, from the least to the largest.
    spread : Spread
        What is usual among them.
    """

    reference: str
    contrast: str
    synthetic: bool
    values: tuple[tuple[int, float], ...]
    spread: Spread


@dataclass
class RowReview:
    """Why to look at a row.

    Attributes
    ----------
    urgency : int
        ``FAILED`` to ``FINE``.
    distance : float
        How far its farthest outlier is from the median, in deviations.
    reasons : list of str
        In words; empty where there is none.
    """

    urgency: int = FINE
    distance: float = 0.0
    reasons: list[str] = field(default_factory=list)


@dataclass
class Review:
    """A group, looked through.

    Attributes
    ----------
    measures : dict
        Column to its series.
    verdicts : list of Verdict
        One for each row.
    outliers : dict
        Index of a row to the columns in which it is unlike the others.
    """

    measures: dict[str, list[Series]]
    verdicts: list[RowReview]
    outliers: dict[int, list[str]]

    def order(self) -> list[int]:
        """Return the indices of the rows, what is to be looked at first before all."""
        verdicts = self.verdicts
        return sorted(
            range(len(verdicts)),
            key=lambda index: (verdicts[index].urgency, -verdicts[index].distance, index),
        )


def review(group: Group) -> Review:
    """Look through a group.

    Contrasts are compared with themselves only, and by the grid they are on; real scans and
    synthetic images apart.
    """
    measures: dict[str, list[Series]] = {}
    far: dict[int, list[tuple[float, str, str]]] = {}
    for column in group.columns:
        if column in _NO_MEASURE:
            continue
        for series in _series(column, group.rows):
            measures.setdefault(column, []).append(series)
            for index, value in series.values:
                if series.spread.is_outlier(value):
                    words = _unlike(group.columns[column], column, value, series)
                    entry = (series.spread.distance(value), column, words)
                    far.setdefault(index, []).append(entry)
    verdicts = [
        _verdict(row, sorted(far.get(i, ()), reverse=True)) for i, row in enumerate(group.rows)
    ]
    outliers = {index: [column for _, column, _ in found] for index, found in far.items()}
    return Review(measures, verdicts, outliers)


def number(text: str | None) -> float | None:
    """Return the finite number that a cell holds; None if it holds something else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _series(column: str, rows: Sequence[Row]) -> Iterator[Series]:
    kinds: dict[tuple[str, str, bool], list[tuple[int, float]]] = {}
    for index, row in enumerate(rows):
        value = number(row.get(column))
        if value is not None:
            kind = (row.get("reference", ""), row.get("contrast", ""), is_synthetic(row))
            kinds.setdefault(kind, []).append((index, value))
    for kind, values in kinds.items():
        values.sort(key=lambda entry: entry[1])
        yield Series(*kind, tuple(values), spread([value for _, value in values], column))


def is_synthetic(row: Row) -> bool:
    """Tell whether a row is of a synthetic image."""
    return row.get("synthetic") == "true"


def warnings_in(row: Row) -> list[str]:
    """Return the warnings of a row; a red light is one, whoever wrote the table."""
    found = split_warnings(row.get("warnings", ""))
    if is_red(row) and not any(warning.startswith(RED_LIGHT) for warning in found):
        found.append(f"{RED_LIGHT}: {row.get(REASONS, 'no reason is given')}")
    return found


def is_red(row: Row) -> bool:
    """Tell whether the light of the self-check is red."""
    return row.get(LIGHT, "").lower() == "red"


def _unlike(described: Mapping[str, Any], column: str, value: float, series: Series) -> str:
    usual = [other for _, other in series.values if not series.spread.is_outlier(other)]
    name = described.get("LongName") or column
    units = f" {described['Units']}" if described.get("Units") else ""
    return f"{name} {value:.4g}{units}, others {usual[0]:.4g} to {usual[-1]:.4g}{units}"


def _verdict(row: Row, far: Sequence[tuple[float, str, str]]) -> RowReview:
    warnings = warnings_in(row)
    reasons = [warning[:1].upper() + warning[1:] for warning in warnings]
    light = row.get(LIGHT, "").lower()
    urgency = AMBER if light == "amber" else FINE
    if light == "amber":
        reasons.append(f"Self-check amber: {row.get(REASONS, 'no reason is given')}")
    if warnings:
        urgency = WARNED
    if far:
        urgency = min(urgency, OUTLIER)
        reasons += [words for _, _, words in far[:_MOST_NAMED]]
        if len(far) > _MOST_NAMED:
            reasons.append(f"Unlike the others in {len(far) - _MOST_NAMED} more")
    if "failure" in row:
        urgency = FAILED
        reasons.insert(0, f"Failed: {row['failure']}")
    return RowReview(urgency, far[0][0] if far else 0.0, reasons)
