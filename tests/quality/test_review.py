"""Who is looked at first: failures, then red lights, then those who are unlike the others."""

from __future__ import annotations

from colapipe.quality.columns import COLUMNS
from colapipe.quality.gather import Group
from colapipe.quality.review import AMBER, FAILED, FINE, OUTLIER, WARNED, number, review

DESCRIBED = {"participant_id": {}, **COLUMNS, "selfcheck_light": {}, "selfcheck_score": {}}


def image(participant: int, contrast: str = "T2w", **cells: str) -> dict[str, str]:
    who = {"participant_id": f"sub-{participant:02d}", "reference": "T1w", "contrast": contrast}
    return {**who, "synthetic": "false", "coverage": "1", **cells}


def group(*rows: dict[str, str]) -> Group:
    """Ten participants with nothing to say about, and those that a test is about."""
    return Group([image(number) for number in range(10)] + list(rows), DESCRIBED)


def test_the_worst_come_first() -> None:
    found = review(
        group(
            image(10, selfcheck_light="amber", selfcheck_reasons="fewer sources"),
            image(11, coverage="0.9"),
            image(12, coverage="0.6"),
            image(13, selfcheck_light="red", selfcheck_reasons="turned by 8 degrees"),
            {"participant_id": "sub-14", "failure": "the disk is full"},
        )
    )
    assert found.order()[:6] == [14, 13, 12, 11, 10, 0]
    urgencies = [found.verdicts[index].urgency for index in found.order()[:6]]
    assert urgencies == [FAILED, WARNED, OUTLIER, OUTLIER, AMBER, FINE]
    assert found.outliers == {11: ["coverage"], 12: ["coverage"]}


def test_reasons_say_what_is_usual() -> None:
    found = review(group(image(10, coverage="0.6"), image(11, selfcheck_light="red")))
    assert found.verdicts[10].reasons == ["Coverage 0.6, others 1 to 1"]
    assert found.verdicts[11].reasons == ["Self-check red: no reason is given"]
    assert found.verdicts[0].reasons == []


def test_many_reasons_are_cut_short() -> None:
    names = ("coverage", "sd_brain", "sd_gm", "sd_wm", "sd_csf")
    usual = [image(i, **dict.fromkeys(names, "1")) for i in range(10)]
    far = image(10, **dict.fromkeys(names, "9"))
    reasons = review(Group([*usual, far], DESCRIBED)).verdicts[10].reasons
    assert len(reasons) == 4 and reasons[-1] == "Unlike the others in 2 more"


def test_contrasts_are_compared_with_themselves_on_the_same_grid() -> None:
    others = [image(i, "FLAIR", coverage="0.5") for i in range(10)]
    on_t2w = [image(i, coverage="0.6", reference="T2w") for i in range(10)]
    made = [image(i, coverage="0.7", synthetic="true") for i in range(10)]
    found = review(group(*others, *on_t2w, *made))
    assert found.outliers == {}
    assert len(found.measures["coverage"]) == 4


def test_what_is_not_a_finite_number_is_no_measure() -> None:
    found = review(group(image(10, coverage="nan"), image(11, coverage="<b>"), image(12, nmi="")))
    assert len(found.measures["coverage"][0].values) == 11
    assert "nmi" not in found.measures and "contrast" not in found.measures
    assert number("inf") is None and number("1e3") == 1000.0 and number(None) is None


def test_an_empty_group_has_nothing_to_look_at() -> None:
    found = review(Group())
    assert found.order() == [] and found.measures == {}


def test_a_red_light_is_one_warning_whoever_wrote_the_table() -> None:
    red = {"selfcheck_light": "red", "selfcheck_reasons": "turned; odd"}
    found = review(
        group(image(10, **red, warnings="cut; self-check red: turned, odd"), image(11, **red))
    )
    assert found.verdicts[10].reasons == ["Cut", "Self-check red: turned, odd"]
    assert found.verdicts[11].reasons == ["Self-check red: turned; odd"]
    assert [found.verdicts[i].urgency for i in (10, 11)] == [WARNED, WARNED]
