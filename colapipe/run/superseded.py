"""What an output folder still holds of earlier requests, and what of it is no longer true.

A participant's folder holds what the last request makes, and nothing older of the same kind: of the
scans that it brought to a grid, or of what it synthesised. Files whose names are not those of this
app's outputs are their owner's.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from colapipe.bids.names import (
    SYNTHETIC_DESCRIPTIONS,
    Entities,
    contrast_of,
    derivative_path,
    parse_name,
)
from colapipe.bids.outputs import session_folders
from colapipe.config import Settings
from colapipe.files import read_json
from colapipe.plan.sessions import SessionPlan
from colapipe.run.fingerprints import Times, is_same, times_of
from colapipe.run.finished import Note, read_notes

PREPROCESSED, SYNTHESISED, MEASURED = "preprocessed", "synthesised", "measured"
"""Kinds of output. What is measured is written anew with whatever is left to measure."""

_OWN, _RAW = "bids::", "bids:raw:"


@dataclass(frozen=True)
class Output:
    """An output of this app with all files of its name: image or table, sidecar.

    Parameters
    ----------
    name : Entities
    paths : tuple of Path
    """

    name: Entities
    paths: tuple[Path, ...]

    @property
    def kind(self) -> str:
        """``preprocessed``, ``synthesised`` or ``measured``."""
        desc = self.name.get("desc")
        if self.name.suffix == "qc":
            return MEASURED if desc == "quality" else SYNTHESISED
        return SYNTHESISED if desc in SYNTHETIC_DESCRIPTIONS else PREPROCESSED

    @property
    def contrast(self) -> str | None:
        """The contrast of an image, acquired or not; None for other files."""
        entities = {key: value for key, value in self.name.values.items() if key != "desc"}
        return contrast_of(entities, self.name.suffix)

    @property
    def is_synthetic_image(self) -> bool:
        """A synthesised contrast itself, not its standard deviation or a table."""
        return self.name.get("desc") == "synth" and self.name.suffix != "qc"

    @property
    def main(self) -> Path:
        """The image or table; the sidecar only where nothing else is left."""
        return next((path for path in self.paths if path.suffix != ".json"), self.paths[0])

    @property
    def sidecar(self) -> Mapping[str, object]:
        """What the JSON file says."""
        return next((read_json(path)[0] for path in self.paths if path.suffix == ".json"), {})

    @property
    def sources(self) -> list[str]:
        """BIDS URIs of what it was made from, as the sidecar lists them."""
        listed = self.sidecar.get("Sources")
        return [str(uri) for uri in listed] if isinstance(listed, list) else []


def outputs_in(anat: Path) -> list[Output]:
    """Return what this app wrote into a folder, by the names of the files."""
    try:
        found = outputs_of(path for path in anat.iterdir() if path.is_file())
    except OSError:
        return []
    # Somebody may have put a mask there that was drawn on a prepared image.
    return [o for o in found if o.name.get("label") != "lesion" or "DrawnOn" in o.sidecar]


def outputs_of(paths: Iterable[Path]) -> list[Output]:
    """Gather files of this app's names into outputs; others are left out."""
    grouped: dict[Path, list[Path]] = {}
    for path in sorted(paths):
        if _is_output_name(path.name):
            stem = path.with_name(path.name.partition(".")[0])
            grouped.setdefault(stem, []).append(path)
    return [Output(parse_name(mine[0].name), tuple(mine)) for mine in grouped.values()]


def _is_output_name(filename: str) -> bool:
    try:
        name = parse_name(filename)
        values = dict(name.values)
        rest = {"from_" if key == "from" else key: value for key, value in values.items()}
        participant, session = rest.pop("sub"), rest.pop("ses", None)
        contrast = contrast_of(values | {"desc": ""}, name.suffix)
        rest.pop("ce", None)
        built = derivative_path(
            participant,
            session,
            name.suffix if contrast is None else None,
            name.extension,
            contrast=contrast,
            **rest,
        )
    except (ValueError, KeyError, TypeError):
        return False
    return built.name == filename


# --- what a plan says beforehand -----------------------------------------------------------------


def announce(settings: Settings, plans: Sequence[SessionPlan]) -> list[SessionPlan]:
    """Add a note to each plan about synthetic images of an earlier run that this one removes."""
    if settings.mode not in ("full", "synth-only"):
        return list(plans)
    return [
        dataclasses.replace(plan, notes=(*plan.notes, *_announcements(settings, plan)))
        for plan in plans
    ]


