"""Locks that keep two runs from working on one participant in one folder at the same time.

The kernel holds a lock for as long as its process lives, so that one that crashed or was killed
leaves nothing to clean up. On a network file system the servers' lock service does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from colapipe.errors import LockedError, OutputError


@contextlib.contextmanager
def lock(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock while the block runs.

    Parameters
    ----------
    path : Path
        The lock file; it stays. Who holds the lock stands beside it, in ``.json``.
    what : str
        What is locked, for the message.
    wait : float
        Seconds to wait for another holder.

    Raises
    ------
    LockedError
        If another process holds it for longer; the message names that process.
    OutputError
        If the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    file_lock = FileLock(path, timeout=wait)
    holder = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout as err:
        raise LockedError(
            f"{what}: another run of colapipe is at work on it ({_describe(holder)}). Wait until "
            "that run has ended, or choose another folder; then start the same command again."
        ) from err
    except OSError as err:
        raise OutputError(
            f"{path}: the lock cannot be taken ({err.strerror}); expected a folder that you may "
            "write to. Choose another one."
        ) from err
    try:
        # Only words for whoever finds the lock taken: a full disk must not stop the run here.
        with contextlib.suppress(OSError):
            holder.write_text(json.dumps(_me()), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        file_lock.release()


@contextlib.contextmanager
def lock_participants(
    folders: Iterable[Path], participants: Iterable[str]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Hold the locks of those participants that no other run is at work on.

    Parameters
    ----------
    folders : iterable of Path
        Where the locks are, ``sub-<label>.lock``: one folder in the output, one in the work folder.
    participants : iterable of str

    Yields
    ------
    held : list of str
        Participants that are this run's while the block runs.
    refused : dict
        Each of the others, to words about the run that is at work on it.
    """
    folders = list(folders)
    held: list[str] = []
    refused: dict[str, str] = {}
    with contextlib.ExitStack() as locks:
        for participant in participants:
            with contextlib.ExitStack() as mine:
                try:
                    for folder in folders:
                        what = f"sub-{participant} in {folder.parent}"
                        mine.enter_context(lock(folder / f"sub-{participant}.lock", what))
                except LockedError as err:
                    refused[participant] = str(err)
                    continue
                locks.push(mine.pop_all())
                held.append(participant)
        yield held, refused


def _me() -> dict[str, str]:
    """Return what another run should know about this one."""
    job = os.environ.get("SLURM_JOB_ID")
    program = Path(sys.argv[0]).name
    return {
        "host": socket.gethostname(),
        "process": str(os.getpid()) + (f", SLURM job {job}" if job else ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(
            [program if program.startswith("colapipe") else "colapipe", *sys.argv[1:]]
        ),
    }


def _describe(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return (
            f"process {found['process']} on {found['host']} since {found['since']}: "
            f"{found['command']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return f"its lock is {holder.with_suffix('.lock')}"
