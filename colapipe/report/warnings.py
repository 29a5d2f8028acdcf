"""What must not be missed about a participant: the head of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from colapipe.bids.outputs import OutputFile, SessionFiles
from colapipe.bids.tables import read_rows
from colapipe.quality.limits import RED_LIGHT, warning_of_light
from colapipe.quality.warnings import join_warnings, read_warnings
from colapipe.report.text import as_text


def session_warnings(files: SessionFiles, described: Mapping[str, Any] | None) -> list[str]:
    """Return what the tables of a session and the plan of its run warn of.

    Parameters
    ----------
    files : SessionFiles
    described : mapping or None
        What the run says of this session; its ``warnings`` are objects with ``contrast`` and
        ``message``.

    Returns
    -------
    list of str
        Each with session and contrast, those of the tables first.
    """
    start = "" if files.label is None else f"Session {files.label}: "
    said: dict[tuple[str, str], None] = {}
    problems: list[str] = []
    for table in files.quality:
        try:
            found = read_warnings(read_rows(table.path))
        except (OSError, ValueError) as err:
            problems.append(_unreadable(table, err))
            continue
        for contrast, synthetic, warning in found:
            said[f"SYNTHETIC {contrast}" if synthetic else contrast, as_text(warning)] = None
    for contrast, warning in _planned(described):
        if not any(warning == known for _, known in said):
            said[contrast, warning] = None
    red = {name for name, warning in said if warning.startswith(RED_LIGHT)}
    for name, warning in _lights(files.selfchecks, problems):
        if name not in red and (name, warning) not in said:
            said[name, warning] = None
    warnings = [f"{name}: {warning}" if name else warning for name, warning in said]
    return [start + warning for warning in (*warnings, *problems)]


def _unreadable(table: OutputFile, err: Exception) -> str:
    return f"{table.path.name} cannot be read ({err}): what it would warn of is not known."


def unmeasured(files: SessionFiles) -> list[str]:
    """Return the grids with images of which nobody knows what their numbers would warn of."""
    measured = {table.name.get("space") for table in files.quality}
    start = "" if files.label is None else f"session {files.label}, "
    return [f"{start}grid of {space}" for space in files.spaces if space not in measured]


def _planned(described: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    """Yield contrast and message of what was found before anything was measured."""
    listed = (described or {}).get("warnings")
    for entry in listed if isinstance(listed, (list, tuple)) else ():
        if isinstance(entry, Mapping):
            # As it stands in a table.
            words = join_warnings([as_text(entry.get("message") or "")])
            yield as_text(entry.get("contrast") or ""), words
        else:
            yield "", as_text(entry)


def _lights(tables: Iterable[OutputFile], problems: list[str]) -> Iterable[tuple[str, str]]:
    """Yield contrast and words of the lights that are warnings; add what cannot be read.

    They are in the quality table, unless that was written by an earlier version or not at all.
    """
    for table in tables:
        try:
            rows = read_rows(table.path)
        except (OSError, ValueError) as err:
            problems.append(_unreadable(table, err))
            continue
        for row in rows:
            warning = warning_of_light(row)
            if warning is not None:
                yield as_text(row.get("contrast") or ""), join_warnings([as_text(warning)])
