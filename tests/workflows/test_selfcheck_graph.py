"""The graph of the self-check: a scan never reaches its own synthesis, a hidden target no check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import networkx as nx
import pytest

from colapipe.bids.derivatives import Found
from colapipe.bids.reader import Scan
from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Request, choose_targets, plan_spaces
from colapipe.run.model import ModelInfo
from colapipe.workflows.base import init_colapipe_wf
from colapipe.workflows.cache import prepare_graph
from colapipe.workflows.engines import load_engine
from colapipe.workflows.session import Run

ALL = ("T1w", "T2w", "T1ce", "FLAIR")
Graph = nx.DiGraph


@pytest.fixture
def make_graph(tmp_path: Path) -> Callable[..., Graph]:
    """Build the graph of a session; returns nodes by full name, with their interface's inputs."""

    def make(
        contrasts: tuple[str, ...] = ALL,
        engine: str = "builtin",
        min_sources: int = 1,
        **options: object,
    ) -> Graph:
        scans = {}
        for contrast in contrasts:
            path = tmp_path / f"{contrast}.nii.gz"
            path.touch()
            scans[contrast] = Scan(path, f"sub-1/anat/{path.name}", contrast, "1", None)
        settings = Settings(tmp_path, tmp_path / "out", **options)  # type: ignore[arg-type]
        request = Request(
            settings.targets, settings.sources, settings.evaluate, ALL, min_sources=min_sources
        )
        targets, _, _ = choose_targets(contrasts, ALL, request)
        spaces = plan_spaces(contrasts, targets, settings.sources)
        plan = SessionPlan("1", None, scans, spaces, derivatives=Found())
        model = ModelInfo(tmp_path / "m", "m", "0" * 64, ALL, min_sources, 4, 1, "", {})
        run = Run(settings, load_engine(engine), "1", model, 1, False, {"1": {}})
        graph = prepare_graph(init_colapipe_wf([plan], run, tmp_path / "work"))
        for node in graph:
            graph.nodes[node]["inputs"] = node.inputs
        return nx.relabel_nodes(
            graph, lambda node: node.fullname.removeprefix("colapipe.sub_1_wf.")
        )

    return make


def checks_of(graph: Graph) -> dict[str, dict[str, object]]:
    """Return what is planned for each contrast."""
    (judge,) = (name for name in graph if "selfcheck_judge" in name)
    return {check["contrast"]: check for check in graph.nodes[judge]["inputs"].checks}


def of_the_self_check(graph: Graph) -> set[str]:
    return {name for name in graph if name.startswith(("selfcheck_", "save_selfcheck_"))}


@pytest.mark.parametrize("engine", ["builtin", "fsl"])
@pytest.mark.parametrize("left_out", ["T2w", "T1ce", "FLAIR"])
def test_no_way_leads_from_a_scan_to_its_own_left_out_synthesis(left_out, engine, make_graph):
    graph = make_graph(engine=engine, evaluate=True)
    reached = nx.descendants(graph, f"scan_{left_out}_wf.load_scan")
    assert f"selfcheck_{left_out}" not in reached
    # The test means something: the scan is compared, and is a source of the others.
    assert "selfcheck_judge_in_T1w" in reached
    others = {name for name in ALL if name not in (left_out, "T1w")}
    assert {f"selfcheck_{name}" for name in others} <= reached


def test_of_the_reference_nothing_but_its_place_and_outline_reaches_its_own_synthesis(make_graph):
    graph = make_graph(evaluate=True)
    given = graph.nodes["selfcheck_T1w"]["inputs"]
    assert given.source_names == ["T2w", "T1ce", "FLAIR"] and given.tissue_source == "T2w"
    maps = {f"selfcheck_{name}_from_T2w" for name in ("mask_file", "csf", "gm", "wm")}
    assert maps <= set(graph.predecessors("selfcheck_T1w"))
    # The grid that all are on, where the scans lie on it, and which slices are looked at.
    place = [
        name
        for name in graph
        if name.startswith(("align_", "tissue_")) or name.endswith("plan_slices")
    ]
    graph.remove_nodes_from(place)
    reached = nx.descendants(graph, "scan_T1w_wf.load_scan")
    assert "selfcheck_T1w" not in reached
    assert "selfcheck_judge_in_T1w" in reached


@pytest.mark.parametrize("target", ["T1w", "T2w", "FLAIR"])
def test_a_named_target_of_evaluate_reaches_nothing_of_the_self_check(target, make_graph):
    graph = make_graph(evaluate=True, targets=(target,))
    reached = nx.descendants(graph, f"scan_{target}_wf.load_scan")
    assert f"synth_{target}_wf.score" in reached
    assert not of_the_self_check(graph) & reached
    # What is checked is what would be checked without it.
    there = tuple(name for name in ALL if name != target)
    alone = make_graph(there, targets=(target,))
    assert of_the_self_check(graph) == of_the_self_check(alone)
    assert checks_of(graph) == checks_of(alone)
    assert set(checks_of(graph)) == set(there)


def test_where_every_contrast_is_a_target_in_turn_all_are_checked_on_one_grid(make_graph):
    graph = make_graph(evaluate=True)
    assert {check["problem"] for check in checks_of(graph).values()} == {""}
    assert [name for name in graph if "selfcheck_judge" in name] == ["selfcheck_judge_in_T1w"]


def test_a_grid_of_a_named_target_is_not_used(make_graph):
    graph = make_graph(("T1w", "T2w"), evaluate=True, targets=("T1w", "T2w"))
    assert not of_the_self_check(graph)


def test_a_single_contrast_is_not_checked_and_the_table_says_why(make_graph):
    graph = make_graph(("T1w",), targets=("T2w",))
    (check,) = checks_of(graph).values()
    assert "found none" in str(check["problem"])
    assert "selfcheck_T1w" not in graph and "save_selfcheck_in_T1w" in graph


def test_a_contrast_that_may_not_be_used_is_no_source_of_a_check(make_graph):
    graph = make_graph(("T1w", "T2w", "FLAIR"), targets=("T1ce",), sources=("T1w", "FLAIR"))
    assert {name: check["sources"] for name, check in checks_of(graph).items()} == {
        "T1w": ("FLAIR",),
        "FLAIR": ("T1w",),
    }


@pytest.mark.parametrize("options", [{"self_check": "off"}, {"targets": ("T1w",)}])
def test_there_is_no_check_where_it_is_off_or_nothing_is_synthesised(options, make_graph):
    assert not of_the_self_check(make_graph(**{"evaluate": "targets" not in options, **options}))


def test_a_model_that_needs_more_sources_says_so(make_graph):
    graph = make_graph(("T1w", "T2w"), targets=("FLAIR",), min_sources=2)
    assert all("at least 2" in str(check["problem"]) for check in checks_of(graph).values())
