"""Nipype's MultiProc with a process for each node: nothing hangs, and every end has a name."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin

from colapipe.interfaces.synthesis import GPUError, leave_gpu, may_leave_gpu
from colapipe.run.failures import Failure, last_words
from colapipe.run.resources import Resources
from colapipe.run.usage import APP_GB, TABLE, NodeUsage, append_usage
from colapipe.workflows.plugins.failures import KeepsFailures, traceback_lines
from colapipe.workflows.plugins.memory import PeakMemory
from colapipe.workflows.plugins.order import urgency
from colapipe.workflows.plugins.process import NodeProcess
from colapipe.workflows.plugins.server import start_server
from colapipe.workflows.plugins.worker import Share

logger = logging.getLogger("colapipe")

POLL = 0.1
"""Seconds after which every node is looked at, whatever it says."""

ATTEMPTS = 20
"""How often the start of a process is tried."""

GRACE = 2.0
"""Seconds that a node has to remove its temporary files when the run is interrupted."""


class LocalPlugin(KeepsFailures, MultiProcPlugin):
    """Run each node in a process of its own on this machine, and start no more than fits.

    Parameters
    ----------
    resources : Resources
    log_file : Path
        Where workers write what Nipype says, instead of onto the terminal. The table of resources
        is written beside it.
    warn : callable
        Says a sentence to the person at the keyboard.
    """

    def __init__(
        self,
        resources: Resources,
        log_file: Path,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(
            plugin_args={
                "n_procs": resources.nprocs,
                # Half at least: with little memory, let one node after the other try.
                "memory_gb": max(resources.mem_gb - APP_GB, resources.mem_gb / 2),
                "n_gpu_procs": max(1, len(resources.gpus)),
                "raise_insufficient": False,
            }
        )
        self.failures: list[Failure] = []
        self.gpus = len(resources.gpus)
        self._threads = resources.threads
        self._log_file = log_file
        self._warn = warn
        self._free_gpus = list(resources.gpus)
        self._running: dict[int, NodeProcess] = {}
        self._unsent: dict[int, dict[str, Any]] = {}
        self._again: set[str] = set()
        self._lost: set[str] = set()
        self._memory = PeakMemory(self._processes)
        # MultiProc's pool has started no process yet, and never will.
        self.pool.shutdown()

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph to its end."""
        # It loads its libraries while the first nodes are being chosen.
        start_server()
        self._memory.start()
        # Nipype would sleep between two looks; this plugin wakes up when a node has ended.
        execution = {**config["execution"], "poll_sleep_duration": "0"}
        super().run(graph, {**config, "execution": execution}, updatehash=updatehash)

    def close(self) -> None:
        """End the nodes that still run, first politely, and their commands with them."""
        self._memory.stop()
        for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 10.0)):
            limit = time.monotonic() + seconds
            for process in self._running.values():
                process.signal(number)
            for process in self._running.values():
                process.wait(max(0.0, limit - time.monotonic()))
        self._running.clear()

    def _generate_dependency_list(self, graph: Any) -> None:
        super()._generate_dependency_list(graph)
        self._urgency = urgency(graph, self.procs)

    def _sort_jobs(self, jobids: Sequence[int], scheduler: str | None = None) -> list[int]:
        return sorted(jobids, key=lambda jobid: self._urgency[jobid])

    def _send_procs_to_workers(self, updatehash: bool = False, graph: Any = None) -> None:
        super()._send_procs_to_workers(updatehash=updatehash, graph=graph)
        if self._running:
            wait([process.answer for process in self._running.values()], timeout=POLL)

    def _processes(self) -> list[int]:
        # Asked for from another thread: a list of its own, made in one step.
        return [process.pid for process in list(self._running.values())]

    def _submit_job(self, node: Any, updatehash: bool = False) -> int | None:
        gpu = None
        if node.is_gpu_node():
            if not self._free_gpus:
                return None
            gpu = self._free_gpus.pop(0)
        self._taskid += 1
        share = Share(node.n_procs, gpu, self._log_file)
        try:
            process = start_process(node, updatehash, self._taskid, share)
        except Exception as err:
            # No process could be started; that is this node's failure, and not the run's end.
            self._unsent[self._taskid] = {"result": None, "traceback": format_exception(err)}
            self._give_back(gpu)
        else:
            self._running[self._taskid] = process
            logger.debug("%s is process %d", node.fullname, process.pid)
        return int(self._taskid)

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        if taskid in self._unsent:
            return self._unsent[taskid]
        process = self._running[taskid]
        result = process.poll()
        if result is None:
            return None
        self._give_back(process.share.gpu)
        self._record(process, result)
        return (
            {**result, "traceback": None} if self._is_worth_repeating(process, result) else result
        )

    def _clear_task(self, taskid: int) -> None:
        self._running.pop(taskid, None)
        self._unsent.pop(taskid, None)

    def _give_back(self, gpu: str | None) -> None:
        if gpu is not None:
            self._free_gpus.append(gpu)

    def _is_worth_repeating(self, process: NodeProcess, result: dict[str, Any]) -> bool:
        """Say whether a node failed for a reason that is not its own, and let it start again."""
        name, text = process.node.fullname, "".join(traceback_lines(result))
        if process.lost and name not in self._lost:
            self._lost.add(name)
        elif process.share.gpu and GPUError.__name__ in text and may_leave_gpu(process.node):
            self._leave_gpus(last_words(text))
        else:
            return False
        self._again.add(name)
        return True

    def _task_finished_cb(self, jobid: int, cached: bool = False) -> None:
        node = self.procs[jobid]
        if node.fullname not in self._again:
            super()._task_finished_cb(jobid, cached=cached)
            return
        # It waits for its turn again, as if it had not run.
        self._again.discard(node.fullname)
        self.proc_done[jobid] = self.proc_pending[jobid] = False

    def _leave_gpus(self, words: str) -> None:
        """Let all nodes that would use a GPU use the CPU instead."""
        nodes = [node for node in self.procs if node.is_gpu_node()]
        if nodes:
            self._warn(f"the GPU cannot be used, so the CPU synthesises everything ({words})")
        for node in nodes:
            leave_gpu(node, self._threads)

    def _record(self, process: NodeProcess, result: dict[str, Any]) -> None:
        consumed, seen = process.consumed, self._memory.take(process.pid)
        peak = max(seen, consumed.peak_memory_gb if consumed else 0.0)
        runtime = getattr(result["result"], "runtime", None)
        usage = NodeUsage(
            node=process.node.fullname,
            start=process.started,
            seconds=process.ended - process.started,
            cpu_seconds=consumed.cpu_seconds if consumed else None,
            threads=process.node.n_procs,
            planned_memory_gb=process.node.mem_gb,
            peak_memory_gb=peak or None,
            gpu=process.share.gpu,
            gpu_memory_gb=getattr(runtime, "gpu_memory_gb", None),
            exit=process.exit,
        )
        # A table that cannot be written (the disk is full) is no reason to stop.
        with contextlib.suppress(OSError):
            append_usage(self._log_file.with_name(TABLE), usage)

    def _postrun_check(self) -> None:
        """Nothing is left to be closed; MultiProc would wait for its pool here."""


def start_process(node: Any, updatehash: bool, taskid: int, share: Share) -> NodeProcess:
    """Start a node, from a new server if the old one has died."""
    for _ in range(ATTEMPTS):
        try:
            start_server()
            return NodeProcess(node, updatehash, taskid, share)
        except (EOFError, ConnectionError):
            # It died in the middle of this, and may take a moment to be gone.
            time.sleep(POLL)
    start_server()
    return NodeProcess(node, updatehash, taskid, share)
