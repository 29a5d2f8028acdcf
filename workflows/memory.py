"""The memory that each node is planned with, from measurements (docs/resources.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from nipype.pipeline.engine import Node, Workflow

from colapipe.anatomy.images import check_header
from colapipe.errors import InputFileError
from colapipe.plan.sessions import SessionPlan

MARGIN = 1.25
"""By how much the plan exceeds what was measured."""

USUAL_VOXELS = 10.0
"""Millions of voxels of a scan whose header cannot be read."""

MEASURED: dict[str, tuple[float, float]] = {
    # These two run in the app itself, or not at all.
    "base.IdentityInterface": (0.0, 0.0),
    "base.Merge": (0.0, 0.0),
    "anatomy.ChooseBrainMask": (0.12, 0.010),
    "anatomy.CheckTransform": (0.13, 0.03),
    "anatomy.CorrectBias": (0.16, 0.022),
    "anatomy.ExistingTransform": (0.13, 0.0),
    "anatomy.LabelTissue": (0.15, 0.032),
    "anatomy.LesionToReference": (0.12, 0.063),
    "anatomy.LoadScan": (0.12, 0.009),
    "anatomy.TissueToReference": (0.12, 0.063),
    "anatomy.ToReference": (0.15, 0.008),
    "bids.SaveContrast": (0.14, 0.009),
    "bids.SaveLesion": (0.13, 0.0),
    "bids.SaveScores": (0.13, 0.0),
    "bids.SaveSelfCheck": (0.13, 0.0),
    "bids.SaveSynthesis": (0.13, 0.0),
    "bids.SaveTissue": (0.13, 0.0),
    "builtin.BrainMask": (1.09, 0.009),
    "builtin.Register": (0.26, 0.012),
    "builtin.Tissue": (0.13, 0.024),
    "evaluation.Score": (0.75, 0.0),
    "fsl.BrainMask": (0.15, 0.012),
    "fsl.Register": (0.26, 0.025),
    "fsl.Tissue": (0.15, 0.12),
    "quality.SaveQuality": (0.12, 0.016),
    "report.WriteReport": (0.17, 0.018),
    "selfcheck.Judge": (0.6, 0.0),
    "selfcheck.LeaveOut": (1.16, 0.0),
    "selfcheck.SpreadSlices": (0.09, 0.0),
    "slices.Crop": (0.14, 0.021),
    "slices.PasteBack": (0.25, 0.017),
    "slices.PlanSlices": (0.09, 0.015),
    "synthesis.Synthesise": (1.25, 0.0),
}
"""GB that a step holds at its peak: at no voxel, and for each million of the largest scan."""

PER_WEIGHT = 10.0
"""GB that a synthesis holds for each GB of weights, in batches of eight slices."""


def plan_memory(nodes: Iterable[Node], million_voxels: float) -> None:
    """Set the memory that nodes are planned with.

    Parameters
    ----------
    nodes : iterable of Node
    million_voxels : float
        Of the largest scan.

    Raises
    ------
    KeyError
        If a step was never measured.
    """
    for node in nodes:
        fixed, slope = MEASURED[kind_of(node)]
        measured = fixed + slope * million_voxels + PER_WEIGHT * _weights_gb(node)
        # Nipype takes this as an argument of a new node only.
        node._mem_gb = round(MARGIN * measured, 2)


def kind_of(node: Node) -> str:
    """Return what a node does, by the module and the class of its interface."""
    interface = type(node.interface)
    return f"{interface.__module__.rpartition('.')[2]}.{interface.__name__}"


def nodes_of(workflow: Workflow) -> list[Node]:
    """Return the nodes of a workflow and of the workflows inside."""
    return [workflow.get_node(name) for name in workflow.list_node_names()]


def million_voxels(plan: SessionPlan) -> float:
    """Return the size of a session's largest scan, in millions of voxels."""
    paths = [scan.path for scan in plan.scans.values()]
    if not paths and plan.derivatives is not None:
        paths = [
            image.path
            for files in plan.derivatives.prepared().values()
            for image in files.images.values()
        ]
    return max(_sizes(paths), default=USUAL_VOXELS)


def _sizes(paths: Iterable[Path]) -> Iterable[float]:
    for path in paths:
        # What is wrong with a file is said by the node that reads it.
        try:
            yield math.prod(check_header(path).shape) / 1e6
        except InputFileError:
            yield USUAL_VOXELS


def _weights_gb(node: Node) -> float:
    """Return the size of the model that a node uses; 0 for those that use none."""
    path = Path(getattr(node.inputs, "model", "") or "")
    return path.stat().st_size / 1024**3 if path.is_file() else 0.0