def _announcements(settings: Settings, plan: SessionPlan) -> Iterator[str]:
    if plan.errors:
        return
    there = set(plan.scans)
    if not there and plan.derivatives is not None:
        prepared = plan.derivatives.prepared().values()
        there = {contrast for files in prepared for contrast in files.images}
    wanted = {(space.reference, t.contrast) for space in plan.spaces for t in space.targets}
    # Of all files, those that matter here are soon found by their names.
    images = _anat(settings.out_dir, plan.participant, plan.session).glob("*_desc-synth_*")
    for output in outputs_of(images):
        contrast, space = output.contrast, output.name.get("space")
        if output.is_synthetic_image and (space, contrast) not in wanted:
            if any(made == contrast for _, made in wanted):
                why = "this request makes it on another grid"
            elif contrast in there:
                why = f"there is a real {contrast}"
            else:
                why = "this request does not make it"
            yield (
                f"the synthetic {contrast} on the grid of the {space}, of an earlier run, is "
                f"removed at the end: {why}"
            )


# --- what is superseded --------------------------------------------------------------------------


@dataclass
class Superseded:
    """Outputs of earlier requests that the last one has superseded.

    Parameters
    ----------
    outputs : list of Output
    sessions : set of str or None
        Where they are.
    """

    outputs: list[Output] = field(default_factory=list)
    sessions: set[str | None] = field(default_factory=set)

    @property
    def words(self) -> str:
        """What they are, in a few words."""
        named = [_words(output) for output in self.outputs]
        preprocessed = sum(not words for words in named)
        rest = [f"{preprocessed} preprocessed output(s)"] if preprocessed else []
        return ", ".join([*dict.fromkeys(filter(None, named)), *rest])


def _words(output: Output) -> str:
    """Name an output that is not a preprocessed one."""
    name = output.name
    if output.kind == MEASURED:
        return f"the quality numbers on the {name.get('space')}"
    if name.suffix == "qc":
        return "the self-check" if name.get("desc") == "selfcheck" else "the scores"
    if output.kind == SYNTHESISED:
        spread = "" if output.is_synthetic_image else "spread of samples of the "
        return f"the {spread}synthetic {output.contrast} on the {name.get('space')}"
    return ""


def find_superseded(
    settings: Settings, plans: Sequence[SessionPlan], written: Set[Path]
) -> Superseded:
    """Find what the request that was carried out for one participant has superseded.

    A run that synthesises supersedes what was synthesised before, and one that preprocesses what
    was preprocessed, in the sessions that were planned; without ``--session-label`` also in those
    that the dataset has no more. A run that only preprocesses leaves a synthetic image alone as
    long as everything that it was made from is what it was then. One that found nothing to
    preprocess leaves alone what was made from scans that are still what they were.

    Parameters
    ----------
    settings : Settings
    plans : sequence of SessionPlan
        Of one participant.
    written : set of Path
        All files that this request has made, now or before.
    """
    participant = plans[0].participant
    notes = read_notes(settings.out_dir, participant)
    found = Superseded()
    if all(plan.errors for plan in plans):
        return found
    spaces = {plan.session: bool(plan.spaces) for plan in plans if not plan.errors}
    planned = {plan.session for plan in plans}
    for session, anat in session_folders(settings.out_dir, participant).items():
        old = [output for output in outputs_in(anat) if written.isdisjoint(output.paths)]
        if session in spaces:
            if spaces[session] and not any(path.parent == anat for path in written):
                continue  # It made something, of which nothing is known: no reason to remove.
            chosen = _in_session(settings, old, notes, has_spaces=spaces[session])
        elif session in planned or settings.sessions or settings.mode == "synth-only":
            chosen = []
        else:
            chosen = [output for output in old if output.kind != MEASURED]
        if chosen:
            found.outputs += chosen
            found.sessions.add(session)
    return found


def _in_session(
    settings: Settings,
    old: Sequence[Output],
    notes: Sequence[Note],
    *,
    has_spaces: bool,
) -> list[Output]:
    chosen: list[Output] = []
    if settings.mode != "synth-only":
        preprocessed = [output for output in old if output.kind == PREPROCESSED]
        chosen += [
            output
            for output in preprocessed
            if has_spaces or _is_of_other_scans(settings, output, notes)
        ]
    synthesised = [output for output in old if output.kind == SYNTHESISED]
    if settings.mode == "preproc-only":
        gone = {path for output in chosen for path in output.paths}
        synthesised = [o for o in synthesised if not _is_valid(settings.out_dir, o, notes, gone)]
    return chosen + synthesised


