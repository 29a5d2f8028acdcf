"""Let the output folder hold what the last request makes, once it is made, and nothing older."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from colapipe.bids.outputs import session_folders
from colapipe.bids.reader import labels_in
from colapipe.cli.reports import measure_again, report_again
from colapipe.cli.screen import Screen
from colapipe.config import Settings
from colapipe.errors import ColapipeError
from colapipe.files import read_json
from colapipe.plan.sessions import SessionPlan
from colapipe.run.failures import Failure, node_name, participant_of
from colapipe.run.locks import lock_participants
from colapipe.run.portions import Outcome, by_participant
from colapipe.run.superseded import (
    MEASURED,
    Output,
    Superseded,
    find_superseded,
    of_earlier_runs,
    outputs_in,
    outputs_of,
    remove,
)

_MOST_NAMED = 5


class Settling:
    """Removes from the output folder what a request has superseded, and says so.

    Parameters
    ----------
    settings : Settings
    describe : callable
        Tells what the report of a participant says about the run, from its plans.
    screen : Screen
    log_file : Path
    """

    def __init__(
        self,
        settings: Settings,
        describe: Callable[[Sequence[SessionPlan]], Mapping[str, Any]],
        screen: Screen,
        log_file: Path,
    ) -> None:
        self._settings, self._describe = settings, describe
        self._screen, self._log_file = screen, log_file

    def finish(
        self, plans: Sequence[SessionPlan], written: Set[Path], before: Collection[Path] = ()
    ) -> list[Failure]:
        """Do so for one participant whose request was carried out.

        Where something was removed, quality tables and report are written anew without it.

        Parameters
        ----------
        plans : sequence of SessionPlan
            Of one participant.
        written : set of Path
            All files that the request has made, now or before.
        before : collection of Path
            The outputs before it was carried out; its nodes have removed what is no more.

        Returns
        -------
        list of Failure
            What could not be removed or written.
        """
        from colapipe.quality.table import kept_warnings

        participant = plans[0].participant
        try:
            superseded = find_superseded(self._settings, plans, written)
            replaced = [path for path in before if not path.exists()]
            removed = Superseded([*outputs_of(replaced), *superseded.outputs])
            if removed.outputs:
                self._screen.say(
                    f"sub-{participant}: removed what was made before and is not of this request: "
                    f"{removed.words}"
                )
            tables = list(self._tables(participant, superseded.sessions))
            kept = {table.main: kept_warnings(table.main) for table in tables}
            # The tables first: a run that ends here must not leave them as if they were right.
            remove(tables)
            for path in [*replaced, *remove(superseded.outputs)]:
                self._screen.say(f"removed: {path}", log_only=True)
            measure_again(self._settings, participant, superseded.sessions, kept)
            # A session that failed has a page that says so.
            if superseded.outputs and not any(plan.errors for plan in plans):
                report_again(self._settings, participant, self._describe(plans))
        except (ColapipeError, OSError):
            return [self._failure(participant)]
        return []

    def idle(self, plans: Sequence[SessionPlan]) -> Outcome:
        """Do so for those participants for whom there is nothing to do any more."""
        outcome = Outcome()
        for participant, group in by_participant(plans).items():
            if any(plan.spaces for plan in group) or all(plan.errors for plan in group):
                continue
            superseded = find_superseded(self._settings, group, set()).outputs
            if not superseded and not _is_outdated(self._settings, group):
                continue
            locks = [self._settings.out_dir / "logs" / "locks"]
            with lock_participants(locks, [participant]) as (held, refused):
                outcome.locked |= refused
                if held:
                    outcome.failures += self.finish(group, set()) or self._bring_up_to_date(group)
        return outcome

    def _tables(self, participant: str, sessions: Collection[str | None]) -> list[Output]:
        """Return the tables of quality numbers of some sessions."""
        folders = session_folders(self._settings.out_dir, participant)
        found = [output for session in sessions for output in outputs_in(folders[session])]
        return [output for output in found if output.kind == MEASURED]

    def _bring_up_to_date(self, plans: Sequence[SessionPlan]) -> list[Failure]:
        """Write the report anew of somebody with nothing to do, if it tells of something else."""
        participant = plans[0].participant
        try:
            if _is_outdated(self._settings, plans):
                measure_again(self._settings, participant, [plan.session for plan in plans])
                report_again(self._settings, participant, self._describe(plans))
        except (ColapipeError, OSError):
            return [self._failure(participant)]
        return []

    def _failure(self, participant: str) -> Failure:
        node = f"colapipe.{node_name(participant)}_report"
        return Failure(node, traceback.format_exc(), self._log_file)


def _is_outdated(settings: Settings, plans: Sequence[SessionPlan]) -> bool:
    """Say whether a report tells of a failure or a target of somebody with nothing to do."""
    if any(plan.errors for plan in plans):
        return False
    name = f"sub-{plans[0].participant}.json"
    record = read_json(settings.out_dir / "logs" / "reports" / name)[0]
    described = record.get("sessions")
    targets = any(
        isinstance(entry, dict)
        and entry.get("targets")
        and entry.get("session") in {plan.session for plan in plans}
        for entry in (described if isinstance(described, list) else ())
    )
    return bool(record.get("failures")) or targets


def left_behind(
    settings: Settings,
    plans: Sequence[SessionPlan],
    failures: Sequence[Failure],
    before: Mapping[str, Any],
) -> list[str]:
    """Return outputs of earlier runs in the folder of a participant who failed.

    Parameters
    ----------
    settings : Settings
    plans : sequence of SessionPlan
        Of that participant.
    failures : sequence of Failure
        Of all participants.
    before : mapping
        Participant to `snapshot` before its nodes ran.

    Returns
    -------
    list of str
        Paths relative to the output folder.
    """
    participant = plans[0].participant
    sessions = {session for who, session in _failed(plans, failures) if who == participant}
    state = before.get(participant)
    found = of_earlier_runs(settings.out_dir, participant, sessions, state)
    return [path.relative_to(settings.out_dir).as_posix() for path in found]


def why_withheld(
    plans: Sequence[SessionPlan], failures: Sequence[Failure], locked: Collection[str]
) -> dict[tuple[str, str | None], str]:
    """Return sessions, by their labels, whose files may not be what was asked for, and why."""
    why = "the run failed, and what is there may be of an earlier one"
    withheld = dict.fromkeys(_failed(plans, failures), why)
    for plan in plans:
        if plan.participant in locked:
            withheld[plan.participant, plan.session] = "another run is at work on it"
    return withheld


def _failed(
    plans: Sequence[SessionPlan], failures: Sequence[Failure]
) -> set[tuple[str, str | None]]:
    """Return participant and session of what could not be planned or made; a page is neither."""
    failed = {(plan.participant, plan.session) for plan in plans if plan.errors}
    nodes = (failure.node for failure in failures)
    failed |= {participant_of(n) for n in nodes if not n.endswith(("_report", "_outputs"))}
    return failed


def name_strangers(settings: Settings, plans: Sequence[SessionPlan], screen: Screen) -> None:
    """Warn of participants in the output folder who are not in the dataset, if all were planned."""
    if settings.participants or settings.mode not in ("full", "preproc-only"):
        return
    known = {plan.participant for plan in plans}
    strangers = [label for label in labels_in(settings.out_dir, "sub") if label not in known]
    if strangers:
        named = ", ".join(f"sub-{label}" for label in strangers[:_MOST_NAMED])
        more = len(strangers) - _MOST_NAMED
        screen.warn(
            f"{settings.out_dir}: {named}{f' and {more} more' if more > 0 else ''} cannot be found "
            f"in {settings.bids_dir}, and would be part of the group all the same. If they are not "
            "to be, delete their folders and pages."
        )
