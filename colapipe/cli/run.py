"""One run, from settings to exit code: check, plan, execute, say what came of it."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import logging
import os
import shlex
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from colapipe import __version__
from colapipe.bids.dataset import validate, write_dataset_description
from colapipe.bids.derivatives import parse_derivatives
from colapipe.cli import preflight
from colapipe.cli.screen import Screen
from colapipe.cli.settle import Settling, left_behind, name_strangers, why_withheld
from colapipe.cli.space import check_writable
from colapipe.config import Settings
from colapipe.errors import DatasetError, LockedError, MissingToolError, OutputError, UsageError
from colapipe.plan.again import RefusedTransform, plan_again
from colapipe.plan.participants import plan_run
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Request
from colapipe.report.methods import methods
from colapipe.run.attempts import Attempt, Executed, Refusals, carry_out, read_refusals
from colapipe.run.failures import Failure, last_words, participant_of
from colapipe.run.finished import FinishedParticipants, Task
from colapipe.run.model import ModelInfo, read_model
from colapipe.run.portions import (
    Outcome,
    by_participant,
    find_unfinished,
    plans_to_report,
    run_in_portions,
)
from colapipe.run.resources import Resources, available_cpus, available_memory_gb, visible_gpus
from colapipe.run.superseded import announce
from colapipe.run.usage import TABLE, read_usage
from colapipe.run.workdir import participant_folders, provide_temporary_folder, work_folder

DISK_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
"""What the system says of a full disk, and of a quota that is used up."""


@dataclass(frozen=True)
class Tools:
    """What a run works with.

    Parameters
    ----------
    engine, engine_version : str
    model : ModelInfo or None
        None for a run that only preprocesses.
    """

    engine: str
    engine_version: str
    model: ModelInfo | None


def run(settings: Settings) -> int:
    """Do what the settings say.

    Returns
    -------
    int
        0 if all that was asked is done, 1 if a participant failed, 74 if the disk is full.

    Raises
    ------
    ColapipeError
        If nothing can be started.
    """
    started = time.monotonic()
    if settings.level == "group":
        return _gather(settings)
    if settings.mode == "reports-only":
        from colapipe.cli.reports import rewrite_reports

        check_writable(settings.out_dir)
        return rewrite_reports(settings)
    preflight.check_places(settings)
    model = None if settings.mode == "preproc-only" else read_model(settings.model)
    if model is not None:
        preflight.check_sampling_of(settings, model)
    tools = Tools(*choose_engine(settings.engine), model)
    if settings.slurm is None and settings.use_plugin is None:  # with them, it is a job's device
        check_device(settings.device)
    preflight.check_files(settings, plan_resources(settings))
    about_dataset: list[str] = []
    plans = plan_run(settings, make_request(settings, model), about_dataset.append)
    plans = announce(settings, plans)
    screen = Screen(settings.verbosity)
    finished = FinishedParticipants(settings, tools.engine, tools.engine_version, model)
    unfinished, done = find_unfinished(plans, finished)
    folder = work_folder(settings)
    fresh = [label for label in unfinished if not participant_folders(folder, label)]
    remarks = [*about_dataset, *preflight.resource_warnings(settings)]
    remarks += preflight.space_warnings(settings, plans, list(unfinished), fresh)
    if settings.dry_run:
        screen.plan(plans, tools.engine, model, remarks)
        _say_what_would_run(settings, tools, plans, unfinished, done, screen)
        return int(any(plan.errors for plan in plans))
    if settings.slurm is not None:
        from colapipe.slurm.submit import submit_run

        screen.plan(plans, tools.engine, model, about_dataset)
        if not settings.slurm_dry_run:  # No task is submitted for those who need nothing.
            logs = settings.out_dir / "logs"
            about = describe_run(settings, tools, (), logs)
            Settling(settings, partial(describe_participant, about), screen, logs).idle(plans)
        code = submit_run(settings, list(unfinished), screen.say)
        return code or int(any(plan.errors for plan in plans))

    provide_temporary_folder(settings)
    log_dir = prepare_output(settings)
    screen.log_to(log_dir / "colapipe.log")
    screen.say(f"colapipe {__version__}: {shlex.join(sys.argv[1:])}", log_only=True)
    screen.plan(plans, tools.engine, model, remarks)
    warnings = [] if settings.mode == "synth-only" else check_dataset(settings, screen)
    warnings += write_dataset_description(
        settings.out_dir,
        settings.bids_dir,
        tools.engine,
        tools.engine_version,
        None if model is None else asdict(model) | {"path": None, "metadata": None},
        parse_derivatives(settings.derivatives),
    )
    for warning in warnings:
        screen.warn(warning)
    name_strangers(settings, plans, screen)
    about = describe_run(settings, tools, warnings, log_dir)
    describe = partial(describe_participant, about)
    settling = Settling(settings, describe, screen, log_dir / "colapipe.log")
    idle = settling.idle(plans)
    if done:
        screen.say(f"{len(done)} participant(s) finished before, nothing has changed for them")
    if not unfinished and idle == Outcome() and not any(plan.errors for plan in plans):
        from colapipe.quality.warnings import warnings_of_run

        warnings = warnings_of_run(settings.out_dir, plans)
        screen.warn_at_the_end(warnings)
        screen.say("Nothing to do." + (f" {len(warnings)} warning(s)" if warnings else ""))
        return _export(settings, plans, screen)
    resources = plan_resources(settings)
    screen.say(
        f"{resources.nprocs} CPU(s), {resources.threads} thread(s) a process, "
        f"{resources.mem_gb:.1f} GB, {len(resources.gpus)} GPU(s)"
    )

    def execute_portion(portion: Sequence[SessionPlan]) -> Attempt:
        return _carry_out(settings, tools, portion, resources, about, screen)

    try:
        outcome = run_in_portions(
            settings, plans, unfinished, finished, execute_portion, settling.finish
        )
    except Exception as err:
        if isinstance(err, OSError) or hasattr(err, "exit_code"):
            raise
        logging.getLogger("colapipe").error("%s", traceback.format_exc())
        screen.warn(
            f"this is a bug in colapipe: {type(err).__name__}: {err}. What is written is kept; "
            f"please report it with {log_dir / 'colapipe.log'}."
        )
        return 70
    outcome.failures += idle.failures
    outcome.locked |= idle.locked
    for words in outcome.locked.values():
        screen.warn(words)
    plans = outcome.as_carried_out(plans)
    mine = plans_to_report(plans, done, outcome.locked)
    before = [plan for plan in plans if plan.participant in done and plan not in mine]
    seconds = time.monotonic() - started
    code = _finish(settings, mine, outcome, about, screen, seconds, before)
    code = code or (LockedError.exit_code if outcome.locked else 0)
    withheld = why_withheld(plans, outcome.failures, outcome.locked)
    exported = _export(settings, plans, screen, withheld)
    return code or exported


def _export(
    settings: Settings,
    plans: Sequence[SessionPlan],
    screen: Screen,
    withheld: Mapping[tuple[str, str | None], str] | None = None,
) -> int:
    """Hand the finished contrasts on, if that was asked for; return the exit code.

    Of sessions that are `withheld`, with the reason, nothing is handed on.
    """
    if settings.export is None:
        return 0
    from colapipe.export import export

    prepared = parse_derivatives(settings.derivatives) if settings.mode == "synth-only" else []
    done = export(
        settings.out_dir,
        settings.export,
        [(plan.participant, plan.session) for plan in plans],
        [root for _, root in prepared],
        withheld or {},
    )
    for problem in done.problems:
        screen.warn(problem)
    screen.say(
        f"exported: {done.manifest}, {done.brats} case(s) for BraTS algorithms, {done.nnunet} for "
        f"nnU-Net (channels {', '.join(done.channels) or 'none'}), {done.incomplete} incomplete"
    )
    return 1 if done.problems else 0


def _gather(settings: Settings) -> int:
    """Carry out the group level."""
    from colapipe.report.group import TABLE as TABLE_OF_GROUP
    from colapipe.report.group import write_group

    path = settings.out_dir / "dataset_description.json"
    if not path.is_file():
        raise DatasetError(
            f"{path}: does not exist; expected the output folder of a run at the participant "
            "level. Make that run first, or check the second argument."
        )
    check_writable(settings.out_dir)
    from colapipe.report.record import unknown_runs

    screen = Screen(settings.verbosity)
    if settings.dry_run:
        screen.say(f"would be written: {settings.out_dir / TABLE_OF_GROUP} and its page")
        return 0
    written = write_group(settings.out_dir)
    for problem in written.group.problems:
        screen.warn(problem)
    for participant, why in unknown_runs(settings.out_dir).items():
        screen.warn(
            f"sub-{participant}: {why}, so that its files may be older than the last request. Run "
            "the participant level again."
        )
    made = sum(row.get("synthetic") == "true" for row in written.group.rows)
    screen.say(
        f"written: {written.table}, {len(written.group.rows)} row(s), {made} of synthetic images"
    )
    screen.say(f"written: {written.page}")
    return 1 if written.group.problems else 0


def choose_engine(wanted: str) -> tuple[str, str]:
    """Return the engine to use and its version.

    Raises
    ------
    MissingToolError
        If FSL was asked for and is not there.
    """
    from colapipe.run.fsl import PROGRAMS, find_fsl

    if wanted != "builtin":
        found = find_fsl()
        if found is not None:
            return "fsl", found.version
        if wanted == "fsl":
            raise MissingToolError(
                f"--engine fsl: {', '.join(PROGRAMS)} were not found; expected them in FSLDIR/bin "
                "or on PATH. Install FSL and set FSLDIR, or use --engine builtin."
            )
    return "builtin", __version__


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises
    ------
    UsageError
    """
    gpus = visible_gpus()
    if device.startswith("cuda"):
        number = int(device.partition(":")[2] or 0)
        if number >= len(gpus):
            raise UsageError(
                f"--device {device}: this process sees {len(gpus)} GPU(s). Check the driver and "
                "CUDA_VISIBLE_DEVICES, ask SLURM for one (--gres=gpu:1), or use --device cpu."
            )


