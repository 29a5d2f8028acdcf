"""A run that is killed, interrupted or ended: what is said, what is kept, and how it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from colapipe.run.usage import most_at_once, read_usage

PATIENCE = 300.0
"""Seconds: a ceiling against hanging only, for machines that are very busy."""


class Background:
    """The app, at work in the background."""

    def __init__(self, out: Path, *arguments: object) -> None:
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, "-m", "colapipe.cli.app", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )

    def log(self) -> str:
        return "".join(path.read_text() for path in self.out.glob("logs/*/colapipe.log"))

    def pid_of(self, node: str) -> int:
        """Wait until a node runs and return its process."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            if found := re.search(rf"{re.escape(node)} is process (\d+)", self.log()):
                return int(found[1])
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.05)
        raise AssertionError(f"{node} did not start")

    def line_with(self, words: str) -> str:
        """Wait for a line of output."""
        for line in self.process.stdout or ():
            if words in line:
                return line
        raise AssertionError(f"nothing was said of {words!r}")

    def end(self) -> tuple[int, str]:
        text, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, text


@pytest.fixture
def start() -> Iterator[Callable[..., Background]]:
    """Start the app in the background; what still runs at the end of a test is ended."""
    started: list[Background] = []

    def begin(out: Path, *arguments: object) -> Background:
        started.append(Background(out, *arguments))
        return started[-1]

    yield begin
    for run in started:
        run.process.kill()
        run.process.communicate()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def group_of(pid: int) -> list[int]:
    """Return the processes of a session: a node and the commands that it runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid:
            found.append(int(path.parent.name))
    return found


def synthesises(pid: int) -> bool:
    """Say whether a node runs the model by now."""
    commands = [Path(f"/proc/{each}/cmdline") for each in group_of(pid)]
    return any(b"request.json" in path.read_bytes() for path in commands if path.exists())


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.1)
    return condition()


def test_a_killed_node_is_reported_within_seconds_and_the_others_complete(
    simulated, quick, tmp_path, start
):
    out = tmp_path / "out"
    labels = ("--participant-label", "01", "02", "--target", "PDw", "-w", tmp_path / "work")
    run = start(out, simulated, out, *quick, *labels)
    node = "sub_01_wf.scan_T1w_wf.correct_bias"
    os.kill(run.pid_of(node), signal.SIGKILL)
    killed = time.monotonic()
    assert node in run.line_with("failed")
    assert time.monotonic() - killed < 10
    code, text = run.end()
    assert code == 1, text
    assert (out / "sub-02/anat/sub-02_space-T1w_desc-synth_PDw.nii.gz").is_file()
    assert f"{node}: its process was ended by SIGKILL, most likely for want of memory" in text
    crash = re.search(r"crash file: (\S+\.txt)\)", text)
    assert crash and f"colapipe.{node}" in Path(crash[1]).read_text()
    assert "SIGKILL" in (out / "sub-01.html").read_text()
    table = next(out.glob("logs/*/resources.tsv"))
    assert {row.node: row.exit for row in read_usage(table)}[f"colapipe.{node}"] == "SIGKILL"


@pytest.fixture(scope="module")
def whole(app, simulated, quick, tmp_path_factory):
    """An uninterrupted run of one participant; returns its output folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    options = ("--participant-label", "02", "--target", "PDw", "-w", folder / "work")
    result = app(simulated, folder / "out", *quick, *options)
    assert result.code == 0, result.text
    return folder / "out", result.text


INTERRUPTIONS = {
    "ctrl-c": (signal.SIGINT, 130, "sub_02_wf.scan_T1w_wf.correct_bias"),
    "sigterm": (signal.SIGTERM, 143, "sub_02_wf.synth_PDw_wf.synthesise"),
    "sigterm-while-saving": (signal.SIGTERM, 143, "sub_02_wf.save_tissue_FLAIR_in_T1w"),
}


@pytest.mark.parametrize("case", INTERRUPTIONS)
def test_an_interrupted_run_ends_its_children_and_goes_on_to_the_same_result(
    case, whole, app, simulated, quick, tmp_path, start, fingerprints
):
    number, expected, node = INTERRUPTIONS[case]
    out = tmp_path / "out"
    labels = ("--participant-label", "02", "--target", "PDw", "-w", tmp_path / "work")
    arguments = (simulated, out, *quick, *labels)
    run = start(out, *arguments)
    pid = run.pid_of(node)
    if node.endswith("synthesise"):
        assert wait_for(lambda: synthesises(pid))
    children = [pid, *group_of(pid)]
    run.process.send_signal(number)
    code, text = run.end()
    assert code == expected, text
    assert "start the same command again to go on" in text
    assert "Traceback" not in text
    assert not any(is_alive(child) for child in children)
    finished = fingerprints(whole[0], "sub-*/**/*")
    before = fingerprints(out, "sub-*/**/[!.]*")
    assert before.items() <= finished.items()
    result = app(*arguments)
    assert result.code == 0, result.text
    assert " 0 of " not in result.text
    assert fingerprints(out, "sub-*/**/[!.]*") == finished


def test_nodes_do_not_outlive_an_app_that_is_killed(simulated, quick, tmp_path, start):
    out = tmp_path / "out"
    labels = ("--participant-label", "02", "--target", "PDw", "-w", tmp_path / "work")
    run = start(out, simulated, out, *quick, *labels)
    pid = run.pid_of("sub_02_wf.synth_PDw_wf.synthesise")
    assert wait_for(lambda: synthesises(pid))
    children = [pid, *group_of(pid)]
    run.process.kill()
    assert wait_for(lambda: not any(is_alive(child) for child in children))


def test_the_table_of_resources_has_a_row_for_each_node_that_ran(whole):
    out, text = whole
    rows = read_usage(next(out.glob("logs/*/resources.tsv")))
    names = [row.node for row in rows]
    assert len(set(names)) == len(names) > 20
    assert {row.exit for row in rows} == {"ok"}
    assert all(row.seconds > 0 and row.peak_memory_gb > 0 for row in rows)
    cpus = int(re.search(r"(\d+) CPU\(s\)", text)[1])
    assert most_at_once(rows, lambda row: row.threads) <= cpus


def test_the_summary_names_the_slowest_nodes_and_the_memory_to_ask_for(whole):
    _, text = whole
    assert re.search(r"slowest: sub_02_\S+ \d+ s, .* --mem \d+G is enough", text)


def test_a_run_without_a_terminal_says_which_participants_are_complete(whole):
    _, text = whole
    assert re.search(r"sub-02 is complete \(\d+ of \d+ nodes", text)


def test_a_gpu_that_cuda_cannot_use_leaves_the_work_to_the_cpu_with_one_warning(
    whole, app, simulated, quick, tmp_path, fingerprints
):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that works")
    out = tmp_path / "out"
    options = ("--participant-label", "02", "--target", "PDw", "-w", tmp_path / "work")
    result = app(simulated, out, *quick, *options, CUDA_VISIBLE_DEVICES="0")
    assert result.code == 0, result.text
    assert result.text.count("the GPU cannot be used, so the CPU synthesises everything") == 1
    assert fingerprints(out, "sub-*/**/*.nii.gz") == fingerprints(whole[0], "sub-*/**/*.nii.gz")
    rows = read_usage(next(out.glob("logs/*/resources.tsv")))
    tried = [(row.gpu, row.exit) for row in rows if row.node.endswith("synthesise")]
    assert tried == [("0", "failed"), (None, "ok")]
