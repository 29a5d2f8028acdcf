"""How much longer a participant takes than its steps need: the cost of the machinery.

    python benchmarks/overhead.py BIDS_DIR OUT_DIR participant [options of colapipe]

Runs the app on a fresh OUT_DIR and work directory, and compares, from the run's resources.tsv,

- the wall time, from the start of the first node to the end of the last one,
- the critical path: the longest chain of nodes that wait for each other, by their own seconds,
- what the CPUs allow: the seconds of all nodes times their CPUs, divided by the CPUs of the run.

No machinery can be quicker than the larger of the last two; the overhead is the wall time over it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import networkx as nx

from colapipe.cli.parser import parse_settings
from colapipe.cli.run import choose_engine, make_request, plan_resources
from colapipe.config import Settings
from colapipe.plan.participants import plan_run
from colapipe.run.model import read_model
from colapipe.run.usage import TABLE, NodeUsage, read_usage
from colapipe.run.workdir import work_folder

GOAL = 1.15


def graph_of(settings: Settings) -> nx.DiGraph:
    """Return the graph of a run, by the full names of its nodes."""
    from colapipe.workflows.base import init_colapipe_wf
    from colapipe.workflows.cache import prepare_graph
    from colapipe.workflows.engines import load_engine
    from colapipe.workflows.session import Run

    model = None if settings.mode == "preproc-only" else read_model(settings.model)
    engine, version = choose_engine(settings.engine)
    plans = plan_run(settings, make_request(settings, model))
    described = {plan.participant: {} for plan in plans}
    threads = plan_resources(settings).threads
    run = Run(settings, load_engine(engine), version, model, threads, False, described)
    workflow = init_colapipe_wf(plans, run, work_folder(settings))
    return nx.relabel_nodes(prepare_graph(workflow), lambda node: node.fullname)


def critical_path(graph: nx.DiGraph, seconds: dict[str, float]) -> list[str]:
    """Return the chain of nodes that takes longest; nodes that run in the app itself take none."""
    best: dict[str, tuple[float, list[str]]] = {}
    for name in nx.topological_sort(graph):
        before = max((best[other] for other in graph.predecessors(name)), default=(0.0, []))
        best[name] = (before[0] + seconds.get(name, 0.0), [*before[1], name])
    return max(best.values())[1]


def report(rows: list[NodeUsage], graph: nx.DiGraph, nprocs: int) -> float:
    """Print the comparison and return the overhead."""
    seconds = {row.node: row.seconds for row in rows}
    path = critical_path(graph, seconds)
    chain = sum(seconds.get(name, 0.0) for name in path)
    share = sum(row.seconds * min(row.threads, nprocs) for row in rows) / nprocs
    wall = max(row.end for row in rows) - min(row.start for row in rows)
    print(f"{len(rows)} nodes on {nprocs} CPU(s), wall time {wall:.1f} s")
    print(f"critical path {chain:.1f} s, what the CPUs allow {share:.1f} s")
    for name in path:
        if name in seconds:
            print(f"  {seconds[name]:7.1f} s  {name.partition('.')[2]}")
    overhead = wall / max(chain, share)
    print(f"wall time / critical path {wall / chain:.2f}; overhead {overhead:.2f} (goal {GOAL})")
    return overhead


def main() -> int:
    """Run the app, compare, and return 1 if the goal is missed."""
    arguments = sys.argv[1:]
    subprocess.run([sys.executable, "-P", "-m", "colapipe.cli.app", *arguments], check=True)
    settings = parse_settings(arguments)
    # Log folders are named by the time.
    rows = read_usage(max(Path(settings.out_dir).glob(f"logs/*/{TABLE}")))
    return int(report(rows, graph_of(settings), plan_resources(settings).nprocs) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
