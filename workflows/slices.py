"""From the reference grid to the model's slices."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.slices import Crop, PlanSlices


def init_slices_wf(
    reference: str,
    contrasts: Sequence[str],
    *,
    which: str = "all",
    most: int | None = None,
    lesion: bool = False,
) -> Workflow:
    """Crop contrasts and tissue maps of one reference grid for the model.

    Each contrast passes through a node of its own, so that none depends on another.

    Parameters
    ----------
    reference : str
    contrasts : sequence of str
        Sources and, with ``--evaluate``, the truths of scores.
    which : str
        ``all`` or ``selected``.
    most : int, optional
        No more slices than these, from the middle.
    lesion : bool
        A lesion mask is given.

    Inputs
    ------
    mask_file, csf, gm, wm, lesion, and one field per contrast
        On the reference grid.

    Outputs
    -------
    geometry, slices
        What `PlanSlices` says.
    mask_file, csf, gm, wm, lesion, and one field per contrast
        On the model grid.
    """
    workflow = Workflow(name=f"slices_{reference}_wf")
    maps = ["csf", "gm", "wm", *(["lesion"] if lesion else [])]
    inputnode = Node(IdentityInterface(fields=["mask_file", *maps, *contrasts]), name="inputnode")
    outputnode = Node(
        IdentityInterface(fields=["geometry", "slices", "mask_file", *maps, *contrasts]),
        name="outputnode",
    )
    plan = Node(PlanSlices(which=which), name="plan_slices")
    if most is not None:
        plan.inputs.most = most
    workflow.connect(
        [
            (inputnode, plan, [("mask_file", "mask_file")]),
            (
                plan,
                outputnode,
                [("geometry", "geometry"), ("slices", "slices"), ("mask_file", "mask_file")],
            ),
        ]
    )
    kinds = {"lesion": "mask", "csf": "probability", "gm": "probability", "wm": "probability"}
    for name in (*maps, *contrasts):
        crop = Node(Crop(kind=kinds.get(name, "contrast")), name=f"crop_{name}")
        workflow.connect(
            [
                (inputnode, crop, [(name, "in_file")]),
                (plan, crop, [("geometry", "geometry"), ("mask_file", "mask_file")]),
                (crop, outputnode, [("out_file", name)]),
            ]
        )
    return workflow