def _is_of_other_scans(settings: Settings, output: Output, notes: Sequence[Note]) -> bool:
    """Say whether a preprocessed file was made from a scan that is gone or has changed."""
    name = output.main.relative_to(settings.out_dir).as_posix()
    for uri in output.sources:
        if uri.startswith(_RAW):
            scan = settings.bids_dir / uri.removeprefix(_RAW)
            # A link of git-annex whose content is elsewhere is there.
            if not scan.exists() and not scan.is_symlink():
                return True
            mine = [note for note in notes if uri in note.inputs]
            known = [note.inputs[uri] for note in mine if note.has(settings.out_dir, name)]
            if known and not any(is_same(scan, entry) for entry in known):
                return True
    return False


def _is_valid(out_dir: Path, output: Output, notes: Sequence[Note], gone: Collection[Path]) -> bool:
    """Say whether a finished run noted an output with what it was made from as they are now."""
    name = output.main.relative_to(out_dir).as_posix()
    space = output.name.get("space")
    for note in notes:
        if not note.has(out_dir, name):
            continue
        on_grid = _preprocessed_on(note, name, space)
        if output.name.suffix == "qc":
            needed = on_grid
        else:
            needed = [uri.removeprefix(_OWN) for uri in output.sources if uri.startswith(_OWN)]
            if output.sidecar.get("LesionConditioning") is True:
                needed += [other for other in on_grid if "_label-lesion_" in other]
        if all(out_dir / other not in gone and note.has(out_dir, other) for other in needed):
            return True
    return False


def _preprocessed_on(note: Note, name: str, space: str | None) -> list[str]:
    """Return what a note lists in the folder of an output that was preprocessed for its grid."""
    folder = name.rpartition("/")[0]
    found = []
    for other in note.files:
        if other.rpartition("/")[0] == folder and _is_output_name(Path(other).name):
            entities = parse_name(Path(other).name)
            if Output(entities, ()).kind == PREPROCESSED and space in (
                entities.get("space"),
                entities.get("to"),
            ):
                found.append(other)
    return found


def remove(outputs: Iterable[Output]) -> list[Path]:
    """Delete outputs, and the folders that are left empty; return the paths of the files.

    Raises
    ------
    OSError
        If one cannot be deleted.
    """
    removed = []
    for output in outputs:
        # The image before its sidecar: it never stands there without the words that belong to it.
        for path in sorted(output.paths, key=lambda path: path.suffix == ".json"):
            path.unlink(missing_ok=True)
            removed.append(path)
    for anat in {path.parent for path in removed}:
        for folder in (anat, anat.parent):
            if folder.name == "anat" or folder.name.startswith("ses-"):
                with contextlib.suppress(OSError):  # Not empty.
                    folder.rmdir()
    return removed


# --- who failed ----------------------------------------------------------------------------------


def snapshot(out_dir: Path, participant: str) -> dict[Path, Times]:
    """Return the state of a participant's outputs."""
    return {
        path: times_of(path)
        for anat in session_folders(out_dir, participant).values()
        for output in outputs_in(anat)
        for path in output.paths
    }


def of_earlier_runs(
    out_dir: Path,
    participant: str,
    sessions: Collection[str | None],
    before: Mapping[Path, Times] | None,
) -> list[Path]:
    """Return synthetic images and tables that a run which failed has left as they were.

    Parameters
    ----------
    out_dir : Path
    participant : str
    sessions : collection of str or None
        In which something failed.
    before : mapping of Path to list of int, optional
        `snapshot` before the run; None if it did not get as far as to write anything.
    """
    found = []
    for session, anat in session_folders(out_dir, participant).items():
        for output in outputs_in(anat) if session in sessions else ():
            unchanged = before is None or before.get(output.main) == times_of(output.main)
            if output.kind != PREPROCESSED and unchanged:
                found.append(output.main)
    return found


def _anat(out_dir: Path, participant: str, session: str | None) -> Path:
    folder = out_dir / f"sub-{participant}"
    return (folder / f"ses-{session}" if session else folder) / "anat"
