"""A cell holds one value, whatever it is made of, and never a tab or a line end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from colapipe.bids import tsv


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "n/a"),
        (math.nan, "n/a"),
        (np.float32("nan"), "n/a"),
        ("", "n/a"),
        (" \t\n", "n/a"),
        ("a\tb\r\nc", "a b c"),
        (math.inf, "inf"),
        (np.float64(-math.inf), "-inf"),
        (True, "true"),
        (np.bool_(False), "false"),
        (12345678, "12345678"),
        (np.int64(12345678), "12345678"),
        (0.1 + 0.2, "0.3"),
        (np.float32(0.1), "0.1"),
    ],
)
def test_a_value_becomes_one_cell(value: Any, text: str) -> None:
    assert tsv.cell(value) == text


def test_digits_are_of_the_number_and_not_of_its_fraction() -> None:
    assert (tsv.cell(1234.567, 4), tsv.cell(0.00123456, 4)) == ("1235", "0.001235")
