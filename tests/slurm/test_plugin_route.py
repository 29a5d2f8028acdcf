"""Nodes as jobs of a real SLURM: what each asks for, how each may end, and that none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nipype import Function, Node, Workflow, config
from nipype.interfaces.base import BaseInterface, BaseInterfaceInputSpec, TraitedSpec

from colapipe.run.failures import Failure, last_words
from colapipe.run.resources import Resources
from colapipe.workflows.execution import configure_nipype, execute
from colapipe.workflows.plugins.load import load_plugin

pytestmark = pytest.mark.slurm

PLUGIN = """\
plugin: SLURM
plugin_args:
  {partition}
  time: 10
  mem: 100M
  poll_interval: 1
  retry_timeout: 0.2
  result_timeout: 20
  sbatch_args: --export=ALL --oversubscribe
  gpu: {gpu}
"""


def report(use_gpu=False):
    import os

    names = ("SLURM_JOB_PARTITION", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE")
    names += ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "LOGNAME")
    return {name: os.environ.get(name) for name in names}


def fail():
    raise ValueError("on purpose")


def eat():
    import time

    # The job asks for 0.7 GB.
    food = b"x" * (1200 << 20)
    time.sleep(60)
    return len(food)


def be_cancelled():
    import os
    import subprocess
    import time

    subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]])
    time.sleep(60)


def sleep():
    import time

    time.sleep(120)


def take(number):
    return number


class _Empty(BaseInterfaceInputSpec, TraitedSpec):
    pass


class KnownHereOnly(BaseInterface):
    """Of a module that no job can import."""

    __module__ = "known_here_only"
    input_spec = output_spec = _Empty

    def _run_interface(self, runtime):
        return runtime


def node(name: str, function: Callable[..., object] = report, **given: object) -> Node:
    return Node(Function(function=function, output_names=["out"]), name=name, **given)


@pytest.fixture
def settings_of_nipype() -> Iterator[None]:
    """Give Nipype's settings back as they were."""
    before = dict(config._sections["execution"])
    yield
    for name, value in before.items():
        config.set("execution", name, value)


@pytest.fixture
def run(cluster, tmp_path, settings_of_nipype):
    """Run a workflow by SLURM; return what failed, by the node's name."""

    def run_workflow(*nodes: Node, links=(), stop: bool = False) -> dict[str, Failure]:
        logs = tmp_path / "logs"
        logs.mkdir()
        configure_nipype(logs, logs / "log", stop_on_first_crash=stop)
        # Odd names are safe for the job, too.
        workflow = Workflow("w", base_dir=str(tmp_path / "it's work"))
        workflow.add_nodes(list(nodes))
        for source, target in links:
            workflow.connect(source, "out", target, "number")
        failures = execute(workflow, load(cluster, tmp_path), lambda *_: None)
        return {failure.node.removeprefix("w."): failure for failure in failures}

    return run_workflow


def load(cluster, folder: Path):
    path = folder / "plugin.yaml"
    partition = f"partition: {cluster.partition}" if cluster.partition else ""
    gpu = "{partition: gpu}" if cluster.gpus else "null"
    path.write_text(PLUGIN.format(partition=partition, gpu=gpu))
    return load_plugin(path, folder / "logs" / "log", Resources(1, 1.0, (), 1))


def outcome(folder: Path, name: str):
    from nipype.pipeline.engine.utils import load_resultfile

    return load_resultfile(folder / "it's work" / "w" / name / f"result_{name}.pklz").outputs.out


