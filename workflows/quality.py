"""The quality numbers of a reference grid, once everything else is saved there."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node

from colapipe.interfaces.quality import SaveQuality
from colapipe.workflows.session import Session


def save_quality(session: Session, reference: str, saved: Sequence[Node]) -> None:
    """Measure what the nodes ``saved`` wrote on one reference grid, and save the table."""
    merge = Node(Merge(len(saved)), name=f"measured_in_{reference}", run_without_submitting=True)
    for number, node in enumerate(saved, start=1):
        session.workflow.connect(node, "out_files", merge, f"in{number}")
    node = Node(
        SaveQuality(
            out_dir=str(session.run.settings.out_dir),
            participant=session.plan.participant,
            session=session.plan.session,
            reference=reference,
        ),
        name=f"save_quality_in_{reference}",
    )
    session.workflow.connect(merge, "out", node, "files")
    session.saved.append(node)
