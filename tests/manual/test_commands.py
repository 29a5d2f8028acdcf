"""Every command of the manual: it parses, and somebody runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from colapipe.cli import demo, model
from colapipe.cli.parser import parse_settings

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = {"bash", "python", "text", "yaml", "json"}
PROGRAMS = {
    "make",
    "pip",
    "docker",
    "apptainer",
    "sbatch",
    "torchrun",
    "colapipe",
    "colapipe-model",
}


@pytest.fixture(scope="module")
def blocks(tool: Callable[[str], ModuleType]) -> list:
    tools = tool("run_blocks")
    return [block for page in tools.PAGES for block in tools.blocks_of(page)]


@pytest.fixture(scope="module")
def commands(blocks: list) -> list[tuple[str, list[str]]]:
    """Where each command stands, and its words."""
    return [
        (f"{block.page}:{block.line}", words)
        for block in blocks
        if block.language == "bash"
        for words in block.commands()
    ]


def test_words_are_read_as_a_shell_reads_them(tool: Callable[[str], ModuleType]) -> None:
    text = "a 'b c' \\\n  --d   # a comment\n# another\ne > file\nf | g; h && i 2\n"
    found = list(tool("run_blocks").Block("p", 1, "bash", text).commands())
    assert found == [["a", "b c", "--d"], ["e"], ["f"], ["g"], ["h"], ["i", "2"]]


def test_every_page_is_looked_at(tool: Callable[[str], ModuleType]) -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert {*tool("run_blocks").PAGES} == pages | {"README.md", "CONTRIBUTING.md"}


def test_every_fence_is_read_and_names_its_language(
    blocks: list, tool: Callable[[str], ModuleType]
) -> None:
    fences = sum(
        len(re.findall(r"^ *(```|~~~)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
        for page in tool("run_blocks").PAGES
    )
    assert fences == 2 * len(blocks)
    assert not [f"{b.page}:{b.line}" for b in blocks if b.language not in LANGUAGES]


def test_commands_are_only_where_they_are_run(blocks: list) -> None:
    """A command of colapipe in a block of another language would escape all of this."""
    for block in blocks:
        if block.language != "bash":
            for line in block.text.splitlines():
                hidden = re.match(r"(colapipe|make|docker|sbatch)\b", line)
                synopsis = "[" in line or "level" in line or line.endswith(" group")
                assert not hidden or synopsis, f"{block.page}:{block.line}: {line}"


def test_every_command_of_colapipe_parses(
    commands: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    parsers = {
        "colapipe": parse_settings,
        "colapipe-model": model._parser().parse_args,
        "colapipe-demo": demo.build_parser().parse_args,
    }
    seen: set[str] = set()
    for where, words in commands:
        program = words[0].removeprefix(".venv/bin/")
        if program in parsers:
            seen.add(program)
            try:
                parsers[program](words[1:])
            except (SystemExit, Exception) as err:
                if getattr(err, "code", None) != 0:
                    pytest.fail(f"{where}: {' '.join(words)}: {err} {capsys.readouterr().err}")
    assert seen == set(parsers)


def test_training_by_torchrun_parses(commands: list[tuple[str, list[str]]]) -> None:
    (words,) = (words for _, words in commands if words[0] == "torchrun")
    after = words[words.index("colapipe.cli.model") + 1 :]
    assert model._parser().parse_args(after).command == "train"


def test_every_target_of_make_is_there(commands: list[tuple[str, list[str]]]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    asked = {(where, words[1]) for where, words in commands if words[0] == "make"}
    assert asked and {target for _, target in asked} <= targets


def test_who_is_said_to_run_a_block_says_so_too(
    blocks: list, tool: Callable[[str], ModuleType]
) -> None:
    said = {(block.page, block.runner) for block in blocks if block.language in ("bash", "python")}
    said = {pair for pair in said if pair[1] != tool("run_blocks").HERE}
    runners = {runner for _, runner in said}
    assert runners
    for runner in runners:
        assert (ROOT / runner).is_file(), f"{runner} does not exist"
        text = (ROOT / runner).read_text(encoding="utf-8")
        pages = set(re.findall(r"manual: ((?:docs/)?[\w-]+\.md)", text))
        assert pages == {page for page, other in said if other == runner}, runner


def test_what_nobody_is_named_for_can_be_run_on_any_machine(
    blocks: list, tool: Callable[[str], ModuleType]
) -> None:
    for block in blocks:
        if block.language == "bash" and block.runner == tool("run_blocks").HERE:
            for words in block.commands():
                assert Path(words[0]).name.startswith(("colapipe", "python")), (
                    f"{block.page}:{block.line}: who runs {words[0]}? (CONTRIBUTING.md, The manual)"
                )


def test_python_is_run_by_a_test(blocks: list) -> None:
    python = [block for block in blocks if block.language == "python"]
    assert {block.runner for block in python} == {"tests/manual/test_python.py"}


def test_each_runner_knows_the_programs_of_its_blocks(
    blocks: list, tool: Callable[[str], ModuleType]
) -> None:
    """A block that says who runs it, where nobody there has heard of its program, is a lie."""
    for block in blocks:
        if block.language == "bash" and block.runner != tool("run_blocks").HERE:
            text = (ROOT / block.runner).read_text(encoding="utf-8")
            for words in block.commands():
                program = Path(words[0]).name
                if program in PROGRAMS:
                    assert program in text, f"{block.runner}: {program}, {block.page}:{block.line}"


@pytest.mark.slow
def test_the_commands_of_the_manual_run(tool: Callable[[str], ModuleType]) -> None:
    done = subprocess.run(
        [sys.executable, tool("run_blocks").__file__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # Against hanging only.
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
