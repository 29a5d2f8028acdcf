"""The CPUs, memory and GPUs that this process may really use.

A container, a batch system or ``taskset`` may leave far less than the machine has. What counts is
the smallest of all limits that can be found: CPU affinity, control groups (version 1 and 2),
SLURM's allocation and the machine itself. One gigabyte is 1024^3 bytes, as in Nipype and SLURM.

Only the standard library is imported, so that ``--help`` stays fast.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_GB = 1024**3
_MB = 1024**2
_UNITS = {"M": 1 / 1024, "G": 1.0, "T": 1024.0}


def available_cpus(root: Path | str = "/") -> int:
    """Return the number of CPUs that this process may use.

    The smallest of: the CPU affinity; the quotas of the control groups that the process is in
    (``cpu.max``, ``cpu.cfs_quota_us``), rounded down; ``SLURM_CPUS_PER_TASK``, or else
    ``SLURM_CPUS_ON_NODE``.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are found; another folder than ``/`` is for tests.

    Returns
    -------
    int
        At least 1.
    """
    limits = [_affinity(), *_cgroup_cpus(Path(root))]
    slurm = _slurm_number("SLURM_CPUS_PER_TASK") or _slurm_number("SLURM_CPUS_ON_NODE")
    if slurm is not None:
        limits.append(slurm)
    return max(1, int(min(limits)))


def available_memory_gb(root: Path | str = "/") -> float:
    """Return the memory that this process may use, in GB.

    The smallest of: the memory that programs can take without swapping (``MemAvailable`` of
    ``/proc/meminfo``); the limits of the control groups that the process is in (``memory.max``,
    ``memory.high``, ``memory.limit_in_bytes``); ``SLURM_MEM_PER_NODE``, or else
    ``SLURM_MEM_PER_CPU`` times the CPUs, or else ``SLURM_MEM_PER_GPU`` times the GPUs.

    Parameters
    ----------
    root : Path
        As for :func:`available_cpus`.

    Returns
    -------
    float
        1 GB where nothing at all is known.
    """
    limits = [*_machine_memory(Path(root)), *_cgroup_memory(Path(root))]
    per_node, per_cpu, per_gpu = (
        _slurm_number(f"SLURM_MEM_PER_{unit}") for unit in ("NODE", "CPU", "GPU")
    )
    if per_node is not None:
        limits.append(per_node * _MB)
    elif per_cpu is not None:
        cpus = _slurm_number("SLURM_CPUS_ON_NODE") or available_cpus(root)
        limits.append(per_cpu * cpus * _MB)
    elif per_gpu is not None and (gpus := len(visible_gpus(root))):
        limits.append(per_gpu * gpus * _MB)
    return min(limits, default=_GB) / _GB


def visible_gpus(root: Path | str = "/") -> list[str]:
    """Return the NVIDIA GPUs that this process may use, without loading a driver.

    Those of ``CUDA_VISIBLE_DEVICES`` where it is set (as CUDA does, up to the first that is not
    one); or else, in a job of SLURM, those that SLURM gave it (``SLURM_STEP_GPUS``,
    ``SLURM_JOB_GPUS``, ``SLURM_GPUS_ON_NODE``), for the others are somebody else's; or else every
    ``/dev/nvidia<number>``.

    Parameters
    ----------
    root : Path
        As for :func:`available_cpus`.

    Returns
    -------
    list of str
        Indices or UUIDs, as ``CUDA_VISIBLE_DEVICES`` takes them.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None and "SLURM_JOB_ID" in os.environ:
        given = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS")
        count = _slurm_number("SLURM_GPUS_ON_NODE") or 0
        named = given or ",".join(map(str, range(count)))
    if named is None:
        devices = (path.name for path in (Path(root) / "dev").glob("nvidia*"))
        indices = (name.removeprefix("nvidia") for name in devices)
        return sorted((index for index in indices if index.isdecimal()), key=int)
    gpus: list[str] = []
    for entry in named.split(","):
        gpu = entry.strip()
        if not (gpu.isdecimal() or gpu.startswith(("GPU-", "MIG-"))):
            break
        gpus.append(gpu)
    return gpus


