"""Job scripts and submissions without SLURM: bash runs the scripts, small programs play SLURM."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from colapipe.cli.parser import parse_settings
from colapipe.config import Settings
from colapipe.errors import MissingToolError, UsageError
from colapipe.slurm import commands
from colapipe.slurm.commands import Retry, SlurmError
from colapipe.slurm.options import JobOptions
from colapipe.slurm.scripts import write_stage
from colapipe.slurm.submission import (
    Array,
    Submission,
    last_submission,
    new_folder,
    write_tasks,
)
from colapipe.slurm.submit import Batch, split, stage_settings, submit_run

ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A run over paths that a shell would take apart."""
    root = tmp_path / 'it\'s a "test" $HOME'
    root.mkdir()
    return Settings(
        bids_dir=root / "raw",
        out_dir=root / "out",
        work_dir=root / "work",
        targets=("T2w",),
        slurm=root / "cluster.yaml",
        slurm_failed=True,
        seed=7,
    )


def run_script(folder: Path, stage: str, task: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", folder / f"{stage}.sbatch", "tasks_1.tsv"],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "5"},
        capture_output=True,
        text=True,
    )


def prints_arguments() -> str:
    return shlex.join([sys.executable, "-c", ECHO])


def test_a_task_runs_its_own_participant_whatever_the_names(settings):
    folder = new_folder(settings.out_dir)
    write_stage(folder, "synth", JobOptions(command=prints_arguments()), settings)
    labels = ["01", "a b", "-x", "it's", "$(touch x)"]
    write_tasks(folder / "tasks_1.tsv", labels, {"a b": ("T2w", "FLAIR")})
    for number, label in enumerate(labels, start=1):
        done = run_script(folder, "synth", number)
        assert done.returncode == 0, done.stderr
        raw, out, level, *options = json.loads(done.stdout)
        assert (raw, out, level) == (str(settings.bids_dir), str(settings.out_dir), "participant")
        assert options[:2] == ["--config-file", str(folder / "synth.toml")]
        targets = ["--target", "T2w", "FLAIR"] if label == "a b" else []
        assert options[2:] == [f"--participant-label={label}", *targets]
        assert (folder / "exit" / f"synth_{label}").read_text() == "0\n"


def test_a_task_leaves_its_exit_code_and_ends_with_it(settings):
    folder = new_folder(settings.out_dir)
    write_stage(
        folder, "preproc", JobOptions(command="exit_with() { return 74; }; exit_with"), settings
    )
    write_tasks(folder / "tasks_1.tsv", ["01"], {})
    assert run_script(folder, "preproc", 1).returncode == 74
    assert [path.name for path in (folder / "exit").iterdir()] == ["preproc_01"]
    assert (folder / "exit" / "preproc_01").read_text() == "74\n"


def test_modules_and_setup_come_before_the_command_and_a_missing_module_is_a_failure(settings):
    folder = new_folder(settings.out_dir)
    setup = 'module() { [ "$2" != gone ]; }\nexport GREETING=hello'
    options = JobOptions(setup=setup, command="echo $GREETING; true")
    write_tasks(folder / "tasks_1.tsv", ["01"], {})
    write_stage(folder, "preproc", options, settings)
    assert run_script(folder, "preproc", 1).stdout == "hello\n"
    write_stage(folder, "preproc", dataclasses.replace(options, modules=("fsl/6",)), settings)
    # There is no module command here; its absence must not go unnoticed.
    assert run_script(folder, "preproc", 1).returncode == 69


def test_tasks_get_the_settings_of_the_run_and_nothing_of_the_submission(settings):
    folder = new_folder(settings.out_dir)
    write_stage(folder, "preproc", JobOptions(), settings)
    given = tomllib.loads((folder / "preproc.toml").read_text())
    assert (given["seed"], given["targets"], given["work_dir"]) == (
        7,
        ["T2w"],
        str(settings.work_dir),
    )
    assert "slurm" not in given and not given["slurm_failed"]
    # What is written can be read again.
    arguments = [str(settings.bids_dir), str(settings.out_dir), "participant"]
    assert parse_settings([*arguments, "--config-file", str(folder / "preproc.toml")]).seed == 7


