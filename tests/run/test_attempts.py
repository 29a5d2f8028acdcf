"""Plans are carried out again without what was refused, and only for whom it concerns."""

from __future__ import annotations

import json
from pathlib import Path

from colapipe.plan.again import RefusedTransform
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Space
from colapipe.run.attempts import Executed, Refusals, carry_out, read_refusals
from colapipe.run.failures import Failure


def plan(participant: str, *contrasts: str) -> SessionPlan:
    return SessionPlan(participant, None, spaces=(Space(contrasts[0], contrasts, contrasts[:2]),))


def failure(participant: str, node: str) -> Failure:
    return Failure(f"colapipe.sub_{participant}_wf.{node}", "", Path("crash"))


class Runs:
    """Runs in which the T2w of participant 02 is refused, as long as it is there."""

    def __init__(self, *others: Failure) -> None:
        self.others = list(others)
        self.carried_out: list[list[str]] = []
        self.refusal = failure("02", "align_T2w_to_T1w_wf.check_transform")

    def execute(self, plans):
        self.carried_out.append([plan.participant for plan in plans])
        here = {plan.participant for plan in plans}
        found = [f for f in self.others if f.node.split(".")[1].split("_")[1] in here]
        bad = any(p.participant == "02" and "T2w" in p.spaces[0].contrasts for p in plans)
        return Executed([*found, *([self.refusal] if bad else [])], {who: set() for who in here})

    def refused_by(self, plans, failures):
        if self.refusal not in failures:
            return Refusals()
        refused = RefusedTransform("T2w", "T1w", ("far off",))
        return Refusals({("02", None): [refused]}, [self.refusal])

    def again(self, session, refused):
        assert [entry.moving for entry in refused] == ["T2w"]
        return plan(session.participant, "T1w")

    def carry_out(self, **options):
        plans = [plan("01", "T1w", "T2w"), plan("02", "T1w", "T2w")]
        return carry_out(plans, self.execute, self.refused_by, self.again, **options)


def test_only_the_participant_with_the_refused_transform_is_carried_out_again():
    runs = Runs()
    attempt = runs.carry_out()
    assert runs.carried_out == [["01", "02"], ["02"]]
    assert attempt.failures == []
    assert [p.spaces[0].contrasts for p in attempt.plans] == [("T1w", "T2w"), ("T1w",)]


def test_failures_of_others_are_kept_and_none_is_told_twice():
    broken, twice = failure("01", "scan_wf.load"), failure("02", "scan_wf.load")
    runs = Runs(broken, twice)
    assert runs.carry_out().failures == [broken, twice]


def test_a_refusal_does_not_leave_the_others_undone_where_one_failure_ends_all():
    runs = Runs()
    runs.carry_out(stops_early=True)
    assert runs.carried_out == [["01", "02"], ["01", "02"]]


def test_refusals_are_read_from_verdicts_and_nothing_else_is_one(tmp_path):
    session = plan("02", "T1w", "T2w")
    known = {"colapipe.sub_02_wf.align_T2w_to_T1w_wf": (session, "T2w", "T1w")}
    refused = failure("02", "align_T2w_to_T1w_wf.check_transform")
    killed = failure("02", "align_T2w_to_T1w_wf.register_fsl")
    elsewhere = failure("02", "scan_T1w_wf.load_scan")
    folder = tmp_path / "colapipe" / "sub_02_wf" / "align_T2w_to_T1w_wf" / "check_transform"
    folder.mkdir(parents=True)
    verdict = folder / "verdict.json"
    verdict.write_text(json.dumps({"accepted": False, "reasons": ["62 mm away"]}))
    refusals = read_refusals([refused, killed, elsewhere], known, tmp_path)
    assert refusals.failures == [refused]
    assert refusals.transforms["02", None] == [RefusedTransform("T2w", "T1w", ("62 mm away",))]
    # A check that fails for another reason has accepted nothing, and refused nothing either.
    verdict.write_text(json.dumps({"accepted": True}))
    assert not read_refusals([refused], known, tmp_path).transforms
