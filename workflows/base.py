"""The whole way of a run: participants, their sessions, and the grids on which targets are made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.anatomy import LesionToReference, TissueToReference
from colapipe.interfaces.report import WriteReport
from colapipe.plan import SessionPlan, Space
from colapipe.workflows import outputs
from colapipe.workflows.anatomical import init_alignment_wf, init_scan_wf
from colapipe.workflows.files import Source, SpaceFiles, feed, prepared_files
from colapipe.workflows.run import Run
from colapipe.workflows.slices import init_slices_wf
from colapipe.workflows.synthesis import init_synthesis_wf

SLOPPY_EVERY = 8


@dataclass
class Session:
    """A session's workflow while it is being built.

    Parameters
    ----------
    plan : SessionPlan
    run : Run
    workflow : Workflow
    scans : dict
        Contrast to the workflow that reads its scan.
    transforms : dict
        (contrast, reference) to the workflow that aligns them.
    saved : list of Node
        Nodes that write under final names.
    """

    plan: SessionPlan
    run: Run
    workflow: Workflow
    scans: dict[str, Workflow] = field(default_factory=dict)
    transforms: dict[tuple[str, str], Workflow] = field(default_factory=dict)
    saved: list[Node] = field(default_factory=list)


def init_colapipe_wf(plans: Sequence[SessionPlan], run: Run, base_dir: Path) -> Workflow:
    """Return the workflow of all sessions that have something to do."""
    workflow = Workflow(name="colapipe", base_dir=str(base_dir))
    saved: dict[str, list[tuple[Workflow, Node]]] = {}
    for plan in plans:
        if plan.spaces:
            session = init_session(plan, run)
            workflow.add_nodes([session.workflow])
            mine = saved.setdefault(plan.participant, [])
            mine += [(session.workflow, node) for node in session.saved]
    for participant, nodes in saved.items():
        _report(workflow, participant, nodes, run)
    return workflow


def _report(
    workflow: Workflow, participant: str, saved: Sequence[tuple[Workflow, Node]], run: Run
) -> None:
    """Add the report of one participant, which waits for all that is saved."""
    report = Node(
        WriteReport(
            out_dir=str(run.settings.out_dir),
            participant=participant,
            run=json.dumps(run.described[participant]),
            show_head=run.settings.show_head,
        ),
        name=f"sub_{participant}_report",
        mem_gb=1,
    )
    merge = Node(
        Merge(len(saved)),
        name=f"sub_{participant}_outputs",
        run_without_submitting=True,
        mem_gb=0.1,
    )
    for number, (session_wf, node) in enumerate(saved, start=1):
        workflow.connect(session_wf, f"{node.name}.out_files", merge, f"in{number}")
    workflow.connect(merge, "out", report, "files")


def init_session(plan: SessionPlan, run: Run) -> Session:
    """Build the workflow of one session: its scans first, then every reference grid."""
    label = f"sub_{plan.participant}" + (f"_ses_{plan.session}" if plan.session else "")
    session = Session(plan, run, Workflow(name=f"{label}_wf"))
    if plan.scans:
        _read_scans(session)
    for space in plan.spaces:
        files = _align(session, space) if plan.scans else prepared_files(plan, space)
        if space.targets:
            _synthesise(session, space, files)
    return session


def _read_scans(session: Session) -> None:
    """Add one workflow for each scan that any grid needs."""
    plan, run = session.plan, session.run
    with_brain = {contrast for space in plan.spaces for contrast in space.tissue_contrasts}
    for contrast in dict.fromkeys(c for space in plan.spaces for c in space.contrasts):
        existing = plan.derivatives.mask(contrast, contrast) if plan.derivatives else None
        scan_wf = init_scan_wf(
            contrast,
            run.engine,
            brain=contrast in with_brain,
            skull_strip=run.settings.skull_strip,
            existing_mask=existing.path if existing else None,
            threads=run.threads,
        )
        scan_wf.inputs.inputnode.in_file = str(plan.scans[contrast].path)
        session.workflow.add_nodes([scan_wf])
        session.scans[contrast] = scan_wf


def _align(session: Session, space: Space) -> SpaceFiles:
    """Bring scans, tissue maps and lesion mask to one reference grid, and save them."""
    reference = session.scans[space.reference]
    files = SpaceFiles({space.reference: (reference, "outputnode.bias_corrected")})
    for contrast in space.contrasts:
        if contrast != space.reference:
            align_wf = _align_contrast(session, contrast, space.reference)
            files.preproc[contrast] = (align_wf, "outputnode.preproc")
        outputs.save_contrast(session, contrast, space.reference, files.preproc[contrast])
    lesion = _lesion(session, space)
    for contrast in space.tissue_contrasts:
        maps = _tissue(session, contrast, space.reference, lesion)
        outputs.save_tissue(session, contrast, space.reference, maps, lesion=lesion is not None)
        if contrast == space.reference:
            names = ("mask_file", "csf", "gm", "wm")
            files.maps.update({name: (maps, name) for name in names})
    if lesion is not None:
        files.maps["lesion"] = lesion
    return files


def _align_contrast(session: Session, contrast: str, reference: str) -> Workflow:
    """Add the registration of one contrast to the reference."""
    derivatives, run = session.plan.derivatives, session.run
    existing = derivatives.matrix(contrast, reference) if derivatives else None
    align_wf = init_alignment_wf(
        contrast,
        reference,
        run.engine,
        existing_transform=existing.path if existing else None,
        threads=run.threads,
    )
    fixed = [("scan", "reference"), ("mask_file", "reference_mask")]
    connections = [
        (session.scans[contrast], [("scan", "moving")]),
        (session.scans[reference], fixed),
    ]
    for source, pairs in connections:
        for output, name in pairs:
            session.workflow.connect(source, f"outputnode.{output}", align_wf, f"inputnode.{name}")
    session.transforms[contrast, reference] = align_wf
    return align_wf


def _tissue(session: Session, contrast: str, reference: str, lesion: Source | None) -> Node:
    """Add the node that brings a contrast's mask and tissue maps to the reference grid."""
    node = Node(TissueToReference(), name=f"tissue_{contrast}_in_{reference}", mem_gb=1)
    connect = session.workflow.connect
    for name in ("mask_file", "csf", "gm", "wm"):
        connect(session.scans[contrast], f"outputnode.{name}", node, name)
    connect(session.scans[reference], "outputnode.scan", node, "reference")
    if contrast != reference:
        align_wf = session.transforms[contrast, reference]
        connect(align_wf, "outputnode.transform", node, "transform")
    if lesion is not None:
        feed(session.workflow, lesion, node, "lesion")
    return node


