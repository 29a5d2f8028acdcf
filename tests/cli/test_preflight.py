"""What can be known before any work is known before any work."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from colapipe.cli import preflight, space
from colapipe.cli.space import Need, check_space, check_writable
from colapipe.coladiff.samplers import SAMPLERS
from colapipe.coladiff.sampling import SAMPLER_NAMES
from colapipe.config import Settings
from colapipe.errors import MissingToolError, OutputError, ReadWriteError, UsageError
from colapipe.run.model import read_model
from colapipe.run.resources import Resources

RESOURCES = Resources(2, 4.0, (), 1)
Usage = namedtuple("Usage", "total used free")


def settings(tmp_path: Path, **given) -> Settings:
    places = {"bids_dir": tmp_path / "raw", "out_dir": tmp_path / "out"}
    return Settings(**{**places, "work_dir": tmp_path / "work", **given})


def test_the_names_of_the_samplers_are_known_without_torch():
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@pytest.mark.parametrize(
    ("given", "words"),
    [({"steps": 1001}, "between 1 and 1000, not 1001"), ({"sampler": "heun"}, "dpm-solver")],
)
def test_what_a_model_cannot_be_run_with_is_refused(given, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        preflight.check_sampling_of(settings(tmp_path, **given), read_model(None))


def test_every_sampler_is_accepted_with_as_many_steps_as_there_are(tmp_path):
    for sampler in SAMPLER_NAMES:
        given = settings(tmp_path, sampler=sampler, steps=1000, samples=3)
        preflight.check_sampling_of(given, read_model(None))


def test_folders_that_can_be_made_pass_and_leave_nothing(tmp_path):
    preflight.check_places(settings(tmp_path, out_dir=tmp_path / "a" / "b" / "c"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/here", "n" * 300, "dangling"])
@pytest.mark.parametrize("which", ["out_dir", "work_dir", "export"])
def test_folders_that_cannot_be_made_are_refused(which, place, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "file" / "nowhere")
    with pytest.raises(OutputError) as caught:
        preflight.check_places(settings(tmp_path, **{which: tmp_path / place}))
    assert caught.value.exit_code == 73
    assert place.partition("/")[0] in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_writable(tmp_path / "theirs" / "out")


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("bids_filter_file", "[T1w]\nrun = 1\n", "is a TOML file; expected JSON"),
        ("bids_filter_file", "T1w:\n  run: 1\n", "is a YAML file; expected JSON"),
        ("bids_filter_file", None, "is a folder; expected JSON"),
        ("slurm", 'partition = "normal"\n', "is a TOML file; expected YAML"),
        ("slurm", '{"engine": "fsl"}', "is JSON"),
        ("slurm", "<html>", "is an HTML page"),
        ("slurm", "partitoin: normal\n", "Did you mean partition?"),
        ("slurm", None, "cannot be read"),
        ("use_plugin", "plugin: MultiProcs\n", "Did you mean MultiProc?"),
        ("use_plugin", "plugni: Linear\n", "Did you mean plugin?"),
        ("use_plugin", "plugin: MultiProc\nplugin_args: {n_procs: many}\n", "n_procs"),
        ("use_plugin", '{"T1w": {}}', "is JSON"),
    ],
)
def test_files_of_options_are_looked_at(option, content, words, tmp_path):
    path = tmp_path / "given"
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(UsageError, match=words.replace("?", r"\?")) as caught:
        preflight.check_files(settings(tmp_path, **{option: path}), RESOURCES)
    assert str(path) in str(caught.value)


def test_slurm_must_be_here_to_be_submitted_to(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cluster.yaml").write_text("partition: normal\n")
    given = settings(tmp_path, slurm=tmp_path / "cluster.yaml")
    with pytest.raises(MissingToolError, match="sbatch"):
        preflight.check_files(given, RESOURCES)
    preflight.check_files(settings(tmp_path, slurm=given.slurm, slurm_dry_run=True), RESOURCES)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nprocs": 5000}, "--nprocs 5000"),
        ({"mem_gb": 1e6}, "--mem 1e+06G"),
        ({"nprocs": 1, "omp_nthreads": 7}, "more than --nprocs"),
        ({"sloppy": True, "steps": 9}, "--steps 9 is not used"),
    ],
)
def test_odd_resources_are_explained(given, words, tmp_path):
    (warning,) = preflight.resource_warnings(settings(tmp_path, **given))
    assert words in warning


def test_usual_resources_need_no_words(tmp_path):
    assert preflight.resource_warnings(settings(tmp_path, nprocs=1, omp_nthreads=1)) == []


@pytest.fixture
def disk(monkeypatch):
    def has(free: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1e12, 0, int(free)))

    return has


def test_one_disk_must_hold_outputs_and_intermediate_files(disk, tmp_path):
    needs = [
        (tmp_path / "out", "OUT_DIR", [Need("01", 3e9), Need("02", 3e9)]),
        (tmp_path / "work", "--work-dir", [Need("01", 2e9)]),
    ]
    disk(8.1e9)
    assert check_space(needs) == []
    disk(7.9e9)
    (warning,) = check_space(needs)
    assert "7.9 GB free; 2 participant(s) take about 8.0 GB" in warning
    assert str(tmp_path / "out") in warning and "--work-dir" in warning


def test_a_disk_as_good_as_full_is_refused(disk, tmp_path):
    needs = [(tmp_path / "out", "OUT_DIR", [Need("01", 1e9)])]
    disk(10e6)
    with pytest.raises(ReadWriteError, match="No space left") as caught:
        check_space(needs)
    assert caught.value.exit_code == 74
    # Nobody is left to be done: what is there is enough.
    assert check_space([(tmp_path / "out", "OUT_DIR", [])]) == []


def test_larger_scans_and_more_targets_take_more_room(simulated, tmp_path):
    from colapipe.plan.participants import plan_run
    from colapipe.plan.targets import Request

    def need(**given) -> tuple[float, float]:
        chosen = settings(tmp_path, bids_dir=simulated, participants=("02",), **given)
        (plan,) = plan_run(chosen, Request(chosen.targets))
        return Need.outputs(plan, chosen).size, Need.work(plan, chosen).size

    one, two = need(targets=("T2w",)), need(targets=("T2w", "PDw"))
    assert 1e6 < one[0] < two[0] < 100e6
    assert 10e6 < one[1] < two[1] < 1e9
    assert need(targets=("T2w",), samples=1)[0] < one[0]


def test_an_unreadable_scan_has_a_usual_size(tmp_path):
    from colapipe.plan.sessions import SessionPlan

    assert space._grid(SessionPlan("01", None), "T1w")[0] == 7e6
