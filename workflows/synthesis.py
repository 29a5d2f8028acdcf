"""From the model's slices to a synthesised contrast on the reference grid."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Node, Workflow

from colapipe.interfaces.evaluation import Score
from colapipe.interfaces.slices import PasteBack
from colapipe.interfaces.synthesis import Synthesise
from colapipe.plan.targets import Target
from colapipe.workflows.session import Run

SLOPPY_STEPS = 1


def init_synthesis_wf(
    participant: str,
    session: str | None,
    target: Target,
    tissue_source: str,
    run: Run,
    *,
    lesion: bool = False,
    conditioned: bool = False,
) -> Workflow:
    """Synthesise one contrast, put it back on the reference grid, and score it if it exists.

    The real scan of the target, where there is one, reaches only the node that scores.

    Parameters
    ----------
    participant : str
    session : str or None
    target : Target
    tissue_source : str
        Contrast that mask and tissue maps come from; never the target.
    run : Run
    lesion : bool
        A lesion mask is given, for the score.
    conditioned : bool
        The model is given it, too (``--lesion-conditioning``).

    Inputs
    ------
    geometry, slices, mask_file, csf, gm, wm, lesion, and one field per source
        On the model grid.
    reference_mask
        On the reference grid.
    truth
        The real scan on the model grid, for the score.

    Outputs
    -------
    mean, std
        On the reference grid, 0..1000.
    info
        JSON of the model.
    scores
        JSON, if the target exists.
    """
    settings, model = run.settings, run.model
    if model is None:
        raise ValueError("a synthesis needs a model")
    workflow = Workflow(name=f"synth_{target.contrast}_wf")
    given = ["mask_file", "csf", "gm", "wm"]
    extra = ["geometry", "slices", "reference_mask", "truth", *(["lesion"] if lesion else [])]
    inputnode = Node(IdentityInterface(fields=[*given, *extra, *target.sources]), name="inputnode")
    outputnode = Node(
        IdentityInterface(fields=["mean", "std", "info", "scores"]), name="outputnode"
    )
    # A GPU node must ask for one CPU: Nipype counts its GPU slots in CPUs.
    threads = 1 if run.use_gpu else run.threads
    sources = Node(Merge(len(target.sources)), name="sources", run_without_submitting=True)
    for number, contrast in enumerate(target.sources, start=1):
        workflow.connect(inputnode, contrast, sources, f"in{number}")
    synthesise = Node(
        Synthesise(
            participant=participant,
            session=session,
            target=target.contrast,
            source_names=list(target.sources),
            tissue_source=tissue_source,
            weights_sha256=model.sha256,
            model=str(model.path),
            sampler=settings.sampler,
            steps=SLOPPY_STEPS if settings.sloppy else settings.steps,
            samples=settings.samples,
            seed=settings.seed,
            device=settings.device,
            use_gpu=run.use_gpu,
            num_threads=threads,
        ),
        name="synthesise",
        n_procs=threads,
    )
    paste = Node(PasteBack(), name="paste_back")
    workflow.connect(
        [
            (inputnode, synthesise, [(name, name) for name in (*given, "slices")]),
            (sources, synthesise, [("out", "sources")]),
            (synthesise, paste, [("mean", "mean"), ("std", "std")]),
            (
                inputnode,
                paste,
                [
                    ("geometry", "geometry"),
                    ("slices", "slices"),
                    ("reference_mask", "mask_file"),
                    ("mask_file", "model_mask"),
                ],
            ),
            (paste, outputnode, [("mean", "mean"), ("std", "std")]),
            (synthesise, outputnode, [("info", "info")]),
        ]
    )
    if conditioned:
        workflow.connect(inputnode, "lesion", synthesise, "lesion")
    if target.has_truth:
        score = Node(Score(target=target.contrast), name="score")
        workflow.connect(
            [
                (inputnode, score, [(name, name) for name in (*given, "slices", "truth")]),
                (synthesise, score, [("mean", "mean")]),
                (score, outputnode, [("scores", "scores")]),
            ]
        )
        if lesion:
            workflow.connect(inputnode, "lesion", score, "lesion")
    return workflow
