"""Nipype's SLURM plugin, made to survive SLURM's bad moments and to say why a job died."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype.pipeline.plugins.slurm import SLURMPlugin
from nipype.utils.filemanip import loadpkl, savepkl

from colapipe.errors import ColapipeError
from colapipe.run.failures import Failure
from colapipe.run.usage import TABLE, NodeUsage, append_usage
from colapipe.slurm import commands
from colapipe.slurm.commands import Ending, Retry
from colapipe.workflows.plugins import job as job_script
from colapipe.workflows.plugins.endings import describe
from colapipe.workflows.plugins.failures import KeepsFailures, no_result
from colapipe.workflows.plugins.slurm_options import PluginOptions
from colapipe.workflows.plugins.worker import Share

logger = logging.getLogger("colapipe")

POLL = "0.5"
"""Seconds between two looks at the folders of jobs. SLURM itself is asked far less often."""


@dataclasses.dataclass
class Job:
    """A node's job.

    Parameters
    ----------
    node : nipype.Node
    folder : Path
        Of the job: the node, the script, the log, and in the end the outcome.
    number : str
        Empty if SLURM refused it.
    refusal : str
        Why it did.
    submitted : float
        On the clock that never goes back, like all times here.
    gone : float
        When it was first seen to be in the queue no more; 0 until then.
    end : Ending or None
        What SLURM said then.
    """

    node: Any
    folder: Path
    number: str = ""
    refusal: str = ""
    submitted: float = 0.0
    started: float = dataclasses.field(default_factory=time.time)
    gone: float = 0.0
    end: Ending | None = None


class SlurmPlugin(KeepsFailures, SLURMPlugin):
    """Run each node as a SLURM job.

    A job is finished when its outcome is there, or when SLURM answered that it does not know it:
    silence is no answer. All jobs are asked about at once, and none outlives this process.

    Parameters
    ----------
    options : PluginOptions
    log_file : Path
        The table of resources is written beside it.
    warn : callable
        Says a sentence to the person at the keyboard.
    """

    def __init__(
        self,
        options: PluginOptions,
        log_file: Path,
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        super().__init__(plugin_args={"max_jobs": options.max_jobs} if options.max_jobs else {})
        self.failures: list[Failure] = []
        self.gpus = int(options.gpu is not None)
        self._options = options
        self._log_file = log_file
        self._warn = warn
        self._jobs: dict[int, Job] = {}
        self._taskid = 0
        self._queue: dict[str, str] = {}
        # The queue as it was when it was asked for last; no answer leaves both as they are.
        self._answered = self._asked = -math.inf

    def run(self, graph: Any, config: Any, updatehash: bool = False) -> None:
        """Run a graph to its end; however it comes, no job is left behind."""
        execution = {**config["execution"], "poll_sleep_duration": POLL}
        try:
            super().run(graph, {**config, "execution": execution}, updatehash=updatehash)
        finally:
            self.close()

    def close(self) -> None:
        """Cancel the jobs that are in the queue still."""
        numbers = [job.number for job in self._jobs.values() if job.number]
        try:
            commands.cancel(numbers)
        except ColapipeError as err:
            self._warn(f"jobs could not be cancelled ({err}): scancel {' '.join(numbers)}")
        self._jobs.clear()

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._taskid += 1
        job = Job(node, self._job_folder(node))
        self._jobs[self._taskid] = job
        try:
            # What an earlier run left must not pass for this job's result.
            for stale in Path(node.output_dir()).glob("result_*.pklz"):
                stale.unlink()
            job.folder.mkdir(parents=True)
            task = {"node": node, "updatehash": updatehash, "config": node.config}
            savepkl(str(job.folder / job_script.NODE), task)
            (job.folder / "job.sh").write_text(self._script(node, job.folder), encoding="utf-8")
            retry = Retry(self._options.max_tries, self._options.retry_timeout)
            job.number = commands.submit([*self._arguments(node), "job.sh"], job.folder, retry)
        except ColapipeError as err:
            job.refusal = f"SLURM refused the job of this node. {err}"
        job.submitted = time.monotonic()
        return self._taskid

    @staticmethod
    def _job_folder(node: Any) -> Path:
        workflow = (node._hierarchy or "").partition(".")[0]
        return Path(node.base_dir, workflow, "batch", f"{uuid.uuid4().hex[:8]}_{node.fullname}")

    def _script(self, node: Any, folder: Path) -> str:
        options = self._options.job(node)
        template = (node.plugin_args or {}).get("template", self._options.template)
        environment = Share(node.n_procs, None, self._log_file).environment()
        if node.is_gpu_node():
            # SLURM says which one.
            del environment["CUDA_VISIBLE_DEVICES"]
        python = [sys.executable, "-P", "-m", job_script.__name__, str(folder)]
        return "\n".join(
            [
                template or "#!/bin/bash",
                *(f"module load {shlex.quote(name)} || exit 69" for name in options.modules),
                *([options.setup] if options.setup else []),
                *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
                f"exec {shlex.join(python)}",
                "",
            ]
        )

    def _arguments(self, node: Any) -> list[str]:
        return [
            f"--job-name={node.fullname}",
            "--output=job.log",
            "--error=job.log",
            *self._options.job(node).arguments(),
        ]

    def _get_result(self, taskid: int) -> dict[str, Any] | None:
        job = self._jobs[taskid]
        if job.refusal:
            return no_result(job.refusal)
        outcome = job.folder / job_script.OUTCOME
        if not outcome.exists():
            if self._is_waiting(job):
                return None
            if not job.gone:
                job.gone, job.end = time.monotonic(), commands.ending(job.number)
            # A job that came to its own end left an outcome, which a network disk may show late.
            late = time.monotonic() - job.gone > self._options.result_timeout
            if not late and (job.end is None or job.end.by_itself):
                return None
        if outcome.exists():
            return self._finish(job)
        mem = self._options.job(job.node).mem
        return describe(job.number, job.end, job.folder / "job.log", mem)

    def _is_waiting(self, job: Job) -> bool:
        """Say whether a job is in the queue, or may be."""
        now = time.monotonic()
        if now - self._asked >= self._options.poll_interval:
            self._asked = now
            try:
                self._queue = commands.queue(Retry(tries=1))
                self._answered = now
            except ColapipeError as err:
                logger.warning("%s; the jobs are taken to be running", err)
        return job.number in self._queue or self._answered <= job.submitted

    def _finish(self, job: Job) -> dict[str, Any]:
        outcome = loadpkl(str(job.folder / job_script.OUTCOME))
        consumed = outcome["consumed"]
        usage = NodeUsage(
            node=job.node.fullname,
            start=job.started,
            seconds=time.time() - job.started,
            cpu_seconds=consumed.cpu_seconds,
            threads=job.node.n_procs,
            planned_memory_gb=job.node.mem_gb,
            peak_memory_gb=consumed.peak_memory_gb,
            gpu="slurm" if job.node.is_gpu_node() else None,
            gpu_memory_gb=outcome.get("gpu_memory_gb"),
            exit="failed" if outcome["traceback"] else "ok",
        )
        with contextlib.suppress(OSError):
            append_usage(self._log_file.with_name(TABLE), usage)
        if not outcome["traceback"]:
            shutil.rmtree(job.folder, ignore_errors=True)
        return {"result": None, "traceback": outcome["traceback"]}

    def _clear_task(self, taskid: int) -> None:
        del self._jobs[taskid]