def _lesion(session: Session, space: Space) -> Source | None:
    """Add the node that brings the lesion mask to the reference grid, if there is one."""
    found = session.plan.derivatives.lesions if session.plan.derivatives else ()
    if not found:
        return None
    node = Node(LesionToReference(), name=f"lesion_in_{space.reference}", mem_gb=0.5)
    node.inputs.in_file = str(found[0].path)
    session.workflow.connect(session.scans[space.reference], "outputnode.scan", node, "reference")
    drawn_on = found[0].space
    if (drawn_on, space.reference) in session.transforms:
        align_wf = session.transforms[drawn_on, space.reference]
        session.workflow.connect(align_wf, "outputnode.transform", node, "transform")
    return node, "out_file"


def _synthesise(session: Session, space: Space, files: SpaceFiles) -> None:
    """Add slices and the synthesis of every target of one reference grid."""
    run, workflow = session.run, session.workflow
    settings = run.settings
    contrasts = list(
        dict.fromkeys(
            name
            for target in space.targets
            for name in (*target.sources, *([target.contrast] if target.has_truth else []))
        )
    )
    lesion = "lesion" in files.maps
    slices_wf = init_slices_wf(
        space.reference,
        contrasts,
        which=settings.slices,
        every=SLOPPY_EVERY if settings.sloppy else 1,
        lesion=lesion,
    )
    for name, source in (*files.maps.items(), *((c, files.preproc[c]) for c in contrasts)):
        feed(workflow, source, slices_wf, f"inputnode.{name}")
    scores = []
    for target in space.targets:
        synth_wf = init_synthesis_wf(
            session.plan.participant,
            session.plan.session,
            target,
            space.reference,
            run,
            lesion=lesion,
        )
        names = ["geometry", "slices", "mask_file", "csf", "gm", "wm", *target.sources]
        for name in (*names, *(["lesion"] if lesion else [])):
            workflow.connect(slices_wf, f"outputnode.{name}", synth_wf, f"inputnode.{name}")
        if target.has_truth:
            truth = f"outputnode.{target.contrast}"
            workflow.connect(slices_wf, truth, synth_wf, "inputnode.truth")
            scores.append((synth_wf, target))
        feed(workflow, files.maps["mask_file"], synth_wf, "inputnode.reference_mask")
        outputs.save_synthesis(session, target, space, synth_wf, slices_wf)
    if scores:
        outputs.save_scores(session, space.reference, [wf for wf, _ in scores])
