"""A control group that really runs out of memory: the step that the kernel ends is named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 700 * 1024**2

SCRIPT = """
import sys
from pathlib import Path

from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow

from colapipe.run.failures import last_words
from colapipe.run.resources import Resources, available_memory_gb
from colapipe.workflows.execution import configure_nipype, execute, local_executor


def take(gigabytes: float) -> int:
    return len(bytearray(int(gigabytes * 1024**3)).replace(b"x", b"y"))


def main(folder: Path) -> None:
    configure_nipype(folder, folder / "log.txt", stop_on_first_crash=False)
    workflow = Workflow("colapipe", base_dir=str(folder))
    for name, gigabytes in (("greedy", 2), ("modest", 0.01)):
        node = Node(Function(function=take), name=name)
        node.inputs.gigabytes = gigabytes
        workflow.add_nodes([node])
    done = []
    plugin = local_executor(Resources(2, 8, (), 1), folder / "log.txt", print)
    failures = execute(workflow, plugin, lambda name, what: done.append((name, what)))
    print(f"limit: {available_memory_gb():.2f}")
    for failure in failures:
        print(f"failed: {failure.node}: {last_words(failure.traceback)}")
    print("completed:", *(name for name, what in done if what == "end"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of version 1, inside that of the tests, with little memory."""
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    inner = next((line.split(":", 2)[2] for line in groups if ":memory:" in line), None)
    if inner is None:
        pytest.skip("no memory control group of version 1")
    group = Path(f"/sys/fs/cgroup/memory{inner}") / f"colapipe-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError as err:
        pytest.skip(f"no right to make a control group ({err.strerror})")
    yield group
    # The server that nodes are forked from may need a moment to see that the run is over.
    limit = time.monotonic() + 30
    while (group / "cgroup.procs").read_text() and time.monotonic() < limit:
        time.sleep(0.1)
    group.rmdir()


def test_a_step_that_the_kernel_ends_for_want_of_memory_is_named_as_such(small_group, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    enter = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", enter, str(small_group), sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "limit: 0.68" in done.stdout
    assert "failed: colapipe.greedy: its process was ended by SIGKILL" in done.stdout
    assert "the system ended 1 process(es) of this run for want of memory" in done.stdout
    assert "completed: colapipe.modest" in done.stdout
