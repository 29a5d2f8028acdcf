"""Nodes that save the results of a session under their final names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.bids import (
    SaveContrast,
    SaveLesion,
    SaveScores,
    SaveSelfCheck,
    SaveSynthesis,
    SaveTissue,
)
from colapipe.plan.targets import Space, Target
from colapipe.workflows.files import Source, feed
from colapipe.workflows.provenance import conditions, raw_uri, spatial_reference
from colapipe.workflows.session import Session


def save_contrast(session: Session, contrast: str, reference: str, preproc: Source) -> None:
    """Save a preprocessed contrast, with its transform if it is not the reference."""
    scans = dict.fromkeys((contrast, reference))
    node = _node(SaveContrast, session, contrast, reference, f"save_{contrast}_in_{reference}")
    node.inputs.sources = [raw_uri(session, scan) for scan in scans]
    feed(session.workflow, preproc, node, "in_file")
    if contrast == reference:
        return
    connect = session.workflow.connect
    align_wf = session.transforms[contrast, reference]
    connect(align_wf, "outputnode.transform", node, "transform")
    connect(align_wf, "outputnode.identity_kept", node, "identity_kept")
    connect(session.scans[contrast], "outputnode.scan", node, "moving")
    connect(session.scans[reference], "outputnode.scan", node, "reference_scan")


def save_tissue(
    session: Session, contrast: str, reference: str, maps: Node, label: Node, *, lesion: bool
) -> None:
    """Save a contrast's brain mask and tissue maps on a reference grid."""
    node = _node(SaveTissue, session, contrast, reference, f"save_tissue_{contrast}_in_{reference}")
    node.inputs.sources = [raw_uri(session, contrast)]
    node.inputs.lesion = lesion
    names = ("mask_file", "csf", "gm", "wm")
    session.workflow.connect([(maps, node, [(name, name) for name in names])])
    session.workflow.connect(label, "dseg", node, "dseg")
    for name in ("mask_method", "mask_remark"):
        session.workflow.connect(session.scans[contrast], f"outputnode.{name}", node, name)


def save_lesion(session: Session, reference: str, lesion: Node) -> None:
    """Save the lesion mask on a reference grid."""
    node = _node(SaveLesion, session, reference, reference, f"save_lesion_in_{reference}")
    placed = session.plan.lesion_on(reference)
    if placed is not None:
        node.inputs.sources = [placed.file.uri]
        node.inputs.drawn_on = placed.drawn_on
    session.workflow.connect(lesion, "out_file", node, "in_file")
    session.workflow.connect(lesion, "remark", node, "mask_remark")


def save_synthesis(
    session: Session,
    target: Target,
    space: Space,
    synth_wf: Workflow,
    slices_wf: Workflow,
    *,
    lesion: bool,
) -> None:
    """Save a synthesised contrast; ``lesion`` says that the model was given a lesion mask."""
    name = f"save_synth_{target.contrast}"
    node = _node(SaveSynthesis, session, target.contrast, space.reference, name)
    node.inputs.sources = conditions(session, target, space.reference)
    node.inputs.lesion_conditioning = lesion
    connect = session.workflow.connect
    for output in ("mean", "std", "info"):
        connect(synth_wf, f"outputnode.{output}", node, output)
    connect(slices_wf, "outputnode.geometry", node, "geometry")


def save_scores(session: Session, reference: str, synth_wfs: Sequence[Workflow]) -> None:
    """Save the scores of all targets that were made on one reference grid."""
    merge = Node(
        Merge(len(synth_wfs)),
        name=f"scores_in_{reference}",
        run_without_submitting=True,
    )
    for number, synth_wf in enumerate(synth_wfs, start=1):
        session.workflow.connect(synth_wf, "outputnode.scores", merge, f"in{number}")
    node = _node(SaveScores, session, "", reference, f"save_scores_in_{reference}")
    session.workflow.connect(merge, "out", node, "scores")


def save_self_check(session: Session, reference: str, judge: Node) -> None:
    """Save what the self-check of one reference grid found."""
    node = _node(SaveSelfCheck, session, "", reference, f"save_selfcheck_in_{reference}")
    session.workflow.connect(judge, "rows", node, "rows")


def _node(interface: Any, session: Session, contrast: str, reference: str, name: str) -> Node:
    plan, run = session.plan, session.run
    node = Node(
        interface(
            out_dir=str(run.settings.out_dir),
            participant=plan.participant,
            session=plan.session,
            contrast=contrast,
            reference=reference,
            spatial_reference=spatial_reference(session, reference),
            engine=run.engine.name,
            engine_version=run.engine_version,
        ),
        name=name,
    )
    session.saved.append(node)
    return node
