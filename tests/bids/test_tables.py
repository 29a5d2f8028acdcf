"""Cells hold one value and never a tab; tables are read as they were written, or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colapipe.bids.tables import cell, read_rows, read_table, write_table
from colapipe.errors import ReadWriteError


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
    assert cell(value) == text


def test_digits_are_of_the_number_and_not_of_its_fraction() -> None:
    assert (cell(1234.567, 4), cell(0.00123456, 4)) == ("1235", "0.001235")


COLUMNS = {"name": {"Description": "a name"}, "value": {"Description": "a number"}}


def test_what_is_written_is_read_as_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a_qc.tsv"
    rows = [{"name": 'a "quoted" word, NA', "value": 0.123456789}, {"value": None, "else": 1}]
    write_table(path, rows, COLUMNS, more={"Note": "besides"})
    assert read_rows(path) == [
        {"name": 'a "quoted" word, NA', "value": "0.123457"},
        {"name": "n/a", "value": "n/a"},
    ]
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about == {**COLUMNS, "Note": "besides"}


def test_a_table_never_stands_there_without_its_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "a_qc.tsv"
    path.with_suffix(".json").mkdir()
    with pytest.raises(ReadWriteError):
        write_table(path, [], COLUMNS)
    assert not path.exists()


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "a_qc.tsv", [], COLUMNS)
    assert list(read_table(tmp_path / "a_qc.tsv").columns) == list(COLUMNS)
    assert read_rows(tmp_path / "a_qc.tsv") == []


@pytest.mark.parametrize(
    "text", ["", "a\tb\n1\t2\t3\n", "a\tb\n1\t2\n1\t2\t3\n", "a\tb\n1\n", 'a\tb\n"1\t2\n']
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"fit|empty|tokenizing"):
        read_table(path)
