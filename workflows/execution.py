"""Carry out a workflow: Nipype's settings, what is cached, what fails and why."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype import config
from nipype.pipeline.engine import Node, Workflow
from nipype.pipeline.engine.utils import (
    generate_expanded_graph,
    merge_dict,
    topological_sort,
)

from colapipe.errors import ColapipeError, ReadWriteError
from colapipe.workflows.plugins.multiproc import Failure, LocalPlugin

logger = logging.getLogger("colapipe")

_LAST_LINE = re.compile(r"^\s*(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*)(?::\s+(.*))?$")
_PARTICIPANT = re.compile(r"^colapipe\.(?:sub_([a-zA-Z0-9+]+?)(?:_ses_([a-zA-Z0-9+]+))?_wf)")


@dataclass(frozen=True)
class Resources:
    """What a run may use.

    Parameters
    ----------
    nprocs : int
        CPUs.
    mem_gb : float
    gpus : int
    threads : int
        Threads of one process.
    """

    nprocs: int
    mem_gb: float
    gpus: int
    threads: int


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
    nipype_logger = logging.getLogger("nipype")
    for handler in list(nipype_logger.handlers):
        nipype_logger.removeHandler(handler)
    handler = logging.FileHandler(log_file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    nipype_logger.addHandler(handler)
    nipype_logger.propagate = False


def prepare_graph(workflow: Workflow) -> Any:
    """Return the graph of nodes as `Workflow.run` would execute it, without executing it."""
    graph = generate_expanded_graph(deepcopy(workflow._create_flat_graph()))
    settings = merge_dict(deepcopy(config._sections), workflow.config)
    for index, node in enumerate(graph.nodes()):
        node.config = merge_dict(deepcopy(settings), node.config)
        node.base_dir = workflow.base_dir
        node.index = index
    workflow._configure_exec_nodes(graph)
    return graph


def count_nodes(workflow: Workflow) -> tuple[int, int]:
    """Return how many nodes are done already, and how many there are.

    A node is done if all before it are, its inputs are what they were, and its files are there. A
    node whose files are gone loses its result here, so that it runs again: Nipype would take its
    word for it.
    """
    graph = prepare_graph(workflow)
    done: set[Node] = set()
    nodes, _ = topological_sort(graph)
    for node in nodes:
        if all(before in done for before in graph.predecessors(node)) and _is_done(node):
            done.add(node)
    return len(done), len(nodes)


def _is_done(node: Node) -> bool:
    cached, updated = node.is_cached()
    if not (cached and updated):
        return False
    try:
        node._load_results()
    except (FileNotFoundError, AttributeError):
        (Path(node.output_dir()) / f"result_{node.name}.pklz").unlink(missing_ok=True)
        return False
    return True


def execute(
    workflow: Workflow, resources: Resources, on_node: Callable[[str, str], None]
) -> list[Failure]:
    """Run a workflow to its end, whatever fails on the way.

    Parameters
    ----------
    workflow : Workflow
    resources : Resources
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
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(resources.threads)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(resources.threads)
    # Workers fork from a server that has these loaded: they start in milliseconds.
    multiprocessing.set_forkserver_preload(["nipype.pipeline.plugins.multiproc"])
    plugin = LocalPlugin(
        {
            "n_procs": resources.nprocs,
            "memory_gb": resources.mem_gb,
            "n_gpu_procs": max(1, resources.gpus),
            "raise_insufficient": False,
            "mp_context": "forkserver",
            "status_callback": lambda node, status: on_node(node.fullname, status),
        }
    )
    try:
        workflow.run(plugin=plugin)
    except OSError as err:
        raise ReadWriteError(f"{err.filename or workflow.base_dir}: {err.strerror}") from err
    except ColapipeError:
        raise
    except Exception:
        # Nipype raises the first node's error again; the plugin has kept them all.
        if not plugin.failures:
            raise
        logger.debug("some nodes failed", exc_info=True)
    return plugin.failures


def participant_of(node: str) -> tuple[str, str | None]:
    """Return participant and session from the full name of a node.

    Examples
    --------
    >>> participant_of("colapipe.sub_01_ses_A_wf.scan_T1w_wf.load_scan")
    ('01', 'A')
    """
    match = _PARTICIPANT.match(node)
    return (match[1], match[2]) if match else ("", None)


def last_words(traceback: str) -> str:
    """Return what the innermost error of a traceback says, for the person at the keyboard.

    Examples
    --------
    >>> last_words("Traceback:\\n  File x\\n    colapipe.errors.InputFileError: a.nii: broken\\n")
    'a.nii: broken'
    >>> last_words("Traceback:\\n    ValueError: no\\n")
    'ValueError: no'
    """
    lines = traceback.splitlines()
    for number in range(len(lines) - 1, -1, -1):
        match = _LAST_LINE.match(lines[number])
        if match and (match[1].endswith(("Error", "Exception")) or match[1] == "MemoryError"):
            rest = [line.strip() for line in lines[number + 1 :] if line.strip()]
            words = " ".join([match[2] or "", *rest]).strip()
            ours = "colapipe.errors." in lines[number]
            return words if ours and words else f"{match[1]}: {words}".rstrip(": ")
    return lines[-1].strip() if lines else "it left no message"
