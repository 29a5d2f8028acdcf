"""Narrow scans down by ``--bids-filter-file``, with the entities of pybids.

The values of entities are read by pybids' own patterns, but from names alone: an index of a dataset
takes half a second for each participant.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.errors import ScanWarning, UsageError

if TYPE_CHECKING:
    from colapipe.bids.reader import Scan

Query = Mapping[str, Any]
"""The values that entities must have: ``{"acquisition": None, "run": [1, 2]}``."""

Filters = Mapping[str, Query]
"""A query for each contrast that is narrowed down."""

_MOST_VALUES = 8


def known_entities() -> tuple[str, ...]:
    """Return the names of the entities that pybids reads from raw file names."""
    return tuple(_entities())


def passes(scan: Scan, query: Query) -> bool:
    """Tell whether a scan has the values that a query asks for."""
    return all(_value_fits(scan, entity, wanted) for entity, wanted in query.items())


def apply_filters(
    scans: Sequence[Scan], filters: Filters
) -> tuple[list[Scan], dict[str, list[Scan]]]:
    """Keep the scans that pass the filter of their contrast.

    Returns
    -------
    kept : list of Scan
    removed : dict of str to list of Scan
        By contrast; a contrast of which nothing was removed is not there.
    """
    kept: list[Scan] = []
    removed: dict[str, list[Scan]] = {}
    for scan in scans:
        if passes(scan, filters.get(scan.contrast, {})):
            kept.append(scan)
        else:
            removed.setdefault(scan.contrast, []).append(scan)
    return kept, removed


def check_filters(scans: Iterable[Scan], filters: Filters, path: Path) -> list[str]:
    """Refuse a filter that none of a dataset's scans passes: it is mistyped.

    Parameters
    ----------
    scans : iterable of Scan
        All scans of the dataset.
    filters : mapping
    path : Path
        The ``--bids-filter-file``.

    Returns
    -------
    list of str
        Warnings: filters of contrasts that nobody has.

    Raises
    ------
    UsageError
        With the values that are there, and the one that comes near.
    """
    by_contrast: dict[str, list[Scan]] = {contrast: [] for contrast in filters}
    for scan in scans:
        by_contrast.get(scan.contrast, []).append(scan)
    warnings = []
    for contrast, group in by_contrast.items():
        query = filters[contrast]
        if not group:
            warnings.append(
                f"--bids-filter-file {path}: the filter {words(contrast, query)} has no effect: "
                f"the dataset has no {contrast} that is read"
            )
        elif not any(passes(scan, query) for scan in group):
            raise UsageError(
                f"--bids-filter-file {path}: {words(contrast, query)} matches none of the "
                f"{len(group)} {contrast} scan(s) of the dataset. {values_there(group, query)} "
                f"Correct the filter; to do without {contrast}, name the others with --source."
            )
    return warnings


def say_removed(
    removed: Mapping[str, Sequence[Scan]], kept: Iterable[Scan], filters: Filters
) -> tuple[list[str], list[ScanWarning]]:
    """Say which scans of a session the filters removed.

    Parameters
    ----------
    removed : mapping of str to sequence of Scan
        As `apply_filters` returns it.
    kept : iterable of Scan
        What is left of the session.
    filters : mapping

    Returns
    -------
    notes : list of str
    warnings : list of ScanWarning
        Contrasts of which nothing is left.
    """
    left = {scan.contrast for scan in kept}
    notes, warnings = [], []
    for contrast, scans in removed.items():
        query = filters[contrast]
        text = f"the filter {words(contrast, query)} removed {', '.join(s.name for s in scans)}"
        if contrast in left:
            notes.append(text)
        else:
            warnings.append(
                ScanWarning(
                    contrast,
                    f"{text}: no {contrast} is left, and it counts as missing. "
                    f"{values_there(scans, query)} If this is not meant, correct the filter.",
                )
            )
    return notes, warnings


def words(contrast: str, query: Query) -> str:
    """Return a filter as it stands in the file."""
    return json.dumps({contrast: dict(query)})


def values_there(scans: Sequence[Scan], query: Query) -> str:
    """Say which values scans have of the entities in which they fail a query."""
    sentences = []
    for entity, wanted in query.items():
        if any(_value_fits(scan, entity, wanted) for scan in scans):
            continue
        values = {_value(scan, entity) for scan in scans}
        there = sorted(str(value) for value in values if value is not None)
        some = ", ".join(there[:_MOST_VALUES]) + (", ..." if len(there) > _MOST_VALUES else "")
        absent = ("absent" if not some else " or absent") if None in values else ""
        near = _nearest([option for option in _options(wanted) if option is not None], there)
        hint = f" (did you mean {near}?)" if near else ""
        sentences.append(f"Here, {entity} is {some}{absent}{hint}.")
    return " ".join(sentences) or (
        "Each of its values is there in some scan, but no scan has all of them."
    )


def _nearest(wanted: Sequence[Any], there: Sequence[str]) -> str | None:
    """Return the value that was probably meant; another case comes first."""
    by_lower = {value.lower(): value for value in reversed(there)}
    for option in wanted:
        near = difflib.get_close_matches(str(option).lower(), list(by_lower), n=1)
        if near:
            return by_lower[near[0]]
    return None


def _value_fits(scan: Scan, entity: str, wanted: Any) -> bool:
    value = _value(scan, entity)
    kind = _entities()[entity][1]
    options = [_as(kind, option) for option in _options(wanted)]
    return value in options or ("*" in options and value is not None)


def _options(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _value(scan: Scan, entity: str) -> Any:
    pattern, kind = _entities()[entity]
    # pybids' patterns want a slash before sub-.
    match = pattern.search(f"/{scan.relative}")
    return _as(kind, match[1]) if match else None


def _as(kind: type, value: Any) -> Any:
    """Return a value as an entity's type, so that run 2 is run-02; as it is, if it is not one."""
    try:
        return None if value is None else kind(value)
    except ValueError:
        return value


@lru_cache(maxsize=1)
def _entities() -> dict[str, tuple[Any, type]]:
    """Return the pattern and the type of each entity of pybids."""
    from bids.layout import Config

    return {
        name: (entity.regex, str if entity.dtype is str else int)
        for name, entity in Config.load("bids").entities.items()
    }
