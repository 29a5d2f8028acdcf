"""What a run says before it starts and at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from colapipe.cli.screen import MOST_LISTED, Screen
from colapipe.errors import ScanWarning
from colapipe.plan.sessions import SessionPlan


def test_each_warning_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    planned = SessionPlan("01", None, warnings=(ScanWarning("T2w", "t2.nii is not read"),))
    Screen().plan([planned], "builtin", None, ["sub_04/ is left out"])
    said = "".join(capsys.readouterr())
    assert said.count("sub_04/ is left out") == 1
    assert said.count("t2.nii is not read") == 1


def test_many_warnings_are_cut_short_on_the_terminal_only(tmp_path: Path, capsys) -> None:
    screen = Screen()
    screen.log_to(tmp_path / "a.log")
    lines = [f"sub-{number:02d}: T2w: cut [odd]" for number in range(MOST_LISTED + 3)]
    screen.summary(tmp_path, [], ["sub-01"], {}, 1.0, lines)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"warning: {lines[0]}"
    assert sum(line.startswith("warning:") for line in said) == MOST_LISTED
    assert said[MOST_LISTED] == "... and 3 more, see the log"
    assert "0 participant(s) failed, 23 warning(s)" in said[MOST_LISTED + 1]
    log = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert log.count("WARNING: sub-") == len(lines)


def test_a_run_without_warnings_counts_none(tmp_path: Path, capsys) -> None:
    Screen().summary(tmp_path, [], ["sub-01"], {}, 1.0)
    said = capsys.readouterr().out
    assert "0 warning(s)" in said and "warning:" not in said
