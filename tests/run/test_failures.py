"""Whose node it is: names of nodes say so, whatever BIDS allows in a label."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from colapipe.run.failures import node_name, participant_of
from colapipe.run.workdir import WORKFLOW, clean, participant_folders

LABELS = ("1", "12", "1+2", "1p2", "+", "++", "ses", "wf", "report", "1ses2", "A+b+")


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("session", [None, "1", "1+2", "wf"])
@pytest.mark.parametrize("rest", ["_wf.scan_T1w_wf.load_scan", "_wf"])
def test_a_node_of_a_session_is_known_by_its_name(label: str, session: str | None, rest) -> None:
    assert participant_of(f"colapipe.{node_name(label, session)}{rest}") == (label, session)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("rest", ["report", "outputs"])
def test_a_node_of_a_participant_is_known_by_its_name(label: str, rest: str) -> None:
    assert participant_of(f"colapipe.{node_name(label)}_{rest}") == (label, None)


def test_no_two_participants_share_a_name() -> None:
    names = [node_name(*pair) for pair in itertools.product(LABELS, (None, *LABELS))]
    assert len(set(names)) == len(names)


def test_only_the_folders_of_a_participant_are_emptied(tmp_path: Path) -> None:
    folders = {label: tmp_path / WORKFLOW / f"{node_name(label)}_wf" for label in LABELS}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for label, folder in folders.items():
        assert participant_folders(tmp_path, label) == [folder]
    clean(tmp_path, ["1+2"])
    assert {label for label, folder in folders.items() if not folder.exists()} == {"1+2"}
