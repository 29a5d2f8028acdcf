"""The report of one participant: collect what was made, draw it, and write one HTML file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from colapipe.anatomy.intensity import PERCENTILES
from colapipe.bids.sidecars import write_text
from colapipe.report import figures
from colapipe.report.files import (
    Derivative,
    SessionFiles,
    as_text,
    flatten,
    read_json,
    read_session,
    read_table,
    session_folders,
)
from colapipe.report.methods import methods
from colapipe.report.rows import MAP_PERCENTILE, Grid, by_preference
from colapipe.report.templates import render
from colapipe.report.text import visible
from colapipe.report.uncertainty import calibrated_level

__all__ = ["build_subject_report", "visible"]

# Rows at full size keep the page near 5 MB; with more of them each becomes smaller.
_TILE_WIDTH = 150
_ROWS_AT_FULL_SIZE = 40
_MIN_TILE_WIDTH = 80


def build_subject_report(
    out_dir: Path, participant: str, run: Mapping[str, Any], show_head: bool = False
) -> Path:
    """Write ``OUT/sub-X.html``: what was given, what was made, and how far to trust it.

    The figures come from the derivative files under ``OUT/sub-X[/ses-Y]/anat``; what cannot be
    read there is said on the page in place of its figure.

    Parameters
    ----------
    out_dir : Path
        The derivatives folder.
    participant : str
        Label, with or without ``sub-``.
    run : mapping
        Plain JSON-like description of the run; every key may be missing: ``version``,
        ``command``, ``started``, ``engine``, ``engine_version``, ``model`` (mapping or None),
        ``settings`` (mapping), ``sessions`` (list of mappings with ``session``, ``reference``,
        ``contrasts``, ``targets``, ``notes``), ``failures`` (list of mappings with ``node``,
        ``message``, ``crash_file``) and ``warnings`` (list of str).
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
    label = participant.removeprefix("sub-")
    if not label or Path(label).name != label:
        raise ValueError(f"{participant!r} is not a participant label")
    context = _context(out_dir, label, run, show_head)
    page = render("report.html", context)
    target = out_dir / f"sub-{label}.html"
    write_text(target, page)
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
    tile_width = _tile_width(sum(_count_rows(files) for files in found.values()))
    sha256 = _mapping(run.get("model")).get("sha256")
    sessions = [
        _session(out_dir, files, described.get(label), tile_width, show_head, sha256)
        for label, files in found.items()
    ]
    blocks = [figure for session in sessions for figure in session["figures"]]
    limit = figures.shared_limit([top for figure in blocks for top in figure.map_tops])
    for figure in blocks:
        for number, strip in enumerate(figure.strips):
            figure.pictures.append(figures.render(strip, limit, header=number == 0))
    synthesised = by_preference({c for session in sessions for c in session["synthesised"]})
    warnings = [as_text(warning) for warning in _list(run.get("warnings"))]
    return {
        "participant": participant,
        "run": {
            key: _recorded(run.get(key))
            for key in ("version", "command", "started", "engine", "engine_version")
        },
        "model": flatten(_mapping(run.get("model"))),
        "settings": flatten(_mapping(run.get("settings"))),
        "sessions": sessions,
        "synthesised": synthesised,
        "failures": [
            {key: as_text(entry.get(key) or "") for key in ("node", "message", "crash_file")}
            for entry in _mappings(run.get("failures"))
        ],
        "warnings": warnings + [text for session in sessions for text in session["warnings"]],
        "limit": limit,
        "has_maps": any(figure.map_tops for figure in blocks),
        "show_head": show_head,
        "percentiles": PERCENTILES,
        "map_percentile": MAP_PERCENTILE,
        "methods": methods(run, synthesised, _levels(found.values())),
    }


def _levels(sessions: Iterable[SessionFiles]) -> dict[str, float | None]:
    """The level of the intervals of each contrast with an uncertainty map; None: not calibrated."""
    levels: dict[str, float | None] = {}
    for files in sessions:
        for contrast, std in (item for space in files.std.values() for item in space.items()):
            level = calibrated_level(std.sidecar)
            levels[contrast] = level if levels.get(contrast, level) == level else None
    return levels


