"""Outliers: far from the median, where there are enough values to tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from colapipe.quality.outliers import FAR, FEWEST, spread

RNG = np.random.default_rng(0)


def test_the_deviation_of_normal_values_is_their_standard_deviation() -> None:
    values = RNG.normal(10, 2, 20_000).tolist()
    found = spread(values, "psnr")
    assert found.median == pytest.approx(10, abs=0.1)
    assert found.deviation == pytest.approx(2, abs=0.1)
    # 0.05 % of normal values are that far away.
    assert sum(found.is_outlier(value) for value in values) < 20


def test_values_beyond_the_limits_are_outliers_whatever_their_number() -> None:
    values = [9.0, 9.5, 10.0, 10.5, 11.0] * 10 + [40.0, -20.0, 41.0]
    found = spread(values, "psnr")
    assert [value for value in values if found.is_outlier(value)] == [40.0, -20.0, 41.0]
    assert found.distance(40.0) > FAR and not found.is_outlier(found.high)


def test_few_values_have_no_outliers() -> None:
    found = spread([1.0] * (FEWEST - 2) + [1000.0], "psnr")
    assert not found.is_outlier(1000.0) and found.distance(1000.0) == 0


def test_a_difference_that_means_nothing_does_not_stand_out() -> None:
    coverage = spread([1.0] * 20, "coverage")
    assert not coverage.is_outlier(0.999) and coverage.is_outlier(0.7)
    other = spread([50.0] * 20, "sd_brain")
    assert not other.is_outlier(50.001) and other.is_outlier(80.0)


def test_where_nearly_all_are_zero_nothing_can_be_said() -> None:
    assert not spread([0.0] * 20, "volume_lesion").is_outlier(30.0)


def test_no_values_have_no_median() -> None:
    assert math.isnan(spread([], "psnr").median)
