"""What each node of a run consumed: time, memory, GPU; kept as a table in the run's log folder."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from colapipe.run.failures import participant_of

TABLE = "resources.tsv"
APP_GB = 0.5
"""Memory of the app itself beside its nodes: its process 0.3 GB, the server that they fork from."""
MARGIN = 1.2
"""By how much the memory to ask for exceeds what was measured."""
COLUMNS = (
    "participant",
    "session",
    "node",
    "start",
    "seconds",
    "cpu_seconds",
    "threads",
    "planned_memory_gb",
    "peak_memory_gb",
    "gpu",
    "gpu_memory_gb",
    "exit",
)
_MISSING = "n/a"


@dataclass(frozen=True)
class Consumed:
    """What a process measured of itself and the commands that it ran.

    Parameters
    ----------
    cpu_seconds : float
    peak_memory_gb : float
        The largest resident size of any of them.
    """

    cpu_seconds: float
    peak_memory_gb: float


@dataclass(frozen=True)
class NodeUsage:
    """A row of the table.

    Parameters
    ----------
    node : str
        Full name.
    start : float
        Seconds since the epoch.
    seconds : float
        Wall time.
    cpu_seconds : float or None
    threads : int
        CPUs that it was given.
    planned_memory_gb : float
    peak_memory_gb : float or None
        Of the node and its commands together.
    gpu : str or None
        The device that it was given.
    gpu_memory_gb : float or None
    exit : str
        ``ok``, ``failed``, or the signal or exit code of a process that died.
    """

    node: str
    start: float
    seconds: float
    cpu_seconds: float | None
    threads: int
    planned_memory_gb: float
    peak_memory_gb: float | None
    gpu: str | None = None
    gpu_memory_gb: float | None = None
    exit: str = "ok"

    @property
    def end(self) -> float:
        """Seconds since the epoch."""
        return self.start + self.seconds


def append_usage(path: Path, usage: NodeUsage) -> None:
    """Add a row to the table, which is made if it is not there."""
    participant, session = participant_of(usage.node)
    start = datetime.datetime.fromtimestamp(usage.start).astimezone()
    row = (
        participant,
        session,
        usage.node,
        start.isoformat(timespec="milliseconds"),
        f"{usage.seconds:.3f}",
        _number(usage.cpu_seconds),
        usage.threads,
        _number(usage.planned_memory_gb),
        _number(usage.peak_memory_gb),
        usage.gpu,
        _number(usage.gpu_memory_gb),
        usage.exit,
    )
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        writer.writerow([_MISSING if cell in (None, "") else cell for cell in row])


def read_usage(path: Path) -> list[NodeUsage]:
    """Read the table of a run; nothing if there is none, as no node has run."""
    if not path.is_file():
        return []
    from colapipe.bids.tables import read_rows

    return [_usage(row) for row in read_rows(path)]


def slowest(usages: Iterable[NodeUsage], count: int = 3) -> list[NodeUsage]:
    """Return the nodes that took longest, the longest first."""
    return sorted(usages, key=lambda usage: -usage.seconds)[:count]


def most_memory_gb(usages: Sequence[NodeUsage]) -> float:
    """Return the most memory that a run held at once, the app itself included.

    The peaks of the nodes that ran at the same time are added, as if each had reached its own at
    one moment.
    """
    return most_at_once(usages, lambda usage: usage.peak_memory_gb or 0.0) + APP_GB


def memory_to_ask_for(usages: Sequence[NodeUsage]) -> int:
    """Return the memory in whole GB with which the same nodes can run at once again."""
    return math.ceil(most_memory_gb(usages) * MARGIN)


def most_at_once(usages: Iterable[NodeUsage], amount: Callable[[NodeUsage], float]) -> float:
    """Return the largest sum of an amount over the nodes that ran at the same time."""
    changes: list[tuple[float, float]] = []
    for usage in usages:
        # Sorted, an end comes before a start at the same moment.
        changes += [(usage.start, amount(usage)), (usage.end, -amount(usage))]
    return max(accumulate(change for _, change in sorted(changes)), default=0.0)


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.3f}"


def _usage(row: dict[str, str]) -> NodeUsage:
    def number(name: str) -> float | None:
        return None if row[name] == _MISSING else float(row[name])

    return NodeUsage(
        node=row["node"],
        start=datetime.datetime.fromisoformat(row["start"]).timestamp(),
        seconds=float(row["seconds"]),
        cpu_seconds=number("cpu_seconds"),
        threads=int(row["threads"]),
        planned_memory_gb=float(row["planned_memory_gb"]),
        peak_memory_gb=number("peak_memory_gb"),
        gpu=None if row["gpu"] == _MISSING else row["gpu"],
        gpu_memory_gb=number("gpu_memory_gb"),
        exit=row["exit"],
    )
