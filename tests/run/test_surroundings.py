"""What a command takes over from where it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colapipe.errors import UsageError
from colapipe.run.surroundings import in_folder, settle


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that was deleted."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return folder


def test_a_folder_is_left_for_a_while_even_one_that_is_gone(gone: Path) -> None:
    with in_folder("/"):
        assert Path.cwd() == Path("/")
    with pytest.raises(FileNotFoundError):
        Path.cwd()


def test_absolute_paths_need_no_working_directory(gone: Path) -> None:
    settle({"out_dir": Path("/out"), "models": [Path("/a"), Path("~/b")], "seed": 1, "log": None})
    assert Path.cwd() == Path("/")


@pytest.mark.parametrize("given", [Path("out"), [Path("/a"), Path("b")]])
def test_a_relative_path_without_a_working_directory_is_refused_by_name(gone, given) -> None:
    with pytest.raises(UsageError, match=r"^models (out|b): .*working directory"):
        settle({"models": given})


def test_a_path_that_is_not_utf_8_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / os.fsdecode(b"donn\xe9es")
    with pytest.raises(UsageError, match="UTF-8"):
        settle({"bids_dir": folder})
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="UTF-8"):
        settle({"bids_dir": Path("raw")})
    settle({"bids_dir": Path("/raw")})


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PATH", "LD_LIBRARY_PATH"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("/a:/b", "/a:/b"),
        (":/a", "/a"),
        ("/a:.:/b:", "/a:/b"),
        ("inner:./", "{here}/inner"),
        ("{here}:.", "{here}"),
    ],
)
def test_the_working_directory_is_searched_only_where_it_is_named_in_full(
    variable, value, expected, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv(variable, value.format(here=tmp_path))
    settle({})
    assert (os.environ.get(variable) or None) == (expected and expected.format(here=tmp_path))
    if variable == "PYTHONPATH" and value.startswith(":"):
        assert str(tmp_path) not in sys.path


HOSTILE = ("json", "logging", "nibabel", "numpy", "sitecustomize", "torch")


@pytest.fixture
def command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Run a command as its console script does: with the script's folder on the search path."""

    def run(name: str, *arguments: str, **options: Any) -> Any:
        script = tmp_path_factory.mktemp("bin") / name
        script.write_text(f"import sys\nfrom colapipe.cli.{name} import main\nsys.exit(main())\n")
        words = [sys.executable, str(script), *arguments]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)

    return run


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("app", ["/nowhere", "/elsewhere/out", "participant", "-w", "/elsewhere/work"], 65),
        ("model", ["synth", "request.json"], 2),
        ("demo", ["--missing", "x", "--", "-out"], 2),
    ],
)
def test_commands_import_nothing_from_the_working_directory(
    name, arguments, code, command, tmp_path
) -> None:
    for module in HOSTILE:
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'hit')!r}, 'w').write('')")
    (tmp_path / "colapipe").mkdir()
    (tmp_path / "colapipe" / "__init__.py").write_text("raise SystemExit('hit')")
    (tmp_path / "request.json").write_text("{}")
    done = command(name, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("app", ["/nowhere", "/elsewhere/out", "participant", "-w", "/elsewhere/work"]),
        ("model", ["info", "/nowhere"]),
        ("demo", ["/proc/nowhere"]),
    ],
)
def test_no_command_needs_a_working_directory(name, arguments, command, gone) -> None:
    done = command(name, *arguments)
    assert "Traceback" not in done.stderr
    assert "/nowhere" in done.stderr