def test_the_second_stage_reads_what_the_first_one_wrote(settings):
    settings = dataclasses.replace(settings, derivatives=("lesion=/masks",))
    first, second = (stage_settings(settings, stage) for stage in ("preproc", "synth"))
    assert (first.mode, first.derivatives) == ("preproc-only", ("lesion=/masks",))
    assert (second.mode, second.derivatives) == ("synth-only", ())


def test_with_evaluate_the_second_stage_is_a_whole_run(settings):
    settings = dataclasses.replace(settings, evaluate=True)
    assert stage_settings(settings, "preproc").mode == "preproc-only"
    assert not stage_settings(settings, "preproc").evaluate
    assert stage_settings(settings, "synth") == settings


def test_an_array_never_has_more_tasks_than_slurm_takes():
    batches = split([Batch(tuple("abcde"), ("preproc", "synth"))], 2)
    assert [batch.labels for batch in batches] == [("a", "b"), ("c", "d"), ("e",)]
    assert {batch.stages for batch in batches} == {("preproc", "synth")}


def test_a_dry_run_writes_scripts_for_those_who_lack_something(simulated, quick, tmp_path):
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("partition: normal\ngroup: true\n")
    out, said = tmp_path / "out", []
    arguments = [simulated, out, *quick, "--slurm", cluster, "--slurm-dry-run"]
    settings = parse_settings([str(argument) for argument in arguments])
    assert submit_run(settings, ["01", "02", "03"], said.append) == 0
    (folder,) = (out / "logs" / "slurm").iterdir()
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {
        *(
            f"{stage}.{ext}"
            for stage in ("preproc", "synth", "group")
            for ext in ("sbatch", "toml")
        ),
        "tasks_1.tsv",
    }
    # 01 has everything; what the others lack is known before their neighbours are preprocessed.
    assert (folder / "tasks_1.tsv").read_text() == "02\tT2w\n03\tFLAIR\n"
    assert str(folder) in said[-1] and "Nothing was submitted" in said[-1]
    assert last_submission(out) is None


def play(folder: Path, **scripts: str) -> str:
    """Write programs that stand for SLURM's; return the PATH that finds them first."""
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def prepared(simulated, quick, tmp_path) -> Callable[..., Settings]:
    """Settings of a run over two participants of a dataset, to be submitted."""

    def prepare(*more: str, yaml: str = "") -> Settings:
        cluster = tmp_path / "cluster.yaml"
        cluster.write_text(yaml)
        arguments = [simulated, tmp_path / "out", *quick, "--slurm", cluster, *more]
        return parse_settings([str(argument) for argument in arguments])

    return prepare


def test_a_refused_job_takes_back_those_before_it(prepared, tmp_path, monkeypatch):
    cancelled = tmp_path / "cancelled"
    sbatch = (
        'case "$*" in *synth.sbatch*) echo "sbatch: error: invalid partition" >&2; exit 1;; esac\n'
        "echo 41"
    )
    path = play(tmp_path / "bin", sbatch=sbatch, scancel=f'echo "$@" > "{cancelled}"')
    monkeypatch.setenv("PATH", path)
    with pytest.raises(SlurmError) as caught:
        submit_run(prepared(), ["02", "03"], print)
    assert caught.value.exit_code == 69
    assert "invalid partition" in str(caught.value) and "Nothing was submitted" in str(caught.value)
    assert cancelled.read_text().split()[-1] == "41"
    assert last_submission(tmp_path / "out") is None


