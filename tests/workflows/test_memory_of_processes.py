"""Memory is read from outside, whatever processes come and go meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from colapipe.workflows.plugins.memory import PeakMemory, descendants, tree_memory_gb

HOLD = "x = bytearray({} * 1024**2); print(flush=True); input()"
TREE = (
    "import subprocess, sys\n"
    f"child = subprocess.Popen([sys.executable, '-c', {HOLD.format(300)!r}], "
    "stdin=sys.stdin, stdout=sys.stdout)\n"
    "child.wait()"
)


@pytest.fixture
def tree():
    """A process whose child holds 300 MB."""
    process = subprocess.Popen(
        [sys.executable, "-c", TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process
    if process.returncode is None:
        process.communicate("\n")


def test_the_memory_of_children_counts(tree):
    assert len(descendants(tree.pid)) == 1
    assert 0.3 <= tree_memory_gb(tree.pid) < 0.5


def test_memory_that_processes_share_is_counted_once():
    block = bytearray(os.urandom(1024**2) * 200)
    read, write = os.pipe()
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            os.read(read, 1)
            os._exit(len(block) % 2)
        children.append(child)
    together = tree_memory_gb(os.getpid())
    os.write(write, b"123")
    for child in children:
        os.waitpid(child, 0)
    assert together < tree_memory_gb(os.getpid()) + 0.2


def test_a_process_that_is_gone_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert descendants(process.pid) == []
    assert tree_memory_gb(process.pid) == 0


def test_the_peak_outlives_the_process(tree):
    gone = subprocess.Popen(["true"])
    gone.wait()
    watch = PeakMemory(lambda: [gone.pid, tree.pid])
    watch.start()
    time.sleep(1.5)
    tree.communicate("\n")
    time.sleep(0.5)
    watch.stop()
    assert 0.3 <= watch.take(tree.pid) < 0.5
    assert watch.take(tree.pid) == 0
