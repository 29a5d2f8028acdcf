"""Write and read the table of quality numbers, one for each session and reference grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe.bids.outputs import SessionFiles, read_session, session_folders
from colapipe.bids.tables import MISSING, read_rows, write_table
from colapipe.errors import ScanWarning
from colapipe.files import read_json
from colapipe.quality.columns import BOOLEAN_COLUMNS, COLUMNS, COUNT_COLUMNS, TEXT_COLUMNS
from colapipe.quality.measure import Row, measure_grid
from colapipe.quality.warnings import (
    SIDECAR_KEY,
    collect,
    mark_sidecars,
    quality_table,
    selfcheck_rows,
    with_warnings,
)

WARNINGS = SIDECAR_KEY
"""Key of the sidecar under which it lists the files that could not be used."""

GIVEN = "PlanWarnings"
"""Key of the sidecar under which it keeps what was known before anything was measured."""


def write_session_quality(
    out_dir: Path,
    participant: str,
    session: str | None,
    spaces: Collection[str] | None = None,
    given: Sequence[ScanWarning] | None = None,
    kept: Mapping[Path, Sequence[ScanWarning]] | None = None,
) -> list[Path]:
    """Measure what a run has left of one session, and write a table for each reference grid.

    The self-check of a grid must be written before. What is beyond a limit, in its lights or in
    what is measured, is a warning, in the table and in the sidecars of the synthetic images that it
    concerns.

    Parameters
    ----------
    out_dir : Path
        The derivatives folder.
    participant : str
        Label, without ``sub-``.
    session : str or None
    spaces : collection of str, optional
        Reference contrasts; all that have files without it.
    given : sequence of ScanWarning, optional
        What was found before anything was measured; without it what an earlier table kept.
    kept : mapping, optional
        What earlier tables kept, by their paths, where these are gone by now: see `kept_warnings`.

    Returns
    -------
    list of Path
        The tables, each with its JSON beside it; empty if there is nothing to measure.

    Raises
    ------
    ReadWriteError, OutputError
        If a table cannot be written. What cannot be read is only said in the table's JSON.
    """
    folder = session_folders(out_dir, participant).get(session)
    files = SessionFiles(session) if folder is None else read_session(session, folder)
    written = []
    for space in files.spaces if spaces is None else spaces:
        path = quality_table(out_dir, participant, session, space)
        known = given if given is not None else (kept or {}).get(path) or kept_warnings(path)
        measured = measure_grid(files, space)
        lights, problems = selfcheck_rows(files, space)
        if problems:
            measured.warnings.setdefault(("", False), []).extend(problems)
        warnings = collect(measured, given=known, lights=lights)
        # The table last: what it says of an image is in the image's sidecar then.
        mark_sidecars(files, space, warnings)
        rows = with_warnings(measured.rows, warnings, space)
        said = [message for messages in measured.warnings.values() for message in messages]
        write_quality(path, rows, said, known)
        written.append(path)
    return written


def kept_warnings(path: Path) -> list[ScanWarning]:
    """Return what the table of an earlier run was given before anything was measured."""
    kept = read_json(path.with_suffix(".json"))[0].get(GIVEN)
    entries = kept if isinstance(kept, list) else []
    return [
        ScanWarning(str(entry.get("Contrast", "")), str(entry.get("Message", "")))
        for entry in entries
        if isinstance(entry, dict)
    ]


def write_quality(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    warnings: Iterable[str],
    given: Iterable[ScanWarning] = (),
) -> None:
    """Write rows of quality numbers as a BIDS table, with its data dictionary.

    Parameters
    ----------
    path : Path
        The ``.tsv`` file; the JSON goes beside it.
    rows : sequence of mapping
        As from :func:`colapipe.quality.measure.measure_grid`.
    warnings : iterable of str
        Said in the JSON.
    given : iterable of ScanWarning
        Kept in the JSON, for a table that is written again without a plan.

    Raises
    ------
    ValueError
        If a row has a key that is no column.
    ReadWriteError, OutputError
        If a file cannot be written.
    """
    unknown = {name for row in rows for name in row} - set(COLUMNS)
    if unknown:
        raise ValueError(f"no description of the column(s) {sorted(unknown)}")
    kept = [{"Contrast": warning.contrast, "Message": warning.message} for warning in given]
    more = {WARNINGS: list(dict.fromkeys(warnings))} | ({GIVEN: kept} if kept else {})
    write_table(path, rows, COLUMNS, more=more)


def read_quality_table(path: Path) -> list[Row]:
    """Read a table that :func:`write_quality` wrote.

    Returns
    -------
    list of dict
        bool, int, float or text; columns with ``n/a`` are left out.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is empty, or a cell does not hold what its column promises.
    """
    return [
        {name: _value(path, name, cell) for name, cell in row.items() if cell != MISSING}
        for row in read_rows(path)
    ]


def _value(path: Path, name: str, cell: str) -> Any:
    """Return what the text of one cell means."""
    try:
        if name in BOOLEAN_COLUMNS:
            return {"true": True, "false": False}[cell]
        if name in COUNT_COLUMNS:
            return int(cell)
        return cell if name in TEXT_COLUMNS or name not in COLUMNS else float(cell)
    except (KeyError, ValueError):
        raise ValueError(
            f"{path}: {cell!r} in the column {name!r} is not what is expected"
        ) from None
