"""The file of --use-plugin, and what the SLURM plugin makes of a node's needs."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

import pytest
from nipype import Function, Node, Workflow, config
from nipype.pipeline.plugins import PBSPlugin

from colapipe.errors import MissingToolError, UsageError
from colapipe.run.resources import Resources
from colapipe.slurm.commands import Ending
from colapipe.workflows.execution import execute
from colapipe.workflows.plugins.endings import cause, describe
from colapipe.workflows.plugins.failures import KeepsFailures
from colapipe.workflows.plugins.load import known_plugins, load_plugin
from colapipe.workflows.plugins.multiproc import LocalPlugin
from colapipe.workflows.plugins.slurm_options import PluginOptions, read_plugin_options

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = Resources(nprocs=4, mem_gb=8.0, gpus=("0", "1"), threads=3)


@pytest.fixture
def load(tmp_path):
    def load_text(text: str, warn=print):
        path = tmp_path / "plugin.yaml"
        path.write_text(text)
        return load_plugin(path, tmp_path / "log", RESOURCES, warn)

    return load_text


def node(**given) -> Node:
    made = Node(Function(input_names=["use_gpu"], output_names=["word"]), name="n", **given)
    made.interface.inputs.function_str = "def say_hello(use_gpu=False):\n    return 'hello'\n"
    return made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plugin: Slurm", ["'Slurm'", "Did you mean SLURM?", "MultiProc"]),
        ("plugin: SLURMGraph", ["SLURMGraph", "before its jobs have run"]),
        ("plugins: SLURM", ["found plugins", "plugin and plugin_args"]),
        ("", ["found nothing"]),
        ("plugin: SLURM\nplugin_args: 3", ["plugin_args", "'3'"]),
        ("plugin: SLURM\nplugin_args: {max_job: 3}", ["'max_job'", "Did you mean max_jobs?"]),
        ("plugin: SLURM\nplugin_args: {max_jobs: few}", ["max_jobs", "'few'", "number"]),
        ("plugin: SLURM\nplugin_args: {gpu: {cpus: 3}}", ["gpu", "'cpus'", "Known are"]),
        ("plugin: SLURM\nplugin_args: {gpu: yes}", ["gpu", "'yes'", "partition: gpu"]),
        ("plugin: SLURM\nplugin_args: {time: soon}", ["time", "'soon'", "HH:MM:SS"]),
        ("plugin: SLURM\nplugin_args: {template: nothing.sh}", ["nothing.sh", "cannot be read"]),
        ('plugin: SLURM\nplugin_args: {template: "a\\nb"}', ["template", "#!"]),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(text, words, load):
    with pytest.raises(UsageError) as caught:
        load(text)
    message = str(caught.value)
    assert all(word in message for word in ["plugin.yaml", *words]), message


def test_a_machine_without_slurm_says_so(load, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingToolError, match="sbatch was not found"):
        load("plugin: SLURM")


def test_other_plugins_get_their_arguments_as_they_are(load):
    plugin = load("plugin: PBS\nplugin_args: {qsub_args: -q long, max_jobs: 7}")
    assert isinstance(plugin, PBSPlugin) and isinstance(plugin, KeepsFailures)
    assert plugin.plugin_args == {"qsub_args": "-q long", "max_jobs": 7}
    assert (plugin.failures, plugin.gpus) == ([], 0)


def test_every_known_plugin_but_the_graph_ones_is_offered():
    assert {"Linear", "MultiProc", "SLURM", "SGE", "PBS", "LSF"} <= set(known_plugins())
    assert not any(name.endswith("Graph") for name in known_plugins())


def test_multiproc_is_the_local_executor_within_the_files_limits(load):
    said: list[str] = []
    text = "plugin: MultiProc\nplugin_args: {n_procs: 2, memory_gb: 6, maxtasksperchild: 1}"
    plugin = load(text, said.append)
    assert isinstance(plugin, LocalPlugin)
    assert (plugin.processors, plugin.gpus) == (2, 2)
    assert len(said) == 1 and "maxtasksperchild" in said[0]
    plugin.close()


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """Crash files into the test's folder."""
    monkeypatch.chdir(tmp_path)
    before = dict(config._sections["execution"])
    config.set("execution", "crashdump_dir", str(tmp_path))
    config.set("execution", "poll_sleep_duration", "0.1")
    yield tmp_path
    for name in set(config._sections["execution"]) - set(before):
        config._config.remove_option("execution", name)
    for name, value in before.items():
        config.set("execution", name, value)


def fail():
    raise ValueError("on purpose")


def test_linear_keeps_failures_and_goes_on_with_what_does_not_depend_on_them(load, in_folder):
    plugin = load("plugin: Linear")
    workflow = Workflow("w", base_dir=str(in_folder))
    bad = Node(Function(function=fail, output_names=["out"]), name="bad")
    after = node()
    after.name = after._id = "after"
    workflow.connect(bad, "out", after, "use_gpu")
    workflow.add_nodes([node()])
    ended: list[tuple[str, str]] = []
    failures = execute(workflow, plugin, lambda name, status: ended.append((name, status)))
    assert [failure.node for failure in failures] == ["w.bad"]
    assert "on purpose" in failures[0].traceback and failures[0].crash_file.is_file()
    assert ("w.n", "end") in ended
    assert not any(name == "w.after" for name, _ in ended)


