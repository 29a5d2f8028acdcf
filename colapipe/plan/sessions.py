"""The plan of one session: its scans or preprocessed files, what is made of them, and why not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.contrasts import CONTRASTS
from colapipe.plan.targets import (
    Request,
    Space,
    Target,
    choose_targets,
    in_order,
    plan_spaces,
)

if TYPE_CHECKING:
    from colapipe.bids.derivatives import Derivative, Found
    from colapipe.bids.reader import Scan
    from colapipe.errors import ScanWarning


@dataclass(frozen=True)
class Lesion:
    """A lesion mask, and whose grid it was drawn on.

    Parameters
    ----------
    file : Derivative
    drawn_on : str
        A contrast of the session.
    """

    file: Derivative
    drawn_on: str


@dataclass(frozen=True)
class SessionPlan:
    """What will be done for one session of one participant.

    Parameters
    ----------
    participant : str
    session : str or None
    scans : mapping of str to Scan
        The chosen scan of each contrast; empty with ``--synth-only``.
    spaces : tuple of Space
    notes, errors : tuple of str
        In words: choices and things left out; things that were asked for and cannot be done.
    warnings : tuple of ScanWarning
        What must not pass in silence: they reach terminal, log, report, group page and sidecars.
    derivatives : Found or None
        Existing masks, matrices and preprocessed files.
    lesion : Lesion or None
    """

    participant: str
    session: str | None
    scans: Mapping[str, Scan] = field(default_factory=dict)
    spaces: tuple[Space, ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[ScanWarning, ...] = ()
    derivatives: Found | None = None
    lesion: Lesion | None = None

    def lesion_on(self, reference: str) -> Lesion | None:
        """Return the lesion mask for a reference grid: as drawn, or as prepared before."""
        if self.scans or self.derivatives is None:
            return self.lesion
        for file in self.derivatives.lesions:
            if file.own and file.space == reference:
                return Lesion(file, str(file.metadata.get("DrawnOn", reference)))
        return None

    @property
    def label(self) -> str:
        """``sub-X`` or ``sub-X/ses-Y``."""
        session = f"/ses-{self.session}" if self.session else ""
        return f"sub-{self.participant}{session}"

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets on all grids."""
        return tuple(target for space in self.spaces for target in space.targets)


def plan_session(
    participant: str,
    session: str | None,
    scans: Mapping[str, Scan],
    elsewhere: Collection[str],
    request: Request,
    *,
    preproc_only: bool = False,
    prepare_complete: bool = False,
    unread: Sequence[str] = (),
) -> SessionPlan:
    """Plan one session from its scans; headers are read, voxels are not.

    With ``prepare_complete``, a session that lacks nothing is preprocessed: it is to be exported.
    ``unread`` says in words what lies there and is no scan, for a session that has none.
    """
    from colapipe.anatomy.images import check_header
    from colapipe.errors import InputFileError, ScanWarning

    broken, contradictions = [], []
    for scan in scans.values():
        if request.sources and scan.contrast not in (*request.sources, *request.targets):
            continue
        try:
            remarks = check_header(scan.path).remarks
        except InputFileError as err:
            broken.append(str(err))
        else:
            contradictions += [ScanWarning(scan.contrast, f"{scan.path}: {r}") for r in remarks]
    plan = SessionPlan(participant, session, scans, warnings=tuple(contradictions))
    if broken:
        return replace(plan, errors=tuple(broken))
    if not scans:
        there = "; ".join(unread)
        return replace(
            plan,
            errors=(
                f"{plan.label}: no scan was found; expected at least one of {', '.join(CONTRASTS)} "
                f"in anat/. {there or 'Check the names of the files, or leave this one out.'}",
            ),
        )
    if preproc_only:
        spaces = plan_spaces(scans, (), request.sources)
        missing = f"{plan.label}: none of the contrasts of --source is there"
        return replace(plan, spaces=spaces, errors=() if spaces else (missing,))
    targets, notes, errors = choose_targets(scans, elsewhere, request)
    # Without a target there is nothing to do; an empty list would mean preprocessing only.
    prepare = prepare_complete and not errors
    spaces = plan_spaces(scans, targets, request.sources) if targets or prepare else ()
    if spaces and not targets:
        notes.append("preprocessed for the export")
    return replace(
        plan,
        spaces=spaces,
        notes=tuple(notes),
        errors=tuple(f"{plan.label}: {error}" for error in errors),
    )


