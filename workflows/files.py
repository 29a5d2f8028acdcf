"""Where a file comes from: the output of a node in this run, or an earlier run's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nipype.pipeline.engine import Workflow

from colapipe.contrasts import TISSUES
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Space

Source = tuple[Any, str] | Path
"""A node or workflow with the name of its output, or a path."""


@dataclass
class SpaceFiles:
    """The files on one reference grid.

    Parameters
    ----------
    preproc : dict
        Contrast to its preprocessed image.
    maps : dict
        ``mask_file``, ``csf``, ``gm``, ``wm`` of the reference, and ``lesion`` if there is one.
    tissues : dict of dict
        Contrast to its ``mask_file``, ``csf``, ``gm``, ``wm``, for all that have them here.
    """

    preproc: dict[str, Source] = field(default_factory=dict)
    maps: dict[str, Source] = field(default_factory=dict)
    tissues: dict[str, dict[str, Source]] = field(default_factory=dict)


def feed(workflow: Workflow, source: Source, node: Any, name: str) -> None:
    """Connect a node's output, or set a path, as the input ``name`` of a node or workflow."""
    if not isinstance(source, Path):
        workflow.connect(source[0], source[1], node, name)
        return
    inputs = node.inputs
    *parents, last = name.split(".")
    for parent in parents:
        inputs = getattr(inputs, parent)
    setattr(inputs, last, str(source))


def prepared_files(plan: SessionPlan, space: Space) -> SpaceFiles:
    """Return what a preprocessing-only run left for one reference grid."""
    if plan.derivatives is None:
        raise ValueError(f"{plan.label} has neither scans nor derivatives")
    prepared = plan.derivatives.prepared()[space.reference]
    files = SpaceFiles({c: prepared.images[c].path for c in space.contrasts})
    for contrast in prepared.masks.keys() & prepared.tissues.keys() & set(space.contrasts):
        tissues = prepared.tissues[contrast]
        files.tissues[contrast] = {"mask_file": prepared.masks[contrast].path}
        files.tissues[contrast] |= {tissue.lower(): tissues[tissue].path for tissue in TISSUES}
    files.maps.update(files.tissues[space.reference])
    lesion = plan.lesion_on(space.reference)
    if lesion is not None:
        files.maps["lesion"] = lesion.file.path
    return files
