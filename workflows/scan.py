"""One scan on its own grid: read and checked, and masked and segmented if that is needed."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.anatomy import ChooseBrainMask, CorrectBias, LoadScan
from colapipe.workflows.engines import Engine


def init_scan_wf(
    contrast: str,
    engine: Engine,
    *,
    brain: bool,
    skull_strip: str = "auto",
    existing_mask: Path | None = None,
    threads: int = 1,
) -> Workflow:
    """Read one scan and, for a contrast that masks and tissue maps come from, make these.

    Everything here happens on the scan's own grid, from this scan alone.

    Parameters
    ----------
    contrast : str
    engine : Engine
    brain : bool
        Make brain mask, bias correction and tissue maps, too.
    skull_strip : str
        ``auto``, ``skip`` or ``force``.
    existing_mask : Path, optional
        A brain mask on this scan's grid, used instead of a computed one.
    threads : int

    Inputs
    ------
    in_file
        The scan in the raw dataset.

    Outputs
    -------
    scan
        The checked scan, float32.
    mask_file, mask_method, mask_remark, bias_corrected, csf, gm, wm
        Only with ``brain``.
    """
    workflow = Workflow(name=f"scan_{contrast}_wf")
    inputnode = Node(IdentityInterface(fields=["in_file"]), name="inputnode")
    brain_fields = ["mask_file", "mask_method", "mask_remark", "bias_corrected", "csf", "gm", "wm"]
    outputnode = Node(IdentityInterface(fields=["scan", *brain_fields]), name="outputnode")
    load = Node(LoadScan(), name="load_scan")
    workflow.connect(inputnode, "in_file", load, "in_file")
    workflow.connect(load, "out_file", outputnode, "scan")
    if not brain:
        return workflow

    choose = Node(
        ChooseBrainMask(mode=skull_strip, second_opinion=engine.name == "fsl"),
        name="choose_brain_mask",
    )
    workflow.connect(load, "out_file", choose, "in_file")
    if existing_mask is not None:
        choose.inputs.existing_mask = str(existing_mask)
    elif skull_strip != "skip":
        mask = Node(
            engine.brain_mask(),
            name=f"brain_mask_{engine.name}",
            n_procs=threads if engine.parallel else 1,
        )
        workflow.connect(load, "out_file", mask, "in_file")
        workflow.connect(mask, "mask_file", choose, "engine_mask")

    bias = Node(CorrectBias(), name="correct_bias", n_procs=threads)
    tissue = Node(engine.tissue(contrast=contrast), name=f"tissue_{engine.name}")
    workflow.connect(
        [
            (load, bias, [("out_file", "in_file")]),
            (choose, bias, [("mask_file", "mask_file")]),
            (bias, tissue, [("out_file", "in_file")]),
            (choose, tissue, [("mask_file", "mask_file")]),
            (choose, outputnode, [("mask_file", "mask_file"), ("method", "mask_method")]),
            (choose, outputnode, [("remark", "mask_remark")]),
            (bias, outputnode, [("out_file", "bias_corrected")]),
            (tissue, outputnode, [("csf", "csf"), ("gm", "gm"), ("wm", "wm")]),
        ]
    )
    return workflow