def place_lesion(found: Found, scans: Mapping[str, Scan]) -> tuple[Lesion | None, list[str]]:
    """Return the first lesion mask that lies on the grid of a scan, and notes about the others."""
    from colapipe.anatomy.images import same_grid
    from colapipe.errors import InputFileError

    placed: Lesion | None = None
    notes: list[str] = []
    for file in found.lesions:
        if placed is not None:
            notes.append(
                f"lesion mask {file.path.name} passed over: {placed.file.path.name} is used"
            )
            continue
        try:
            drawn_on = next(
                (
                    contrast
                    for contrast in in_order(scans)
                    if file.space in (None, contrast)
                    and same_grid(_grid(file.path), _grid(scans[contrast].path))
                ),
                None,
            )
        except InputFileError as err:
            notes.append(f"lesion mask not used: {err}")
            continue
        if drawn_on is None:
            notes.append(f"lesion mask {file.path.name} not used: it is on the grid of no scan")
        else:
            placed = Lesion(file, drawn_on)
            notes.append(f"lesion mask {file.path.name}: drawn on the grid of the {drawn_on}")
    return placed, notes


def _grid(path: Path) -> tuple[Any, Any]:
    from colapipe.anatomy.images import check_header

    header = check_header(path)
    return header.shape, header.affine


def plan_prepared_session(
    participant: str,
    session: str | None,
    found: Found,
    elsewhere: Collection[str],
    request: Request,
    acquired: Collection[str] = (),
) -> SessionPlan:
    """Plan one session from what an earlier run has preprocessed (``--synth-only``).

    `acquired` are the contrasts of its scans, preprocessed or not, as far as the dataset is here.
    """
    plan = SessionPlan(participant, session, derivatives=found, notes=found.notes)
    prepared = found.prepared()
    available = {contrast for files in prepared.values() for contrast in files.images}
    if not available and found.unreadable:
        return replace(plan, errors=tuple(f"{plan.label}: {words}" for words in found.unreadable))
    if not available:
        return replace(
            plan,
            errors=(
                f"{plan.label}: no preprocessed files were found; expected those of a run with "
                "--preproc-only. Make that run first, or point --derivatives at its output.",
            ),
        )
    unprepared = {contrast for contrast in acquired if contrast not in available}
    targets, notes, errors = choose_targets(available, elsewhere, request, unprepared)
    spaces = []
    for space in plan_spaces(available, targets, request.sources) if targets else ():
        files = prepared.get(space.reference)
        missing = [c for c in space.contrasts if files is None or c not in files.images]
        names = ", ".join(target.contrast for target in space.targets)
        if files is None or missing:
            errors.append(
                f"{names} cannot be synthesised from preprocessed files: they are not on the grid "
                f"of {space.reference}, and a grid that was aligned with the target itself is not "
                "used. Run without --synth-only."
            )
        elif space.reference not in files.masks or space.reference not in files.tissues:
            errors.append(
                f"{names} cannot be synthesised: brain mask or tissue maps from "
                f"{space.reference} are missing. Make the --preproc-only run again."
            )
        else:
            spaces.append(replace(space, tissue_contrasts=(space.reference,)))
    return replace(
        plan,
        spaces=tuple(spaces),
        notes=(*plan.notes, *notes),
        errors=tuple(f"{plan.label}: {error}" for error in errors),
    )
