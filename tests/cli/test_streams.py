"""Output that breaks ends no work, is named for what it is, and prints no traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from colapipe.cli.streams import Output, run_with_streams

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
DESCRIPTION = json.dumps(
    {"Name": "x", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "colapipe"}]}
)


class Broken:
    """A stream that fails from the second text on."""

    def __init__(self, code: int) -> None:
        self.code, self.texts = code, []

    def write(self, text: str) -> int:
        if self.texts:
            raise OSError(self.code, os.strerror(self.code))
        self.texts.append(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""


@pytest.mark.parametrize(
    ("code", "only_words", "works", "ends"),
    [
        (errno.EPIPE, True, False, 141),
        (errno.EPIPE, False, True, 0),
        (errno.EIO, True, True, 74),
        (errno.ENOSPC, False, True, 74),
    ],
)
def test_work_goes_on_whatever_becomes_of_its_words(
    code, only_words, works, ends, monkeypatch, capsys
):
    done = []

    def command(output: Output) -> int:
        output.only_words = only_words
        for number in range(3):
            sys.stdout.write(f"{number}\n")
        done.append(True)
        return 0

    stream = Broken(code)
    monkeypatch.setattr(sys, "stdout", stream)
    try:
        found = run_with_streams("program", command)
    except SystemExit as end:
        found = end.code
    assert sys.stdout is stream
    assert (found, bool(done), stream.texts) == (ends, works, ["0\n"])
    said = capsys.readouterr().err
    expected = "" if code == errno.EPIPE else "program: error: standard output cannot be written"
    assert said.startswith(expected) and bool(said) == bool(expected)


def test_the_code_of_a_failure_is_not_hidden_by_a_broken_stream(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(errno.ENOSPC))

    def command(output: Output) -> int:
        print("one")
        print("two")
        return 66

    assert run_with_streams("program", command) == 66


def run(module: str, *arguments: object, **streams: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", f"colapipe.cli.{module}", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        **streams,
    )
    return done.returncode, done.stderr


def without_reader(module: str, *arguments: object) -> tuple[int, str]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return run(module, *arguments, stdout=writing)
    finally:
        os.close(writing)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """An output folder for the group level."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset_description.json").write_text(json.dumps(DESCRIPTION))
    return out


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("app", ["--help"]), ("app", ["--version"]), ("model", ["info"]), ("demo", ["--help"])],
)
def test_a_command_that_only_prints_ends_quietly_without_a_reader(module, arguments):
    assert without_reader(module, *arguments) == (141, "")


@needs_full
@pytest.mark.parametrize(
    ("module", "arguments"),
    [("app", ["--version"]), ("model", ["info", "--json"]), ("demo", ["--version"])],
)
def test_a_full_standard_output_is_named(module, arguments):
    with Path("/dev/full").open("w") as full:
        code, said = run(module, *arguments, stdout=full)
    assert code == 74
    assert "standard output cannot be written" in said and said.count("\n") == 1


def test_the_group_level_is_done_without_a_reader(finished, tmp_path):
    assert without_reader("app", tmp_path, finished, "group") == (0, "")
    assert (finished / "group_quality.tsv").is_file()


def test_a_closed_standard_output_takes_no_file_in_its_place(finished, tmp_path):
    command = 'exec "$@" >&-'
    done = subprocess.run(
        [
            *("sh", "-c", command, "sh", sys.executable, "-m", "colapipe.cli.app"),
            *(tmp_path, finished, "group"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (finished / "group.html").read_text().startswith("<!")


def test_a_name_that_no_encoding_knows_is_no_traceback(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xe9"
    done = subprocess.run(
        [sys.executable, "-m", "colapipe.cli.app", name, tmp_path / "out", "participant"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 2 and b"Traceback" not in done.stderr
