"""How often the self-check is wrong about scans that nothing is wrong with."""

from __future__ import annotations

import numpy as np

from colapipe.evaluation.self_check import false_alarms
from colapipe.quality.lights import Found
from colapipe.quality.selfcheck import Measures

PAIR = ("T1w", "T2w")


def found(seed: int, asymmetry: float = 0.7) -> Found:
    random = np.random.default_rng(seed)
    one, other = (
        Measures(
            sources=(PAIR[1 - k],),
            psnr_fitted=22.0,
            ssim_fitted=0.7,
            correlation=0.8 + 0.02 * random.normal(),
            asymmetry=asymmetry + 0.02 * random.normal(),
            turn=0.5,
            shift=0.3,
            displacement=0.5,
            exchange={PAIR[1 - k]: 2.0},
        )
        for k in range(2)
    )
    return Found({"T1w": one, "T2w": other}, {"T1w+T2w": -2.0})


def test_the_red_ones_are_named_and_judged_by_the_others() -> None:
    checks = {f"sub-{k}": {"T1w+T2w": found(k)} for k in range(5)}
    checks["sub-5"] = {"T1w+T2w": found(5, asymmetry=-0.8)}
    words = false_alarms(checks)
    assert (
        "12 contrasts of 6 sessions" in words and "10 green (83 %), 0 amber (0 %), 2 red" in words
    )
    assert "- sub-5, T1w of T1w+T2w: left and right differ the other way round" in words
    assert "sub-4" not in words


def test_nobody_is_judged_by_another_session_of_their_own() -> None:
    sessions = {f"sub-1_ses-{k}": {"T1w+T2w": found(k)} for k in range(5)}
    assert false_alarms(sessions) == ""
    others = {f"sub-{k}": {"T1w+T2w": found(k)} for k in (2, 3)}
    # The two others are too few for a session of sub-1; each of them has the five of sub-1.
    assert "4 contrasts of 7 sessions" in false_alarms(sessions | others)


def test_three_people_are_too_few_to_leave_one_out() -> None:
    assert false_alarms({f"sub-{k}": {"T1w+T2w": found(k)} for k in range(3)}) == ""
