"""A real SLURM of one node, started for these tests and ended with them.

As root on Debian the packages are installed, and munged, slurmctld and slurmd run in a folder of
their own, on ports of their own. ``COLAPIPE_TEST_SLURM=1`` takes the SLURM that is there already.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
PIDS = ("slurmd.pid", "slurmctld.pid", "munged.pid")
GPUS = 2

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=10000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
AccountingStorageType=accounting_storage/none
KillWait=2
MinJobAge=300
InactiveLimit=0
Waittime=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=20000 Gres={gres} State=UNKNOWN
PartitionName=normal Nodes={host} Default=YES MaxTime=1-0 State=UP
PartitionName=gpu Nodes={host} MaxTime=1-0 State=UP
"""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where a test's jobs go. Empty names stand for the defaults of a cluster that was there."""

    partition: str = ""
    gpu_partition: str = ""
    gpus: int = 0

    def squeue(self, *arguments: str) -> list[str]:
        """Return the lines of ``squeue`` about this user's jobs."""
        command = ["squeue", "--noheader", "--user", str(os.getuid()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[:-1]

    def wait(self, seconds: float = 900) -> None:
        """Wait until none of this user's jobs is left."""
        wait_for(lambda: not self.squeue(), seconds, "the queue did not run empty")


def wait_for(condition: Callable[[], object], seconds: float, otherwise: str) -> None:
    """Wait until a condition holds; fail with a sentence if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(otherwise)
        time.sleep(0.1)


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object], float, str], None]:
    """Wait until a condition holds."""
    return wait_for


@pytest.fixture(scope="session")
def cluster(install_packages: Callable[..., None]) -> Iterator[Cluster]:
    """A SLURM that takes jobs, on its own or the machine's."""
    if os.environ.get("COLAPIPE_TEST_SLURM"):
        yield Cluster()
        return
    if not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        install_packages(*PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    gpus = make_gpus(folder)
    before = os.environ.get("SLURM_CONF")
    try:
        os.environ["SLURM_CONF"] = str(write_configuration(folder, gpus))
        start(folder)
        yield Cluster("normal", "gpu", gpus)
    finally:
        stop(folder)
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def make_gpus(folder: Path) -> int:
    """Make devices that SLURM takes for GPUs: clones of /dev/null."""
    folder.chmod(0o755)
    try:
        for number in range(GPUS):
            os.mknod(folder / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        return 0
    return GPUS


def write_configuration(folder: Path, gpus: int) -> Path:
    """Write what the daemons read; return the path of slurm.conf."""
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(1024))
    gres = f"Name=gpu Type=fake File={folder}/nvidia[0-{gpus - 1}]" if gpus else ""
    (folder / "gres.conf").write_text(gres + "\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    conf = folder / "slurm.conf"
    conf.write_text(
        SLURM_CONF.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            ports=free_ports(2),
            gres=f"gpu:fake:{gpus}",
        )
    )
    return conf


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(folder: Path) -> None:
    """Start the daemons and wait until the node takes jobs; skip the test if it never does."""
    munge = {"socket": "munge.socket", "key-file": "munge.key", "seed-file": "munge.seed"}
    munge |= {"pid-file": "munged.pid", "log-file": "munged.log"}
    commands = [
        ["munged", "--force", *(f"--{name}={folder / file}" for name, file in munge.items())],
        ["slurmctld", "-c"],
        ["slurmd", "-N", socket.gethostname().partition(".")[0]],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            pytest.skip(f"{command[0]} does not start: {done.stderr.strip()[-300:]}")
    state = ""
    for _ in range(300):
        answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
        state = " ".join(sorted(set(answer.stdout.split())))
        if state == "idle":
            return
        time.sleep(0.2)
    pytest.skip(f"SLURM's node does not become idle but is {state or 'unknown'!r}")


def stop(folder: Path) -> None:
    """Cancel the jobs and end the daemons, each by its process id."""
    with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
        subprocess.run(["scancel", "--user", str(os.getuid())], timeout=10)
    for name in PIDS:
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / name).read_text())
            end(pid)


def end(pid: int) -> None:
    """End one process, in the end by force."""
    os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        time.sleep(0.1)
        if has_ended(pid):
            return
    os.kill(pid, signal.SIGKILL)


def has_ended(pid: int) -> bool:
    """Say whether a process is gone, or waits only for somebody to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
