"""The whole way of a run: participants, their sessions, and their reference grids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.report import WriteReport
from colapipe.plan.sessions import SessionPlan
from colapipe.run.failures import node_name
from colapipe.workflows.files import prepared_files
from colapipe.workflows.grid import add_alignment
from colapipe.workflows.memory import million_voxels, nodes_of, plan_memory
from colapipe.workflows.quality import save_quality
from colapipe.workflows.scan import init_scan_wf
from colapipe.workflows.selfcheck import add_self_check, is_checked
from colapipe.workflows.session import Run, Session, session_name, with_brain
from colapipe.workflows.targets import add_targets


def init_colapipe_wf(plans: Sequence[SessionPlan], run: Run, base_dir: Path) -> Workflow:
    """Return the workflow of all sessions that have something to do."""
    workflow = Workflow(name="colapipe", base_dir=str(base_dir))
    saved: dict[str, list[tuple[Workflow, Node]]] = {}
    largest: dict[str, float] = {}
    for plan in plans:
        if plan.spaces:
            session = init_session(plan, run)
            size = million_voxels(plan)
            plan_memory(nodes_of(session.workflow), size)
            largest[plan.participant] = max(largest.get(plan.participant, 0.0), size)
            workflow.add_nodes([session.workflow])
            mine = saved.setdefault(plan.participant, [])
            mine += [(session.workflow, node) for node in session.saved]
    for participant, nodes in saved.items():
        plan_memory(_report(workflow, participant, nodes, run), largest[participant])
    return workflow


def _report(
    workflow: Workflow, participant: str, saved: Sequence[tuple[Workflow, Node]], run: Run
) -> tuple[Node, Node]:
    """Add the report of one participant, which waits for all that is saved; return its nodes."""
    report = Node(
        WriteReport(
            out_dir=str(run.settings.out_dir),
            participant=participant,
            run=json.dumps(run.described[participant]),
            show_head=run.settings.show_head,
            viewer=run.settings.viewer,
        ),
        name=f"{node_name(participant)}_report",
    )
    merge = Node(
        Merge(len(saved)),
        name=f"{node_name(participant)}_outputs",
        run_without_submitting=True,
    )
    for number, (session_wf, node) in enumerate(saved, start=1):
        workflow.connect(session_wf, f"{node.name}.out_files", merge, f"in{number}")
    workflow.connect(merge, "out", report, "files")
    return merge, report


def init_session(plan: SessionPlan, run: Run) -> Session:
    """Build the workflow of one session: its scans first, then every reference grid."""
    session = Session(plan, run, Workflow(name=session_name(plan)))
    if plan.scans:
        _read_scans(session)
    for space in plan.spaces:
        before = len(session.saved)
        files = add_alignment(session, space) if plan.scans else prepared_files(plan, space)
        if space.targets:
            slices_wf = add_targets(session, space, files)
            if is_checked(session, space):
                add_self_check(session, space, files, slices_wf)
        save_quality(session, space.reference, session.saved[before:])
    return session


def _read_scans(session: Session) -> None:
    """Add one workflow for each scan that any grid needs."""
    plan, run = session.plan, session.run
    for contrast in dict.fromkeys(c for space in plan.spaces for c in space.contrasts):
        existing = plan.derivatives.mask(contrast, contrast) if plan.derivatives else None
        scan_wf = init_scan_wf(
            contrast,
            run.engine,
            brain=contrast in with_brain(plan),
            skull_strip=run.settings.skull_strip,
            existing_mask=existing.path if existing else None,
            threads=run.threads,
        )
        scan_wf.inputs.inputnode.in_file = str(plan.scans[contrast].path)
        session.workflow.add_nodes([scan_wf])
        session.scans[contrast] = scan_wf
