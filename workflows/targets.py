"""One reference grid of a session: every target that is made on it."""

from __future__ import annotations

from nipype.pipeline.engine import Workflow

from colapipe.plan.targets import Space, Target
from colapipe.workflows import outputs
from colapipe.workflows.files import SpaceFiles, feed
from colapipe.workflows.session import Session
from colapipe.workflows.slices import init_slices_wf
from colapipe.workflows.synthesis import init_synthesis_wf

SLOPPY_SLICES = 16


def add_targets(session: Session, space: Space, files: SpaceFiles) -> Workflow:
    """Add slices and the synthesis of every target of one reference grid; return the slices."""
    run, workflow = session.run, session.workflow
    settings = run.settings
    contrasts = list(
        dict.fromkeys(
            name
            for target in space.targets
            for name in (*target.sources, *([target.contrast] if target.has_truth else []))
        )
    )
    lesion = "lesion" in files.maps
    slices_wf = init_slices_wf(
        space.reference,
        contrasts,
        which=settings.slices,
        most=SLOPPY_SLICES if settings.sloppy else None,
        lesion=lesion,
    )
    for name, source in (*files.maps.items(), *((c, files.preproc[c]) for c in contrasts)):
        feed(workflow, source, slices_wf, f"inputnode.{name}")
    scores = []
    for target in space.targets:
        synth_wf = init_synthesis_wf(
            session.plan.participant,
            session.plan.session,
            target,
            space.reference,
            run,
            lesion=lesion,
            conditioned=_conditioned(session, space, target),
        )
        names = ["geometry", "slices", "mask_file", "csf", "gm", "wm", *target.sources]
        for name in (*names, *(["lesion"] if lesion else [])):
            workflow.connect(slices_wf, f"outputnode.{name}", synth_wf, f"inputnode.{name}")
        if target.has_truth:
            truth = f"outputnode.{target.contrast}"
            workflow.connect(slices_wf, truth, synth_wf, "inputnode.truth")
            scores.append((synth_wf, target))
        feed(workflow, files.maps["mask_file"], synth_wf, "inputnode.reference_mask")
        conditioned = _conditioned(session, space, target)
        outputs.save_synthesis(session, target, space, synth_wf, slices_wf, lesion=conditioned)
    if scores:
        outputs.save_scores(session, space.reference, [wf for wf, _ in scores])
    return slices_wf


def _conditioned(session: Session, space: Space, target: Target) -> bool:
    """Whether the model is given the lesion mask.

    A mask that was drawn on the target's own grid came here through the target's registration.
    """
    lesion = session.plan.lesion_on(space.reference)
    wanted = session.run.settings.lesion_conditioning
    return wanted and lesion is not None and lesion.drawn_on != target.contrast
