"""The YAML file of --slurm: what it may say, and what is said of a mistake in it."""

from __future__ import annotations

import re
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from colapipe.errors import UsageError
from colapipe.slurm.options import PARSERS, JobOptions, read_cluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def read(tmp_path):
    def read_text(text: str):
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        return read_cluster(path)

    return read_text


def test_an_empty_file_leaves_sane_demands(read):
    cluster = read("")
    assert (cluster.preproc.cpus, cluster.preproc.mem, cluster.preproc.gres) == (4, "8G", "")
    assert cluster.synth.gres == "gpu:1"
    assert cluster.group is None


def test_what_stands_under_a_stage_wins_over_what_holds_for_all(read):
    cluster = read("partition: cpu\nmem: 4G\nsynth: {partition: gpu}\ngroup: {mem: 1G}\n")
    assert (cluster.preproc.partition, cluster.preproc.mem) == ("cpu", "4G")
    assert (cluster.synth.partition, cluster.synth.mem) == ("gpu", "4G")
    assert (cluster.group.partition, cluster.group.mem) == ("cpu", "1G")


def test_a_time_is_no_number_of_seconds(read):
    # YAML 1.1 reads 12:00:00 as 43200, which sbatch takes for minutes.
    assert read("time: 12:00:00").preproc.time == "12:00:00"


def test_a_value_can_be_taken_back(read):
    cluster = read("partition: cpu\nsynth: {gres: null, partition: null}\npreproc:\n")
    assert (cluster.synth.gres, cluster.synth.partition) == ("", "")
    assert cluster.preproc.partition == "cpu"


@pytest.mark.parametrize(("text", "there"), [("true", True), ("no", False), ("", False)])
def test_the_job_of_the_group_level_is_optional(text, there, read):
    assert (read(f"group: {text}").group is not None) == there


def test_lists_may_be_written_either_way(read):
    line = read("sbatch_args: --nice=10 --comment='a b'").preproc.sbatch_args
    items = read("sbatch_args: [--nice=10, '--comment=a b']").preproc.sbatch_args
    assert line == items == ("--nice=10", "--comment=a b")


def test_demands_become_options_of_sbatch_and_the_users_own_come_last():
    options = JobOptions(partition="p", time="1:00:00", cpus=2, sbatch_args=("--partition=q",))
    assert options.arguments() == [
        "--partition=p",
        "--time=1:00:00",
        "--cpus-per-task=2",
        "--partition=q",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("partitoin: normal", ["partitoin", "Did you mean partition?"]),
        ("synth: {tiem: 3}", ["synth", "'tiem'", "Did you mean time?"]),
        ("preprok: {cpus: 2}", ["preprok", "Did you mean preproc?"]),
        ("cpus: many", ["cpus", "'many'", "number"]),
        ("cpus: 0", ["cpus", "'0'", "1 or more"]),
        ("mem: 8", ["mem", "'8'", "8G"]),
        ("time: tomorrow", ["time", "'tomorrow'", "HH:MM:SS"]),
        ("partition: [a]", ["partition", "['a']", "name of a partition"]),
        ("partition: a b", ["partition", "'a b'"]),
        ("modules: {fsl: 6}", ["modules", "{'fsl': '6'}", "a list"]),
        ('sbatch_args: ["--a=b\\nc"]', ["sbatch_args"]),
        ('sbatch_args: "--a=\'"', ["sbatch_args"]),
        ("setup: [a]", ["setup", "shell"]),
        ("group: maybe", ["group", "'maybe'", "true"]),
        ("synth: gpu", ["synth", "'gpu'", "keys"]),
        ("- a\n- b", ["list", "keys"]),
        ("a: [", ["not a YAML file", "line"]),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_was_expected(text, words, read, tmp_path):
    with pytest.raises(UsageError) as caught:
        read(text)
    message = str(caught.value)
    assert all(word in message for word in [str(tmp_path / "cluster.yaml"), *words]), message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.yaml: cannot be read"):
        read_cluster(tmp_path / "nothing.yaml")


def test_the_example_that_is_shipped_is_right_and_names_every_key():
    with as_file(files("colapipe.bids_templates") / "slurm.yaml") as path:
        cluster = read_cluster(path)
        text = path.read_text()
    assert (cluster.preproc.time, cluster.synth.gres) == ("04:00:00", "gpu:1")
    assert cluster.group is not None
    assert all(re.search(rf"^ *(# )?{key}:", text, re.MULTILINE) for key in PARSERS)


def test_the_guide_explains_every_key_and_its_examples_are_right(read):
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in guide for key in PARSERS)
    examples = re.findall(r"```yaml\n((?:partition|modules):.*?)```", guide, re.DOTALL)
    assert len(examples) == 3
    assert all(read(example) for example in examples)
