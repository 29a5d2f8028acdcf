"""A session's workflow while it is being built."""

from __future__ import annotations

from dataclasses import dataclass, field

from nipype.pipeline.engine import Node, Workflow

from colapipe.plan.sessions import SessionPlan
from colapipe.run.failures import node_name
from colapipe.workflows.run import Run


def session_name(plan: SessionPlan) -> str:
    """Return the name of a session's workflow."""
    return f"{node_name(plan.participant, plan.session)}_wf"


def with_brain(plan: SessionPlan) -> set[str]:
    """Return the contrasts of a session whose brain masks are made, for whichever grid."""
    return {contrast for space in plan.spaces for contrast in space.tissue_contrasts}


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
