"""From numbers to a light: limits of other people, reasons in words, nothing made up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from colapipe.quality.lights import (
    Found,
    Limit,
    Limits,
    SelfCheckLimits,
    fit_limits,
    join,
    judge,
)
from colapipe.quality.pose import FURTHEST
from colapipe.quality.selfcheck import Measures, Pair
from colapipe.quality.selfcheck_table import check_session
from colapipe.quality.stored import Quality

PAIR = ("T1w", "T2w")


def measures(name: str, **changes: Any) -> Measures:
    other = PAIR[1 - PAIR.index(name)]
    usual = {
        "sources": (other,),
        "psnr_fitted": 22.0,
        "ssim_fitted": 0.7,
        "correlation": 0.8,
        "asymmetry": 0.7,
        "turn": 0.5,
        "shift": 0.3,
        "displacement": 0.5,
        "exchange": {other: 2.0},
    }
    return Measures(**{**usual, **changes})


def people(count: int, seed: int = 0) -> list[Found]:
    random = np.random.default_rng(seed)

    def one() -> Found:
        margin = 2 + 0.3 * random.normal()
        found = {
            name: measures(
                name,
                correlation=math.tanh(1.1 + 0.1 * random.normal()),
                asymmetry=math.tanh(0.9 + 0.1 * random.normal()),
                displacement=abs(0.5 + 0.2 * random.normal()),
                exchange={PAIR[1 - PAIR.index(name)]: margin},
            )
            for name in PAIR
        }
        return Found(found, {"T1w+T2w": -2 + 0.3 * random.normal()})

    return [one() for _ in range(count)]


@pytest.fixture(scope="module")
def limits() -> Any:
    return fit_limits(people(5))


def test_what_is_usual_is_green(limits):
    verdict = judge("T1w", measures("T1w"), limits["T1w"])
    assert (verdict.light, verdict.reasons) == ("green", ())
    assert verdict.score == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("changes", "light", "word"),
    [
        ({"exchange": {"T2w": -1.8}}, "red", "exchanged names"),
        ({"asymmetry": -0.6}, "red", "mirrored"),
        ({"asymmetry": 0.2}, "amber", "left and right"),
        ({"displacement": 5.0, "turn": 7.9}, "red", "turned by 7.9 degrees"),
        ({"correlation": -0.3}, "red", "less like it than usual"),
        ({"correlation": 0.67}, "amber", "less like it than usual"),
    ],
)
def test_what_is_unusual_gets_a_light_and_words(changes, light, word, limits):
    verdict = judge("T1w", measures("T1w", **changes), limits["T1w"])
    assert verdict.light == light
    assert word in verdict.reasons[0]


def test_the_gravest_reason_comes_first(limits):
    found = measures("T1w", asymmetry=0.2, correlation=-0.3)
    verdict = judge("T1w", found, limits["T1w"])
    assert verdict.light == "red" and len(verdict.reasons) == 2
    assert "correlation -0.30" in verdict.reasons[0]


def test_a_place_that_was_not_found_says_nothing(limits):
    found = measures("T1w", displacement=math.nan, turn=math.nan, shift=math.nan)
    assert judge("T1w", found, limits["T1w"]).light == "green"


def test_red_begins_where_one_of_200_others_would_be():
    """A new person from the same crowd is beyond amber and red as rarely as is said."""
    crowd = people(400, seed=1)
    beyond = {"amber": 0, "red": 0}
    for start in range(0, 396, 6):
        limits = fit_limits(crowd[start : start + 5])
        new = crowd[start + 5].measures["T1w"].correlation
        beyond["amber"] += new < limits["T1w"].correlation.amber
        beyond["red"] += new < limits["T1w"].correlation.red
    assert beyond["red"] <= 2 and beyond["amber"] <= 6


def test_a_limit_lies_between_right_and_exchanged_names(limits):
    assert limits["T1w"].exchange["T2w"] == pytest.approx(0, abs=0.5)


def test_names_that_cannot_be_told_apart_are_not_judged():
    crowd = [Found(found.measures, {"T1w+T2w": 3.0}) for found in people(5)]
    assert fit_limits(crowd)["T1w"].exchange == {}


def test_two_people_give_no_limits():
    assert fit_limits(people(2)) == {}


def test_without_limits_the_light_says_that_there_are_none():
    verdict = judge("T1w", measures("T1w"), None)
    assert verdict.light == "n/a" and "not calibrated for T1w from T2w" in verdict.reasons[0]
    assert math.isnan(verdict.score)


def test_limits_survive_the_way_through_a_checkpoint(limits):
    stored = SelfCheckLimits({"T1w+T2w": limits})
    again = SelfCheckLimits.from_dict(stored.to_dict()).sets["T1w+T2w"]["T1w"]
    assert again.participants == 5
    assert again.correlation.red == pytest.approx(limits["T1w"].correlation.red, abs=1e-3)
    assert again.exchange == pytest.approx(limits["T1w"].exchange, abs=1e-3)


@pytest.mark.parametrize(
    ("session", "found"),
    [(("T2w", "T1w"), True), (("T1w", "T2w", "PDw"), True), (("T1w",), False), (("PDw",), False)],
)
def test_a_source_that_nothing_was_calibrated_with_does_no_harm(
    session: Sequence[str], found: bool, limits
):
    stored = SelfCheckLimits({"T1w+T2w": limits})
    assert (stored.find("T1w", session) is not None) == found


def test_a_set_of_contrasts_has_one_name():
    assert join(("FLAIR", "T1w")) == join({"T1w", "FLAIR"}) == "T1w+FLAIR"


def test_a_scan_that_is_cut_is_not_green() -> None:
    """Limits that nothing is beyond; a third of the brain, in the slices between, has no data."""
    rng = np.random.default_rng(0)
    mask = np.ones((48, 48, 12), dtype=bool)
    image = ndimage.gaussian_filter(rng.random(mask.shape), 1)
    image = (image - image.min()) / np.ptp(image) + 0.01
    far = Limit(0, -2, -3)
    limits = Limits(5, far, far, Limit(0, FURTHEST, FURTHEST))
    quality = Quality({}, SelfCheckLimits({"T1w+FLAIR": {"FLAIR": limits}}))
    cut = np.where(np.arange(12) < 8, image, 0)
    for real, light in ((image, "green"), (cut, "amber")):
        pair = Pair(real, image, mask, (2, 4, 6), ("T1w",))
        [row] = [r for r in check_session({"FLAIR": pair}, {"T1w": "-"}, quality) if "score" in r]
        assert row["light"] == light
        assert ("it covers 67 % of the brain" in row["reasons"]) == (light == "amber")
