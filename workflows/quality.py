"""The quality numbers of a reference grid, once everything else is saved there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node

from colapipe.errors import ScanWarning
from colapipe.interfaces.quality import SaveQuality
from colapipe.quality.warnings import quality_table, warnings_before
from colapipe.workflows.session import Session


def save_quality(session: Session, reference: str, saved: Sequence[Node]) -> None:
    """Measure what the nodes ``saved`` wrote on one reference grid, and save the table."""
    plan = session.plan
    node = Node(
        SaveQuality(
            out_dir=str(session.run.settings.out_dir),
            participant=plan.participant,
            session=plan.session,
            reference=reference,
            warnings=[[found.contrast, found.message] for found in _known(session, reference)],
        ),
        name=f"save_quality_in_{reference}",
    )
    for output, name in (("out_files", "files"), ("written", "written")):
        merge = Node(Merge(len(saved)), name=f"{name}_in_{reference}", run_without_submitting=True)
        for number, saving in enumerate(saved, start=1):
            session.workflow.connect(saving, output, merge, f"in{number}")
        session.workflow.connect(merge, "out", node, name)
    session.saved.append(node)


def _known(session: Session, reference: str) -> list[ScanWarning]:
    """Return what is known before anything is measured.

    A run on prepared files knows of the scans what the run that prepared them has written.
    """
    plan = session.plan
    if plan.scans or plan.derivatives is None:
        return list(plan.warnings)
    table = quality_table(Path(), plan.participant, plan.session, reference).name
    folder = plan.derivatives.prepared()[reference].images[reference].path.parent
    return [*plan.warnings, *warnings_before(folder / table)]