@pytest.fixture
def shaky_squeue(tmp_path, monkeypatch) -> Path:
    """A squeue that fails twice; returns the file that has a line for each failure."""
    import shutil

    real, failures = shutil.which("squeue"), tmp_path / "failures"
    program = tmp_path / "bin" / "squeue"
    program.parent.mkdir()
    failures.touch()
    program.write_text(
        f'#!/bin/sh\nif [ "$(wc -l < "{failures}")" -lt 2 ]; then echo x >> "{failures}"\n'
        'echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2; exit 1; fi\n'
        f'exec "{real}" "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return failures


def test_each_end_has_its_name_and_costs_what_depends_on_it_only(
    run, cluster, shaky_squeue, monkeypatch, tmp_path
):
    monkeypatch.delenv("LOGNAME", raising=False)
    greedy, cancelled = node("greedy", eat), node("cancelled", be_cancelled)
    refused, broken = node("refused"), node("broken", fail)
    refused.plugin_args = {"sbatch_args": "--partition=nonesuch"}
    module = types.ModuleType("known_here_only")
    module.KnownHereOnly = KnownHereOnly
    monkeypatch.setitem(sys.modules, module.__name__, module)
    unknown = Node(KnownHereOnly(), name="unknown")
    wide = node("wide", n_procs=3, mem_gb=1.5)
    on_gpu, good = node("on_gpu"), node("good")
    on_gpu.inputs.use_gpu = True
    skipped, after = node("skipped", take), node("after", take)
    here = node("here", take)
    here.run_without_submitting = True
    failures = run(
        *(greedy, cancelled, refused, broken, unknown, wide, on_gpu, good),
        links=[(greedy, skipped), (good, after), (wide, here)],
    )
    cluster.wait(30)
    words = {name: last_words(failure.traceback) for name, failure in failures.items()}
    assert set(words) == {"greedy", "cancelled", "refused", "broken", "unknown"}, words

    if cluster.gpus:  # Only the tests' own SLURM ends jobs for their memory in any case.
        assert "more memory than the 717M" in words["greedy"]
    assert "was cancelled" in words["cancelled"] and "CANCELLED" in words["cancelled"]
    assert "nvalid partition" in words["refused"]
    assert "on purpose" in failures["broken"].traceback
    assert "known_here_only" in words["unknown"]
    for name, failure in failures.items():
        assert words[name] in failure.crash_file.read_text(), name
    # What the job printed is in the crash file.
    assert "CANCELLED" in failures["cancelled"].crash_file.read_text()

    assert outcome(tmp_path, "after") == outcome(tmp_path, "good")
    assert not (tmp_path / "it's work" / "w" / "skipped" / "result_skipped.pklz").exists()
    seen = outcome(tmp_path, "wide")
    assert (seen["SLURM_CPUS_PER_TASK"], seen["OMP_NUM_THREADS"]) == ("3", "3")
    assert (seen["SLURM_MEM_PER_NODE"], seen["CUDA_VISIBLE_DEVICES"]) == ("2048", "")
    assert seen["LOGNAME"] is None
    # A node that is light runs here, and not as a job.
    assert outcome(tmp_path, "here") == seen
    if cluster.gpus:
        seen = outcome(tmp_path, "on_gpu")
        assert (seen["SLURM_JOB_PARTITION"], seen["CUDA_VISIBLE_DEVICES"]) == ("gpu", "0")
    # SLURM's silence was taken for nothing else.
    assert shaky_squeue.read_text().count("x") == 2
    log = (tmp_path / "logs" / "log").read_text()
    table = (tmp_path / "logs" / "resources.tsv").read_text()
    assert "w.good\t" in table, log


def test_when_a_crash_stops_everything_no_job_is_left(run, cluster):
    failures = run(node("broken", fail), node("long", sleep), stop=True)
    cluster.wait(30)
    assert set(failures) == {"broken"}


SCRIPT = """\
import signal
import sys
from pathlib import Path
from nipype import Function, Node, Workflow
from colapipe.cli.app import _terminate
from colapipe.run.resources import Resources
from colapipe.workflows.execution import configure_nipype, execute
from colapipe.workflows.plugins.load import load_plugin

signal.signal(signal.SIGTERM, _terminate)
folder = Path(sys.argv[1])
(folder / "logs").mkdir()
configure_nipype(folder / "logs", folder / "logs" / "log", stop_on_first_crash=False)
nodes = []
for name in "ab":
    node = Node(Function(input_names=["seconds"], output_names=["out"]), name=name)
    node.inputs.function_str = "def sleep(seconds):\\n    import time; time.sleep(seconds)\\n"
    node.inputs.seconds = 120
    nodes.append(node)
workflow = Workflow("w", base_dir=str(folder))
workflow.add_nodes(nodes)
resources = Resources(1, 1.0, (), 1)
plugin = load_plugin(folder / "plugin.yaml", folder / "logs" / "log", resources)
execute(workflow, plugin, lambda *_: None)
"""


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, b"KeyboardInterrupt"), (signal.SIGTERM, b"Terminated")]
)
def test_ctrl_c_and_sigterm_leave_no_job(number, word, cluster, until, tmp_path):
    load(cluster, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        running = ["RUNNING", "RUNNING"]
        until(
            lambda: process.poll() is not None or cluster.squeue("--format=%T") == running,
            90,
            "the jobs did not start",
        )
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert word in output
    cluster.wait(30)
