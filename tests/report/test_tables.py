"""Tables are shown whatever their columns, and one that is damaged is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colapipe.bids.names import parse_name
from colapipe.bids.outputs import OutputFile
from colapipe.report.tables import Table, show_table, worst_light


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, about: object = None) -> Table:
        path = tmp_path / "sub-01_space-T1w_desc-quality_qc.tsv"
        path.write_text(text, encoding="utf-8")
        if about is not None:
            path.with_suffix(".json").write_text(json.dumps(about))
        return show_table(OutputFile(path, parse_name(path)))

    return write


def test_columns_take_their_titles_from_the_dictionary(table) -> None:
    found = table("nmi\tother\n1.5\tx\n", {"nmi": {"LongName": "Cost", "Units": "1"}, "other": 3})
    assert [(column.title, column.units) for column in found.columns] == [
        ("Cost", "1"),
        ("other", ""),
    ]
    assert found.described == []


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("0.123456789", "0.1235"),
        ("23.45", "23.45"),
        ("1629993", "1629993"),
        ("3.12885e-05", "3.129e-05"),
        ("1e-05", "1e-05"),
        ("-12.34567", "-12.35"),
        ("n/a", "n/a"),
        ("T1w, T2w", "T1w, T2w"),
        ("v1.23456", "v1.23456"),
    ],
)
def test_fractions_get_four_digits_and_nothing_else_changes(table, written, shown) -> None:
    assert table(f"a\n{written}\n1\n").rows == [[shown], ["1"]]


def test_empty_columns_are_named_apart_and_the_participant_is_not_repeated(table) -> None:
    found = table("participant_id\ta\tb\nsub-01\tn/a\t1\nsub-01\tn/a\tn/a\n")
    assert [column.name for column in found.columns] == ["b"]
    assert [column.name for column in found.empty] == ["a"]
    assert found.rows == [["1"], ["n/a"]]


def test_a_wide_table_is_turned_and_headed_by_its_contrasts(table) -> None:
    names = [f"m{number}" for number in range(12)]
    found = table(
        "\t".join(["contrast", "synthetic", *names])
        + "\nT2w\tfalse\t"
        + "\t".join("1" * 12)
        + "\nT2w\ttrue\t"
        + "\t".join("2" * 12)
        + "\n"
    )
    assert found.turned
    assert found.heads == ["T2w", "T2w SYNTHETIC"]
    assert [column.name for column, _ in found.measures] == names
    assert found.measures[0][1] == ["1", "2"]
    assert not table("contrast\tm\nT2w\t1\n").turned


@pytest.mark.parametrize("text", ["", "a\tb\n1\n"])
def test_a_damaged_table_says_so(table, text: str) -> None:
    assert "cannot be read" in table(text).error


@pytest.mark.parametrize(
    ("lights", "worst"),
    [
        (["green", "red", "amber"], "red"),
        (["green", "amber"], "amber"),
        (["n/a", "green"], "green"),
        (["n/a"], "n/a"),
        (["green"], "green"),
        (["<b>"], None),
        ([], None),
    ],
)
def test_the_worst_light_is_what_counts(table, lights: list[str], worst: str | None) -> None:
    rows = "".join(f"T{number}\t{light}\n" for number, light in enumerate(lights))
    assert worst_light([table("contrast\tlight\n" + rows)]) == worst
    assert worst_light([]) is None
