"""Two runs never work on one participant in one folder, and a crash leaves no lock behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from colapipe.errors import LockedError, OutputError
from colapipe.run.locks import lock, lock_participants

HOLD = """
import sys, time
from pathlib import Path
from colapipe.run.locks import lock
with lock(Path(sys.argv[1]), "sub-01"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path):
    """A lock that another process holds, and that process."""
    path = tmp_path / "locks" / "sub-01.lock"
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_second_holder_is_told_who_the_first_is(held) -> None:
    path, process = held
    words = rf"process {process.pid}\b.* since "
    with pytest.raises(LockedError, match=words) as refused, lock(path, "sub-01"):
        pytest.fail("it was taken twice")
    assert refused.value.exit_code == 75


def test_the_lock_of_a_killed_run_is_free(held) -> None:
    path, process = held
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with lock(path, "sub-01"):
        pass


def test_whoever_waits_gets_the_lock(held) -> None:
    path, process = held
    process.terminate()
    with lock(path, "sub-01", wait=60):
        pass


def test_participants_are_locked_each_for_itself(held) -> None:
    path, _ = held
    elsewhere = path.parent.parent / "work" / "locks"
    with lock_participants([elsewhere, path.parent], ["02", "01", "03"]) as (mine, refused):
        assert mine == ["02", "03"]
        assert refused.keys() == {"01"} and "sub-01" in refused["01"]
        with lock_participants([elsewhere], ["01", "02", "03"]) as (others, _):
            # The one that was refused in one folder is not kept in the other.
            assert others == ["01"]
    with lock_participants([path.parent], ["02"]) as (mine, _):
        assert mine == ["02"]


def test_a_lock_that_cannot_be_written_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file, not a folder")
    path = tmp_path / "locks" / "sub-01.lock"
    with pytest.raises(OutputError, match="cannot be taken"), lock(path, "sub-01"):
        pytest.fail("it was taken")
