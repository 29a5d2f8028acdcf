"""The report of one participant: collect what was made, draw it, and write one HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe.bids.names import report_path
from colapipe.bids.outputs import SessionFiles, participant_label, read_session, session_folders
from colapipe.files import write_text
from colapipe.quality.histograms import TrainingRange
from colapipe.quality.stored import QualityError, read_model_quality
from colapipe.report import figures, steppers
from colapipe.report.gallery import write_figures
from colapipe.report.methods import methods
from colapipe.report.parts import Picture
from colapipe.report.rows import MAP_PERCENTILE
from colapipe.report.session import Session, as_list, as_mapping, draw_session, recorded
from colapipe.report.tables import worst_light
from colapipe.report.templates import render
from colapipe.report.text import as_text, flatten
from colapipe.report.uncertainty import calibrated_level
from colapipe.report.viewer import viewer_name
from colapipe.report.volumes import by_preference
from colapipe.slices.intensity import PERCENTILES

# Rows at full size take 4 MB of the page; with more of them each becomes smaller.
_TILE_WIDTH = 150
_ROWS_AT_FULL_SIZE = 40
_MIN_TILE_WIDTH = 80
# What a page may take, and its pictures take, in bytes of text; measured on brains of 1 mm voxels.
_PAGE_TEXT = 14_000_000
_ROW_TEXT, _CONTOUR_TEXT, _COMPARISON_TEXT = 100_000, 180_000, 125_000
_TEXT_PER_BYTE = 4 / 3
_FEWEST_SHEET_BYTES = 800_000


class Sheets:
    """Pictures that the page's script draws from: each is in the page once, whoever shows it."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self.pictures: list[Picture] = []

    def number(self, picture: Picture) -> int:
        """Return the number of a picture, which is kept if it is new."""
        if picture.data not in self._numbers:
            self._numbers[picture.data] = len(self.pictures)
            self.pictures.append(picture)
        return self._numbers[picture.data]


def build_subject_report(
    out_dir: Path, participant: str, run: Mapping[str, Any], show_head: bool = False
) -> Path:
    """Write ``OUT/sub-X.html``: what was given, what was made, and how far to trust it.

    The figures come from the derivative files under ``OUT/sub-X[/ses-Y]/anat``; what cannot be
    read there is said on the page in place of its figure. They are written as files too, to
    ``OUT/sub-X/figures``.

    Parameters
    ----------
    out_dir : Path
        The derivatives folder.
    participant : str
        Label, with or without ``sub-``.
    run : mapping
        Plain JSON-like description of the run; every key may be missing: ``version``,
        ``command``, ``started``, ``engine``, ``engine_version``, ``model`` (mapping or None),
        ``quality`` (what the model's metadata holds under that key), ``settings`` (mapping),
        ``sessions`` (list of mappings with ``session``, ``reference``, ``contrasts``, ``targets``,
        ``notes``, ``warnings``: a list of mappings with ``contrast`` and ``message``),
        ``failures`` (list of mappings with ``node``, ``message``, ``crash_file``) and
        ``warnings`` (list of str).
    show_head : bool
        Draw also what lies outside the brain mask, where a file holds it.

    Returns
    -------
    Path
        The page. It is written beside its place and then moved, so that readers never see half.

    Raises
    ------
    OutputError, ReadWriteError
        If the folder cannot be made, or the page not be written.
    ValueError
        If ``participant`` is not a label but a path.
    """
    label = participant_label(participant)
    context = _context(out_dir, label, run, show_head)
    target = out_dir / report_path(label)
    write_text(target, render("report.html", context, script="report.js"))
    write_figures(out_dir, label, context["sessions"])
    return target


def _context(
    out_dir: Path, participant: str, run: Mapping[str, Any], show_head: bool
) -> dict[str, Any]:
    """Everything the template shows."""
    folders = session_folders(out_dir, participant)
    described = {_session_label(entry): entry for entry in _mappings(run.get("sessions"))}
    found = {
        label: read_session(label, folders[label]) if label in folders else SessionFiles(label)
        for label in sorted({*folders, *described}, key=lambda label: label or "")
    }
    ranges, warnings = _training_ranges(run)
    files_of_all = list(found.values())
    tile_width = _tile_width(sum(_count_rows(files) for files in files_of_all))
    budget = steppers.plan_budget(files_of_all, sheet_bytes(files_of_all))
    sessions = [
        draw_session(
            out_dir,
            files,
            described.get(label),
            tile_width=tile_width,
            budget=budget,
            show_head=show_head,
            sha256=as_mapping(run.get("model")).get("sha256"),
            ranges=ranges,
        )
        for label, files in found.items()
    ]
    limit, has_maps = _settle_maps(sessions, budget)
    synthesised = by_preference({c for session in sessions for c in session.synthesised})
    warnings = [as_text(warning) for warning in as_list(run.get("warnings"))] + warnings
    checks = [table for session in sessions for table in session.selfchecks]
    return {
        "participant": participant,
        "run": {
            key: recorded(run.get(key))
            for key in ("version", "command", "started", "engine", "engine_version")
        },
        "model": flatten(as_mapping(run.get("model"))),
        "model_name": recorded(as_mapping(run.get("model")).get("name")),
        "settings": flatten(as_mapping(run.get("settings"))),
        "sessions": sessions,
        "synthesised": synthesised,
        "acquired": by_preference({c for session in sessions for c in session.acquired}),
        "failures": [_failure(entry) for entry in _mappings(run.get("failures"))],
        "warnings": [text for session in sessions for text in session.warnings] + warnings,
        "unmeasured": [where for session in sessions for where in session.unmeasured],
        "light_of_all": worst_light(checks),
        "viewer": viewer_name(participant)
        if (out_dir / viewer_name(participant)).is_file()
        else None,
        "limit": limit,
        "has_maps": has_maps,
        "colour_bar": steppers.colour_bar(limit),
        "sheets": Sheets(),
        "show_head": show_head,
        "percentiles": PERCENTILES,
        "map_percentile": MAP_PERCENTILE,
        "methods": methods(run, synthesised, _levels(found.values())),
    }


