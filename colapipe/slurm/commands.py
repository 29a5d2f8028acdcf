"""SLURM's own commands, called again where trouble passes; silence is no answer."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colapipe.errors import ColapipeError, MissingToolError

logger = logging.getLogger("colapipe")

TEMPORARY = (
    "Socket timed out",
    "Unable to contact slurm controller",
    "Unable to confirm allocation",
    "temporarily unable",
    "temporarily unavailable",
    "not available at the moment",
    "Connection refused",
    "Connection timed out",
    "Transport endpoint is not connected",
    "Zero Bytes were transmitted",
)
"""Parts of messages about trouble that passes."""

_SECONDS = 120
"""A command that takes longer hangs; SLURM's own longest time limit is below this."""


class SlurmError(ColapipeError):
    """SLURM refuses a job or does not answer; the message has its own words."""

    exit_code = 69


@dataclass(frozen=True)
class Retry:
    """How often a command is tried that fails for a reason that passes.

    Parameters
    ----------
    tries : int
    pause : float
        Seconds before the second try; each further pause is twice as long, at most a minute.
    """

    tries: int = 6
    pause: float = 2.0


def submit(arguments: Sequence[str], cwd: Path, retry: Retry | None = None) -> str:
    """Submit a job and return its number.

    Parameters
    ----------
    arguments : sequence of str
        Options, script and arguments of the script.
    cwd : Path
        Where the job starts.
    retry : Retry, optional

    Raises
    ------
    SlurmError
        With ``sbatch``'s own words.
    MissingToolError
        If there is no ``sbatch``.
    """
    # Where sbatch heard no answer, the job may be in the queue all the same: its mark tells.
    mark = f"colapipe-{uuid.uuid4().hex}"
    command = ["sbatch", "--parsable", f"--comment={mark}", *arguments]

    def attempt(number: int) -> str:
        found = _find(mark) if number else ""
        if found:
            return found
        # Ctrl-C is for this process: what sbatch has begun, it ends, and the job is known.
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=_environment(),
        )
        try:
            output, errors = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        except BaseException:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=20)
                cancel([_job_number(output)])
            process.kill()
            raise
        if process.returncode != 0:
            raise SlurmError(_words(command[0], errors, process.returncode))
        job = _job_number(output)
        if not job.isdecimal():
            raise SlurmError(f"found {output.strip()!r}, expected the number of a job")
        return job

    return _try(attempt, "sbatch", retry or Retry())


def queue(retry: Retry | None = None) -> dict[str, str]:
    """Return this user's jobs that are in the queue, with their states.

    Returns
    -------
    dict
        ``12`` or, for a task of an array, ``12_3``, to ``PENDING``, ``RUNNING`` and so on.

    Raises
    ------
    SlurmError
        If there is no answer. That says nothing about any job.
    """
    lines = _run(
        ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"],
        retry or Retry(),
    ).splitlines()
    return dict(line.split(maxsplit=1) for line in lines if line.strip())


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended already do not matter.

    Raises
    ------
    SlurmError
    """
    numbers = [job for job in jobs if job]
    if numbers:
        _run(["scancel", "--quiet", *numbers], Retry(tries=3, pause=1.0))


@dataclass(frozen=True)
class Ending:
    """How a job ended, as SLURM tells it.

    Parameters
    ----------
    state : str
        ``FAILED``, ``OUT_OF_MEMORY``, ``TIMEOUT``, ``CANCELLED`` and so on.
    exit_code : str
        Exit code and signal, such as ``0:9``.
    reason : str
    host : str
        Where it ran; empty if it never did.
    """

    state: str
    exit_code: str = ""
    reason: str = ""
    host: str = ""

    @property
    def by_itself(self) -> bool:
        """Whether it came to its own end, well or with exit code 1."""
        return self.state == "COMPLETED" or (self.state, self.exit_code) == ("FAILED", "1:0")


def ending(job: str) -> Ending | None:
    """Return how a job ended, from SLURM's memory or its accounts; None if neither tells."""
    for find in (_ending_from_scontrol, _ending_from_sacct):
        with contextlib.suppress(ColapipeError):
            found = find(job)
            if found is not None:
                return found
    return None


