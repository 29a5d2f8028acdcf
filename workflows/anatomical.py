"""From a raw scan to the reference grid: aligned, brain-extracted, bias-corrected."""

from __future__ import annotations

from pathlib import Path

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.anatomy import CorrectBias, ExistingTransform, ToReference
from colapipe.workflows.engines import Engine


def alignment_name(contrast: str, reference: str) -> str:
    """Return the name of the workflow that aligns a contrast with a reference."""
    return f"align_{contrast}_to_{reference}_wf"


def init_alignment_wf(
    contrast: str,
    reference: str,
    engine: Engine,
    *,
    existing_transform: Path | None = None,
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
    threads : int

    Inputs
    ------
    moving, reference
        The two checked scans.
    reference_mask
        Brain mask of the reference.

    Outputs
    -------
    transform
        ITK .txt, moving to reference.
    identity_kept
        The scans were aligned already.
    preproc
        On the reference grid, brain-extracted and bias-corrected.
    """
    workflow = Workflow(name=alignment_name(contrast, reference))
    inputnode = Node(
        IdentityInterface(fields=["moving", "reference", "reference_mask"]), name="inputnode"
    )
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
    to_reference = Node(ToReference(), name="to_reference")
    bias = Node(CorrectBias(), name="correct_bias", n_procs=threads)
    workflow.connect(
        [
            (inputnode, register, [("moving", "moving"), ("reference", "reference")]),
            (inputnode, to_reference, [("moving", "in_file"), ("reference", "reference")]),
            (register, to_reference, [("transform", "transform")]),
            (to_reference, bias, [("out_file", "in_file")]),
            (inputnode, bias, [("reference_mask", "mask_file")]),
            (
                register,
                outputnode,
                [("transform", "transform"), ("identity_kept", "identity_kept")],
            ),
            (bias, outputnode, [("out_file", "preproc")]),
        ]
    )
    return workflow