def _session(
    out_dir: Path,
    files: SessionFiles,
    described: Mapping[str, Any] | None,
    tile_width: int,
    show_head: bool,
    sha256: object,
) -> dict[str, Any]:
    """One session: its table, figures, scores and files."""
    entry = described or {}
    targets = [as_text(target) for target in _list(entry.get("targets"))]
    synthesised = by_preference({c for space in files.synth.values() for c in space})
    syntheses = []
    anatomy = []
    for space in files.spaces:
        grid = Grid(files, space, tile_width, show_head)
        for contrast in by_preference(grid.synth):
            figure = grid.synthesis(contrast)
            facts = _facts(grid.synth[contrast].sidecar)
            syntheses.append({"contrast": contrast, "figure": figure, "facts": facts})
        if not grid.synth:
            anatomy.append(grid.scans())
        anatomy.append(grid.anatomy())
    return {
        "label": files.label,
        "reference": _recorded(entry.get("reference") or ", ".join(files.spaces)),
        "contrasts": _contrast_rows(_mapping(entry.get("contrasts")), targets, files),
        "synthesised": synthesised,
        "notes": [as_text(note) for note in _list(entry.get("notes"))],
        "warnings": _warnings(files, described is not None, targets, synthesised, sha256),
        "syntheses": syntheses,
        "anatomy": anatomy,
        "figures": [*(synthesis["figure"] for synthesis in syntheses), *anatomy],
        "scores": [_scores(derivative) for derivative in files.scores],
        "transforms": [_transform(derivative) for derivative in files.transforms],
        "files": [_file(out_dir, path) for path in files.everything],
    }