def make_request(settings: Settings, model: ModelInfo | None) -> Request:
    """Return what was asked for, after checking it against what the model knows.

    Raises
    ------
    UsageError
        If a named target is unknown to the model.
    """
    if model is None:
        return Request(sources=settings.sources)
    for target in settings.targets:
        if target != "auto" and target not in model.contrasts:
            raise UsageError(
                f"--target {target}: the model {model.name} does not know it; "
                f"it knows {', '.join(model.contrasts)}. Choose one of these, or another --model."
            )
    return Request(
        settings.targets,
        settings.sources,
        settings.evaluate,
        model.contrasts,
        model.min_sources,
    )


def prepare_output(settings: Settings) -> Path:
    """Make the folders of a run, write its settings, and return its log folder.

    Raises
    ------
    OutputError
    """
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    log_dir = settings.out_dir / "logs" / f"{stamp}_{uuid.uuid4().hex[:8]}"
    for folder in (log_dir, settings.work_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A folder on a read-only or full file system may exist all the same.
            probe = folder / f".{uuid.uuid4().hex}"
            probe.write_bytes(b" " * 4096)
            probe.unlink()
        except OSError as err:
            raise OutputError(
                f"{folder}: cannot be created or written ({err.strerror}); expected a folder with "
                "room that you may write to. Choose another one."
            ) from err
    (log_dir / "colapipe.toml").write_text(settings.to_toml(), encoding="utf-8")
    return log_dir


def check_dataset(settings: Settings, screen: Screen) -> list[str]:
    """Validate the dataset if the validator is there; its findings are warnings."""
    if settings.skip_bids_validation:
        screen.say("BIDS validation: skipped (--skip-bids-validation)")
        return []
    result = validate(settings.bids_dir)
    if result is None:
        screen.say(
            "BIDS validation: skipped, the validator is not installed "
            '(pip install "colapipe[validate]")'
        )
        return []
    screen.say(
        f"BIDS validation: {len(result.errors)} kind(s) of error, "
        f"{len(result.warnings)} kind(s) of warning"
    )
    return [f"BIDS validator: {error}" for error in result.errors]


def describe_run(
    settings: Settings, tools: Tools, warnings: Sequence[str], log_dir: Path
) -> dict[str, Any]:
    """Return what reports say about a run, as plain JSON values."""
    return {
        "version": __version__,
        "command": shlex.join(["colapipe", *sys.argv[1:]]),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "engine": tools.engine,
        "engine_version": tools.engine_version,
        "model": None
        if tools.model is None
        else {
            "name": tools.model.name,
            "sha256": tools.model.sha256,
            "licence": tools.model.licence,
        },
        "quality": None if tools.model is None else tools.model.metadata.get("quality"),
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "warnings": list(warnings),
        "log_dir": str(log_dir),
    }


def describe_participant(
    about: dict[str, Any], plans: Sequence[SessionPlan], failures: Sequence[dict[str, str]] = ()
) -> dict[str, Any]:
    """Return what the report of one participant says about the run."""
    return {
        **about,
        "failures": list(failures),
        "sessions": [
            {
                "session": plan.session,
                "reference": plan.spaces[0].reference if plan.spaces else None,
                "contrasts": {name: scan.relative for name, scan in plan.scans.items()},
                "targets": [target.contrast for target in plan.targets],
                "notes": list(plan.notes),
                "warnings": [asdict(warning) for warning in plan.warnings],
            }
            for plan in plans
        ],
    }


def describe_earlier(described: dict[str, Any], earlier: Sequence[str]) -> dict[str, Any]:
    """Add to what the report of a failed participant says what in the folder is not of this run."""
    said = [
        f"{Path(name).name} is of an earlier run: this one failed, and the file may not be what it "
        "was asked for."
        for name in earlier
    ]
    return {**described, "earlier": list(earlier), "warnings": [*described["warnings"], *said]}


def choose_gpus(device: str) -> tuple[str, ...]:
    """Return the GPUs that ``--device`` names, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    gpus = () if device == "cpu" else tuple(visible_gpus())
    number = device.partition(":")[2]
    return gpus[int(number) : int(number) + 1] if number else gpus


def plan_resources(settings: Settings) -> Resources:
    """Return the CPUs, memory, GPUs and threads that this run plans with."""
    nprocs = settings.nprocs or available_cpus()
    threads = settings.omp_nthreads or max(1, min(nprocs - 1, 8))
    return Resources(
        nprocs=nprocs,
        mem_gb=settings.mem_gb or available_memory_gb(),
        gpus=choose_gpus(settings.device),
        threads=min(threads, nprocs),
    )


def _carry_out(
    settings: Settings,
    tools: Tools,
    plans: Sequence[SessionPlan],
    resources: Resources,
    about: dict[str, Any],
    screen: Screen,
) -> Attempt:
    """Carry plans out, again without the transforms and contrasts that were refused on the way."""
    from colapipe.workflows.grid import alignments

    base_dir = work_folder(settings)

    def execute(some: Sequence[SessionPlan]) -> Executed:
        return _execute(settings, tools, some, resources, about, screen)

    def refused_by(some: Sequence[SessionPlan], failures: Sequence[Failure]) -> Refusals:
        refusals = read_refusals(failures, alignments(some), base_dir)
        for failure in refusals.failures:
            # It is no crash.
            failure.crash_file.unlink(missing_ok=True)
        return refusals

    def again(plan: SessionPlan, refused: Sequence[RefusedTransform]) -> SessionPlan:
        needed = tools.model.min_sources if tools.model else 1
        changed = plan_again(plan, refused, min_sources=needed, sources=settings.sources)
        for warning in changed.warnings[len(plan.warnings) :]:
            screen.warn(f"{plan.label}: {warning.message}")
        return changed

    stops = settings.stop_on_first_crash
    return carry_out(plans, execute, refused_by, again, stops_early=stops)


def _execute(
    settings: Settings,
    tools: Tools,
    plans: Sequence[SessionPlan],
    resources: Resources,
    about: dict[str, Any],
    screen: Screen,
) -> Executed:
    """Build the workflow, say what is cached, and run the rest."""
    if not any(plan.spaces for plan in plans):
        return Executed()
    from colapipe.workflows.alignment import CHECK
    from colapipe.workflows.cache import count_nodes, written_files
    from colapipe.workflows.execution import Executor, configure_nipype, execute, local_executor
    from colapipe.workflows.grid import alignments
    from colapipe.workflows.plugins.load import load_plugin

    log_dir = Path(about["log_dir"])
    configure_nipype(
        log_dir, log_dir / "colapipe.log", stop_on_first_crash=settings.stop_on_first_crash
    )
    log_file = log_dir / "colapipe.log"
    if settings.use_plugin is None:
        plugin: Executor = local_executor(resources, log_file, screen.warn)
    else:
        plugin = load_plugin(settings.use_plugin, log_file, resources, screen.warn)
    use_gpu = plugin.gpus > 0 and settings.device != "cpu"
    workflow = _build_workflow(settings, tools, plans, about, resources, use_gpu=use_gpu)
    done, total = count_nodes(workflow)
    screen.say(f"{done} of {total} nodes are cached, {total - done} will run")
    if done == total:
        plugin.close()
        return Executed([], written_files(workflow))
    checks = [f"{name}.{CHECK}" for name in alignments(plans)]
    with screen.progress(total, checks) as on_node:
        failures = execute(workflow, plugin, on_node)
    failed = {participant_of(failure.node)[0] for failure in failures}
    return Executed(failures, written_files(workflow, failed))


def _build_workflow(
    settings: Settings,
    tools: Tools,
    plans: Sequence[SessionPlan],
    about: dict[str, Any],
    resources: Resources,
    *,
    use_gpu: bool = False,
) -> Any:
    """Return the Nipype workflow of some participants."""
    from colapipe.workflows.base import init_colapipe_wf
    from colapipe.workflows.engines import load_engine
    from colapipe.workflows.session import Run

    described = {
        participant: describe_participant(about, group)
        for participant, group in by_participant(plans).items()
    }
    run = Run(
        settings=settings,
        engine=load_engine(tools.engine),
        engine_version=tools.engine_version,
        model=tools.model,
        threads=resources.threads,
        use_gpu=use_gpu,
        described=described,
    )
    return init_colapipe_wf(plans, run, work_folder(settings))


def _say_what_would_run(
    settings: Settings,
    tools: Tools,
    plans: Sequence[SessionPlan],
    unfinished: Mapping[str, Task],
    done: Sequence[str],
    screen: Screen,
) -> None:
    """Say for each participant what is cached and what would run.

    A workflow is built only for those whose work folder holds something.
    """
    about = describe_run(settings, tools, (), settings.out_dir)
    resources = plan_resources(settings)
    untouched = 0
    for participant, group in by_participant(plans).items():
        if participant in done:
            screen.say(f"sub-{participant}: finished, nothing would run")
        elif participant not in unfinished:
            screen.say(f"sub-{participant}: nothing to do")
        elif not participant_folders(work_folder(settings), participant):
            untouched += 1
            screen.say(f"sub-{participant}: nothing is cached, everything would run")
        else:
            from colapipe.workflows.cache import count_nodes
            from colapipe.workflows.execution import ask_quietly

            ask_quietly()
            workflow = _build_workflow(settings, tools, group, about, resources)
            cached, total = count_nodes(workflow, forget=False)
            screen.say(
                f"sub-{participant}: {cached} of {total} nodes are cached, "
                f"{total - cached} would run"
            )
    screen.say(
        f"{len(done)} participant(s) finished, {len(unfinished)} would run, {untouched} of these "
        "from the start"
    )


def _finish(
    settings: Settings,
    plans: Sequence[SessionPlan],
    outcome: Outcome,
    about: dict[str, Any],
    screen: Screen,
    seconds: float,
    before: Sequence[SessionPlan] = (),
) -> int:
    """Write the reports of failed participants, print the summary, and return the exit code.

    ``before`` was finished in an earlier run: what that warned of is said again.
    """
    from colapipe.quality.warnings import warnings_of_run

    problems = collect_problems(plans, outcome.failures)
    for participant, group in by_participant(plans).items():
        if participant in problems:
            described = describe_participant(about, group, problems[participant])
            earlier = left_behind(settings, group, outcome.failures, outcome.before)
            _report_failure(settings, participant, describe_earlier(described, earlier), screen)
    written = sorted(
        plan.label for plan in plans if plan.spaces and plan.participant not in problems
    )
    if written:
        synthesised = dict.fromkeys(
            target.contrast for plan in plans if plan.label in written for target in plan.targets
        )
        used = methods(about, tuple(synthesised))
        log_dir = Path(about["log_dir"])
        (log_dir / "CITATION.md").write_text(used.text + "\n", encoding="utf-8")
        (log_dir / "CITATION.bib").write_text(used.bibtex, encoding="utf-8")
    warnings = warnings_of_run(settings.out_dir, [*plans, *before], failed=problems)
    screen.summary(settings.out_dir, plans, written, problems, seconds, warnings)
    screen.consumed(read_usage(Path(about["log_dir"]) / TABLE))
    messages = [problem["message"] for group in problems.values() for problem in group]
    if not problems:
        return 0
    # A node that cannot store its result may say no more than that there is none.
    for folder in (settings.out_dir, settings.work_dir):
        if _is_full(folder):
            screen.warn(f"{folder}: {DISK_FULL[0]}. Make room, then start the same again.")
            return 74
    return 74 if any(words in message for words in DISK_FULL for message in messages) else 1


def _is_full(folder: Path) -> bool:
    """Return whether a disk has less than 1 MiB left; a folder that was never made is no disk."""
    return folder.is_dir() and shutil.disk_usage(folder).free < 1024**2


def _report_failure(
    settings: Settings,
    participant: str,
    described: dict[str, Any],
    screen: Screen,
) -> None:
    """Write the page of a participant who failed: what there is, and what went wrong."""
    from colapipe.report.record import write_report

    # A full disk is one reason for failures; it must not hide the others.
    with contextlib.suppress(OSError):
        try:
            write_report(
                settings.out_dir,
                participant,
                described,
                show_head=settings.show_head,
                viewer=settings.viewer,
            )
        except OutputError as err:
            screen.warn(str(err))


def collect_problems(
    plans: Sequence[SessionPlan], failures: Sequence[Failure]
) -> dict[str, list[dict[str, str]]]:
    """Return each failed participant's problems: what could not be planned, and what crashed."""
    problems: dict[str, list[dict[str, str]]] = {}
    for plan in plans:
        for error in plan.errors:
            entry = {"node": "plan", "message": error, "crash_file": ""}
            problems.setdefault(plan.participant, []).append(entry)
    for failure in failures:
        participant, _ = participant_of(failure.node)
        problems.setdefault(participant, []).append(
            {
                "node": failure.node.partition(".")[2],
                "message": last_words(failure.traceback),
                "crash_file": str(failure.crash_file),
            }
        )
    return problems
