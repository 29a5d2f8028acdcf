"""In which order nodes that could start do so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx  # type: ignore[import-untyped]


def urgency(graph: nx.DiGraph, nodes: Sequence[Any]) -> list[tuple[int, int]]:
    """Return a sort key for each node: participant by participant, the longest way to go first.

    A participant is finished before the next one takes much, so that an interrupted run has
    finished participants. Inside of one, a node with many steps behind it goes before one that
    nothing waits for; else the last steps would wait for what could have run long before.

    Parameters
    ----------
    graph : networkx.DiGraph
        Of nodes; participants are not connected.
    nodes : sequence
        The nodes in topological order.
    """
    steps: dict[Any, int] = {}
    for node in reversed(nodes):
        steps[node] = 1 + max((steps[after] for after in graph.successors(node)), default=0)
    place = {node: number for number, node in enumerate(nodes)}
    turn: dict[Any, int] = {}
    for group in nx.weakly_connected_components(graph):
        turn.update(dict.fromkeys(group, min(place[node] for node in group)))
    return [(turn[node], -steps[node]) for node in nodes]
