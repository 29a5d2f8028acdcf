"""Carry plans out, and once more without what turned out to be unusable on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from colapipe.files import read_json
from colapipe.plan.again import RefusedTransform
from colapipe.plan.sessions import SessionPlan
from colapipe.run.failures import Failure, participant_of

VERDICT = "verdict.json"
"""What a node leaves in its folder when it refuses a transform."""


@dataclass
class Executed:
    """What came of the workflow of some participants.

    Parameters
    ----------
    failures : list of Failure
        Nodes that failed.
    written : dict
        Participant to the files in the output folder that its nodes have made, now or before.
    """

    failures: list[Failure] = field(default_factory=list)
    written: dict[str, set[Path]] = field(default_factory=dict)


@dataclass
class Attempt:
    """What came of carrying plans out.

    Attributes
    ----------
    failures : list of Failure
        Nodes that failed, without those that refused a transform.
    plans : list of SessionPlan
        As they were carried out in the end.
    written : dict
        Participant to the files that the nodes of these plans have made.
    """

    failures: list[Failure] = field(default_factory=list)
    plans: list[SessionPlan] = field(default_factory=list)
    written: dict[str, set[Path]] = field(default_factory=dict)


def carry_out(
    plans: Sequence[SessionPlan],
    execute: Callable[[Sequence[SessionPlan]], Executed],
    refused_by: Callable[[Sequence[SessionPlan], Sequence[Failure]], Refusals],
    plan_again: Callable[[SessionPlan, Sequence[RefusedTransform]], SessionPlan],
    *,
    stops_early: bool = False,
) -> Attempt:
    """Carry plans out; sessions with a refused transform are planned and carried out again.

    Each time a session loses a transform or a contrast, so that this comes to an end; what was
    computed before is cached.

    Parameters
    ----------
    plans : sequence of SessionPlan
    execute : callable
        Carries some plans out.
    refused_by : callable
        Tells which transforms were refused, see `read_refusals`.
    plan_again : callable
        Plans a session without them.
    stops_early : bool
        One failed node ends all: then a refusal has kept other participants from being done.
    """
    attempt = Attempt(plans=list(plans))
    waiting = list(plans)
    while waiting:
        executed = execute(waiting)
        refusals = refused_by(waiting, executed.failures)
        attempt.failures += [f for f in executed.failures if f not in refusals.failures]
        attempt.written |= executed.written
        if not refusals.transforms:
            break
        for number, plan in enumerate(attempt.plans):
            if (plan.participant, plan.session) in refusals.transforms:
                refused = refusals.transforms[plan.participant, plan.session]
                attempt.plans[number] = plan_again(plan, refused)
        affected = {participant for participant, _ in refusals.transforms}
        # Whatever else failed for them is tried again, and would be told twice.
        attempt.failures = [
            f for f in attempt.failures if participant_of(f.node)[0] not in affected
        ]
        if attempt.failures and stops_early:
            break
        waiting = [p for p in attempt.plans if stops_early or p.participant in affected]
    return attempt


@dataclass
class Refusals:
    """Transforms that nodes refused.

    Attributes
    ----------
    transforms : dict
        Participant and session to their refused transforms.
    failures : list of Failure
        The nodes that refused them.
    """

    transforms: dict[tuple[str, str | None], list[RefusedTransform]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def read_refusals(
    failures: Sequence[Failure],
    alignments: Mapping[str, tuple[SessionPlan, str, str]],
    base_dir: Path,
) -> Refusals:
    """Find the refused transforms among failed nodes, by the verdicts that these left.

    Parameters
    ----------
    failures : sequence of Failure
    alignments : mapping
        Full name of a workflow that aligns two scans, to its session, moving contrast and
        reference.
    base_dir : Path
        Folder of the whole workflow.
    """
    found = Refusals()
    for failure in failures:
        workflow, _, _ = failure.node.rpartition(".")
        verdict = read_json(base_dir.joinpath(*failure.node.split(".")) / VERDICT)[0]
        # Nobody judged a transform where a node failed for another reason.
        if workflow not in alignments or verdict.get("accepted") is not False:
            continue
        plan, moving, reference = alignments[workflow]
        refused = found.transforms.setdefault((plan.participant, plan.session), [])
        reasons = tuple(map(str, verdict.get("reasons") or ()))
        to_blame = verdict.get("reference_to_blame") is True
        refused.append(RefusedTransform(moving, reference, reasons, reference_to_blame=to_blame))
        found.failures.append(failure)
    return found
