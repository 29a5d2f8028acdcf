"""What must not be missed about the images on a grid, from where it is found to where it is read.

Every warning stands in the quality table, in the row of its contrast; report, group page and the
end of a run read it there. The sidecars of synthetic images hold what concerns them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.bids.names import derivative_path
from colapipe.bids.outputs import SessionFiles
from colapipe.bids.sidecars import write_json
from colapipe.bids.tables import read_rows
from colapipe.contrasts import CONTRASTS
from colapipe.errors import ScanWarning
from colapipe.files import read_json
from colapipe.quality.limits import NOT_DONE, RED_LIGHT, warning_of_light, warnings_of

if TYPE_CHECKING:
    from colapipe.plan.sessions import SessionPlan
    from colapipe.quality.measure import Key, Measured, Row

SIDECAR_KEY = "Warnings"
"""Where the sidecar of a synthetic image, and that of a quality table, lists warnings."""

_BETWEEN = "; "


def join_warnings(warnings: Iterable[str]) -> str:
    """Return one cell of several warnings, which :func:`split_warnings` takes apart again."""
    return _BETWEEN.join(dict.fromkeys(_within(warning) for warning in warnings))


def split_warnings(cell: str) -> list[str]:
    """Return the warnings of a cell; none for an empty one."""
    return [] if cell in ("", "n/a") else cell.split(_BETWEEN)


def _within(warning: str) -> str:
    return " ".join(warning.split()).replace(_BETWEEN, ", ")


def collect(
    measured: Measured,
    given: Iterable[ScanWarning] = (),
    lights: Sequence[Row] = (),
) -> dict[Key, list[str]]:
    """Return all that is to be said about the images on a grid.

    Parameters
    ----------
    measured : Measured
    given : iterable of ScanWarning
        Of the session's plan; contrasts that were taken out among them.
    lights : sequence of mapping
        Rows of the self-check of this grid.

    Returns
    -------
    dict
        Contrast ("" for the session as a whole) and whether the image is synthetic, to warnings.
    """
    found: dict[Key, list[str]] = {}

    def say(contrast: str, synthetic: bool, warnings: Iterable[str]) -> None:
        said = found.setdefault((contrast, synthetic), [])
        said += [warning for warning in warnings if warning not in said]

    for warning in given:
        say(warning.contrast, False, [warning.message])
    for (contrast, synthetic), messages in measured.warnings.items():
        say(contrast, synthetic, messages)
    for row in measured.rows:
        say(row["contrast"], row["synthetic"], warnings_of(row))
    for row in lights:
        light = warning_of_light(row)
        say(row["contrast"], False, [] if light is None else [light])
    return {key: said for key, said in found.items() if said}


def with_warnings(
    rows: Sequence[Row], warnings: Mapping[Key, Sequence[str]], space: str
) -> list[Row]:
    """Return the rows of a quality table with their warnings.

    A contrast that has warnings but no image on the grid gets a row of its own; what is about the
    session is on the row of the reference.
    """
    of_row: dict[Key, list[str]] = {}
    for (contrast, synthetic), said in warnings.items():
        of_row.setdefault((contrast or space, synthetic), []).extend(said)
    table = [dict(row) for row in rows]
    known = {(row["contrast"], row["synthetic"]) for row in table}
    added = [key for key in of_row if key not in known]
    table += [{"contrast": contrast, "synthetic": synthetic} for contrast, synthetic in added]
    # Acquired images first, as measured.
    table.sort(key=lambda row: row["synthetic"])
    for row in table:
        of_this = of_row.get((row["contrast"], row["synthetic"]))
        if of_this:
            row["warnings"] = join_warnings(of_this)
    return table


def mark_sidecars(files: SessionFiles, space: str, warnings: Mapping[Key, Sequence[str]]) -> None:
    """Write into the sidecar of each synthetic image of a grid what concerns it.

    That is what is said of itself, of its sources, of the reference, of the session, and of
    contrasts that were taken out: it was made without them. A key of an earlier run goes away.

    Raises
    ------
    ReadWriteError, OutputError
        If a sidecar cannot be written.
    """
    here = set(files.preproc.get(space, {}))
    for images in (files.synth, files.std):
        for contrast, image in images.get(space, {}).items():
            path = image.path.with_name(image.path.name.partition(".")[0] + ".json")
            sidecar, problem = read_json(path)
            if problem is not None:  # It is among the warnings of the table.
                continue
            named = sidecar.get("SynthesizedFrom")
            sources = set(named) if isinstance(named, list) else here
            said = [
                f"{other}: {message}" if other else message
                for (other, synthetic), messages in warnings.items()
                if _concerns(other, synthetic, contrast, sources | {space}, here)
                for message in messages
            ]
            content = {key: value for key, value in sidecar.items() if key != SIDECAR_KEY}
            if said:
                content[SIDECAR_KEY] = list(dict.fromkeys(said))
            if content != sidecar:
                write_json(path, content)


def _concerns(other: str, synthetic: bool, contrast: str, used: set[str], here: set[str]) -> bool:
    """Say whether what is said of another image concerns a synthetic one."""
    if synthetic:
        return other in (contrast, "")
    # The real scan of the target itself was kept out of it, be it usable or not.
    return not other or other in used or (other not in here and other != contrast)


def selfcheck_rows(files: SessionFiles, space: str) -> tuple[list[Row], list[str]]:
    """Return the rows of the self-check of a grid, and what is wrong with its table."""
    rows: list[Row] = []
    problems = []
    for table in files.selfchecks:
        if table.name.get("space") == space:
            try:
                rows += [row for row in read_rows(table.path) if row.get("contrast") in CONTRASTS]
            except (OSError, ValueError) as err:
                problems.append(f"{table.path}: cannot be read ({err})")
    return rows, problems


def read_warnings(rows: Iterable[Mapping[str, str]]) -> list[tuple[str, bool, str]]:
    """Return the warnings of a quality table, read as text.

    Returns
    -------
    list of (contrast, synthetic, warning)
    """
    return [
        (row.get("contrast", ""), row.get("synthetic") == "true", warning)
        for row in rows
        for warning in split_warnings(row.get("warnings") or "")
    ]


def quality_table(out_dir: Path, participant: str, session: str | None, space: str) -> Path:
    """Return the path of the quality table of a grid."""
    name = derivative_path(participant, session, "qc", ".tsv", space=space, desc="quality")
    return out_dir / name


def warnings_before(table: Path) -> list[ScanWarning]:
    """Return what an earlier run's quality table says of acquired scans, but for its self-check.

    For a run that starts from prepared files, and finds out nothing about the scans themselves.
    """
    try:
        found = read_warnings(read_rows(table))
    except (OSError, ValueError):
        return []
    return [
        ScanWarning(contrast, warning)
        for contrast, synthetic, warning in found
        if not synthetic and not warning.startswith((RED_LIGHT, NOT_DONE))
    ]


def warnings_of_run(
    out_dir: Path, plans: Iterable[SessionPlan], failed: Collection[str] = ()
) -> list[str]:
    """Return what a user must not miss at the end of a run, a line for each warning.

    Parameters
    ----------
    out_dir : Path
    plans : iterable of SessionPlan
    failed : collection of str
        Participants whose quality tables may be those of an earlier run: their plans alone count.
    """
    lines: dict[str, None] = {}
    for plan in plans:
        said: dict[tuple[str, str], str] = {}
        # Whatever grids a run ended with: a reference that was of no use is not one of them.
        folder = quality_table(out_dir, plan.participant, plan.session, CONTRASTS[0]).parent
        tables = sorted(folder.glob("*_desc-quality_qc.tsv"))
        for table in tables if plan.spaces and plan.participant not in failed else ():
            try:
                found = read_warnings(read_rows(table))
            except (OSError, ValueError) as err:
                found = [("", False, f"{table}: cannot be read ({err})")]
            for contrast, synthetic, warning in found:
                name = f"synthetic {contrast}" if synthetic else contrast
                said.setdefault((name, warning), f"{name}: {warning}" if name else warning)
        in_tables = {warning for _, warning in said}
        for given in plan.warnings:
            if _within(given.message) not in in_tables:
                start = f"{given.contrast}: " if given.contrast else ""
                said[given.contrast, given.message] = start + given.message
        lines |= dict.fromkeys(f"{plan.label}: {words}" for words in said.values())
    return list(lines)
