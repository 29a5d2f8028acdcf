"""The table of what nodes consumed: written row by row, read back, summed up."""

from __future__ import annotations

import pytest

from colapipe.run.usage import (
    APP_GB,
    COLUMNS,
    NodeUsage,
    append_usage,
    memory_to_ask_for,
    most_at_once,
    most_memory_gb,
    read_usage,
    slowest,
)


def usage(node: str = "a", start: float = 0, seconds: float = 1, gb: float | None = 1) -> NodeUsage:
    return NodeUsage(f"colapipe.{node}", start, seconds, 0.5, 2, 1.5, gb)


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [
        usage("sub_01_ses_A_wf.scan_T1w_wf.load_scan", 1_700_000_000.25, 1.5),
        NodeUsage("colapipe.sub_02_report", 1.7e9, 2, None, 1, 1, None, "GPU-1", 3.5, "SIGKILL"),
    ]
    for row in rows:
        append_usage(tmp_path / "resources.tsv", row)
    assert read_usage(tmp_path / "resources.tsv") == rows


def test_the_table_names_participant_and_session_and_what_is_missing(tmp_path):
    table = tmp_path / "resources.tsv"
    append_usage(table, usage("sub_01_ses_A_wf.load_scan", gb=None))
    header, row = (line.split("\t") for line in table.read_text().splitlines())
    assert tuple(header) == COLUMNS
    cells = dict(zip(header, row, strict=True))
    assert (cells["participant"], cells["session"]) == ("01", "A")
    assert cells["peak_memory_gb"] == cells["gpu"] == "n/a"


def test_without_a_table_nothing_ran(tmp_path):
    assert read_usage(tmp_path / "resources.tsv") == []


def test_only_nodes_that_ran_together_are_summed():
    rows = [usage("a", 0, 10, 1), usage("b", 5, 10, 2), usage("c", 15, 1, 2.5)]
    assert most_at_once(rows, lambda row: row.threads) == 4
    assert most_memory_gb(rows) == pytest.approx(3 + APP_GB)


def test_the_memory_to_ask_for_is_whole_gigabytes_with_a_margin():
    assert memory_to_ask_for([usage(gb=3.6)]) == 5
    assert memory_to_ask_for([usage(gb=3.7)]) == 6


def test_the_slowest_come_first():
    rows = [usage("a", seconds=1), usage("b", seconds=3), usage("c", seconds=2)]
    assert [row.node for row in slowest(rows, 2)] == ["colapipe.b", "colapipe.c"]
