"""Bootstrap intervals: near the closed form, paired, repeatable, honest about few participants."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from colapipe.evaluation.bootstrap import bootstrap_difference, bootstrap_mean, wilcoxon


def people(values: np.ndarray) -> dict[str, float]:
    return {f"{number:03d}": float(value) for number, value in enumerate(values)}


def test_many_participants_give_the_interval_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(20.0, 2.0, size=200)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(200)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)
    assert found.participants == 200


def test_few_participants_give_the_quantiles_of_all_resamples() -> None:
    values = [1.0, 4.0, 5.0, 9.0]
    every = [np.mean(drawn) for drawn in product(values, repeat=4)]
    found = bootstrap_mean(values, resamples=200_000, level=0.8)
    assert found.low == pytest.approx(np.quantile(every, 0.1), abs=1e-9)
    assert found.high == pytest.approx(np.quantile(every, 0.9), abs=1e-9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        found = bootstrap_mean(rng.normal(size=30), resamples=500, level=0.9)
        held += found.low <= 0 <= found.high
    assert 0.83 <= held / 300 <= 0.95


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=7)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)


def test_pairing_cancels_what_participants_have_in_common() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 5, size=40)  # how easy each participant is, for any model
    one = people(20.5 + hard + rng.normal(0, 0.1, size=40))
    other = people(20.0 + hard)
    found = bootstrap_difference(one, other)
    assert found.mean == pytest.approx(0.5, abs=0.05)
    assert found.high - found.low < 0.1
    alone = bootstrap_mean(list(one.values()))
    assert alone.high - alone.low > 2
    back = bootstrap_difference(other, one)
    assert back.mean == pytest.approx(-found.mean)


def test_only_participants_that_both_have_are_compared() -> None:
    one = {"a": 3.0, "b": 4.0, "c": math.nan, "d": 100.0}
    other = {"b": 3.0, "a": 1.0, "c": 5.0, "e": 0.0}
    found = bootstrap_difference(one, other)
    assert (found.mean, found.participants) == (1.5, 2)


def test_too_few_participants_have_no_interval() -> None:
    one = bootstrap_mean([3.0, math.nan])
    assert (one.mean, one.participants) == (3.0, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    none = bootstrap_mean([])
    assert math.isnan(none.mean) and none.participants == 0
    assert bootstrap_difference({"a": 1.0}, {"b": 1.0}).participants == 0


def test_identical_images_have_an_infinite_mean_and_no_interval() -> None:
    found = bootstrap_mean([math.inf, 20.0, 30.0])
    assert math.isinf(found.mean) and math.isnan(found.low)


def test_wilcoxon_is_the_exact_test_for_few_participants() -> None:
    one, other = people(np.array([2.0, 3.5, 1.2, 4.1, 5.7])), people(np.zeros(5))
    assert wilcoxon(one, other) == pytest.approx(2 / 2**5)
    assert wilcoxon(other, one) == pytest.approx(2 / 2**5)
    assert wilcoxon(one, one) == 1.0
    assert math.isnan(wilcoxon({}, other))


def test_without_any_error_the_difference_is_infinite_or_none() -> None:
    perfect = {"a": math.inf, "b": math.inf, "c": 30.0}
    other = {"a": math.inf, "b": 20.0, "c": 25.0}
    found = bootstrap_difference(perfect, other)
    assert (found.mean, found.participants) == (math.inf, 2) and math.isnan(found.low)
    assert math.isnan(wilcoxon(perfect, other))
    assert bootstrap_difference(perfect, {"a": math.inf}).participants == 0
    # Where both are perfect there is nothing to compare; the others are compared all the same.
    del other["b"]
    assert wilcoxon(perfect, other) == wilcoxon({"c": 30.0}, {"c": 25.0})
