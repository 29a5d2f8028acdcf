"""Of whom the end of a run speaks."""

from __future__ import annotations

from colapipe.plan.sessions import SessionPlan
from colapipe.run.portions import plans_to_report


def test_a_broken_session_is_reported_though_another_was_finished_before() -> None:
    finished = SessionPlan("01", "A")
    broken = SessionPlan("01", "B", errors=("sub-01/ses-B: no scan was found",))
    fresh, elsewhere = SessionPlan("02", None), SessionPlan("03", None, errors=("broken",))
    plans = [finished, broken, fresh, elsewhere]
    assert plans_to_report(plans, ["01"], {"03": "another run"}) == [broken, fresh]
