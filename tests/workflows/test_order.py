"""Which of the nodes that could start goes first."""

from __future__ import annotations

import networkx as nx
from nipype.pipeline.engine import Node

from colapipe.interfaces.anatomy import LoadScan
from colapipe.interfaces.slices import Crop
from colapipe.interfaces.synthesis import Synthesise
from colapipe.workflows.plugins.order import urgency


def ranked(graph: nx.DiGraph) -> list[str]:
    nodes = list(nx.topological_sort(graph))
    keys = urgency(graph, nodes)
    return [node.name for _, node in sorted(zip(keys, nodes, strict=True), key=lambda it: it[0])]


def test_one_slow_step_behind_counts_more_than_two_quick_ones():
    before_slow, slow = Node(Crop(), "before_slow"), Node(Synthesise(), "slow")
    before_quick, quick, last = (Node(Crop(), name) for name in ("before_quick", "quick", "last"))
    end = Node(Crop(), "end")
    graph = nx.DiGraph(
        [(before_quick, quick), (quick, last), (last, end), (before_slow, slow), (slow, end)]
    )

    order = ranked(graph)

    assert order.index("before_slow") < order.index("before_quick")


def test_participants_are_finished_one_after_the_other():
    first, its_end = Node(LoadScan(), "first"), Node(Crop(), "its_end")
    second, much = Node(LoadScan(), "second"), Node(Synthesise(), "much")
    graph = nx.DiGraph([(first, its_end)])
    graph.add_edge(second, much)

    order = ranked(graph)

    assert {"first", "its_end"} in (set(order[:2]), set(order[2:]))
    assert order.index("first") < order.index("its_end")
    assert order.index("second") < order.index("much")
