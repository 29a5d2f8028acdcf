"""The user guide keeps up with the code: every option and every exit code is explained."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from colapipe import errors
from colapipe.cli.parser import build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def options() -> list[str]:
    """Long options of the app; of several spellings the first."""
    return [
        next(option for option in action.option_strings if option.startswith("--"))
        for action in build_parser()._actions
        if action.option_strings
    ]


@pytest.mark.parametrize("option", options())
def test_every_option_is_in_the_guide(option: str) -> None:
    guide = (DOCS / "usage.md").read_text(encoding="utf-8")
    assert re.search(rf"`[^`]*{option}\b(?!-)[^`]*`", guide), f"docs/usage.md: no word of {option}"


def test_the_guide_names_no_option_that_does_not_exist() -> None:
    known = {option for action in build_parser()._actions for option in action.option_strings}
    guide = (DOCS / "usage.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", guide))
    assert named <= known, sorted(named - known)


def test_every_exit_code_is_explained() -> None:
    page = (DOCS / "when-something-goes-wrong.md").read_text(encoding="utf-8")
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    raised = {
        error.exit_code
        for _, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.ColapipeError)
    }
    assert raised | {0, 130, 143} == explained


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")], ids=lambda p: p.name
)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target} does not exist"