def _settle_maps(sessions: Sequence[Session], budget: steppers.Budget) -> tuple[float, bool]:
    """Give all maps of the page one scale, and render what has waited for it."""
    grids = [grid for session in sessions for grid in session.grids]
    blocks = [figure for grid in grids for figure in grid.figures]
    tops = [top for figure in blocks for top in figure.map_tops]
    limit = figures.shared_limit(tops)
    for figure in blocks:
        for number, strip in enumerate(figure.strips):
            figure.pictures.append(figures.render(strip, limit, header=number == 0))
    for grid in grids:
        if grid.scans is not None:
            grid.stepper = grid.scans.stepper(limit, budget)
        for synthesis in grid.syntheses:
            synthesis.stepper = synthesis.figure.stepper(limit, budget)
    return limit, bool(tops)


def _training_ranges(run: Mapping[str, Any]) -> tuple[Mapping[str, TrainingRange], list[str]]:
    """Read how the training data looked, by contrast; and a warning where that is malformed."""
    try:
        quality = read_model_quality({"quality": run.get("quality")})
    except QualityError as error:
        return {}, [str(error)]
    return ({} if quality is None else quality.histograms), []


def _failure(entry: Mapping[str, Any]) -> dict[str, str]:
    """What a step failed with: all of it, and the line that says most."""
    found = {key: as_text(entry.get(key) or "") for key in ("node", "message", "crash_file")}
    lines = [line for line in found["message"].splitlines() if line.strip()]
    return {**found, "last_line": lines[-1].strip() if lines else "no message"}


def _levels(sessions: Iterable[SessionFiles]) -> dict[str, float | None]:
    """The level of the intervals of each contrast with an uncertainty map; None: not calibrated."""
    levels: dict[str, float | None] = {}
    for files in sessions:
        for contrast, std in (item for space in files.std.values() for item in space.items()):
            level = calibrated_level(std.sidecar)
            levels[contrast] = level if levels.get(contrast, level) == level else None
    return levels


def _count_rows(files: SessionFiles) -> int:
    """How many rows of pictures a session will have at most."""
    rows = sum(len(space) for space in (*files.masks.values(), *files.tissues.values()))
    for space in files.spaces:
        scans = len(files.preproc.get(space, {}))
        made = len(files.synth.get(space, {}))
        # Each synthesis shows all scans of its grid, itself, its error and its uncertainty.
        rows += made * (scans + 3) if made else scans
    return rows


def sheet_bytes(sessions: Sequence[SessionFiles]) -> int:
    """Return how many bytes the slices to step through may take beside all other pictures.

    The page stays under 15 MB: with many sessions and targets, slices become fewer and coarser.
    """
    rows = sum(_count_rows(files) for files in sessions)
    contours = sum(
        len(of_space)
        for files in sessions
        for of_space in (*files.masks.values(), *files.tissues.values())
    )
    comparisons = sum(len(scans) - 1 for files in sessions for scans in files.preproc.values())
    taken = rows * _ROW_TEXT * (_tile_width(rows) / _TILE_WIDTH) ** 2
    taken += contours * _CONTOUR_TEXT + comparisons * _COMPARISON_TEXT
    left = int((_PAGE_TEXT - taken) / _TEXT_PER_BYTE)
    return max(_FEWEST_SHEET_BYTES, min(steppers.PAGE_BYTES, left))


def _tile_width(rows: int) -> int:
    """Width of a drawn slice: smaller where many rows would make the page too large."""
    if rows <= _ROWS_AT_FULL_SIZE:
        return _TILE_WIDTH
    return max(_MIN_TILE_WIDTH, int(_TILE_WIDTH * math.sqrt(_ROWS_AT_FULL_SIZE / rows)))


def _session_label(entry: Mapping[str, Any]) -> str | None:
    label = entry.get("session")
    return None if label is None else str(label).removeprefix("ses-")


def _mappings(value: object) -> list[dict[str, Any]]:
    return [as_mapping(item) for item in as_list(value) if isinstance(item, Mapping)]
