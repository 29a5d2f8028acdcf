"""Which nodes of a workflow are done already, and what they wrote."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

from nipype import config
from nipype.interfaces.base import isdefined
from nipype.pipeline.engine import Node, Workflow
from nipype.pipeline.engine.utils import generate_expanded_graph, merge_dict, topological_sort

from colapipe.interfaces.published import Published, is_intact, with_sidecars
from colapipe.run.failures import participant_of

OPTIONAL = ("std",)
"""Outputs that a node need not have: one sample has no standard deviation."""


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


def count_nodes(workflow: Workflow, *, forget: bool = True) -> tuple[int, int]:
    """Return how many nodes are done already, and how many there are.

    A node is done if all before it are, its inputs are what they were, and its files are there.

    Parameters
    ----------
    workflow : Workflow
    forget : bool
        Let a node whose files are gone, or were changed by somebody else, lose its result, so
        that it runs again: Nipype would take its word for it. False changes nothing, for those who
        only ask.
    """
    graph = prepare_graph(workflow)
    done: set[Node] = set()
    nodes, _ = topological_sort(graph)
    for node in nodes:
        if not is_intact(Path(node.output_dir())):
            _forget(node, forget)
        elif all(before in done for before in graph.predecessors(node)) and _is_done(node, forget):
            done.add(node)
    return len(done), len(nodes)


def written_files(workflow: Workflow, failed: Collection[str] = ()) -> dict[str, set[Path]]:
    """Return what the nodes of participants have written, now or before, into the output folder.

    Parameters
    ----------
    workflow : Workflow
        That has run.
    failed : collection of str
        Labels of participants to leave out: not all of their nodes have a result.

    Returns
    -------
    dict
        Label to paths.
    """
    written: dict[str, set[Path]] = {}
    for node in prepare_graph(workflow).nodes():
        participant, _ = participant_of(node.fullname)
        if isinstance(node.interface, Published) and participant not in failed:
            files = node._load_results().outputs.trait_get().values()
            for value in filter(isdefined, files):
                for path in map(Path, value if isinstance(value, list) else [value]):
                    written.setdefault(participant, set()).update(with_sidecars(path))
    return written


def _is_done(node: Node, forget: bool) -> bool:
    cached, updated = node.is_cached()
    if not (cached and updated):
        return False
    # A file that is gone makes Nipype forget the output that named it.
    outputs = node._load_results().outputs.trait_get()
    if all(isdefined(value) or name in OPTIONAL for name, value in outputs.items()):
        return True
    _forget(node, forget)
    return False


def _forget(node: Node, forget: bool) -> None:
    if forget:
        _result(node).unlink(missing_ok=True)


def _result(node: Node) -> Path:
    return Path(node.output_dir()) / f"result_{node.name}.pklz"
