"""A run on a real SLURM, as job arrays and node by node: the same result as a local one.

These are ``colapipe`` with --slurm, --slurm-failed and --use-plugin of the manual: docs/cluster.md.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from colapipe.cli.parser import parse_settings
from colapipe.config import Settings
from colapipe.slurm.commands import SlurmError
from colapipe.slurm.submission import last_submission
from colapipe.slurm.submit import submit_run

pytestmark = pytest.mark.slurm

CLUSTER = """\
{partition}
cpus: 2
mem: 4G
time: 15
preproc:
  # As an impatient administrator would: the task of one participant is cancelled in the middle.
  setup: |
    if [ "$label" = 03 ] && [ -e '{marker}' ]; then
        scancel "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"; sleep 60
    fi
synth:
  {gpu_partition}
  # A device that is no GPU is enough for SLURM, and not for PyTorch.
  gres: null
group:
  setup: ls "$folder/exit" > "$folder/seen_by_the_group"
"""

PLUGIN = """\
plugin: SLURM
plugin_args:
  {partition}
  time: 15
  poll_interval: 5
  max_jobs: 6
"""


def make_settings(*arguments: object) -> Settings:
    return parse_settings([str(argument) for argument in arguments])


def partition(name: str) -> str:
    return f"partition: {name}" if name else ""


@pytest.fixture(scope="module")
def submitted(app, simulated, quick, cluster, tmp_path_factory):
    """A local run in two halves, and one by arrays of which a task was cancelled at first."""
    root = tmp_path_factory.mktemp("arrays")
    out, marker, yaml = root / "it's out" / "of here", root / "marker", root / "cluster.yaml"
    yaml.write_text(
        CLUSTER.format(
            marker=marker,
            partition=partition(cluster.partition),
            gpu_partition=partition(cluster.gpu_partition),
        )
    )
    marker.touch()
    run = (simulated, out, *quick, "-w", root / "a work", "--slurm", yaml)
    result = app(*run)
    assert result.code == 0, result.text
    cluster.wait()
    first = last_submission(out)
    marker.unlink()
    again = (*run, "--slurm-failed")
    second = app(*again)
    assert second.code == 0, second.text
    cluster.wait()
    local = root / "local"
    half = (simulated, local, *quick, "-w", root / "work", "--nprocs", 2)
    for name in ("--preproc-only", "--synth-only"):
        result = app(*half, name, "--participant-label", "02", "03")
        assert result.code == 0, result.text
    return local, out, first, second.text, again


def logs(out: Path) -> str:
    """Everything that jobs printed, to see it where a test fails."""
    return "\n".join(path.read_text() for path in sorted(out.glob("logs/slurm/*/logs/*")))


def test_arrays_give_the_voxels_and_sidecars_of_a_local_run(submitted, fingerprints):
    local, out, *_ = submitted
    here = fingerprints(out)
    assert here == fingerprints(local), logs(out)
    assert any("desc-synth_T2w.nii.gz" in name for name in here)
    assert any("desc-synth_FLAIR.json" in name for name in here)


def test_a_cancelled_task_costs_its_participant_only(submitted):
    _, out, first, _, _ = submitted
    states = {
        (stage, label): first.state(stage, label, {})
        for stage in ("preproc", "synth")
        for label in ("01", "02", "03")
    }
    assert states == {
        ("preproc", "01"): "absent",
        ("preproc", "02"): "done",
        ("preproc", "03"): "left nothing",
        ("synth", "01"): "absent",
        ("synth", "02"): "done",
        ("synth", "03"): "left nothing",
    }, logs(out)
    # Its synthesis would wait for ever for a preprocessing that never succeeds.
    assert not (first.folder / "logs" / f"synth_{first.arrays[1].job}_2.out").exists()


def test_only_what_failed_is_submitted_again(submitted):
    _, out, first, text, _ = submitted
    again = last_submission(out)
    assert again.folder != first.folder
    assert {array.stage: array.labels for array in again.arrays} == {
        "preproc": ("03",),
        "synth": ("03",),
    }
    assert "sub-03: preproc left nothing" in text
    assert all(again.state(stage, "03", {}) == "done" for stage in ("preproc", "synth")), logs(out)


def test_the_group_comes_when_all_have_ended(submitted):
    _, out, first, _, _ = submitted
    seen = (first.folder / "seen_by_the_group").read_text().split()
    assert sorted(seen) == ["preproc_02", "synth_02"]
    table = (out / "group_quality.tsv").read_text().splitlines()
    assert {line.split("\t")[0] for line in table[1:]} == {"sub-02", "sub-03"}


def test_nothing_is_left_to_submit_in_the_end(submitted, app):
    _, out, _, _, again = submitted
    before = last_submission(out)
    result = app(*again)
    assert result.code == 0, result.text
    assert "There is nothing to submit." in result.text
    assert last_submission(out) == before


def test_the_log_of_each_task_has_its_name(submitted):
    _, _, first, _, _ = submitted
    names = [path.name for path in (first.folder / "logs").iterdir()]
    assert all(re.fullmatch(r"(preproc|synth)_\d+_\d+\.out|group_\d+\.out", name) for name in names)
    assert f"preproc_{first.arrays[0].job}_1.out" in names


def test_nodes_as_jobs_give_the_voxels_and_sidecars_of_a_local_run(
    submitted, app, cluster, simulated, quick, fingerprints, tmp_path
):
    local = submitted[0]
    out, yaml = tmp_path / "out", tmp_path / "plugin.yaml"
    yaml.write_text(PLUGIN.format(partition=partition(cluster.partition)))
    run = (simulated, out, *quick, "-w", tmp_path / "a work", "--nprocs", 2)
    run += ("--participant-label", "02", "03", "--use-plugin", yaml)
    for half in ("--preproc-only", "--synth-only"):
        result = app(*run, half)
        assert result.code == 0, result.text
    assert fingerprints(out) == fingerprints(local)
    assert cluster.squeue() == []
    # It was SLURM that ran the nodes: a job of these runs is the last that it knows.
    known = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True).stdout
    assert "JobName=colapipe.sub_03_" in known


def test_a_refused_array_leaves_nothing_in_the_queue(cluster, simulated, quick, tmp_path):
    yaml = tmp_path / "cluster.yaml"
    yaml.write_text("command: sleep 60; true\nsynth: {partition: nonesuch, gres: null}\n")
    settings = make_settings(simulated, tmp_path / "out", *quick, "--slurm", yaml)
    with pytest.raises(SlurmError) as caught:
        submit_run(settings, ["02", "03"], print)
    # The words are SLURM's own.
    assert "nvalid partition" in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    cluster.wait(30)
    assert last_submission(tmp_path / "out") is None


def test_gpus_are_shared_out_and_the_third_of_three_tasks_waits(
    cluster, until: Callable[..., None], simulated, quick, tmp_path
):
    if cluster.gpus != 2:
        pytest.skip("needs two GPUs; SLURM's are made by the tests where root may make devices")
    go, seen, yaml = tmp_path / "go", tmp_path / "seen", tmp_path / "cluster.yaml"
    seen.mkdir()
    wait = f'echo "$CUDA_VISIBLE_DEVICES" > {seen}/$label; until [ -e {go} ]; do sleep 0.2; done'
    yaml.write_text(f"command: '{wait}; true'\nmem: 500M\ncpus: 1\nsynth: {{partition: gpu}}\n")
    run = (simulated, tmp_path / "out", *quick, "--synth-only", "--slurm", yaml)
    assert submit_run(make_settings(*run), ["01", "02", "03"], print) == 0

    def states() -> list[str]:
        return sorted(cluster.squeue("--array", "--format=%T"))

    try:
        two_run = ["PENDING", "RUNNING", "RUNNING"]
        until(lambda: states() == two_run and len(list(seen.iterdir())) == 2, 60, "no two tasks")
        assert sorted(path.read_text().strip() for path in seen.iterdir()) == ["0", "1"]
        said: list[str] = []
        again = make_settings(*run, "--slurm-failed")
        assert submit_run(again, ["01", "02", "03"], said.append) == 0
        assert said == [
            "3 participant(s) are in the queue still and are left alone.",
            "There is nothing to submit.",
        ]
    finally:
        go.touch()
    cluster.wait(60)
    assert sorted(path.name for path in seen.iterdir()) == ["01", "02", "03"]
