"""Submit a run to SLURM: an array per stage, a task per participant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from colapipe.config import Settings
from colapipe.errors import ColapipeError, OutputError, UsageError
from colapipe.slurm import commands
from colapipe.slurm.options import ClusterOptions, read_cluster
from colapipe.slurm.scripts import write_stage
from colapipe.slurm.submission import (
    Array,
    Submission,
    last_submission,
    new_folder,
    submissions_folder,
    write_tasks,
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Batch:
    """Participants whose tasks go through the same stages.

    Parameters
    ----------
    labels : tuple of str
    stages : tuple of str
        In their order; each task waits for the same participant's task before it.
    """

    labels: tuple[str, ...]
    stages: tuple[str, ...]


def submit_run(settings: Settings, participants: Sequence[str], say: Say) -> int:
    """Write the job scripts of a run and submit them.

    With ``--slurm-dry-run`` they are only written, with ``--slurm-failed`` only those tasks of the
    last submission are submitted that failed.

    Parameters
    ----------
    settings : Settings
        With ``slurm``, the file that says what the cluster wants to know.
    participants : sequence of str
        Labels without ``sub-``.
    say : callable
        Told what was written and submitted.

    Returns
    -------
    int
        0: everything is submitted, or there is nothing to submit.

    Raises
    ------
    UsageError
        If the file is wrong, or there is no earlier submission to take failed tasks from.
    SlurmError
        If SLURM refuses a job or does not answer; then nothing is left in the queue.
    MissingToolError
        If SLURM's commands are not there.
    OutputError
        If the scripts cannot be written.
    """
    if settings.slurm is None:
        raise UsageError("--slurm: no file was given.")
    cluster = _for_device(read_cluster(settings.slurm), settings)
    targets: dict[str, tuple[str, ...]] = {}
    if settings.mode == "full" and participants:
        targets = choose_targets(settings, participants, say)
        participants = [label for label in participants if label in targets]
    previous = last_submission(settings.out_dir) if settings.slurm_failed else None
    if settings.slurm_failed:
        if previous is None:
            raise UsageError(
                f"--slurm-failed: nothing was submitted from {settings.out_dir} before; expected a "
                f"submission in {submissions_folder(settings.out_dir)}. Leave the option away."
            )
        batches = failed_batches(previous, stages_of(settings), participants, say)
    else:
        batches = [Batch(tuple(participants), stages_of(settings))]
    batches = split([batch for batch in batches if batch.labels], commands.largest_array())
    if not batches:
        say("There is nothing to submit.")
        return 0
    folder = _write(settings, cluster, batches, targets)
    if settings.slurm_dry_run:
        say(f"The job scripts are in {folder}. Nothing was submitted (--slurm-dry-run).")
        return 0
    submission = _submit(folder, cluster, batches, previous)
    for array in submission.arrays:
        say(f"{array.stage}: job {array.job}, {len(array.labels)} task(s)")
    if submission.group:
        say(f"group: job {submission.group}, after all of these")
    say(
        f"Scripts, logs and exit codes are in {folder}. squeue shows what runs; when it has ended, "
        "the same command with --slurm-failed submits what failed."
    )
    return 0


def stages_of(settings: Settings) -> tuple[str, ...]:
    """Return the stages of a run, each of which is an array."""
    one = {"preproc-only": ("preproc",), "synth-only": ("synth",)}
    return one.get(settings.mode, ("preproc", "synth"))


def stage_settings(settings: Settings, stage: str) -> Settings:
    """Return what the tasks of a stage run with.

    With ``--evaluate``, each target has a grid and masks of its own that nothing of it may reach,
    and that a preprocessing without targets does not make: then the second stage is a whole run,
    which takes from the work directory what the first one has done already.
    """
    if settings.mode != "full" or stage == "group":
        return settings
    if stage == "preproc":
        return dataclasses.replace(settings, mode="preproc-only", evaluate=False)
    if settings.evaluate:
        return settings
    # What these derivatives gave is in the output of the first stage.
    return dataclasses.replace(settings, mode="synth-only", derivatives=())


def choose_targets(
    settings: Settings, participants: Sequence[str], say: Say
) -> dict[str, tuple[str, ...]]:
    """Return what each participant's synthesis makes; whoever has nothing to do is left out.

    A task cannot find that out by itself: ``auto`` means what others have, and in the second stage
    the others' preprocessed files may not be there yet.
    """
    from colapipe.plan.participants import plan_run
    from colapipe.plan.targets import Request
    from colapipe.run.model import read_model

    model = read_model(settings.model)
    request = Request(
        settings.targets, settings.sources, settings.evaluate, model.contrasts, model.min_sources
    )
    plans = plan_run(dataclasses.replace(settings, participants=tuple(participants)), request)
    targets: dict[str, tuple[str, ...]] = {}
    for plan in plans:
        if plan.spaces or plan.errors:
            mine = [*targets.get(plan.participant, ()), *(t.contrast for t in plan.targets)]
            targets[plan.participant] = tuple(dict.fromkeys(mine))
    idle = len(set(participants) - set(targets))
    if idle:
        say(f"{idle} participant(s) need nothing and get no task (--dry-run says why).")
    # A named target means the same in every task, and so does everything to a whole run.
    automatic = settings.targets == ("auto",) and not settings.evaluate
    return targets if automatic else dict.fromkeys(targets, ())


def failed_batches(
    previous: Submission, stages: Sequence[str], participants: Sequence[str], say: Say
) -> list[Batch]:
    """Return the tasks to submit again: those that failed or left nothing, with what follows."""
    waiting = commands.queue()
    again: dict[tuple[str, ...], list[str]] = {}
    queued = 0
    for label in participants:
        states = {stage: previous.state(stage, label, waiting) for stage in stages}
        if "queued" in states.values():
            queued += 1
            continue
        for number, stage in enumerate(stages):
            if states[stage] not in ("done", "absent"):
                say(f"sub-{label}: {stage} {states[stage]}")
                again.setdefault(tuple(stages[number:]), []).append(label)
                break
    if queued:
        say(f"{queued} participant(s) are in the queue still and are left alone.")
    return [Batch(tuple(labels), rest) for rest, labels in again.items()]


def _for_device(cluster: ClusterOptions, settings: Settings) -> ClusterOptions:
    """Ask for no GPU where none is wanted."""
    if settings.device != "cpu":
        return cluster
    return dataclasses.replace(cluster, synth=dataclasses.replace(cluster.synth, gres=""))


def split(batches: Sequence[Batch], largest: int) -> list[Batch]:
    """Cut batches into such of at most ``largest`` participants."""
    return [
        Batch(batch.labels[start : start + largest], batch.stages)
        for batch in batches
        for start in range(0, len(batch.labels), largest)
    ]


def _write(
    settings: Settings,
    cluster: ClusterOptions,
    batches: Sequence[Batch],
    targets: Mapping[str, Sequence[str]],
) -> Path:
    """Write scripts, settings and lists of tasks into a new folder."""
    where = submissions_folder(settings.out_dir)
    try:
        folder = new_folder(settings.out_dir)
        for stage in _stages(batches, cluster, settings):
            options = getattr(cluster, stage)
            write_stage(folder, stage, options, stage_settings(settings, stage))
        for number, batch in enumerate(batches, start=1):
            write_tasks(folder / f"tasks_{number}.tsv", batch.labels, targets)
    except OSError as err:
        raise OutputError(
            f"{err.filename or where}: cannot be written ({err.strerror}); expected a folder that "
            "you may write to. Choose another OUT_DIR."
        ) from err
    return folder


def _stages(batches: Sequence[Batch], cluster: ClusterOptions, settings: Settings) -> list[str]:
    stages = [stage for stage in ("preproc", "synth") if any(stage in b.stages for b in batches)]
    # One half of a run is one stage.
    group = ["group"] if cluster.group is not None and settings.mode == "full" else []
    return stages + group


def _submit(
    folder: Path, cluster: ClusterOptions, batches: Sequence[Batch], previous: Submission | None
) -> Submission:
    """Submit every array and the group's job, or nothing."""
    arrays: list[Array] = []
    group = ""
    try:
        for number, batch in enumerate(batches, start=1):
            before = ""
            for stage in batch.stages:
                limit = getattr(cluster, stage).max_tasks
                array = f"--array=1-{len(batch.labels)}" + (f"%{limit}" if limit else "")
                # Each task waits for the task of the same number; where that fails, it leaves.
                wait = (
                    [f"--dependency=aftercorr:{before}", "--kill-on-invalid-dep=yes"]
                    if before
                    else []
                )
                script = [f"{stage}.sbatch", f"tasks_{number}.tsv"]
                before = commands.submit([array, *wait, *script], folder)
                arrays.append(Array(stage, before, batch.labels))
        if (folder / "group.sbatch").exists():
            wait = ["--dependency=afterany:" + ":".join(array.job for array in arrays)]
            group = commands.submit([*wait, "group.sbatch"], folder)
        submission = Submission(folder, tuple(arrays), group, previous)
        submission.write()
    except BaseException as err:
        submitted = [*(array.job for array in arrays), *([group] if group else [])]
        words = _take_back(submitted)
        if not isinstance(err, commands.SlurmError):
            raise
        raise commands.SlurmError(
            f"SLURM did not take the jobs. {err}\n{words} Check the file of --slurm against what "
            f"sinfo and sacctmgr show; the scripts are in {folder}."
        ) from err
    return submission


def _take_back(jobs: Sequence[str]) -> str:
    """Cancel what was submitted before something went wrong, and say what came of that."""
    try:
        commands.cancel(jobs)
    except ColapipeError as err:
        return f"Some jobs were submitted and cannot be cancelled ({err}): {' '.join(jobs)}."
    return "Nothing was submitted."
