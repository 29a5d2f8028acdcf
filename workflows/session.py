"""What the workflows of a run and of a session know while they are being built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nipype.pipeline.engine import Node, Workflow

from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.run.failures import node_name
from colapipe.run.model import ModelInfo
from colapipe.workflows.engines import Engine


@dataclass(frozen=True)
class Run:
    """One run of the app, ready to be made into workflows.

    Parameters
    ----------
    settings : Settings
    engine : Engine
    engine_version : str
    model : ModelInfo or None
        None for a run that only preprocesses.
    threads : int
        Threads of one process.
    use_gpu : bool
    described : mapping
        Participant to what the report says about the run.
    """

    settings: Settings
    engine: Engine
    engine_version: str
    model: ModelInfo | None
    threads: int
    use_gpu: bool
    described: Mapping[str, Mapping[str, Any]]


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
