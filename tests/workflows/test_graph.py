"""The graph of a run: what reaches a synthesis, and what never does."""

from __future__ import annotations

import networkx as nx
import pytest

from colapipe.bids.derivatives import Derivative, Found
from colapipe.bids.reader import Scan
from colapipe.config import Settings
from colapipe.plan.sessions import Lesion, SessionPlan
from colapipe.plan.targets import Request, choose_targets, plan_spaces
from colapipe.run.model import ModelInfo
from colapipe.workflows.base import init_colapipe_wf
from colapipe.workflows.cache import prepare_graph
from colapipe.workflows.engines import load_engine
from colapipe.workflows.session import Run

CONTRASTS = ("T1w", "T2w", "T1ce", "FLAIR")


@pytest.fixture
def make_graph(tmp_path):
    """Build the graph of a session that evaluates every contrast; returns nodes by full name."""

    def make(
        lesion_on: str | None = None, engine: str = "builtin", **settings: object
    ) -> nx.DiGraph:
        scans = {}
        for contrast in CONTRASTS:
            path = tmp_path / f"{contrast}.nii.gz"
            path.touch()
            scans[contrast] = Scan(path, f"sub-1/anat/{path.name}", contrast, "1", None)
        targets, _, _ = choose_targets(CONTRASTS, (), Request(evaluate=True))
        lesion = None
        if lesion_on:
            mask = tmp_path / "lesion.nii.gz"
            mask.touch()
            lesion = Lesion(
                Derivative(mask, "lesion.nii.gz", "lesion", False, None, None), lesion_on
            )
        plan = SessionPlan(
            "1", None, scans, plan_spaces(CONTRASTS, targets), derivatives=Found(), lesion=lesion
        )
        model = ModelInfo(tmp_path / "m", "m", "0" * 64, CONTRASTS, 1, 4, 1, "", {})
        run = Run(
            settings=Settings(tmp_path, tmp_path / "out", **settings),  # type: ignore[arg-type]
            engine=load_engine(engine),
            engine_version="1",
            model=model,
            threads=3,
            use_gpu=False,
            described={"1": {}},
        )
        workflow = init_colapipe_wf([plan], run, tmp_path / "work")
        graph = prepare_graph(workflow)
        for node in graph:
            graph.nodes[node]["share"] = node.n_procs
            graph.nodes[node]["threads"] = getattr(node.inputs, "num_threads", 1)
        return nx.relabel_nodes(
            graph, lambda node: node.fullname.removeprefix("colapipe.sub_1_wf.")
        )

    return make


@pytest.mark.parametrize("engine", ["builtin", "fsl"])
@pytest.mark.parametrize("target", CONTRASTS)
def test_no_way_leads_from_a_scan_to_its_own_synthesis(target, engine, make_graph):
    graph = make_graph(engine=engine)
    reached = nx.descendants(graph, f"scan_{target}_wf.load_scan")
    assert f"synth_{target}_wf.synthesise" not in reached
    assert f"save_synth_{target}" not in reached
    # The test means something: the scan reaches its score, and the others' syntheses.
    assert f"synth_{target}_wf.score" in reached
    other = next(contrast for contrast in CONTRASTS if contrast != target)
    assert f"synth_{other}_wf.synthesise" in reached


def test_lesion_masks_reach_scores_alone(make_graph):
    graph = make_graph(lesion_on="T1w")
    reached = nx.descendants(graph, "lesion_in_T1w")
    assert "synth_T2w_wf.score" in reached
    assert not any(name.endswith(".synthesise") for name in reached)


@pytest.mark.parametrize("drawn_on", ["T1w", "FLAIR"])
def test_conditioning_gives_the_model_no_mask_that_came_through_the_target(drawn_on, make_graph):
    graph = make_graph(lesion_on=drawn_on, lesion_conditioning=True)
    for target in CONTRASTS:
        reference = "T2w" if target == "T1w" else "T1w"
        given = f"synth_{target}_wf.synthesise" in nx.descendants(graph, f"lesion_in_{reference}")
        assert given == (target != drawn_on)
        assert f"synth_{target}_wf.synthesise" not in nx.descendants(
            graph, f"scan_{target}_wf.load_scan"
        )


def test_every_scan_is_read_and_masked_once(make_graph):
    names = list(make_graph().nodes)
    assert sum(name.endswith("load_scan") for name in names) == len(CONTRASTS)
    assert len(names) == len(set(names))


PARALLEL = {
    "builtin": ("correct_bias", "brain_mask_builtin", "register_builtin", "synthesise"),
    "fsl": ("correct_bias", "synthesise"),
}


@pytest.mark.parametrize("engine", PARALLEL)
def test_a_node_is_given_the_cpus_that_it_can_use(engine, make_graph):
    nodes = make_graph(engine=engine).nodes(data=True)
    for name, data in nodes:
        wanted = 3 if name.rpartition(".")[2] in PARALLEL[engine] else 1
        assert data["share"] == data["threads"] == wanted, name


@pytest.mark.parametrize("reference", ["T1w", "T2w"])
def test_a_grid_is_measured_when_all_is_saved_there_and_before_the_report(reference, make_graph):
    graph = make_graph(lesion_on="T1w")
    measure = f"save_quality_in_{reference}"
    before, after = nx.ancestors(graph, measure), nx.descendants(graph, measure)
    saved = {name for name in graph if name.startswith("save_") and "quality" not in name}
    here = {name for name in saved if name.endswith(f"_in_{reference}")}
    synthesised = {"T2w": {"save_synth_T1w"}, "T1w": {f"save_synth_{c}" for c in CONTRASTS[1:]}}
    assert len(here) >= 4 and here | synthesised[reference] == saved & before
    assert "colapipe.sub_1_report" in after
