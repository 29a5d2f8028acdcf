"""The server that nodes are forked from: what it may not take from where the app was started."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from colapipe.errors import OutputError
from colapipe.workflows.plugins import sockets

SCRIPT = """
# colapipe comes first, as in the app: it is what imports Nipype.
import colapipe.workflows
import sys
from pathlib import Path
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow
from colapipe.run.resources import Resources
from colapipe.workflows.execution import configure_nipype, execute, local_executor

def look(folder: str) -> str:
    import json, logging, os, tempfile
    import nibabel
    open(os.path.join(folder, "seen"), "w").write(tempfile.gettempdir())
    return folder

def main():
    folder = Path(sys.argv[1])
    configure_nipype(folder, folder / "log.txt", stop_on_first_crash=False)
    workflow = Workflow("colapipe", base_dir=str(folder / "work"))
    function = Function(input_names=["folder"], output_names=["out"], function=look)
    node = Node(function, name="look")
    node.inputs.folder = str(folder)
    workflow.add_nodes([node])
    resources = Resources(2, 4, (), 1)
    failures = execute(workflow, local_executor(resources, folder / "log.txt", print), print)
    sys.exit("".join(failure.traceback for failure in failures) or 0)

if __name__ == "__main__":
    main()
"""

HOSTILE = ("json", "logging", "nibabel", "numpy", "multiprocessing", "sitecustomize", "torch")


@pytest.fixture
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A script that runs one node, which says where its temporary files go."""
    path = tmp_path_factory.mktemp("bin") / "script.py"
    path.write_text(SCRIPT)
    return path


def run(script: Path, folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(script), str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **options)


def test_nothing_of_the_working_directory_is_run_or_read(script, tmp_path) -> None:
    here = tmp_path / "here"
    (here / "colapipe").mkdir(parents=True)
    (here / "colapipe" / "__init__.py").write_text("raise ImportError('the wrong colapipe')")
    for module in HOSTILE:
        (here / f"{module}.py").write_text(f"open({str(tmp_path / 'hit')!r}, 'w').write('')")
    (here / "nipype.cfg").write_text("[logging]\nlog_to_file = true\nlog_directory = .\n[broken")
    done = run(script, tmp_path, cwd=here)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").exists() and not (tmp_path / "hit").exists()
    assert not (here / "pypeline.log").exists()


ODD_NAMES = (
    "Study 100%",
    "%(here)s",
    "$HOME `id` $(id)",
    'it\'s "quoted"',
    "back\\slash",
    "two\nlines",
    "naïve 脳",
    "-rf",
    "a:b,c;d&e|f",
    "[x]{y}(z)*?",
    "#~!@^=+",
)


def test_a_run_may_lie_in_a_folder_of_any_name(script, tmp_path) -> None:
    folder = tmp_path.joinpath(*ODD_NAMES)
    folder.mkdir(parents=True)
    done = run(script, folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "seen").exists()


@pytest.mark.parametrize("letters", [100, 200])
def test_temporary_files_stay_in_a_folder_with_a_long_name(letters, script, tmp_path) -> None:
    folder = tmp_path / ("x" * letters)
    folder.mkdir()
    environment = {"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"}
    done = run(script, tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text() == str(folder)
    # What sockets needed is gone at the end.
    assert list(folder.iterdir()) == []


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the folder of sockets was to be made."""
    made: list[str] = []
    monkeypatch.setattr(
        sockets.util, "get_temp_dir", lambda: made.append(tempfile.gettempdir()), raising=True
    )
    return made


def choose() -> None:
    sockets.choose_socket_folder.__wrapped__()


def test_sockets_go_where_the_system_lets_them_be(chosen, monkeypatch, request) -> None:
    # The folders of pytest may have names that are too long for sockets.
    refusing, other = (tempfile.mkdtemp(prefix=name, dir="/tmp") for name in ("fuse", "other"))
    request.addfinalizer(lambda: [shutil.rmtree(folder) for folder in (refusing, other)])
    monkeypatch.setattr(tempfile, "tempdir", refusing)
    monkeypatch.setattr(sockets, "PLACES", (other,))
    bind = socket.socket.bind

    class Refusing(socket.socket):
        def bind(self, address: str) -> None:
            if "fuse" in address:
                raise PermissionError(1, "Operation not permitted")
            bind(self, address)

    monkeypatch.setattr(sockets.socket, "socket", Refusing)
    choose()
    assert chosen == [other]
    assert tempfile.gettempdir() == refusing


def test_where_no_socket_can_be_every_place_is_named(chosen, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr(sockets, "PLACES", ("/proc", "/nowhere"))
    with pytest.raises(OutputError, match=r"gone.*/proc.*/nowhere.*TMPDIR"):
        choose()
    assert chosen == []
