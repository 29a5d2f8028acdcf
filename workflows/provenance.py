"""What an output was made from, as BIDS URIs."""

from __future__ import annotations

from typing import Any

from colapipe.bids.names import bids_uri, derivative_path
from colapipe.contrasts import TISSUES
from colapipe.plan.targets import Target
from colapipe.workflows.session import Session


def raw_uri(session: Session, contrast: str) -> str:
    """Return the URI of a scan of the raw dataset."""
    return bids_uri(session.plan.scans[contrast].relative, "raw")


def spatial_reference(session: Session, reference: str) -> str:
    """Return the URI of the image that a reference grid belongs to."""
    if session.plan.scans:
        return raw_uri(session, reference)
    return _prepared(session, reference).images[reference].uri


def _prepared(session: Session, reference: str) -> Any:
    if session.plan.derivatives is None:
        raise ValueError(f"{session.plan.label} has neither scans nor derivatives")
    return session.plan.derivatives.prepared()[reference]


def conditions(session: Session, target: Target, reference: str) -> list[str]:
    """Return the URIs of everything that the model was given for a target."""
    plan = session.plan
    if not plan.scans:
        prepared = _prepared(session, reference)
        return [
            *(prepared.images[source].uri for source in target.sources),
            prepared.masks[reference].uri,
            *(prepared.tissues[reference][tissue].uri for tissue in TISSUES),
        ]
    who = (plan.participant, plan.session)
    on_grid = {"space": reference, "desc": f"from{reference}"}
    paths = [
        *(
            derivative_path(*who, contrast=source, space=reference, desc="preproc")
            for source in target.sources
        ),
        derivative_path(*who, "mask", label="brain", **on_grid),
        *(derivative_path(*who, "probseg", label=tissue, **on_grid) for tissue in TISSUES),
    ]
    return [bids_uri(path) for path in paths]
