"""One reference grid of a session: what is brought to it, and saved there."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.anatomy import LabelTissue, LesionToReference, TissueToReference
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Space
from colapipe.workflows import outputs
from colapipe.workflows.alignment import alignment_name, init_alignment_wf
from colapipe.workflows.files import Source, SpaceFiles, feed
from colapipe.workflows.session import Session, session_name, with_brain


def alignments(plans: Sequence[SessionPlan]) -> dict[str, tuple[SessionPlan, str, str]]:
    """Return the workflows that align two scans: full name to session, moving and reference."""
    return {
        f"colapipe.{session_name(plan)}.{alignment_name(contrast, space.reference)}": (
            plan,
            contrast,
            space.reference,
        )
        for plan in plans
        for space in plan.spaces
        for contrast in space.contrasts
        if plan.scans and contrast != space.reference
    }


def add_alignment(session: Session, space: Space) -> SpaceFiles:
    """Bring scans, tissue maps and lesion mask to one reference grid, and save them."""
    reference = session.scans[space.reference]
    files = SpaceFiles({space.reference: (reference, "outputnode.bias_corrected")})
    for contrast in space.contrasts:
        if contrast != space.reference:
            align_wf = _align_contrast(session, contrast, space.reference)
            files.preproc[contrast] = (align_wf, "outputnode.preproc")
        outputs.save_contrast(session, contrast, space.reference, files.preproc[contrast])
    lesion = _lesion(session, space)
    for contrast in space.tissue_contrasts:
        maps = _tissue(session, contrast, space.reference)
        label = _label(session, contrast, space.reference, maps, lesion)
        outputs.save_tissue(
            session, contrast, space.reference, maps, label, lesion=lesion is not None
        )
        names = ("mask_file", "csf", "gm", "wm")
        files.tissues[contrast] = {name: (maps, name) for name in names}
    files.maps.update(files.tissues[space.reference])
    if lesion is not None:
        files.maps["lesion"] = lesion
    return files


def _align_contrast(session: Session, contrast: str, reference: str) -> Workflow:
    """Add the registration of one contrast to the reference."""
    derivatives, run = session.plan.derivatives, session.run
    existing = derivatives.matrix(contrast, reference) if derivatives else None
    align_wf = init_alignment_wf(
        contrast,
        reference,
        run.engine,
        existing_transform=existing.path if existing else None,
        moving_brain=contrast in with_brain(session.plan),
        threads=run.threads,
    )
    moving = [("scan", "moving")]
    if contrast in with_brain(session.plan):
        moving.append(("mask_file", "moving_mask"))
    connections = [
        (session.scans[contrast], moving),
        (session.scans[reference], [("scan", "reference"), ("mask_file", "reference_mask")]),
    ]
    for source, pairs in connections:
        for output, name in pairs:
            session.workflow.connect(source, f"outputnode.{output}", align_wf, f"inputnode.{name}")
    session.transforms[contrast, reference] = align_wf
    return align_wf


def _tissue(session: Session, contrast: str, reference: str) -> Node:
    """Add the node that brings a contrast's mask and tissue maps to the reference grid."""
    node = Node(TissueToReference(), name=f"tissue_{contrast}_in_{reference}")
    connect = session.workflow.connect
    for name in ("mask_file", "csf", "gm", "wm"):
        connect(session.scans[contrast], f"outputnode.{name}", node, name)
    connect(session.scans[reference], "outputnode.scan", node, "reference")
    if contrast != reference:
        align_wf = session.transforms[contrast, reference]
        connect(align_wf, "outputnode.transform", node, "transform")
    return node


def _label(
    session: Session, contrast: str, reference: str, maps: Node, lesion: Source | None
) -> Node:
    """Add the node that labels tissues, and lesions if there is a mask of them."""
    node = Node(LabelTissue(), name=f"label_{contrast}_in_{reference}")
    names = ("mask_file", "csf", "gm", "wm")
    session.workflow.connect([(maps, node, [(name, name) for name in names])])
    if lesion is not None:
        feed(session.workflow, lesion, node, "lesion")
    return node


def _lesion(session: Session, space: Space) -> Source | None:
    """Add the node that brings the lesion mask to the reference grid, if there is one."""
    lesion = session.plan.lesion_on(space.reference)
    if lesion is None or lesion.drawn_on not in space.contrasts:
        return None
    node = Node(LesionToReference(), name=f"lesion_in_{space.reference}")
    node.inputs.in_file = str(lesion.file.path)
    connect = session.workflow.connect
    connect(session.scans[space.reference], "outputnode.scan", node, "reference")
    if lesion.drawn_on != space.reference:
        align_wf = session.transforms[lesion.drawn_on, space.reference]
        connect(align_wf, "outputnode.transform", node, "transform")
    outputs.save_lesion(session, space.reference, node)
    return node, "out_file"