def _facts(sidecar: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sidecar of a synthesised image without what only programs read."""
    kept = {key: value for key, value in sidecar.items() if key not in ("Sources", "Synthetic")}
    slices = _mapping(kept.get("SynthesizedSlices"))
    if slices:
        kept["SynthesizedSlices"] = {key: slices[key] for key in slices if key != "Grid"}
    return flatten(kept)


def _warnings(
    files: SessionFiles,
    in_run: bool,
    targets: Sequence[str],
    synthesised: Sequence[str],
    sha256: object,
) -> list[str]:
    """What does not fit between the run and the files found."""
    start = "" if files.label is None else f"Session {files.label}: "
    warnings = [
        f"{start}{target} was to be synthesised, but no synthesised {target} was found."
        for target in targets
        if target not in synthesised
    ]
    if not in_run:
        warnings.append(f"{start}these files come from an earlier run, not from this one.")
    for made in (made for space in files.synth.values() for made in space.values()):
        weights = _mapping(made.sidecar.get("SynthesisModel")).get("WeightsSHA256")
        if sha256 and weights and weights != sha256:
            warnings.append(
                f"{start}{made.path.name} was made with other weights ({weights}) than those of "
                "this run."
            )
    warnings += [
        f"{start}{path.name} is not drawn: another file has the same space and contrast."
        for path in files.ambiguous
    ]
    return warnings


def _contrast_rows(
    given: Mapping[str, Any], targets: Sequence[str], files: SessionFiles
) -> list[dict[str, str]]:
    """One line per contrast: the scan it came from, and whether it was synthesised."""
    preprocessed = {c for space in files.preproc.values() for c in space}
    made = {c for space in files.synth.values() for c in space}
    with_std = {c for space in files.std.values() for c in space}
    rows = []
    for contrast in by_preference({*given, *targets, *preprocessed, *made}):
        outcome = "asked for, but not made" if contrast in targets else "no"
        if contrast in made:
            outcome = "yes, with an uncertainty map" if contrast in with_std else "yes"
        if contrast in made and contrast in preprocessed:
            outcome += "; the real scan was kept out of it and only serves as the truth"
        scan = given.get(contrast)
        if scan is None:
            scan = "preprocessed before" if contrast in preprocessed else "absent"
        rows.append({"contrast": contrast, "scan": as_text(scan), "outcome": outcome})
    return rows


def _scores(derivative: Derivative) -> dict[str, Any]:
    """A table of scores as it was written, with its data dictionary."""
    table: dict[str, Any] = {"name": derivative.path.name, "columns": [], "rows": [], "error": None}
    try:
        table["columns"], table["rows"] = read_table(derivative.path)
    except (OSError, ValueError) as error:
        table["error"] = f"cannot be read: {error}"
    sidecar = derivative.sidecar
    table["meanings"] = [
        (column, as_text(sidecar[column].get("Description")), sidecar[column].get("Units"))
        for column in table["columns"]
        if isinstance(sidecar.get(column), dict) and sidecar[column].get("Description")
    ]
    return table


def _transform(derivative: Derivative) -> dict[str, str]:
    """Which scan was moved to which, and how far, as the sidecar says."""
    sidecar = read_json(derivative.path)
    if sidecar.get("IdentityKept") is True:
        outcome = "aligned already: the identity was kept, its voxels were not resampled to align"
    else:
        outcome = f"moved by a rigid transform{_how_far(sidecar)}"
    return {
        "moving": derivative.name.get("from") or "unknown",
        "reference": derivative.name.get("to") or "unknown",
        "outcome": outcome,
        "engine": as_text(_mapping(sidecar.get("Engine")).get("Name") or "not recorded"),
    }


def _how_far(sidecar: Mapping[str, Any]) -> str:
    """Shift of the middle of the moving scan and angle of a rigid transform, in words."""
    grid = _mapping(sidecar.get("MovingGrid"))
    try:
        matrix = np.array(sidecar["MovingToReference"], dtype=float).reshape(4, 4)
        affine = np.array(grid["Affine"], dtype=float).reshape(4, 4)
        middle = affine @ [*((np.array(grid["Shape"], dtype=float) - 1) / 2), 1.0]
    except (KeyError, TypeError, ValueError):
        return ", whose matrix is not in the sidecar"
    shift = float(np.linalg.norm((matrix @ middle - middle)[:3]))
    # The trace of a rotation by an angle t is 1 + 2 cos t.
    angle = math.degrees(math.acos(float(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
    return f": {shift:.1f} mm at the middle of the scan, turned by {angle:.1f} degrees"


def _file(out_dir: Path, path: Path) -> dict[str, str]:
    """A link that works from the page's folder, and the size in words."""
    relative = path.relative_to(out_dir).as_posix()
    size = float(path.stat().st_size)
    units = ("B", "kB", "MB", "GB")
    step = 0
    while size >= 1000 and step < len(units) - 1:
        size, step = size / 1000, step + 1
    # Names with undecodable bytes are quoted as those bytes.
    return {
        "href": quote(os.fsencode(relative)),
        "name": relative,
        "size": f"{size:.3g} {units[step]}",
    }


def _count_rows(files: SessionFiles) -> int:
    """How many rows of pictures a session will have at most."""
    rows = sum(len(space) for space in (*files.masks.values(), *files.tissues.values()))
    for space in files.spaces:
        scans = len(files.preproc.get(space, {}))
        made = len(files.synth.get(space, {}))
        # Each synthesis shows all scans of its grid, itself, its error and its uncertainty.
        rows += made * (scans + 3) if made else scans
    return rows


def _tile_width(rows: int) -> int:
    """Width of a drawn slice: smaller where many rows would make the page too large."""
    if rows <= _ROWS_AT_FULL_SIZE:
        return _TILE_WIDTH
    return max(_MIN_TILE_WIDTH, int(_TILE_WIDTH * math.sqrt(_ROWS_AT_FULL_SIZE / rows)))


def _session_label(entry: Mapping[str, Any]) -> str | None:
    label = entry.get("session")
    return None if label is None else str(label).removeprefix("ses-")


def _recorded(value: object) -> str:
    """One fact of the run in words; an absent one is not passed over."""
    return "not recorded" if value in (None, "") else as_text(value)


def _list(value: object) -> list[Any]:
    """Take a list as it is, one thing as a list of one, nothing as an empty list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _mapping(value: object) -> dict[str, Any]:
    """Take a mapping with text keys; anything else is empty."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    return [_mapping(item) for item in _list(value) if isinstance(item, Mapping)]
