"""In which order nodes that could start do so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx  # type: ignore[import-untyped]

from colapipe.workflows.memory import kind_of

SECONDS: dict[str, float] = {
    "builtin.BrainMask": 6.0,
    "builtin.Register": 3.0,
    "builtin.Tissue": 2.0,
    "evaluation.Score": 2.5,
    "fsl.BrainMask": 10.0,
    "fsl.Register": 40.0,
    "fsl.Tissue": 200.0,
    "synthesis.Synthesise": 7.0,
}
"""About how long the slow steps take; only their ratios count."""

OTHERS = 0.7
"""About how many seconds any other step takes."""


def urgency(graph: nx.DiGraph, nodes: Sequence[Any]) -> list[tuple[int, float]]:
    """Return a sort key for each node: participant by participant, the longest way to go first.

    A participant is finished before the next one takes much, so that an interrupted run has
    finished participants. Inside of one, a node with much work behind it goes before one that
    nothing waits for; else the last steps would wait for what could have run long before.

    Parameters
    ----------
    graph : networkx.DiGraph
        Of nodes; participants are not connected.
    nodes : sequence
        The nodes in topological order.
    """
    seconds: dict[Any, float] = {}
    for node in reversed(nodes):
        behind = max((seconds[after] for after in graph.successors(node)), default=0.0)
        seconds[node] = behind + SECONDS.get(kind_of(node), OTHERS)
    place = {node: number for number, node in enumerate(nodes)}
    turn: dict[Any, int] = {}
    for group in nx.weakly_connected_components(graph):
        turn.update(dict.fromkeys(group, min(place[node] for node in group)))
    return [(turn[node], -seconds[node]) for node in nodes]
