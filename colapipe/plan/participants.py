"""The plan of a run: who takes part, and the plan of each session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.plan.sessions import SessionPlan, place_lesion, plan_prepared_session, plan_session
from colapipe.plan.targets import Request

if TYPE_CHECKING:
    from colapipe.bids.filters import Filters
    from colapipe.bids.reader import Listing
    from colapipe.bids.unread import Unread
    from colapipe.config import Settings

Roots = Sequence[tuple[str, Path]]


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
