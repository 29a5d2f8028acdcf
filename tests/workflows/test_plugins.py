"""The executor of one machine: whatever becomes of a node, the run ends and says so."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.synthesis import Synthesise
from colapipe.run.failures import Failure, last_words
from colapipe.run.resources import Resources
from colapipe.run.usage import NodeUsage, most_at_once, read_usage
from colapipe.workflows.execution import configure_nipype, execute, local_executor
from colapipe.workflows.plugins.worker import send_to_log


def pass_on(value: int = 0, before: int = 0) -> int:
    return value


def sleep(seconds: float = 0.5, before: int = 0) -> int:
    import time

    time.sleep(seconds)
    return 1


def die(how: int) -> int:
    """End this process by a signal, or by an exit code if the number is negative."""
    import os
    import time

    if how < 0:
        os._exit(-how)
    os.kill(os.getpid(), how)
    time.sleep(60)
    return 1


class Run:
    """A small workflow, and what became of it."""

    def __init__(self, folder: Path, *, stop_on_first_crash: bool = False) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        configure_nipype(folder, self.log, stop_on_first_crash=stop_on_first_crash)
        self.workflow = Workflow("colapipe", base_dir=str(folder / "work"))
        self.failures: list[Failure] = []
        self.ended: list[str] = []
        self.warnings: list[str] = []
        self.on_start: Callable[[str], None] = lambda name: None

    def add(self, name: str, function: Callable[..., int], after: Node = None, **inputs) -> Node:
        resources = {key: inputs.pop(key) for key in ("n_procs", "mem_gb") if key in inputs}
        node = Node(Function(function=function), name=name, **resources)
        node.inputs.trait_set(**inputs)
        self.workflow.add_nodes([node])
        if after is not None:
            self.workflow.connect(after, "out", node, "before")
        return node

    def start(self, nprocs: int = 2, mem_gb: float = 8, gpus: tuple[str, ...] = ()) -> None:
        resources = Resources(nprocs, mem_gb, gpus, nprocs)
        plugin = local_executor(resources, self.log, self.warnings.append)
        self.failures = execute(self.workflow, plugin, self._note)

    def _note(self, name: str, status: str) -> None:
        if status == "end":
            self.ended.append(name.partition(".")[2])
        elif status == "start":
            self.on_start(name.partition(".")[2])

    @property
    def table(self) -> dict[str, NodeUsage]:
        rows = read_usage(self.folder / "resources.tsv")
        return {row.node.partition(".")[2]: row for row in rows}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


DEATHS = {
    "killed": (signal.SIGKILL, "was ended by SIGKILL, most likely for want of memory"),
    "fault": (signal.SIGSEGV, "was ended by SIGSEGV, a fault"),
    "exit": (-3, "ended with exit code 3"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_node_whose_process_dies_is_named_with_the_cause(death, run):
    how, words = DEATHS[death]
    guilty = run.add("guilty", die, how=int(how))
    run.add("dependent", pass_on, after=guilty)
    beside = run.add("beside", sleep)
    run.add("later", pass_on, after=beside)
    run.start()
    assert [failure.node for failure in run.failures] == ["colapipe.guilty"]
    assert words in last_words(run.failures[0].traceback)
    assert "colapipe.guilty" in run.failures[0].crash_file.read_text()
    assert run.ended == ["beside", "later"]
    assert run.table["guilty"].exit in ("SIGKILL", "SIGSEGV", "3")
    assert run.table["beside"].exit == "ok"


def stand_in(folder: Path, body: str) -> str:
    """Write a command that takes a request as ``colapipe-model synth`` does."""
    path = folder / "stand_in.py"
    path.write_text(
        "import json, os, signal, sys, time\n"
        "request = json.load(open(sys.argv[-1]))\n"
        "device = request['options']['device']\n"
        f"{body}\n"
        "for name in ('mean', 'info'):\n"
        "    open(request['outputs'][name], 'w').write('{\"peak_gpu_memory_bytes\": 1073741824}')\n"
    )
    return f"{sys.executable} {path}"


def add_synthesis(run: Run, name: str, command: str, *, device: str = "auto", gpu: bool) -> Node:
    given = run.folder / "given.txt"
    given.touch()
    files = dict.fromkeys(("mask_file", "csf", "gm", "wm", "model"), str(given))
    node = Node(
        Synthesise(
            participant=name,
            target="T2w",
            source_names=["T1w"],
            sources=[str(given)],
            tissue_source="T1w",
            slices=[0],
            weights_sha256="0",
            device=device,
            use_gpu=gpu,
            num_threads=1,
            **files,
        ),
        name=name,
        n_procs=1,
    )
    node.interface._cmd = command
    run.workflow.add_nodes([node])
    return node


def test_a_command_that_is_killed_is_named_with_the_signal(run):
    command = stand_in(run.folder, "os.kill(os.getpid(), signal.SIGKILL)")
    add_synthesis(run, "synthesise", command, gpu=False)
    run.start()
    assert [failure.node for failure in run.failures] == ["colapipe.synthesise"]
    words = last_words(run.failures[0].traceback)
    assert "was ended by SIGKILL, most likely for want of memory" in words


def test_kills_for_want_of_memory_are_told_by_the_counter_of_the_control_group(run, monkeypatch):
    from colapipe.workflows.plugins import process

    counts = iter([3, 4])
    monkeypatch.setattr(process, "count_oom_kills", lambda: next(counts))
    run.add("guilty", die, how=int(signal.SIGKILL))
    run.start()
    assert "the system ended 1 process(es) of this run" in last_words(run.failures[0].traceback)


def test_nodes_survive_the_death_of_the_server_that_they_are_forked_from(run):
    started: list[str] = []

    def note(name: str) -> None:
        started.append(name)
        if len(started) == 2:
            threading.Timer(2, kill_the_server).start()

    def kill_the_server() -> None:
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)

    for name in ("first", "second"):
        run.add(name, sleep, seconds=6.0)
    run.on_start = note
    run.start()
    assert run.failures == []
    assert sorted(run.ended) == ["first", "second"]
    # What ran already when the server died had to start again.
    assert len(started) > 2


def test_a_result_that_cannot_come_back_fails_its_node_only(run):
    def unreadable() -> int:
        return lambda: 1

    run.add("unreadable", unreadable)
    run.add("beside", pass_on)
    run.start()
    assert [failure.node for failure in run.failures] == ["colapipe.unreadable"]
    assert run.ended == ["beside"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_prints_no_stack(capfd, monkeypatch):
    logger = logging.getLogger("nipype")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    send_to_log(Path("/dev/full"), logging.WARNING)
    logger.warning("words")
    assert capfd.readouterr() == ("", "")


def has_ended(pid: int) -> bool:
    """Wait a while for the end of a process."""
    stat = Path(f"/proc/{pid}/stat")
    limit = time.monotonic() + 30
    while time.monotonic() < limit:
        try:
            if ") Z " in stat.read_text():
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def note_and_sleep(note: str) -> int:
    import os
    import time
    from pathlib import Path

    Path(note).write_text(str(os.getpid()))
    time.sleep(300)
    return 1


def die_after(note: str) -> int:
    """End this process when another one has left its note."""
    import os
    import time
    from pathlib import Path

    while not (Path(note).exists() and Path(note).read_text()):
        time.sleep(0.1)
    os._exit(3)


def leave_behind(note: str) -> int:
    import subprocess
    from pathlib import Path

    return Path(note).write_text(str(subprocess.Popen(["sleep", "300"]).pid))


def test_what_a_node_leaves_running_ends_with_it(run):
    note = run.folder / "pid"
    run.add("careless", leave_behind, note=str(note))
    run.start()
    assert has_ended(int(note.read_text()))


def test_stopping_on_the_first_crash_ends_the_other_nodes(tmp_path):
    run = Run(tmp_path, stop_on_first_crash=True)
    run.add("guilty", die_after, note=str(run.folder / "pid"))
    note = run.folder / "pid"
    run.add("beside", note_and_sleep, note=str(note))
    run.start()
    assert [failure.node for failure in run.failures] == ["colapipe.guilty"]
    assert run.ended == []
    assert has_ended(int(note.read_text()))


def test_eight_participants_on_two_cores_never_start_more_than_fits(run):
    for number in range(8):
        first = run.add(f"sub_{number}_a", sleep, seconds=0.2, mem_gb=0.9)
        wide = run.add(f"sub_{number}_b", sleep, first, seconds=0.2, n_procs=2, mem_gb=1.2)
        run.add(f"sub_{number}_c", sleep, wide, seconds=0.2, mem_gb=1.6)
    run.start(nprocs=2, mem_gb=3)
    assert len(run.ended) == len(run.table) == 24
    rows = run.table.values()
    assert most_at_once(rows, lambda row: row.threads) == 2
    # 0.5 GB are the app's own: 1.6 GB run alone, 0.9 GB two at a time.
    assert most_at_once(rows, lambda row: row.planned_memory_gb) <= 2.5


def test_one_participant_after_another_and_the_longest_way_first(run):
    order: list[str] = []
    run.on_start = order.append
    for participant in ("p", "q"):
        first = run.add(f"{participant}_first", pass_on)
        run.add(f"{participant}_a_leaf", pass_on, first)
        last = first
        for number in range(3):
            last = run.add(f"{participant}_step_{number}", pass_on, last)
    run.start(nprocs=1)
    assert [name[0] for name in order] == ["p"] * 5 + ["q"] * 5
    assert order.index("p_step_1") < order.index("p_a_leaf")


def test_a_node_that_needs_more_than_there_is_runs_alone(run):
    run.add("large", sleep, mem_gb=50, n_procs=16)
    run.add("beside", sleep)
    run.start(nprocs=2, mem_gb=2)
    large, beside = run.table["large"], run.table["beside"]
    assert large.start >= beside.end or beside.start >= large.end


def count_threads(out_file: str) -> int:
    import os
    from pathlib import Path

    import SimpleITK as sitk
    import torch

    itk = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    counts = [torch.get_num_threads(), itk, os.environ["OMP_NUM_THREADS"]]
    return Path(out_file).write_text(" ".join(map(str, counts)))


@pytest.mark.parametrize("share", [1, 2])
def test_libraries_take_the_threads_that_the_node_was_given(share, run):
    run.add("count", count_threads, n_procs=share, out_file=str(run.folder / "counts"))
    run.start(nprocs=3)
    assert (run.folder / "counts").read_text() == f"{share} {share} {share}"


def test_a_row_tells_what_a_node_and_its_commands_consumed(run):
    def work() -> int:
        import subprocess
        import sys

        code = "x = bytearray(400 * 1024**2); sum(range(10**7)); import time; time.sleep(0.5)"
        return subprocess.run([sys.executable, "-c", code]).returncode

    run.add("work", work, n_procs=2, mem_gb=1.5)
    run.start()
    row = run.table["work"]
    assert (row.threads, row.planned_memory_gb, row.gpu, row.exit) == (2, 1.5, None, "ok")
    assert 0.4 <= row.peak_memory_gb < 1
    assert 0.1 < row.cpu_seconds < 60
    assert row.seconds > 0.5


def test_each_node_on_a_gpu_has_one_of_its_own_and_a_third_waits(run):
    note = run.folder / "gpus"
    note.mkdir()
    body = (
        f"mine = open('{note}/' + request['participant'], 'w')\n"
        "mine.write(json.dumps([os.environ['CUDA_VISIBLE_DEVICES'], device]))\n"
        "time.sleep(1)"
    )
    command = stand_in(run.folder, body)
    for name in ("a", "b", "c"):
        add_synthesis(run, name, command, gpu=True)
    run.start(nprocs=4, gpus=("0", "GPU-2"))
    assert run.failures == []
    rows = run.table
    for name, row in rows.items():
        assert json.loads((note / name).read_text()) == [row.gpu, "cuda"]
        assert row.gpu_memory_gb == 1
    for gpu in ("0", "GPU-2"):
        mine = [row for row in rows.values() if row.gpu == gpu]
        assert mine and most_at_once(mine, lambda row: 1) == 1
    assert most_at_once(rows.values(), lambda row: 1) == 2


def test_a_gpu_is_free_again_when_the_node_on_it_dies(run):
    body = "os.kill(os.getpid(), signal.SIGKILL) if request['participant'] == 'a' else None"
    command = stand_in(run.folder, body)
    for name in ("a", "b"):
        add_synthesis(run, name, command, gpu=True)
    run.start(gpus=("0",))
    assert [failure.node for failure in run.failures] == ["colapipe.a"]
    assert run.ended == ["b"]


NO_CUDA = "if device == 'cuda': sys.exit('colapipe-model: a bug: RuntimeError: CUDA error: broken')"


def test_a_broken_gpu_leaves_the_work_to_the_cpu_with_one_warning(run):
    command = stand_in(run.folder, NO_CUDA)
    for name in ("a", "b", "c"):
        add_synthesis(run, name, command, gpu=True)
    run.start(nprocs=2, gpus=("0", "1"))
    assert run.failures == []
    assert sorted(run.ended) == ["a", "b", "c"]
    assert len(run.warnings) == 1 and "CUDA error: broken" in run.warnings[0]
    last = read_usage(run.folder / "resources.tsv")[-1]
    assert (last.gpu, last.threads) == (None, 2)


def test_a_broken_gpu_that_was_asked_for_is_a_failure(run):
    add_synthesis(run, "a", stand_in(run.folder, NO_CUDA), device="cuda", gpu=True)
    run.start(gpus=("0",))
    assert "CUDA error: broken" in last_words(run.failures[0].traceback)
    assert run.warnings == []


def test_a_node_without_a_gpu_sees_none(run, monkeypatch):
    def see() -> int:
        import os

        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
        return 1

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    run.add("see", see)
    run.start(gpus=("0", "1"))
    assert run.failures == []
