"""The job scripts of a submission, and the settings that its tasks run with."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from colapipe import __version__
from colapipe.config import Settings
from colapipe.slurm.options import JobOptions

TITLES = {
    "preproc": "Preprocess one participant per task",
    "synth": "Synthesise what one participant per task lacks",
    "group": "Bring the participants together",
}


def write_stage(folder: Path, stage: str, options: JobOptions, settings: Settings) -> None:
    """Write ``<stage>.sbatch`` and the settings beside it, ``<stage>.toml``.

    Parameters
    ----------
    folder : Path
        Of the submission.
    stage : str
        ``preproc``, ``synth`` or ``group``.
    options : JobOptions
    settings : Settings
        What the tasks run with.
    """
    (folder / f"{stage}.toml").write_text(_for_task(settings).to_toml(), encoding="utf-8")
    script = script_text(folder, stage, options, settings)
    (folder / f"{stage}.sbatch").write_text(script, encoding="utf-8")


def script_text(folder: Path, stage: str, options: JobOptions, settings: Settings) -> str:
    """Return the job script of one stage."""
    room = resources.files("colapipe.bids_templates")
    # trim_blocks and lstrip_blocks keep the template's own lines out of the script.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(room.joinpath("slurm.sbatch").read_text(encoding="utf-8"))
    return template.render(
        title=TITLES[stage],
        version=__version__,
        stage=stage,
        array=stage != "group",
        level="group" if stage == "group" else "participant",
        arguments=[shlex.quote(argument) for argument in options.arguments()],
        folder=shlex.quote(str(folder)),
        cwd=shlex.quote(str(Path.cwd())),
        modules=[shlex.quote(module) for module in options.modules],
        setup=options.setup,
        command=options.command or shlex.join([sys.executable, "-P", "-m", "colapipe.cli.app"]),
        bids_dir=shlex.quote(str(settings.bids_dir)),
        out_dir=shlex.quote(str(settings.out_dir)),
    )


def _for_task(settings: Settings) -> Settings:
    """Return the settings without what is the submission's business."""
    return dataclasses.replace(
        settings, participants=(), slurm=None, slurm_dry_run=False, slurm_failed=False
    )