def _ending_from_scontrol(job: str) -> Ending | None:
    text = _run(["scontrol", "--oneliner", "show", "job", job])
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    values = {key: "" if value in ("(null)", "None") else value for key, value in words.items()}
    if not values.get("JobState"):
        return None
    given = (values.get(key, "") for key in ("JobState", "ExitCode", "Reason", "BatchHost"))
    return Ending(*given)


def _ending_from_sacct(job: str) -> Ending | None:
    fields = "State,ExitCode,Reason,NodeList"
    command = ["sacct", f"--jobs={job}", "--parsable2", "--noheader", f"--format={fields}"]
    lines = [line.split("|") for line in _run(command).splitlines() if line.count("|") == 3]
    if not lines:
        return None
    # A step that ran out of memory may be the only line that says so.
    states = [line[0] for line in lines]
    _, exit_code, reason, host = lines[0]
    state = "OUT_OF_MEMORY" if "OUT_OF_MEMORY" in states else states[0]
    return Ending(state, exit_code, "" if reason == "None" else reason, host)


def largest_array() -> int:
    """Return how many tasks one array may have; 1000, SLURM's own default, if nobody says."""
    with contextlib.suppress(ColapipeError):
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run(["scontrol", "show", "config"]), re.M)
        if found:
            # Numbers of tasks are below it, and ours start with 1.
            return max(1, int(found[1]) - 1)
    return 1000


def _find(mark: str) -> str:
    """Return the number of the job with this comment, or nothing."""
    with contextlib.suppress(SlurmError):
        command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%F %k"]
        for line in _run(command, Retry(tries=2)).splitlines():
            if line.split()[1:] == [mark]:
                return line.split()[0]
    return ""


def _job_number(output: str) -> str:
    """Return the job's number from ``--parsable`` output, which may name the cluster, too."""
    lines = output.strip().splitlines()
    return lines[-1].partition(";")[0] if lines else ""


def _run(command: Sequence[str], retry: Retry | None = None) -> str:
    def attempt(_: int) -> str:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=_environment(),
        )
        if done.returncode != 0:
            raise SlurmError(_words(command[0], done.stderr, done.returncode))
        return done.stdout

    return _try(attempt, command[0], retry or Retry(tries=1))


def _environment() -> dict[str, str]:
    """Return the environment without what would make SLURM's commands answer something else.

    ``SQUEUE_PARTITION`` and its like hide jobs; the variables of a job that this process may be in
    would pass for those of the jobs that it submits.
    """
    stays = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
    return {
        name: value
        for name, value in os.environ.items()
        if name in stays or not name.startswith(("SLURM_", "SQUEUE_", "SACCT_", "SBATCH_ARRAY"))
    }


def _words(program: str, errors: str, code: int) -> str:
    """Return what a program said, in one line and without its name before each sentence."""
    lines = [line.strip().removeprefix(f"{program}: ") for line in errors.splitlines()]
    words = "; ".join(line.removeprefix("error: ") for line in lines if line)
    return words or f"it ended with exit code {code}"


def _try(attempt: Callable[[int], str], program: str, retry: Retry) -> str:
    """Call until it succeeds, fails for a reason that stays, or was called often enough."""
    for number in range(retry.tries):
        try:
            return attempt(number)
        except FileNotFoundError as err:
            raise MissingToolError(
                f"{program} was not found; expected SLURM's commands on PATH. Start this on a "
                "machine that may submit jobs, a login node for example."
            ) from err
        except (SlurmError, subprocess.TimeoutExpired) as err:
            passes = isinstance(err, subprocess.TimeoutExpired) or any(
                words.lower() in str(err).lower() for words in TEMPORARY
            )
            if not passes or number + 1 == retry.tries:
                raise SlurmError(f"{program}: {err}") from err
            pause = min(60.0, retry.pause * 2**number)
            logger.warning("%s: %s; trying again in %.0f s", program, err, pause)
            time.sleep(pause)
    raise SlurmError(f"{program}: was not tried")