def test_a_nodes_cpus_and_memory_become_its_jobs():
    options = read_plugin_options({"partition": "cpu", "time": "12:00:00", "mem": "2G"}, "x")
    small, large = node(mem_gb=0.1), node(n_procs=3, mem_gb=7.5)
    assert options.job(small).arguments() == [
        "--partition=cpu",
        "--time=12:00:00",
        "--mem=2048M",
        "--cpus-per-task=1",
    ]
    # With the interpreter and what it loads.
    assert options.job(large).arguments()[2:] == ["--mem=8192M", "--cpus-per-task=3"]


def test_gpu_nodes_go_to_the_gpus_and_others_do_not():
    given = {
        "partition": "cpu",
        "account": "lab",
        "gpu": {"partition": "gpu", "gres": "gpu:a100:1"},
    }
    options = read_plugin_options(given, "x")
    one = node()
    one.inputs.use_gpu = True
    assert {"--partition=gpu", "--account=lab", "--gres=gpu:a100:1"} <= set(
        options.job(one).arguments()
    )
    assert not any("gres" in argument for argument in options.job(node()).arguments())


def test_a_nodes_own_arguments_come_last_or_alone():
    options = read_plugin_options({"sbatch_args": "--exclusive --export=ALL"}, "x")
    one = node()
    one.plugin_args = {"sbatch_args": "--mem=9G --comment='a b'"}
    words = ("--mem=9G", "--comment=a b")
    assert options.job(one).sbatch_args == ("--exclusive", "--export=ALL", *words)
    one.plugin_args = {**one.plugin_args, "overwrite": True}
    assert options.job(one).sbatch_args == words


def test_without_a_gpu_section_nothing_asks_for_a_gpu():
    one = node()
    one.inputs.use_gpu = True
    assert "gres" not in " ".join(PluginOptions().job(one).arguments())


@pytest.mark.parametrize(
    ("end", "tail", "words"),
    [
        (Ending("OUT_OF_MEMORY", "0:125"), [], "more memory than the 700M"),
        (Ending("FAILED", "0:9"), ["slurmstepd: error: exceeded memory limit"], "more memory"),
        (Ending("TIMEOUT", "0:15"), [], "longer than the time"),
        (Ending("CANCELLED by 1000", "0:0"), [], "was cancelled"),
        (Ending("CANCELLED+"), [], "was cancelled"),
        (Ending("NODE_FAIL"), [], "machine it ran on failed"),
        (Ending("FAILED", "127:0"), ["python: not found"], "its log may tell"),
        (None, [], "knows nothing"),
    ],
)
def test_the_cause_of_an_end_is_said_in_words(end, tail, words):
    assert words in cause(end, tail, "700M")


def test_the_last_line_about_a_lost_job_says_everything(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    end = Ending("FAILED", "0:9", "JobLaunchFailure", "c01")
    lines = describe("12", end, log, "1G")["traceback"]
    assert "line 99" in "".join(lines) and "line 50" not in "".join(lines)
    for words in ("SLURM job 12", "FAILED", "0:9", "JobLaunchFailure", "on c01", os.fspath(log)):
        assert words in lines[-1]


def test_the_examples_in_the_guide_and_in_the_package_are_right(load, monkeypatch, tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(plugin: SLURM.*?)```", guide, re.DOTALL)
    assert load(example).gpus == 1
    assert load((files("colapipe.bids_templates") / "slurm_plugin.yaml").read_text()).gpus == 0


@pytest.fixture
def submitted(load, tmp_path, monkeypatch):
    """A job of the plugin's on a SLURM that is played by scripts.

    Returns the plugin, the number of its task, and what changes the script ``squeue``.
    """
    programs = tmp_path / "bin"
    programs.mkdir()

    def play(name: str, script: str) -> None:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    play("sbatch", "echo 41")
    play("scancel", "exit 0")
    play("sacct", "exit 1")
    play("scontrol", "exit 1")
    play("squeue", "echo 41 RUNNING")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    plugin = load("plugin: SLURM\nplugin_args: {poll_interval: 0.001, result_timeout: 0.001}")
    hello = node(base_dir=str(tmp_path / "work"))
    task = plugin._submit_job(hello)
    yield plugin, task, lambda script: play("squeue", script)
    plugin.close()


@pytest.mark.parametrize(
    "silence",
    [
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1",
        "exit 127",
        "kill -9 $$",
    ],
)
def test_silence_of_slurm_is_no_answer(silence, submitted):
    plugin, task, squeue = submitted
    assert plugin._get_result(task) is None
    squeue(silence)
    for _ in range(3):
        assert plugin._get_result(task) is None, "a job that nobody knows of is taken for finished"
    # The queue answers, and does not know it: now it has ended, and left nothing.
    squeue("exit 0")
    assert "SLURM job 41 ended without a result" in "".join(plugin._get_result(task)["traceback"])


def test_a_queue_that_never_answered_says_nothing_of_a_job(submitted):
    plugin, task, squeue = submitted
    squeue("exit 1")
    assert plugin._get_result(task) is None
