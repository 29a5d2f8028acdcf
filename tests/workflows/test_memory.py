"""The memory that nodes are planned with grows with the scan, and every step has a figure."""

from __future__ import annotations

import inspect

import nibabel as nib
import numpy as np
import pytest
from nipype.pipeline.engine import Node, Workflow

from colapipe.bids.reader import Scan
from colapipe.interfaces import (
    anatomy,
    bids,
    builtin,
    evaluation,
    fsl,
    quality,
    report,
    slices,
    synthesis,
)
from colapipe.interfaces.anatomy import CorrectBias
from colapipe.plan.sessions import SessionPlan
from colapipe.workflows.memory import (
    MARGIN,
    MEASURED,
    USUAL_VOXELS,
    million_voxels,
    nodes_of,
    plan_memory,
)

STEPS = [
    f"{module.__name__.rpartition('.')[2]}.{name}"
    for module in (anatomy, bids, builtin, evaluation, fsl, quality, report, slices, synthesis)
    for name, kind in vars(module).items()
    if inspect.isclass(kind)
    and kind.__module__ == module.__name__
    and not name.startswith("_")
    and getattr(kind, "output_spec", None) is not None
    and name not in ("BET", "FLIRT", "FAST")
]


@pytest.mark.parametrize("step", STEPS)
def test_every_step_was_measured(step):
    assert step in MEASURED


@pytest.mark.parametrize("million", [1, 7, 26])
def test_a_node_is_planned_with_its_figure_and_a_margin(million):
    workflow = Workflow("inner")
    workflow.add_nodes([Node(CorrectBias(), name="bias")])
    outer = Workflow("outer")
    outer.add_nodes([workflow])
    plan_memory(nodes_of(outer), million)
    fixed, slope = MEASURED["anatomy.CorrectBias"]
    planned = workflow.get_node("bias").mem_gb
    assert planned == pytest.approx(MARGIN * (fixed + slope * million), abs=0.01)


def scan(tmp_path, contrast: str, shape: tuple[int, ...] | None) -> Scan:
    path = tmp_path / f"{contrast}.nii.gz"
    if shape is None:
        path.write_text("not an image")
    else:
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    return Scan(path, path.name, contrast, "1", None)


def test_the_largest_scan_of_a_session_counts(tmp_path):
    scans = {"T1w": scan(tmp_path, "T1w", (100, 100, 100)), "T2w": scan(tmp_path, "T2w", (9, 9, 9))}
    assert million_voxels(SessionPlan("1", None, scans, [])) == 1


def test_a_scan_that_cannot_be_read_counts_as_a_usual_one(tmp_path):
    plan = SessionPlan("1", None, {"T1w": scan(tmp_path, "T1w", None)}, [])
    assert million_voxels(plan) == USUAL_VOXELS
