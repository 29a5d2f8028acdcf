"""What the process may use is the smallest limit, wherever it is written down."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from colapipe.run import resources
from colapipe.run.resources import (
    available_cpus,
    available_memory_gb,
    count_oom_kills,
    parse_memory,
    peak_memory_bytes,
    visible_gpus,
)

GB = 1024**3


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """A machine of 64 CPUs where no batch system says anything."""
    for name in list(os.environ):
        if name.startswith("SLURM_") or name == "CUDA_VISIBLE_DEVICES":
            monkeypatch.delenv(name)
    monkeypatch.setattr(resources, "_affinity", lambda: 64)


@pytest.fixture
def machine(tmp_path):
    """Return a function that writes files below a root folder of a machine with 32 GB free."""

    def write(files: dict[str, str]) -> Path:
        meminfo = f"MemTotal:  {64 * GB // 1024} kB\nMemAvailable:   {32 * GB // 1024} kB\n"
        for name, content in {"proc/meminfo": meminfo, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def test_without_limits_the_machine_counts(machine):
    root = machine({})
    assert available_cpus(root) == 64
    assert available_memory_gb(root) == 32


def test_nothing_known_still_gives_something(tmp_path):
    assert available_cpus(tmp_path) == 64
    assert available_memory_gb(tmp_path) == 1


def test_old_kernels_tell_the_total_only(machine):
    assert available_memory_gb(machine({"proc/meminfo": "MemTotal:  2097152 kB\n"})) == 2


V2_JOB = "system.slice/slurm.scope/job_7/step_0"


def test_cgroup_v2_limits_of_the_process_count(machine):
    root = machine(
        {
            "proc/self/cgroup": f"0::/{V2_JOB}\n",
            f"sys/fs/cgroup/{V2_JOB}/cpu.max": "350000 100000\n",
            f"sys/fs/cgroup/{V2_JOB}/memory.max": f"{8 * GB}\n",
        }
    )
    assert available_cpus(root) == 3
    assert available_memory_gb(root) == 8


def test_the_tightest_group_on_the_way_counts(machine):
    root = machine(
        {
            "proc/self/cgroup": f"0::/{V2_JOB}\n",
            f"sys/fs/cgroup/{V2_JOB}/cpu.max": "max 100000\n",
            f"sys/fs/cgroup/{V2_JOB}/memory.max": "max\n",
            "sys/fs/cgroup/system.slice/slurm.scope/job_7/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/system.slice/slurm.scope/job_7/memory.max": f"{4 * GB}\n",
            "sys/fs/cgroup/system.slice/memory.max": f"{16 * GB}\n",
            "sys/fs/cgroup/other.slice/memory.max": f"{GB}\n",
        }
    )
    assert available_cpus(root) == 4
    assert available_memory_gb(root) == 4


@pytest.mark.parametrize("path", ["/", "/../../init.scope", "/docker/not-mounted-here"])
def test_cgroup_v2_in_a_container(machine, path):
    root = machine(
        {
            "proc/self/cgroup": f"0::{path}\n",
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/memory.max": f"{3 * GB}\n",
        }
    )
    assert available_cpus(root) == 2
    assert available_memory_gb(root) == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cgroup_v1_limits_count(machine, mount):
    root = machine(
        {
            "proc/self/cgroup": "9:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n",
            f"sys/fs/cgroup/{mount}/job/cpu.cfs_quota_us": "500000\n",
            f"sys/fs/cgroup/{mount}/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{6 * GB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        }
    )
    assert available_cpus(root) == 5
    assert available_memory_gb(root) == 6


def test_cgroup_v1_without_limits(machine):
    root = machine(
        {
            "proc/self/cgroup": "9:memory:/job\n3:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
        }
    )
    assert available_cpus(root) == 64
    assert available_memory_gb(root) == 32


def test_less_than_one_cpu_is_one(machine):
    root = machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert available_cpus(root) == 1


def test_broken_files_are_no_limits(machine):
    root = machine(
        {
            "proc/self/cgroup": "nonsense\n0::/\n",
            "sys/fs/cgroup/cpu.max": "100000 0\n",
            "sys/fs/cgroup/memory.max": "",
        }
    )
    assert available_cpus(root) == 64
    assert available_memory_gb(root) == 32


def test_slurm_task_before_node(machine, monkeypatch):
    root = machine({})
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "12")
    assert available_cpus(root) == 12
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert available_cpus(root) == 4


def test_slurm_cannot_give_more_than_the_affinity(machine, monkeypatch):
    monkeypatch.setattr(resources, "_affinity", lambda: 2)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert available_cpus(machine({})) == 2


def test_the_affinity_is_asked_for(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 6}, raising=False)
    assert resources._affinity() == 3


def test_slurm_memory(machine, monkeypatch):
    root = machine({})
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1024")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert available_memory_gb(root) == 3
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "6")
    assert available_memory_gb(root) == 6
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    assert available_memory_gb(root) == 2


@pytest.mark.parametrize("text", ["", "0", "2(x3)", "many"])
def test_what_slurm_does_not_say_clearly_is_no_limit(machine, monkeypatch, text):
    for name in ("CPUS_PER_TASK", "CPUS_ON_NODE", "MEM_PER_NODE", "MEM_PER_CPU"):
        monkeypatch.setenv(f"SLURM_{name}", text)
    root = machine({})
    assert available_cpus(root) == 64
    assert available_memory_gb(root) == 32


@pytest.mark.parametrize(
    ("named", "gpus"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", ["1"]),
        ("2, 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("GPU-8932f937,MIG-1a2b", ["GPU-8932f937", "MIG-1a2b"]),
    ],
)
def test_gpus_are_those_that_cuda_may_see(machine, monkeypatch, named, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(machine({"dev/nvidia0": ""})) == gpus


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ({}, []),
        ({"SLURM_JOB_GPUS": "1,3"}, ["1", "3"]),
        ({"SLURM_JOB_GPUS": "1,3", "SLURM_STEP_GPUS": "3"}, ["3"]),
        ({"SLURM_GPUS_ON_NODE": "2"}, ["0", "1"]),
        ({"SLURM_JOB_GPUS": "1,3", "CUDA_VISIBLE_DEVICES": "0"}, ["0"]),
    ],
)
def test_in_a_slurm_job_only_its_own_gpus_count(machine, monkeypatch, variables, gpus):
    for name, value in {"SLURM_JOB_ID": "7", **variables}.items():
        monkeypatch.setenv(name, value)
    assert visible_gpus(machine({f"dev/nvidia{n}": "" for n in range(4)})) == gpus


def test_slurm_memory_by_gpu(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_MEM_PER_GPU", "4096")
    assert available_memory_gb(machine({})) == 8


def test_memory_above_which_a_group_is_slowed_down_is_a_limit(machine):
    root = machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.high": f"{5 * GB}\n"})
    assert available_memory_gb(root) == 5


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/job\n",
            "sys/fs/cgroup/job/memory.events": "low 0\nhigh 7\noom 2\noom_kill 2\n",
            "sys/fs/cgroup/memory.events": "oom_kill 9\n",
        },
        {
            "proc/self/cgroup": "4:memory:/job\n",
            "sys/fs/cgroup/memory/job/memory.oom_control": "under_oom 0\noom_kill 2\n",
        },
    ],
)
def test_kills_for_want_of_memory_are_counted(machine, files):
    assert count_oom_kills(machine(files)) == 2


def test_no_counter_is_no_kill(machine):
    assert count_oom_kills(machine({"proc/self/cgroup": "0::/\n"})) == 0


def test_gpus_are_counted_from_their_devices(machine):
    names = ("nvidia10", "nvidia2", "nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps/x", "sda")
    assert visible_gpus(machine({f"dev/{name}": "" for name in names})) == ["0", "2", "10"]
    assert visible_gpus(machine({}) / "elsewhere") == []


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1.5G", 1.5),
        ("16g", 16),
        ("16GB", 16),
        ("16 GiB", 16),
        ("16384M", 16),
        ("512MB", 0.5),
        ("16000M", 16000 / 1024),
        ("1T", 1024),
        ("8", 8),
        (" .5 ", 0.5),
    ],
)
def test_memory_is_understood_with_its_unit(text, amount):
    assert parse_memory(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "G", "0", "0G", "-4G", "16X", "16GG", "1,5G", "1e3", "nan", "inf", "16 G B", "four"],
)
def test_other_amounts_are_refused_with_what_is_understood(text):
    with pytest.raises(ValueError, match=r"1\.5G, 16GB or 16000M .a plain number is in GB."):
        parse_memory(text)


def test_only_the_standard_library_is_imported():
    code = (
        "import sys; import colapipe.run.resources; "
        "print([n for n in ('numpy', 'torch', 'nibabel', 'psutil', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_peak_memory_of_a_program_is_not_that_of_who_started_it():
    held = np.ones(500_000_000, np.uint8)
    code = "from colapipe.run.resources import peak_memory_bytes; print(peak_memory_bytes())"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert peak_memory_bytes() > held.nbytes
    assert 1e6 < int(answer.stdout) < 100e6


def test_memory_that_was_given_back_counts_for_the_peak():
    size = np.ones(300_000_000, np.uint8).nbytes

    assert peak_memory_bytes() > size
