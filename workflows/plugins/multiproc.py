"""Nipype's MultiProc, which also keeps what it knows about each failed node."""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin, run_node

from colapipe.failures import Failure
from colapipe.resources import Resources
from colapipe.workflows.plugins.failures import KeepsFailures


class LocalPlugin(KeepsFailures, MultiProcPlugin):
    """Run nodes on this machine, in processes that start clean.

    Parameters
    ----------
    resources : Resources
    log_file : Path
        Where workers write what Nipype says, instead of onto the terminal.
    """

    def __init__(self, resources: Resources, log_file: Path) -> None:
        super().__init__(
            plugin_args={
                "n_procs": resources.nprocs,
                "memory_gb": resources.mem_gb,
                "n_gpu_procs": max(1, resources.gpus),
                "raise_insufficient": False,
            }
        )
        self.failures: list[Failure] = []
        self.gpus = resources.gpus
        self._log_file = log_file
        # The pool that MultiProc has made is empty still: workers start with the first node.
        self.pool: ProcessPoolExecutor = self._make_pool()

    def _make_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=self.processors,
            initializer=start_worker,
            initargs=(str(Path.cwd()), str(self._log_file)),
            # A process forked from this one could not use a GPU, and would inherit its threads.
            mp_context=multiprocessing.get_context("forkserver"),
        )

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        task = partial(run_node, node, updatehash, self._taskid)
        try:
            future = self.pool.submit(task)
        except BrokenProcessPool:
            self.pool = self._make_pool()
            future = self.pool.submit(task)
        self._task_obj[self._taskid] = future
        future.add_done_callback(partial(self._keep_result, self._taskid))
        return int(self._taskid)

    def _keep_result(self, taskid: int, future: Future[dict[str, Any]]) -> None:
        """Keep what a worker answered. One that cannot answer is a failed node, not a riddle.

        MultiProc's own callback lets the error of a full disk or of a killed worker pass, and then
        waits for ever.
        """
        try:
            result = future.result()
        except Exception as err:
            result = {"result": None, "traceback": format_exception(err), "taskid": taskid}
        self._taskresult[taskid] = result

    def close(self) -> None:
        """End the workers."""
        self.pool.shutdown(cancel_futures=True)


def start_worker(folder: str, log_file: str) -> None:
    """Prepare a worker process: its folder, and warnings into the log."""
    os.chdir(folder)
    send_to_log(Path(log_file), logging.WARNING)


def send_to_log(log_file: Path, level: int) -> None:
    """Let Nipype speak into a file only."""
    nipype_logger = logging.getLogger("nipype")
    for handler in list(nipype_logger.handlers):
        nipype_logger.removeHandler(handler)
    handler = logging.FileHandler(log_file, encoding="utf-8")
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    nipype_logger.addHandler(handler)
    nipype_logger.propagate = False
