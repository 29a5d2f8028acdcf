"""One session on the page: what was given and made, its figures, tables and files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from colapipe.bids.outputs import OutputFile, SessionFiles
from colapipe.files import read_json
from colapipe.quality.arrays import shift_and_turn
from colapipe.quality.histograms import TrainingRange
from colapipe.report.parts import Comparison, Drawing, Stepper
from colapipe.report.rows import Figure, Grid
from colapipe.report.steppers import Budget
from colapipe.report.tables import Table, show_table
from colapipe.report.text import as_text, flatten
from colapipe.report.volumes import by_preference
from colapipe.report.warnings import session_warnings, unmeasured


@dataclass
class Synthesis:
    """One synthesised contrast: the rows for paper, the slices to step through, and its charts."""

    contrast: str
    figure: Figure
    facts: list[tuple[str, str]]
    histograms: list[Drawing]
    stepper: Stepper | None = None


@dataclass
class GridBlock:
    """What is shown of one reference grid."""

    space: str
    syntheses: list[Synthesis]
    scans: Figure | None
    comparisons: list[Comparison]
    undrawn: list[str]
    anatomy: Figure
    area: Drawing | None
    histograms: list[Drawing]
    stepper: Stepper | None = None

    @property
    def figures(self) -> list[Figure]:
        """Those with rows of slices."""
        scans = [] if self.scans is None else [self.scans]
        return [*(synthesis.figure for synthesis in self.syntheses), *scans]


@dataclass
class Session:
    """Everything that the page shows of one session."""

    label: str | None
    reference: str
    contrasts: list[dict[str, str]]
    acquired: list[str]
    synthesised: list[str]
    notes: list[str]
    warnings: list[str]
    grids: list[GridBlock]
    selfchecks: list[Table]
    quality: list[Table]
    scores: list[Table]
    transforms: list[dict[str, str]]
    files: list[dict[str, str]] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)

    @property
    def has_registration(self) -> bool:
        """Whether there is anything to say of it."""
        pictures = any(grid.comparisons or grid.undrawn for grid in self.grids)
        return bool(self.transforms or pictures)

    @property
    def topics(self) -> list[tuple[str, str]]:
        """Its parts in their order: the end of the address of each, and its name."""
        several = len(self.grids) > 1
        topics = [("registration", "Registration")] if self.has_registration else []
        for grid in self.grids:
            on = f" on {grid.space}" if several else ""
            topics.append((f"anatomy-{grid.space}", f"Brain and tissue{on}"))
            if grid.area is not None:
                topics.append((f"slices-{grid.space}", f"Slices{on}"))
        for grid in self.grids:
            on = f" on {grid.space}" if several else ""
            topics += [
                (f"synthesis-{grid.space}-{synthesis.contrast}", f"SYNTHETIC {synthesis.contrast}")
                for synthesis in grid.syntheses
            ]
            if grid.scans is not None:
                topics.append((f"synthesis-{grid.space}", f"Scans{on}"))
            if grid.histograms:
                topics.append((f"intensities-{grid.space}", f"Intensities{on}"))
        tables = {
            "selfcheck": ("Self-check", self.selfchecks),
            "quality": ("Quality", self.quality),
            "scores": ("Scores", self.scores),
        }
        topics += [(name, title) for name, (title, found) in tables.items() if found]
        return topics + ([("files", "Files")] if self.files else [])


def draw_session(
    out_dir: Path,
    files: SessionFiles,
    described: Mapping[str, Any] | None,
    *,
    tile_width: int,
    budget: Budget,
    show_head: bool,
    sha256: object,
    ranges: Mapping[str, TrainingRange],
) -> Session:
    """Draw one session; its rows and steppers still wait for the scale of the page's maps.

    Parameters
    ----------
    out_dir : Path
    files : SessionFiles
    described : mapping or None
        What the run says of this session; None if it is one of an earlier run.
    tile_width : int
        Width of a slice in the static rows.
    budget : Budget
        Of the sheets of the whole page.
    show_head : bool
    sha256 : object
        Of the weights of the run.
    ranges : mapping of str to TrainingRange
    """
    entry = described or {}
    targets = [as_text(target) for target in as_list(entry.get("targets"))]
    synthesised = by_preference({c for space in files.synth.values() for c in space})
    grids = [
        _draw_grid(Grid(files, space, tile_width, show_head, budget), ranges)
        for space in files.spaces
    ]
    return Session(
        label=files.label,
        reference=recorded(entry.get("reference") or ", ".join(files.spaces)),
        contrasts=_contrast_rows(as_mapping(entry.get("contrasts")), targets, files),
        acquired=by_preference({c for space in files.preproc.values() for c in space}),
        synthesised=synthesised,
        notes=[as_text(note) for note in as_list(entry.get("notes"))],
        warnings=[
            *session_warnings(files, described),
            *_warnings(files, described is not None, targets, synthesised, sha256),
        ],
        grids=grids,
        selfchecks=[show_table(derivative) for derivative in files.selfchecks],
        quality=[show_table(derivative) for derivative in files.quality],
        scores=[show_table(derivative) for derivative in files.scores],
        transforms=[_transform(derivative) for derivative in files.transforms],
        files=[_file(out_dir, path) for path in files.everything],
        unmeasured=unmeasured(files),
    )


def _draw_grid(grid: Grid, ranges: Mapping[str, TrainingRange]) -> GridBlock:
    """Draw one grid: syntheses first, for whose target's mask must not choose the slices."""
    syntheses = []
    for contrast in by_preference(grid.synth):
        figure = grid.synthesis(contrast)
        facts = _facts(grid.synth[contrast].sidecar)
        syntheses.append(Synthesis(contrast, figure, facts, figure.histograms(ranges)))
    scans = None if syntheses else grid.scans()
    return GridBlock(
        space=grid.space,
        syntheses=syntheses,
        scans=scans,
        comparisons=grid.comparisons(),
        undrawn=grid.undrawn,
        anatomy=grid.anatomy(),
        area=grid.area(),
        histograms=grid.histograms(ranges),
    )


