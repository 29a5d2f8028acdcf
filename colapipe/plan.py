"""What will be done for whom, and why not: the decisions of a run, before anything runs.

Everything here works on names and headers only. ``--dry-run`` prints the plan, the workflows carry
it out, and the report repeats its notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.contrasts import CONTRASTS

if TYPE_CHECKING:
    from colapipe.bids.derivatives import Derivative, Found
    from colapipe.bids.filters import Filters
    from colapipe.bids.reader import Listing, Scan
    from colapipe.bids.unread import Unread
    from colapipe.config import Settings
    from colapipe.errors import ScanWarning

Roots = Sequence[tuple[str, Path]]

ON_REQUEST_ONLY = ("T1ce", "PDw")
"""Contrasts that ``--target auto`` never picks: an injection was not given, or nobody misses it."""


@dataclass(frozen=True)
class Target:
    """A contrast to synthesise.

    Parameters
    ----------
    contrast : str
    sources : tuple of str
        Contrasts given to the model, never the target.
    has_truth : bool
        The real scan exists, and the result is scored against it (``--evaluate``).
    """

    contrast: str
    sources: tuple[str, ...]
    has_truth: bool = False


@dataclass(frozen=True)
class Space:
    """One reference grid of a session, and what happens on it.

    Parameters
    ----------
    reference : str
    contrasts : tuple of str
        Contrasts brought to this grid, the reference first.
    tissue_contrasts : tuple of str
        Contrasts whose brain mask and tissue maps are made (at most two, the reference first).
    targets : tuple of Target
    """

    reference: str
    contrasts: tuple[str, ...]
    tissue_contrasts: tuple[str, ...]
    targets: tuple[Target, ...] = ()


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


@dataclass(frozen=True)
class Request:
    """What the user asked for, as far as it decides about targets.

    Parameters
    ----------
    targets : tuple of str
        ``("auto",)`` or contrasts by name.
    sources : tuple of str
        Contrasts that may be used; empty means all.
    evaluate : bool
    model_contrasts : tuple of str
        Contrasts that the model knows.
    min_sources : int
        The least number of source contrasts that the model needs.
    """

    targets: tuple[str, ...] = ("auto",)
    sources: tuple[str, ...] = ()
    evaluate: bool = False
    model_contrasts: tuple[str, ...] = CONTRASTS
    min_sources: int = 1

    @property
    def automatic(self) -> bool:
        """No target was named."""
        return self.targets == ("auto",)


def in_order(contrasts: Iterable[str]) -> tuple[str, ...]:
    """Return contrasts in order of preference as the reference."""
    present = set(contrasts)
    return tuple(contrast for contrast in CONTRASTS if contrast in present)


def choose_reference(available: Collection[str], target: str | None = None) -> str | None:
    """Return the best available contrast that is not the target, or None if there is none."""
    candidates = [contrast for contrast in in_order(available) if contrast != target]
    return candidates[0] if candidates else None


def choose_targets(
    available: Collection[str],
    elsewhere: Collection[str],
    request: Request,
    unprepared: Collection[str] = (),
) -> tuple[list[Target], list[str], list[str]]:
    """Decide which contrasts to synthesise for one session.

    Parameters
    ----------
    available : collection of str
        Contrasts that this session has.
    elsewhere : collection of str
        Contrasts that other participants of the dataset have.
    request : Request
    unprepared : collection of str, optional
        Contrasts that were acquired, but cannot be used: they are not preprocessed yet.

    Returns
    -------
    targets : list of Target
    notes : list of str
        Why something is skipped.
    errors : list of str
        Named targets that cannot be made.
    """
    allowed = in_order(c for c in available if not request.sources or c in request.sources)
    targets: list[Target] = []
    notes: list[str] = []
    errors: list[str] = []
    for contrast in _candidates(available, elsewhere, request):
        exists = contrast in available
        sources = tuple(c for c in allowed if c != contrast and c in request.model_contrasts)
        if exists and not request.evaluate:
            notes.append(
                f"{contrast} is not synthesised: it exists (--evaluate synthesises and scores it)"
            )
        elif contrast in unprepared:
            notes.append(
                f"{contrast} is not synthesised: it exists, but is not among the preprocessed "
                "files. Run without --synth-only to use it."
            )
        elif len(sources) < request.min_sources:
            message = (
                f"{contrast} cannot be synthesised: the model needs at least "
                f"{request.min_sources} source contrast(s), found "
                f"{', '.join(sources) or 'none'}"
            )
            (notes if request.automatic else errors).append(message)
        else:
            targets.append(Target(contrast, sources, has_truth=exists))
    if request.automatic and not request.evaluate and not targets:
        missing = [c for c in in_order(elsewhere) if c not in {*available, *unprepared}]
        how = _on_request({*available, *unprepared}, elsewhere, allowed, request)
        if not missing:
            notes.append(
                "nothing to synthesise: no contrast that other participants have is missing"
            )
        for contrast in missing:
            if contrast in ON_REQUEST_ONLY:
                notes.append(
                    f"{contrast} is missing, and synthesised only when it is named (--target)"
                )
            elif contrast not in request.model_contrasts:
                notes.append(f"{contrast} is missing, but the model does not know it")
        if how:
            notes.append(how)
    return targets, notes, errors


def _on_request(
    available: Collection[str],
    elsewhere: Collection[str],
    allowed: Sequence[str],
    request: Request,
) -> str:
    """Say how to ask for contrasts that nobody in the dataset has."""
    sources = [contrast for contrast in allowed if contrast in request.model_contrasts]
    absent = [c for c in request.model_contrasts if c not in available and c not in elsewhere]
    usual = [contrast for contrast in in_order(absent) if contrast not in ON_REQUEST_ONLY]
    if not usual or len(sources) < request.min_sources:
        return ""
    more = [contrast for contrast in in_order(absent) if contrast != usual[0]]
    others = f"; it could also make {', '.join(more)}" if more else ""
    return (
        f"nobody has {usual[0]}, which the model can make from {', '.join(sources)}: ask for it "
        f"with --target {usual[0]}{others}"
    )


def _candidates(
    available: Collection[str], elsewhere: Collection[str], request: Request
) -> tuple[str, ...]:
    if not request.automatic:
        return in_order(request.targets)
    missing = [
        contrast
        for contrast in elsewhere
        if contrast not in available and contrast not in ON_REQUEST_ONLY
    ]
    present = list(available) if request.evaluate else []
    return tuple(c for c in in_order(missing + present) if c in request.model_contrasts)


def plan_spaces(
    available: Collection[str], targets: Sequence[Target], sources: Collection[str] = ()
) -> tuple[Space, ...]:
    """Group targets by the reference grid on which they are made.

    Parameters
    ----------
    available : collection of str
        Contrasts that this session has.
    targets : sequence of Target
        Empty for a preprocessing-only run, which brings everything to the best contrast.
    sources : collection of str
        Contrasts that may be used; empty means all.

    Returns
    -------
    tuple of Space
        Empty if no contrast is available.
    """
    allowed = in_order(c for c in available if not sources or c in sources)
    if not targets:
        reference = choose_reference(allowed)
        return (Space(reference, allowed, allowed[:2]),) if reference else ()
    spaces: dict[str, list[Target]] = {}
    for target in targets:
        reference = choose_reference(allowed, target.contrast)
        if reference is None:
            raise ValueError(f"no reference for {target.contrast} among {allowed}")
        spaces.setdefault(reference, []).append(target)
    planned = []
    for reference, here in spaces.items():
        used = {reference, *(source for target in here for source in target.sources)}
        # Tissue maps are made for what may be given to a model here; a scan that is only the truth
        # of a score needs none.
        tissue = (reference, *(c for c in in_order(used) if c != reference))[:2]
        truths = {target.contrast for target in here if target.has_truth}
        others = tuple(c for c in in_order(used | truths) if c != reference)
        planned.append(Space(reference, (reference, *others), tissue, tuple(here)))
    return tuple(planned)


def plan_run(
    settings: Settings, request: Request, warn: Callable[[str], None] = lambda text: None
) -> list[SessionPlan]:
    """Plan every session of every participant that was asked for.

    Parameters
    ----------
    settings : Settings
    request : Request
        With what the model knows.
    warn : callable
        Is told in words what concerns the dataset as a whole: folders that are left out.

    Raises
    ------
    DatasetError
        If the dataset cannot be used.
    UsageError
        If a participant or session does not exist, or the filter file is wrong.
    """
    from colapipe.bids.derivatives import parse_derivatives

    roots = parse_derivatives(settings.derivatives)
    if settings.mode == "synth-only":
        return _plan_from_derivatives(settings, request, roots)
    return [_printable(plan) for plan in _plan_from_scans(settings, request, roots, warn)]


def _printable(plan: SessionPlan) -> SessionPlan:
    """Return a plan whose words can be written to any file, whatever a file is called."""

    def words(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    return replace(
        plan,
        notes=tuple(words(note) for note in plan.notes),
        errors=tuple(words(error) for error in plan.errors),
        warnings=tuple(replace(one, message=words(one.message)) for one in plan.warnings),
    )


def _plan_from_scans(
    settings: Settings, request: Request, roots: Roots, warn: Callable[[str], None]
) -> list[SessionPlan]:
    from colapipe.bids.filters import check_filters
    from colapipe.bids.reader import open_dataset, read_filter_file
    from colapipe.bids.unread import only_ignored

    dataset = open_dataset(settings.bids_dir)
    everybody = dataset.participants()
    participants = select_labels(
        settings.participants, everybody, "--participant-label", dataset.why_left_out
    )
    if not settings.participants:
        for line in dataset.left_out():
            warn(line)
    # One look at file names says what anybody has; each participant's own scans come off it.
    listings = {p: dataset.listing(p) for p in everybody}
    filters = read_filter_file(settings.bids_filter_file) if settings.bids_filter_file else {}
    if settings.bids_filter_file:
        scans = (scan for listing in listings.values() for scan in listing.scans)
        for line in check_filters(scans, filters, settings.bids_filter_file):
            warn(line)
    if not any(listings[p].unreadable for p in participants):
        _check_sessions(settings, {p: listings[p].sessions for p in participants})
    owners = Counter(c for listing in listings.values() for c in listing.all_contrasts)
    plans: list[SessionPlan] = []
    for participant in participants:
        listing = listings[participant]
        elsewhere = {c for c, count in owners.items() if count > (c in listing.all_contrasts)}
        unread = dataset.unread(listing)
        nothing = not listing.scans and not listing.unreadable
        if not settings.participants and nothing and only_ignored(unread):
            warn(f"sub-{participant}/ is left out: .bidsignore leaves out all of its scans")
            continue
        mine = _plan_listing(listing, unread, elsewhere, settings, request, roots, filters)
        plans += [
            plan if plan.session in listing.unreadable else _without_empty_sessions(plan, mine)
            for plan in mine
        ]
    return plans


def _plan_listing(
    listing: Listing,
    unread: Sequence[Unread],
    elsewhere: Collection[str],
    settings: Settings,
    request: Request,
    roots: Roots,
    filters: Filters,
) -> list[SessionPlan]:
    """Plan the sessions of one participant."""
    from colapipe.bids.derivatives import find_derivatives
    from colapipe.bids.filters import apply_filters, say_removed
    from colapipe.bids.reader import choose_scans
    from colapipe.bids.unread import MOST_NAMED, at_most, say_unread

    sessions = [s for s in listing.contrasts() if _wanted(s, settings)]
    plans = [
        SessionPlan(listing.participant, session, errors=(problem,))
        for session, problem in listing.unreadable.items()
        # Nobody knows which sessions there are in a participant's folder that is unreadable.
        if session is None or _wanted(session, settings)
    ]
    for session in [s for s in sessions if s not in listing.unreadable]:
        kept, removed = apply_filters([s for s in listing.scans if s.session == session], filters)
        chosen, choices = choose_scans(kept)
        removals, warnings = say_removed(removed, kept, filters)
        here = [one for one in unread if one.session == session]
        if None not in sessions:
            here += [one for one in unread if one.session is None]
        reasons = [*(one.message for one in warnings), *(one.sentence for one in here)]
        plan = plan_session(
            listing.participant,
            session,
            chosen.get(session, {}),
            elsewhere,
            request,
            preproc_only=settings.mode == "preproc-only",
            prepare_complete=settings.export is not None,
            unread=reasons[:3],
        )
        notes, more = say_unread(here, plan.scans, [target.contrast for target in plan.targets])
        if not plan.scans:  # the error has said the first of them
            notes, warnings, more = at_most(MOST_NAMED, reasons[3:], "files are not read"), [], []
        derivatives = find_derivatives(roots, listing.participant, session)
        lesion, lesion_notes = place_lesion(derivatives, plan.scans)
        plans.append(
            replace(
                plan,
                derivatives=derivatives,
                lesion=lesion,
                notes=(
                    *notes,
                    *removals,
                    *choices,
                    *derivatives.notes,
                    *lesion_notes,
                    *plan.notes,
                ),
                warnings=(*plan.warnings, *warnings, *more),
            )
        )
        # What belongs to no session is named with the first one, and warned of with each.
        unread = [one for one in unread if one.session is not None or one.is_scan]
    return plans


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


def _plan_from_derivatives(settings: Settings, request: Request, roots: Roots) -> list[SessionPlan]:
    from colapipe.bids.derivatives import find_derivatives
    from colapipe.bids.reader import open_dataset, participants_in, sessions_in

    dataset = open_dataset(settings.bids_dir, need_participants=False)
    # A name of "" makes URIs that point into the output dataset itself.
    roots = roots or [("", settings.out_dir)]
    known = sorted({p for _, root in roots for p in participants_in(root)})
    participants, plans = _select_prepared(settings, known, [root for _, root in roots])
    sessions = {p: sorted({s for _, root in roots for s in sessions_in(root, p)}) for p in known}
    if participants:
        _check_sessions(settings, {p: sessions[p] for p in participants})
    found = {(p, s): find_derivatives(roots, p, s) for p in known for s in _or_none(sessions[p])}
    contrasts = {
        key: {c for prepared in files.prepared().values() for c in prepared.images}
        for key, files in found.items()
    }
    # Who lacks nothing is not preprocessed; that others lack it is known from the scans.
    acquired = {
        (p, s): scans
        for p in participants_in(settings.bids_dir)
        for s, scans in dataset.listing(p).contrasts().items()
    }
    everybody = [*contrasts.items(), *acquired.items()]
    for participant in participants:
        elsewhere = set().union(*(c for (p, _), c in everybody if p != participant))
        for session in _or_none(sessions[participant]):
            if not _wanted(session, settings):
                continue
            plan = plan_prepared_session(
                participant,
                session,
                found[participant, session],
                elsewhere,
                request,
                acquired.get((participant, session), ()),
            )
            plans.append(plan)
    return plans


def _select_prepared(
    settings: Settings, known: Sequence[str], roots: Sequence[Path]
) -> tuple[list[str], list[SessionPlan]]:
    """Return the participants that were prepared, and plans that say of the others what they lack.

    Raises
    ------
    DatasetError
        If nobody that was asked for was prepared.
    UsageError
        If a label is neither in the dataset nor prepared.
    """
    from colapipe.bids.reader import participants_in
    from colapipe.errors import DatasetError, UsageError
    from colapipe.suggest import did_you_mean

    where = " or ".join(map(str, roots))
    action = (
        "make the --preproc-only run first, or point --derivatives at the output of such a run."
    )
    participants = [p for p in known if p in settings.participants or not settings.participants]
    # The dataset may be here with its text files only; then nobody can say who is in it.
    in_dataset = participants_in(settings.bids_dir)
    missing = [label for label in settings.participants if label not in known]
    for label in missing:
        if in_dataset and label not in in_dataset:
            raise UsageError(
                f"--participant-label {label}: neither in the dataset nor are there preprocessed "
                f"files for sub-{label} in {where}.{did_you_mean(label, known)}"
            )
    if not participants:
        whom = "".join(f" for sub-{label}" for label in missing[:1])
        whom += f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(f"{where}: no preprocessed files{whom} there; {action}")
    return participants, [
        SessionPlan(
            label,
            None,
            errors=(
                f"sub-{label}: no preprocessed files for sub-{label} in {where}; {action}"
                f"{did_you_mean(label, known)}",
            ),
        )
        for label in missing
    ]


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


def select_labels(
    wanted: Sequence[str],
    known: Sequence[str],
    option: str,
    why_unknown: Callable[[str], str | None] = lambda label: None,
) -> list[str]:
    """Return the labels that were asked for, or all.

    Raises
    ------
    UsageError
        If one is unknown; the message says why, or names those that come near.
    """
    from difflib import get_close_matches

    from colapipe.errors import UsageError

    for label in wanted:
        if label not in known:
            reason = why_unknown(label)
            if reason:
                raise UsageError(f"{option} {label}: {reason}")
            near = get_close_matches(label, known, n=3, cutoff=0.4)
            some = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are: {some or 'none'}."
            raise UsageError(f"{option} {label}: no such label in the dataset. {hint}")
    return list(wanted) if wanted else list(known)


def _check_sessions(settings: Settings, sessions: Mapping[str, Sequence[str]]) -> None:
    known = sorted({session for labels in sessions.values() for session in labels})
    select_labels(settings.sessions, known, "--session-label")


def _or_none(sessions: Sequence[str]) -> list[str | None]:
    """Return the sessions of a participant; None stands for having no sessions."""
    return list(sessions) or [None]


def _wanted(session: str | None, settings: Settings) -> bool:
    return not settings.sessions or session in settings.sessions


def _without_empty_sessions(plan: SessionPlan, plans: Sequence[SessionPlan]) -> SessionPlan:
    """Turn "no scan" into a note where another session of the same participant has some."""
    others = any(p.participant == plan.participant and p.scans for p in plans)
    if plan.scans or not others:
        return plan
    return replace(plan, notes=(*plan.notes, *plan.errors), errors=())
