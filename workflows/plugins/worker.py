"""One node in a process of its own: what happens on the worker's side."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.multiproc import run_node

from colapipe.run.usage import Consumed

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
"""Where OpenMP (torch's, too), BLAS and ITK look for the number of threads they may use."""


@dataclass(frozen=True)
class Share:
    """What a node is given.

    Parameters
    ----------
    threads : int
    gpu : str or None
        The one device that it may see; None is no device at all.
    log_file : Path
        Where Nipype's words go, instead of onto the terminal.
    """

    threads: int
    gpu: str | None
    log_file: Path

    def environment(self) -> dict[str, str]:
        """Return the environment variables that say all this to libraries and commands."""
        limits = dict.fromkeys(THREAD_LIMITS, str(self.threads))
        return {**limits, "CUDA_VISIBLE_DEVICES": self.gpu or "", "NIPYPE_NO_ET": "1"}


def work(node: Any, updatehash: bool, taskid: int, share: Share, answer: Connection) -> None:
    """Run a node and send its result, with what it consumed, to the process that asked for it."""
    # A group of its own, so that the node and its commands can be ended together, and no Ctrl-C
    # reaches them but through the app.
    os.setsid()
    signal.signal(signal.SIGTERM, _unwind)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(share.environment())
    send_to_log(share.log_file, logging.WARNING)
    try:
        result = run_node(node, updatehash, taskid)
    except BaseException as err:
        # Nipype looks for a result even when there can be none.
        result = {"result": None, "traceback": format_exception(err), "taskid": taskid}
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        # Temporary files are removed; now this process may end by the signal that it was sent.
        signal.raise_signal(signal.SIGTERM)
    with contextlib.suppress(OSError):
        answer.send((result, consumed()))


def consumed() -> Consumed:
    """Return what this process and the commands that it ran have consumed."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return Consumed(
        cpu_seconds=sum(usage.ru_utime + usage.ru_stime for usage in usages),
        peak_memory_gb=max(usage.ru_maxrss for usage in usages) * unit / 1024**3,
    )


def _unwind(*_: object) -> None:
    """Leave by the way of an exception, so that temporary files are removed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise SystemExit


def _end_with_parent() -> None:
    """End this node and its commands when the app is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def send_to_log(log_file: Path, level: int) -> None:
    """Let Nipype speak into a file only."""
    # A log that cannot be written (the disk is full) is no reason to print its stack.
    logging.raiseExceptions = False
    nipype_logger = logging.getLogger("nipype")
    for handler in list(nipype_logger.handlers):
        nipype_logger.removeHandler(handler)
    handler = logging.FileHandler(log_file, encoding="utf-8")
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    nipype_logger.addHandler(handler)
    nipype_logger.propagate = False
