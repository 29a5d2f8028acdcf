"""What can be known before any work is done: a run and its ``--dry-run`` both find it out here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from colapipe.bids.dataset import ensure_outside
from colapipe.cli.space import Need, check_space, check_writable
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.filekind import describe_file
from colapipe.coladiff.sampling import check_sampling
from colapipe.config import Settings
from colapipe.errors import MissingToolError, OutputError, UsageError
from colapipe.plan.sessions import SessionPlan
from colapipe.run.model import ModelInfo
from colapipe.run.resources import Resources, available_cpus, available_memory_gb

_FILTER_EXAMPLE = '{"T1w": {"acquisition": "mprage"}}'


def check_places(settings: Settings) -> None:
    """Refuse folders that would spoil the dataset, or that cannot be made or written.

    Nothing is written that stays.

    Raises
    ------
    UsageError
        For a folder inside the dataset.
    OutputError
        For one that cannot be made or written.
    """
    # What is submitted makes its work directory where it runs.
    work_dir = settings.work_dir if settings.slurm is None else None
    try:
        ensure_outside(settings.out_dir, settings.bids_dir, settings.work_dir)
    except OSError as err:
        raise OutputError(
            f"{err.filename or settings.out_dir}: cannot be looked at ({err.strerror}); expected a "
            "folder that you may write to. Choose another one."
        ) from err
    if settings.export is not None:
        from colapipe.export import check_export_folder

        check_export_folder(settings.export, settings.bids_dir, settings.out_dir)
    for folder in (settings.out_dir, work_dir, settings.export):
        if folder is not None:
            check_writable(folder)


def check_sampling_of(settings: Settings, model: ModelInfo) -> None:
    """Refuse a sampler or a number of steps that the model cannot be run with.

    Raises
    ------
    UsageError
    """
    defaults = model.metadata["defaults"]
    samples = settings.samples or defaults["samples"]
    steps = settings.steps or defaults["steps" if samples == 1 else "sampled_steps"]
    try:
        check_sampling(
            Configuration.from_dict(model.metadata["configuration"]),
            settings.sampler or defaults["sampler"],
            steps,
        )
    except ValueError as err:
        raise UsageError(f"--sampler, --steps: {err} (model {model.name}).") from err


def check_files(settings: Settings, resources: Resources) -> None:
    """Refuse files of options that are of the wrong kind or do not say what they should.

    Raises
    ------
    UsageError, MissingToolError
    """
    if settings.bids_filter_file is not None:
        _check_filter_kind(settings.bids_filter_file)
    if settings.slurm is not None:
        from colapipe.slurm.options import read_cluster

        try:
            read_cluster(settings.slurm)
        except UsageError as err:
            raise _with_kind(err, settings.slurm) from err
        if not settings.slurm_dry_run and shutil.which("sbatch") is None:
            raise MissingToolError(
                "sbatch was not found; expected SLURM's commands on PATH. Start this on a machine "
                "that may submit jobs, a login node for example, or add --slurm-dry-run."
            )
    if settings.use_plugin is not None:
        from colapipe.workflows.plugins.load import check_plugin

        try:
            check_plugin(settings.use_plugin, resources)
        except UsageError as err:
            raise _with_kind(err, settings.use_plugin) from err


def _check_filter_kind(path: Path) -> None:
    try:
        kind = describe_file(path)
    except OSError as err:
        raise UsageError(
            f"--bids-filter-file {path}: cannot be read ({err.strerror}); expected a JSON file "
            f"such as {_FILTER_EXAMPLE}."
        ) from err
    # What looks like text may be JSON with a mistake in it, whose place its reader names.
    if kind not in ("a JSON file", "a text file"):
        raise UsageError(
            f"--bids-filter-file {path}: is {kind}; expected JSON such as {_FILTER_EXAMPLE}."
        )


def _with_kind(err: UsageError, path: Path) -> UsageError:
    """Add that a file is JSON: that is YAML, too, but most likely another file was meant."""
    try:
        json = describe_file(path) == "a JSON file"
    except OSError:
        json = False
    return UsageError(f"{err} The file is JSON; was another one meant?") if json else err


def resource_warnings(settings: Settings) -> list[str]:
    """Return what is odd about the resources that were asked for, one sentence for each."""
    warnings = []
    if settings.slurm is None and settings.use_plugin is None:
        cpus, memory = available_cpus(), available_memory_gb()
        if settings.nprocs is not None and settings.nprocs > cpus:
            warnings.append(
                f"--nprocs {settings.nprocs}: this process may use {cpus} CPU(s); more steps at "
                "once than CPUs are not quicker and need more memory"
            )
        if settings.mem_gb is not None and settings.mem_gb > 1.05 * memory:
            warnings.append(
                f"--mem {settings.mem_gb:g}G: this process may use {memory:.1f} GB; steps that "
                "need more are ended by the system"
            )
        nprocs = settings.nprocs or cpus
        if settings.omp_nthreads is not None and settings.omp_nthreads > nprocs:
            warnings.append(
                f"--omp-nthreads {settings.omp_nthreads}: more than --nprocs, {nprocs}, which is "
                "used instead"
            )
    if settings.sloppy and settings.steps is not None:
        warnings.append(f"--steps {settings.steps} is not used: --sloppy takes one step")
    return warnings


def space_warnings(
    settings: Settings,
    plans: Sequence[SessionPlan],
    unfinished: Sequence[str],
    fresh: Sequence[str],
) -> list[str]:
    """Say where the disk has less room than the participants still to be done will take.

    Parameters
    ----------
    settings : Settings
    plans : sequence of SessionPlan
    unfinished, fresh : sequence of str
        Participants still to be done, and those of them for whom nothing is cached.

    Raises
    ------
    ReadWriteError
        If a disk is as good as full.
    """
    needs = []
    outputs = [Need.outputs(plan, settings) for plan in plans if plan.participant in unfinished]
    needs.append((settings.out_dir, "OUT_DIR", outputs))
    if settings.slurm is None:
        work = [Need.work(plan, settings) for plan in plans if plan.participant in fresh]
        needs.append((settings.work_dir, "--work-dir", work))
    return check_space(needs)
