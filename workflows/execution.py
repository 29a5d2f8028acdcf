"""Carry out a workflow: Nipype's settings, what is cached, what fails and why."""

from __future__ import annotations

import errno
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nipype import config
from nipype.pipeline.engine import Workflow

from colapipe.errors import ColapipeError, ReadWriteError
from colapipe.run.failures import Failure
from colapipe.run.resources import Resources
from colapipe.workflows.plugins.multiproc import LocalPlugin
from colapipe.workflows.plugins.worker import send_to_log

logger = logging.getLogger("colapipe")


def ask_quietly() -> None:
    """Set Nipype up for questions about what is cached, without a run and its log."""
    config.set("execution", "check_version", "false")
    config.set("execution", "hash_method", "content")
    logging.getLogger("nipype").setLevel(logging.ERROR)


def configure_nipype(crash_dir: Path, log_file: Path, *, stop_on_first_crash: bool) -> None:
    """Set Nipype up: cached by content, crash files as text, words into the log only."""
    settings = {
        "check_version": "false",
        "crashdump_dir": str(crash_dir),
        "crashfile_format": "txt",
        "create_report": "false",
        "hash_method": "content",
        "job_finished_timeout": "60",
        "poll_sleep_duration": "0.1",
        "remove_unnecessary_outputs": "false",
        "stop_on_first_crash": str(stop_on_first_crash).lower(),
    }
    for name, value in settings.items():
        config.set("execution", name, value)
    send_to_log(log_file, logging.INFO)


def _words(err: OSError, work_dir: str) -> str:
    """Return what went wrong with which file, as far as the system says so."""
    if err.filename is not None:
        return f"{err.filename}: {err.strerror}"
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        # A write that finds the disk full knows its file no more; nearly all of them are here.
        return f"{work_dir}: {err.strerror}"
    return f"the run could not go on: {err or type(err).__name__}"


class Executor(Protocol):
    """A plugin of Nipype's that this app can run a workflow with.

    Attributes
    ----------
    failures : list of Failure
        Nodes that failed; those after them did not run.
    gpus : int
        How many nodes may use a GPU at once; 0 leaves the synthesis to the CPU.
    """

    failures: list[Failure]
    gpus: int

    def close(self) -> None:
        """End whatever still runs; after a run that ended by itself there is nothing."""


def local_executor(
    resources: Resources, log_file: Path, warn: Callable[[str], None]
) -> LocalPlugin:
    """Return the executor that runs nodes on this machine, within these resources.

    Parameters
    ----------
    resources : Resources
    log_file : Path
        For the words of worker processes; the table of what nodes consumed is written beside it.
    warn : callable
        Says a sentence to the person at the keyboard.
    """
    return LocalPlugin(resources, log_file, warn)


def execute(
    workflow: Workflow, plugin: Executor, on_node: Callable[[str, str], None]
) -> list[Failure]:
    """Run a workflow to its end, whatever fails on the way.

    Parameters
    ----------
    workflow : Workflow
    plugin : Executor
        Runs the nodes: `local_executor`, or any plugin of Nipype's with the same attributes.
    on_node : callable
        Told the full name of a node and ``start``, ``end`` or ``exception``.

    Returns
    -------
    list of Failure
        Nodes that failed; those after them did not run.

    Raises
    ------
    ReadWriteError
        If the disk is full.
    """
    # Nipype's own attribute, which it takes from the plugin's arguments.
    plugin._status_callback = lambda node, status: on_node(node.fullname, status)  # type: ignore[attr-defined]
    try:
        workflow.run(plugin=plugin)
    except OSError as err:
        raise ReadWriteError(_words(err, str(workflow.base_dir))) from err
    except ColapipeError:
        raise
    except Exception:
        # Nipype raises the first node's error again; the plugin has kept them all.
        if not plugin.failures:
            raise
        logger.debug("some nodes failed", exc_info=True)
    except KeyboardInterrupt:
        logger.warning("interrupted: nodes that still run are ended")
        # An impatient second Ctrl-C would leave some of them behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise
    finally:
        plugin.close()
    return plugin.failures
