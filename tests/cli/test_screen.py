"""What a run says before it starts."""

from __future__ import annotations

import pytest

from colapipe.cli.screen import Screen
from colapipe.errors import ScanWarning
from colapipe.plan import SessionPlan


def test_each_warning_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    planned = SessionPlan("01", None, warnings=(ScanWarning("T2w", "t2.nii is not read"),))
    Screen().plan([planned], "builtin", None, ["sub_04/ is left out"])
    said = "".join(capsys.readouterr())
    assert said.count("sub_04/ is left out") == 1
    assert said.count("t2.nii is not read") == 1
