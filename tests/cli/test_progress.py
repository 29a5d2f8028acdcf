"""What is said of a run while it goes on."""

from __future__ import annotations

import time

from colapipe.cli import progress
from colapipe.cli.progress import Progress


def test_a_participant_whose_report_is_there_is_complete():
    said: list[str] = []
    run = Progress(4, said.append)
    run.note("colapipe.sub_01_wf.load_scan", "start")
    run.note("colapipe.sub_01_wf.load_scan", "end")
    assert said == []
    run.note("colapipe.sub_01_report", "end")
    assert said == ["sub-01 is complete (2 of 4 nodes, 0.0 min)"]


def test_a_participant_whose_report_fails_is_not_complete():
    said: list[str] = []
    run = Progress(4, said.append)
    run.note("colapipe.sub_01_report", "start")
    run.note("colapipe.sub_01_report", "exception")
    assert said == []
    assert run.done == 1


def test_now_and_then_a_line_says_what_is_running(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    said: list[str] = []
    run = Progress(4, said.append)
    run.note("colapipe.sub_01_wf.load_scan", "start")
    run.say_now_and_then()
    limit = time.monotonic() + 30
    while not said and time.monotonic() < limit:
        time.sleep(0.01)
    run.close()
    assert "0 of 4 nodes" in said[0] and "running: sub_01_wf.load_scan" in said[0]
