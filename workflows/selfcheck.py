"""The self-check of a session: each contrast from the others, against the real scan."""

from __future__ import annotations

from dataclasses import asdict

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.selfcheck import Judge, LeaveOut, SpreadSlices
from colapipe.interfaces.slices import Crop
from colapipe.plan.checks import Check, choose_space, plan_checks
from colapipe.plan.targets import Space
from colapipe.quality.selfcheck import SAMPLES, STEPS
from colapipe.workflows import outputs
from colapipe.workflows.files import SpaceFiles, feed
from colapipe.workflows.session import Run, Session

MAPS = ("mask_file", "csf", "gm", "wm")


def hidden_targets(run: Run) -> tuple[str, ...]:
    """Return the contrasts that no check may see: named targets that may exist (``--evaluate``)."""
    targets = run.settings.targets
    return () if targets == ("auto",) or not run.settings.evaluate else targets


def is_checked(session: Session, space: Space) -> bool:
    """Say whether a session is checked on this reference grid."""
    if session.run.settings.self_check != "on":
        return False
    return choose_space(session.plan.spaces, hidden_targets(session.run)) == space


def add_self_check(session: Session, space: Space, files: SpaceFiles, slices_wf: Workflow) -> None:
    """Add the self-check of one reference grid.

    Each contrast is synthesised by a node that its own scan does not reach; for the reference, on
    whose grid all others are, that holds for its intensities, its mask and its tissue maps.

    Parameters
    ----------
    session : Session
    space : Space
    files : SpaceFiles
    slices_wf : Workflow
        Of this grid, see `init_slices_wf`.
    """
    run, reference = session.run, space.reference
    if run.model is None:
        raise ValueError("a self-check needs a model")
    checks = plan_checks(
        space,
        hidden_targets(run),
        files.tissues,
        run.settings.sources,
        run.model.contrasts,
        run.model.min_sources,
    )
    connect = session.workflow.connect
    spread = Node(SpreadSlices(), name=f"selfcheck_slices_in_{reference}")
    connect(slices_wf, "outputnode.geometry", spread, "geometry")
    judge = Node(
        Judge(
            checks=[asdict(check) for check in checks],
            reference=reference,
            weights_sha256=run.model.sha256,
            model=str(run.model.path),
        ),
        name=f"selfcheck_judge_in_{reference}",
    )
    connect(slices_wf, "outputnode.mask_file", judge, "mask_file")
    connect(spread, "slices", judge, "slices")
    for check in checks:
        if check.problem:
            continue
        node = _leave_out(session, check)
        connect(spread, "slices", node, "slices")
        if check.tissue_source == reference:
            for name in MAPS:
                connect(slices_wf, f"outputnode.{name}", node, name)
        else:
            cropped = _crop_maps(session, files, check.tissue_source, slices_wf)
            for name in MAPS:
                connect(cropped[name], "out_file", node, name)
            connect(cropped["mask_file"], "out_file", judge, "second_mask")
        sources = Node(
            Merge(len(check.sources)),
            name=f"selfcheck_sources_of_{check.contrast}",
            run_without_submitting=True,
        )
        for number, source in enumerate(check.sources, start=1):
            connect(slices_wf, f"outputnode.{source}", sources, f"in{number}")
        connect(sources, "out", node, "sources")
        connect(node, "mean", judge, f"synthetic_{check.contrast}")
        connect(node, "problem", judge, f"problem_{check.contrast}")
        connect(slices_wf, f"outputnode.{check.contrast}", judge, f"real_{check.contrast}")
    outputs.save_self_check(session, reference, judge)


def _leave_out(session: Session, check: Check) -> Node:
    """Return the node that synthesises a contrast that exists.

    On the CPU with one thread: it takes a second there, less than it takes to start a GPU.
    """
    model = session.run.model
    return Node(
        LeaveOut(
            participant=session.plan.participant,
            session=session.plan.session,
            target=check.contrast,
            source_names=list(check.sources),
            tissue_source=check.tissue_source,
            weights_sha256=model.sha256 if model else "",
            model=str(model.path) if model else "",
            steps=STEPS,
            samples=SAMPLES,
            seed=session.run.settings.seed,
            device="cpu",
        ),
        name=f"selfcheck_{check.contrast}",
    )


def _crop_maps(
    session: Session, files: SpaceFiles, contrast: str, slices_wf: Workflow
) -> dict[str, Node]:
    """Bring mask and tissue maps of another contrast than the reference to the model grid."""
    cropped: dict[str, Node] = {}
    for name in MAPS:
        kind = "mask" if name == "mask_file" else "probability"
        node = Node(Crop(kind=kind), name=f"selfcheck_{name}_from_{contrast}")
        feed(session.workflow, files.tissues[contrast][name], node, "in_file")
        session.workflow.connect(slices_wf, "outputnode.geometry", node, "geometry")
        if cropped:
            session.workflow.connect(cropped["mask_file"], "out_file", node, "mask_file")
        cropped[name] = node
    return cropped
