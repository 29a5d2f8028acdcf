"""Who is still to be done, and doing it, some participants at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.run.attempts import Attempt
from colapipe.run.failures import Failure, participant_of
from colapipe.run.fingerprints import Times
from colapipe.run.finished import FinishedParticipants, Task
from colapipe.run.locks import lock_participants
from colapipe.run.superseded import snapshot
from colapipe.run.workdir import clean, work_folder

PORTION = 32
"""Participants whose workflows are one graph.

Whoever is in it is locked, with two open files each, and all its nodes stay in memory and are
looked through whenever one ends: in portions, a participant costs the same among 1,000 as among
10. A portion is far larger than what runs at the same time, so that little waits at its end.
"""


@dataclass
class Outcome:
    """What came of the participants of a run.

    Parameters
    ----------
    failures : list of Failure
        Nodes that failed.
    locked : dict
        Participant that another run is at work on, to words about that run.
    plans : list of SessionPlan
        As they were carried out, where that was tried.
    before : dict
        Participant to the state of its outputs before its nodes ran.
    """

    failures: list[Failure] = field(default_factory=list)
    locked: dict[str, str] = field(default_factory=dict)
    plans: list[SessionPlan] = field(default_factory=list)
    before: dict[str, dict[Path, Times]] = field(default_factory=dict)

    def as_carried_out(self, plans: Sequence[SessionPlan]) -> list[SessionPlan]:
        """Return plans as they were carried out; those that were not tried are as they were."""
        changed = {(plan.participant, plan.session): plan for plan in self.plans}
        return [changed.get((plan.participant, plan.session), plan) for plan in plans]


def by_participant(plans: Sequence[SessionPlan]) -> dict[str, list[SessionPlan]]:
    """Return each participant's sessions."""
    groups: dict[str, list[SessionPlan]] = {}
    for plan in plans:
        groups.setdefault(plan.participant, []).append(plan)
    return groups


def find_unfinished(
    plans: Sequence[SessionPlan], finished: FinishedParticipants
) -> tuple[dict[str, Task], list[str]]:
    """Tell participants with work to do from those who are finished.

    Returns
    -------
    unfinished : dict
        Participant to the task, with the present state of the scans.
    done : list of str
    """
    unfinished, done = {}, []
    for participant, group in by_participant(plans).items():
        if any(plan.spaces for plan in group):
            task = finished.task(group)
            if finished.holds(participant, task):
                done.append(participant)
            else:
                unfinished[participant] = task
    return unfinished, done


def plans_to_report(
    plans: Sequence[SessionPlan], done: Sequence[str], locked: Mapping[str, str]
) -> list[SessionPlan]:
    """Return the plans that the end of a run speaks of.

    Not those of others' participants, nor what was finished before; but a session that cannot be
    planned is a problem of every run, though another of the same participant is finished.
    """
    return [
        plan
        for plan in plans
        if plan.participant not in locked and (plan.participant not in done or plan.errors)
    ]


def run_in_portions(
    settings: Settings,
    plans: Sequence[SessionPlan],
    unfinished: Mapping[str, Task],
    finished: FinishedParticipants,
    execute: Callable[[Sequence[SessionPlan]], Attempt],
    settle: Callable[[Sequence[SessionPlan], set[Path], Collection[Path]], list[Failure]],
) -> Outcome:
    """Carry out the plans of unfinished participants, and note who is finished now.

    Parameters
    ----------
    settings : Settings
    plans : sequence of SessionPlan
    unfinished : mapping
        As from `find_unfinished`.
    finished : FinishedParticipants
    execute : callable
        Carries some plans out and returns what came of them.
    settle : callable
        Takes the plans of a participant whose nodes have all been done, what they made, and the
        outputs that were there before; removes what earlier requests made, and returns what failed
        at that.
    """
    outcome = Outcome()
    folder = work_folder(settings)
    locks = (settings.out_dir / "logs" / "locks", folder / "locks")
    everybody = list(unfinished)
    for start in range(0, len(everybody), PORTION):
        portion = everybody[start : start + PORTION]
        with lock_participants(locks, portion) as (held, refused):
            outcome.locked |= refused
            if settings.clean_workdir == "before":
                clean(folder, held)
            outcome.before |= {label: snapshot(settings.out_dir, label) for label in held}
            attempt = execute([plan for plan in plans if plan.participant in held])
            outcome.failures += attempt.failures
            outcome.plans += attempt.plans
            if attempt.failures and settings.stop_on_first_crash:
                break
            failed = {participant_of(failure.node)[0] for failure in attempt.failures}
            failed |= _failed_on_the_way(plans, attempt.plans)
            mine = by_participant(attempt.plans)
            for participant in held:
                if participant not in failed:
                    written = attempt.written.get(participant, set())
                    problems = settle(mine[participant], written, outcome.before[participant])
                    outcome.failures += problems
                    if problems:
                        continue
                    finished.note(participant, unfinished[participant])
                    if settings.clean_workdir == "success":
                        clean(folder, [participant])
    return outcome


def _failed_on_the_way(
    plans: Sequence[SessionPlan], carried_out: Sequence[SessionPlan]
) -> set[str]:
    """Return the participants with a target that turned out, in the run, to be impossible."""
    errors = {(plan.participant, plan.session): plan.errors for plan in plans}
    return {
        plan.participant
        for plan in carried_out
        if plan.errors != errors[plan.participant, plan.session]
    }
