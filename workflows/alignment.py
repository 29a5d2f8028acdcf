"""From a raw scan to the reference grid: aligned, brain-extracted, bias-corrected."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.anatomy import (
    CheckTransform,
    CorrectBias,
    ExistingTransform,
    ToReference,
)
from colapipe.workflows.engines import Engine

CHECK = "check_transform"
"""The node of an alignment that refuses a transform."""


def alignment_name(contrast: str, reference: str) -> str:
    """Return the name of the workflow that aligns a contrast with a reference."""
    return f"align_{contrast}_to_{reference}_wf"


def init_alignment_wf(
    contrast: str,
    reference: str,
    engine: Engine,
    *,
    existing_transform: Path | None = None,
    moving_brain: bool = False,
    threads: int = 1,
) -> Workflow:
    """Bring one scan to the reference: rigid registration, resampling, bias correction.

    Parameters
    ----------
    contrast, reference : str
        Of the moving scan and of the one that stays.
    engine : Engine
    existing_transform : Path, optional
        A matrix that is used instead of a registration.
    moving_brain : bool
        The moving scan has a brain mask, too.
    threads : int

    Inputs
    ------
    moving, reference
        The two checked scans.
    reference_mask
        Brain mask of the reference.
    moving_mask
        Brain mask of the moving scan, with ``moving_brain``; no more than a test of the transform.

    Outputs
    -------
    transform
        ITK .txt, moving to reference; it has passed the check.
    identity_kept
        The scans were aligned already.
    preproc
        On the reference grid, brain-extracted and bias-corrected.
    """
    workflow = Workflow(name=alignment_name(contrast, reference))
    scans = ["moving", "reference", "reference_mask", *(["moving_mask"] if moving_brain else [])]
    inputnode = Node(IdentityInterface(fields=scans), name="inputnode")
    outputnode = Node(
        IdentityInterface(fields=["transform", "identity_kept", "preproc"]), name="outputnode"
    )
    if existing_transform is not None:
        register = Node(
            ExistingTransform(in_file=str(existing_transform)), name="existing_transform"
        )
    else:
        register = Node(
            engine.register(),
            name=f"register_{engine.name}",
            n_procs=threads if engine.parallel else 1,
        )
        workflow.connect(inputnode, "reference_mask", register, "reference_mask")
    check = Node(CheckTransform(), name=CHECK)
    to_reference = Node(ToReference(), name="to_reference")
    bias = Node(CorrectBias(), name="correct_bias", n_procs=threads)
    workflow.connect(
        [
            (inputnode, register, [("moving", "moving"), ("reference", "reference")]),
            (inputnode, to_reference, [("moving", "in_file"), ("reference", "reference")]),
            (inputnode, check, [(name, name) for name in scans]),
            (
                register,
                check,
                [("transform", "transform"), ("identity_kept", "identity_kept")],
            ),
            (check, to_reference, [("transform", "transform")]),
            (to_reference, bias, [("out_file", "in_file")]),
            (inputnode, bias, [("reference_mask", "mask_file")]),
            (
                check,
                outputnode,
                [("transform", "transform"), ("identity_kept", "identity_kept")],
            ),
            (bias, outputnode, [("out_file", "preproc")]),
        ]
    )
    return workflow