def _facts(sidecar: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sidecar of a synthesised image without what only programs read."""
    kept = {key: value for key, value in sidecar.items() if key not in ("Sources", "Synthetic")}
    slices = as_mapping(kept.get("SynthesizedSlices"))
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
        weights = as_mapping(made.sidecar.get("SynthesisModel")).get("WeightsSHA256")
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
        rows.append(
            {
                "contrast": contrast,
                "scan": as_text(scan),
                "outcome": outcome,
                "synthetic": "yes" if contrast in made else "",
            }
        )
    return rows


def _transform(derivative: OutputFile) -> dict[str, str]:
    """Which scan was moved to which, and how far, as the sidecar says."""
    sidecar = read_json(derivative.path)[0]
    if sidecar.get("IdentityKept") is True:
        outcome = "aligned already: the identity was kept, its voxels were not resampled to align"
    else:
        outcome = f"moved by a rigid transform{_how_far(sidecar)}"
    return {
        "moving": derivative.name.get("from") or "unknown",
        "reference": derivative.name.get("to") or "unknown",
        "outcome": outcome,
        "engine": as_text(as_mapping(sidecar.get("Engine")).get("Name") or "not recorded"),
    }


def _how_far(sidecar: Mapping[str, Any]) -> str:
    """Shift of the middle of the moving scan and angle of a rigid transform, in words."""
    moved = shift_and_turn(sidecar)
    if moved is None:
        return ", whose matrix is not in the sidecar"
    return f": {moved[0]:.1f} mm at the middle of the scan, turned by {moved[1]:.1f} degrees"


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


def recorded(value: object) -> str:
    """One fact of the run in words; an absent one is not passed over."""
    return "not recorded" if value in (None, "") else as_text(value)


def as_list(value: object) -> list[Any]:
    """Take a list as it is, one thing as a list of one, nothing as an empty list."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_mapping(value: object) -> dict[str, Any]:
    """Take a mapping with text keys; anything else is empty."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}