def count_oom_kills(root: Path | str = "/") -> int:
    """Return how many processes of this control group the kernel has ended for want of memory.

    Read from ``memory.events`` or ``memory.oom_control``; 0 where neither is there.

    Parameters
    ----------
    root : Path
        As for :func:`available_cpus`.
    """
    for folder in _cgroup_folders(Path(root), "memory"):
        for name in ("memory.events", "memory.oom_control"):
            found = re.search(r"^oom_kill (\d+)$", _read(folder / name) or "", re.M)
            if found:
                return int(found[1])
    return 0


def parse_memory(text: str) -> float:
    """Return an amount of memory in GB.

    Parameters
    ----------
    text : str
        A number with the unit M, G or T, or MB, GB, TB, or MiB, GiB, TiB, in any case:
        ``1.5G``, ``16g``, ``16GB``, ``16000M``. A plain number is in GB. One GB is 1024 MB.

    Raises
    ------
    ValueError
        If it is anything else, or not more than 0; the message says what is understood.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([MGT])(?:i?B)?)?", text.strip(), re.I)
    amount = float(match[1]) * _UNITS[(match[2] or "G").upper()] if match else 0.0
    if amount <= 0:
        raise ValueError(
            f"{text!r} is not an amount of memory; write a number with its unit, as in 1.5G, "
            "16GB or 16000M (a plain number is in GB)"
        )
    return amount


def _affinity() -> int:
    """Return the number of CPUs that the scheduler lets this process run on."""
    # macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slurm_number(name: str) -> int | None:
    """Return a number that SLURM put in the environment; None without one, or for 0 (no limit)."""
    text = os.environ.get(name, "").strip()
    return int(text) or None if text.isdecimal() else None


def _machine_memory(root: Path) -> Iterator[float]:
    """Yield the bytes that programs can take without swapping."""
    content = _read(root / "proc" / "meminfo") or ""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", content, re.M))
    kilobytes = found.get("MemAvailable") or found.get("MemTotal")
    if kilobytes:
        yield int(kilobytes) * 1024.0


def _cgroup_cpus(root: Path) -> Iterator[float]:
    """Yield the CPUs that each quota on the way to this process's control group allows."""
    for folder in _cgroup_folders(root, "cpu"):
        # Version 2 has both numbers in one file, version 1 one in each of two.
        words = (_read(folder / "cpu.max") or "").split()
        if not words:
            quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            words = [(quota or "").strip(), (period or "").strip()]
        # "max" and -1 stand for no limit.
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]) > 0:
            yield int(words[0]) / int(words[1])


def _cgroup_memory(root: Path) -> Iterator[float]:
    """Yield the bytes that each limit on the way to this process's control group allows."""
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            text = (_read(folder / name) or "").strip()
            if text.isdecimal():
                yield float(text)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the control groups of this process, from its own up to the outermost one.

    A limit anywhere on the way counts. Inside a container the innermost folders may be missing,
    as the path may be the host's while the mount shows the container's group only.
    """
    mount = root / "sys" / "fs" / "cgroup"
    for line in (_read(root / "proc" / "self" / "cgroup") or "").splitlines():
        fields = line.split(":", 2)
        if len(fields) != 3:
            continue
        hierarchy, controllers, path = fields
        if hierarchy == "0" and not controllers:
            tops = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            tops = [mount / controllers, mount / controller]
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        for top in tops:
            yield from (top / step for step in (inner, *inner.parents))


def _read(path: Path) -> str | None:
    """Return the text of a small file of the kernel's, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


@dataclass(frozen=True)
class Resources:
    """What a run may use.

    Parameters
    ----------
    nprocs : int
        CPUs.
    mem_gb : float
    gpus : tuple of str
        Devices, as ``CUDA_VISIBLE_DEVICES`` takes them.
    threads : int
        Threads of one process.
    """

    nprocs: int
    mem_gb: float
    gpus: tuple[str, ...]
    threads: int


def peak_memory_bytes() -> int:
    """Return the largest resident size that this process has had."""
    # To getrusage, a program has been as large as who started it, on Linux.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