def test_more_participants_than_an_array_takes_become_several(prepared, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    calls.touch()
    sbatch = f'shift 2; echo "$@" >> "{calls}"; wc -l < "{calls}"'
    path = play(tmp_path / "bin", sbatch=sbatch, scontrol="echo 'MaxArraySize = 2'")
    monkeypatch.setenv("PATH", path)
    yaml = "preproc: {max_tasks: 7}\ngroup: true"
    assert submit_run(prepared(yaml=yaml), ["02", "03"], print) == 0
    wait = "--kill-on-invalid-dep=yes"
    assert calls.read_text().splitlines() == [
        "--array=1-1%7 preproc.sbatch tasks_1.tsv",
        f"--array=1-1 --dependency=aftercorr:1 {wait} synth.sbatch tasks_1.tsv",
        "--array=1-1%7 preproc.sbatch tasks_2.tsv",
        f"--array=1-1 --dependency=aftercorr:3 {wait} synth.sbatch tasks_2.tsv",
        "--dependency=afterany:1:2:3:4 group.sbatch",
    ]
    last = last_submission(tmp_path / "out")
    assert [array.labels for array in last.arrays] == [("02",), ("02",), ("03",), ("03",)]
    assert last.group == "5"


def test_a_machine_without_slurm_says_so(prepared, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingToolError, match="sbatch was not found"):
        submit_run(prepared(), ["02"], print)


def test_failed_tasks_of_nothing_are_a_usage_error(prepared):
    with pytest.raises(UsageError, match="nothing was submitted"):
        submit_run(prepared("--slurm-failed"), ["02"], print)


def test_trouble_that_passes_is_waited_for_and_other_trouble_is_not(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    calls.write_text("")
    sbatch = (
        f'echo x >> "{calls}"\n[ "$(wc -l < "{calls}")" -gt 2 ] && echo 12 && exit 0\n'
        'echo "sbatch: error: Unable to contact slurm controller" >&2; exit 1'
    )
    monkeypatch.setenv("PATH", play(tmp_path / "bin", sbatch=sbatch, squeue="true"))
    assert commands.submit(["job.sh"], tmp_path, Retry(tries=4, pause=0.01)) == "12"
    assert calls.read_text().count("x") == 3

    calls.write_text("")
    broken = f'echo x >> "{calls}"; echo "sbatch: error: Invalid account" >&2; exit 1'
    monkeypatch.setenv("PATH", play(tmp_path / "bin", sbatch=broken))
    with pytest.raises(SlurmError, match="Invalid account"):
        commands.submit(["job.sh"], tmp_path, Retry(tries=4, pause=0.01))
    assert calls.read_text().count("x") == 1


def test_a_job_whose_number_got_lost_is_not_submitted_twice(tmp_path, monkeypatch):
    marks = tmp_path / "marks"
    sbatch = (
        'for word in "$@"; do case "$word" in\n'
        f'--comment=*) echo "${{word#--comment=}}" >> "{marks}";;\nesac; done\n'
        'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1'
    )
    squeue = f'echo "77 $(head -n 1 "{marks}")"'
    monkeypatch.setenv("PATH", play(tmp_path / "bin", sbatch=sbatch, squeue=squeue))
    assert commands.submit(["job.sh"], tmp_path, Retry(tries=4, pause=0.01)) == "77"
    assert len(marks.read_text().splitlines()) == 1


def test_a_users_favourite_view_of_the_queue_hides_no_job(tmp_path, monkeypatch):
    squeue = (
        '[ -z "$SQUEUE_PARTITION$SLURM_JOB_ID" ] && [ -n "$SLURM_CONF" ] && echo "12_3 RUNNING"'
    )
    monkeypatch.setenv("PATH", play(tmp_path / "bin", squeue=squeue))
    for name in ("SQUEUE_PARTITION", "SLURM_JOB_ID", "SLURM_CONF"):
        monkeypatch.setenv(name, "x")
    assert commands.queue() == {"12_3": "RUNNING"}


def test_an_answer_that_is_no_number_is_no_job(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", play(tmp_path / "bin", sbatch="echo Welcome to the cluster"))
    with pytest.raises(SlurmError, match="Welcome to the cluster"):
        commands.submit(["job.sh"], tmp_path)


@pytest.mark.parametrize("cluster", ["", ";north"])
def test_the_number_of_a_job_may_come_with_its_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", play(tmp_path / "bin", sbatch=f"echo '31{cluster}'"))
    assert commands.submit(["job.sh"], tmp_path) == "31"


def test_a_job_that_slurm_has_forgotten_is_looked_up_in_its_accounts(tmp_path, monkeypatch):
    path = play(
        tmp_path / "bin",
        scontrol='echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1',
        sacct="printf 'FAILED|0:125|None|c01\\nOUT_OF_MEMORY|0:125|None|c01\\n'",
    )
    monkeypatch.setenv("PATH", path)
    assert commands.ending("5") == commands.Ending("OUT_OF_MEMORY", "0:125", "", "c01")
    path = play(tmp_path / "bin", sacct='echo "Slurm accounting storage is disabled" >&2; exit 1')
    assert commands.ending("5") is None


def test_what_slurm_remembers_of_a_job_comes_first(tmp_path, monkeypatch):
    answer = (
        "JobId=5 JobName=a UserId=me(0) JobState=TIMEOUT Reason=TimeLimit Dependency=(null) "
        "ExitCode=0:15 NodeList=c[01-02] BatchHost=c01"
    )
    monkeypatch.setenv("PATH", play(tmp_path / "bin", scontrol=f"echo '{answer}'"))
    assert commands.ending("5") == commands.Ending("TIMEOUT", "0:15", "TimeLimit", "c01")


@pytest.fixture
def chain(tmp_path) -> Submission:
    """Five participants; of those that failed, one was submitted again and waits."""
    first = new_folder(tmp_path)
    labels = ("ok", "failed", "killed", "half", "again")
    arrays = (Array("preproc", "10", labels), Array("synth", "11", labels))
    for label in ("ok", "half"):
        (first / "exit" / f"preproc_{label}").write_text("0\n")
    (first / "exit" / "preproc_failed").write_text("1\n")
    (first / "exit" / "preproc_again").write_text("1\n")
    (first / "exit" / "synth_ok").write_text("0\n")
    Submission(first, arrays).write()
    second = new_folder(tmp_path)
    again = (Array("preproc", "20", ("again",)), Array("synth", "21", ("again",)))
    Submission(second, again, previous=last_submission(tmp_path)).write()
    found = last_submission(tmp_path)
    assert found is not None and found.folder == second
    return found


def test_the_state_of_a_task_is_that_of_its_last_submission(chain):
    waiting = {"20_1": "RUNNING", "21_1": "PENDING"}
    states = {
        label: (chain.state("preproc", label, waiting), chain.state("synth", label, waiting))
        for label in ("ok", "failed", "killed", "half", "again", "new")
    }
    assert states == {
        "ok": ("done", "done"),
        "failed": ("failed with exit code 1", "left nothing"),
        "killed": ("left nothing", "left nothing"),
        "half": ("done", "left nothing"),
        "again": ("queued", "queued"),
        "new": ("absent", "absent"),
    }


def test_what_failed_is_submitted_again_from_where_it_failed(chain, monkeypatch, tmp_path):
    from colapipe.slurm.submit import failed_batches

    squeue = "printf '20_1 RUNNING\\n21_1 PENDING\\n'"
    monkeypatch.setenv("PATH", play(tmp_path / "bin", squeue=squeue))
    said: list[str] = []
    labels = ["ok", "failed", "killed", "half", "again", "new"]
    batches = failed_batches(chain, ("preproc", "synth"), labels, said.append)
    assert batches == [
        Batch(("failed", "killed"), ("preproc", "synth")),
        Batch(("half",), ("synth",)),
    ]
    assert "1 participant(s) are in the queue" in said[-1]
