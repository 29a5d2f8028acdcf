"""The command line of ``colapipe``: options in, ``Settings`` out. Imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colapipe import __version__
from colapipe.cli.arguments import (
    ArgumentParser,
    not_a_choice,
    path_argument,
    seed_argument,
    whole_number,
)
from colapipe.cli.config_file import read_config_file
from colapipe.coladiff.sampling import SAMPLER_NAMES
from colapipe.config import CLEANINGS, ENGINES, LEVELS, PATHS, SWITCH, Settings
from colapipe.contrasts import CONTRASTS
from colapipe.errors import UsageError
from colapipe.run.surroundings import settle

_EPILOG = """\
examples:
  colapipe /data/bids /data/derivatives/colapipe participant
      find out what each participant lacks, and synthesise it
  colapipe bids out participant --participant-label 01 02 --target FLAIR --samples 8
      FLAIR for two participants, with an uncertainty map
  colapipe bids out participant --target T2w --evaluate
      synthesise T2w where it exists, without using it, and score the result
  colapipe bids out participant --preproc-only
  colapipe bids out participant --synth-only --device cuda
      the two halves of a run, for example on two machines
  colapipe bids out participant --dry-run
      say what would be done for whom, and why not
  colapipe bids out group
      one table of everything that was synthesised, with its scores

exit codes: 0 done or nothing to do; 1 a participant failed; 2 usage; 65 not a usable dataset;
66 not a model; 69 a tool is missing; 70 a bug; 73 output cannot be created; 74 reading or writing
failed; 75 another run is at work on it; 130 and 143 interrupted; 141 nobody reads what is printed.
--dry-run ends with the code of a run, as far as it can be known.
"""


class _Version(argparse.Action):
    """Print the version of the software and of the bundled weights."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        print(version_text())
        parser.exit()


def version_text() -> str:
    """Return the version, with name and hash of the bundled weights."""
    from colapipe.run.model import read_model

    try:
        model = read_model(None)
    except Exception as err:
        return f"colapipe {__version__} (no bundled weights: {err})"
    return f"colapipe {__version__} (weights {model.name}, sha256 {model.sha256})"


def build_parser() -> ArgumentParser:
    """Build the parser. Options that are not given leave no trace, so that a file may set them."""
    default = Settings(Path(), Path())
    parser = ArgumentParser(
        prog="colapipe",
        description="Synthesise the MRI contrasts that participants of a BIDS dataset lack, from "
        "those that are there, and say how far to trust the result.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "bids_dir", type=path_argument, metavar="BIDS_DIR", help="the raw BIDS dataset"
    )
    parser.add_argument(
        "out_dir", type=path_argument, metavar="OUT_DIR", help="where derivatives go"
    )
    parser.add_argument(
        "level",
        choices=LEVELS,
        help="participant does the work; group gathers in one table what participants' runs left",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print versions and leave")

    which = parser.add_argument_group("which participants and scans")
    which.add_argument(
        "--participant-label",
        "--participant_label",
        dest="participants",
        nargs="+",
        metavar="LABEL",
        help="participants, with or without 'sub-' (default: all)",
    )
    which.add_argument(
        "--session-label",
        "--session_label",
        dest="sessions",
        nargs="+",
        metavar="LABEL",
        help="sessions, with or without 'ses-' (default: all)",
    )
    which.add_argument(
        "--bids-filter-file",
        type=path_argument,
        metavar="FILE",
        help='JSON that narrows down the scans of a contrast, e.g. {"T1w": {"acquisition": '
        '"mprage", "run": null}}; null means absent, "*" means any',
    )
    which.add_argument(
        "-d",
        "--derivatives",
        metavar="[NAME=]PATH",
        action="append",
        help="a dataset whose brain masks, matrices and lesion masks are used instead of computed; "
        "may be repeated; with --synth-only, where the preprocessed files are (default: OUT_DIR)",
    )

    what = parser.add_argument_group("what is done")
    what.add_argument(
        "--target",
        dest="targets",
        nargs="+",
        choices=("auto", *CONTRASTS),
        metavar="CONTRAST",
        help=f"contrasts to synthesise ({', '.join(CONTRASTS)}), or auto: what a participant "
        "lacks and others have (default: auto; T1ce and PDw only when named)",
    )
    what.add_argument(
        "--source",
        dest="sources",
        nargs="+",
        choices=CONTRASTS,
        metavar="CONTRAST",
        help="contrasts that may be used (default: all but the target)",
    )
    mode = what.add_mutually_exclusive_group()
    mode.add_argument(
        "--preproc-only",
        dest="mode",
        action="store_const",
        const="preproc-only",
        help="stop before synthesis",
    )
    mode.add_argument(
        "--synth-only",
        dest="mode",
        action="store_const",
        const="synth-only",
        help="start from the files that --preproc-only wrote",
    )
    mode.add_argument(
        "--reports-only",
        dest="mode",
        action="store_const",
        const="reports-only",
        help="write quality tables and reports again from the files in OUT_DIR; nothing else is "
        "read or run",
    )
    what.add_argument(
        "--evaluate",
        action=argparse.BooleanOptionalAction,
        help="synthesise contrasts that exist, without ever using them, and score the result",
    )
    what.add_argument(
        "--export",
        type=path_argument,
        metavar="DIR",
        help="write the complete set of contrasts, real and synthetic, as BraTS algorithms and "
        "nnU-Net read them: 1 mm, brain-extracted, one grid; what is finished is not made again",
    )

    anatomy = parser.add_argument_group("preprocessing")
    anatomy.add_argument(
        "--engine",
        choices=ENGINES,
        help="auto takes FSL where flirt, fast and bet are found, else the built-in engine "
        f"(default: {default.engine})",
    )
    anatomy.add_argument(
        "--skull-strip",
        choices=("auto", "skip", "force"),
        help="auto recognises scans that are brain-extracted already "
        f"(default: {default.skull_strip})",
    )

    model = parser.add_argument_group("synthesis")
    model.add_argument(
        "--model", type=path_argument, metavar="FILE", help="weights (default: bundled)"
    )
    model.add_argument(
        "--sampler",
        choices=SAMPLER_NAMES,
        metavar="NAME",
        help=f"sampler ({', '.join(SAMPLER_NAMES)}; default: the model's)",
    )
    model.add_argument(
        "--steps", type=whole_number, metavar="N", help="steps (default: the model's)"
    )
    model.add_argument(
        "--samples",
        type=whole_number,
        metavar="N",
        help="samples a slice; two or more give a standard deviation (default: the model's)",
    )
    model.add_argument(
        "--slices",
        choices=("all", "selected"),
        help="slices with any brain, or those with at least 15 %% of brain in the crop "
        f"(default: {default.slices})",
    )
    model.add_argument(
        "--lesion-conditioning",
        action=argparse.BooleanOptionalAction,
        help="give lesion masks to the model; by default they serve scores only, since people "
        "draw them with all contrasts in view",
    )
    model.add_argument(
        "--self-check",
        choices=SWITCH,
        help="synthesise each source from the other ones, too, and compare it with the real scan: "
        f"says without any truth how far to trust the result (default: {default.self_check})",
    )
    model.add_argument(
        "--device",
        type=_device,
        metavar="DEVICE",
        help=f"auto, cpu, cuda or cuda:N (default: {default.device})",
    )
    model.add_argument(
        "--seed",
        type=seed_argument,
        metavar="N",
        help=f"seed of the dataset (default: {default.seed})",
    )

    resources = parser.add_argument_group("resources")
    resources.add_argument(
        "--nprocs",
        "--nthreads",
        "--n-cpus",
        dest="nprocs",
        type=whole_number,
        metavar="N",
        help="CPUs to use (default: those that this process may really use)",
    )
    resources.add_argument(
        "--omp-nthreads",
        type=whole_number,
        metavar="N",
        help="threads in one process (default: one less than --nprocs, at most 8)",
    )
    resources.add_argument(
        "--mem",
        dest="mem_gb",
        type=_memory,
        metavar="SIZE",
        help="memory to plan with: 1.5G, 16g, 16GB, 8000M (default: what this process may use)",
    )

    running = parser.add_argument_group("running")
    running.add_argument(
        "-w",
        "--work-dir",
        type=path_argument,
        metavar="DIR",
        help=f"where intermediate files are kept for reruns (default: {default.work_dir})",
    )
    running.add_argument(
        "--clean-workdir",
        choices=CLEANINGS,
        help="empty the work directory before the run or after its success "
        f"(default: {default.clean_workdir})",
    )
    running.add_argument(
        "--config-file",
        type=path_argument,
        metavar="FILE",
        help="TOML with settings, such as logs/RUN/colapipe.toml of an earlier run; options on "
        "the command line win",
    )
    running.add_argument(
        "--dry-run", action=argparse.BooleanOptionalAction, help="print the plan and leave"
    )
    running.add_argument(
        "--sloppy",
        action=argparse.BooleanOptionalAction,
        help="sixteen slices, one step: to try whether a dataset goes through",
    )
    running.add_argument(
        "--stop-on-first-crash",
        action=argparse.BooleanOptionalAction,
        help="stop everything when one participant fails",
    )
    running.add_argument(
        "--skip-bids-validation",
        action=argparse.BooleanOptionalAction,
        help="do not validate BIDS_DIR before the run",
    )
    running.add_argument(
        "--show-head",
        action=argparse.BooleanOptionalAction,
        help="let figures show more than the brain",
    )
    running.add_argument(
        "--viewer",
        action=argparse.BooleanOptionalAction,
        help="write a page per participant to look at the brain in three dimensions, too",
    )
    _add_cluster_options(parser)
    running.add_argument(
        "-v", "--verbose", dest="verbosity", action="count", help="more words; -vv for all"
    )
    return parser


def _add_cluster_options(parser: argparse.ArgumentParser) -> None:
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument(
        "--slurm",
        type=path_argument,
        metavar="FILE",
        help="submit the run as SLURM jobs, one task per participant, with the partition, account "
        "and so on of this YAML file",
    )
    cluster.add_argument(
        "--slurm-dry-run",
        action=argparse.BooleanOptionalAction,
        help="with --slurm: write the job scripts, submit nothing",
    )
    cluster.add_argument(
        "--slurm-failed",
        action=argparse.BooleanOptionalAction,
        help="with --slurm: submit only the tasks again that failed the last time",
    )
    cluster.add_argument(
        "--use-plugin",
        type=path_argument,
        metavar="FILE",
        help="YAML with a Nipype plugin and its arguments, such as plugin: SLURM",
    )


def parse_settings(argv: Sequence[str] | None = None) -> Settings:
    """Turn a command line, and the file that it may name, into settings.

    Raises
    ------
    SystemExit
        With code 2 and a message for a command line that is wrong, or 0 after ``--help``.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    try:
        config_file = given.pop("config_file", None)
        from_file = read_config_file(config_file, parser) if config_file else {}
        return _checked({**from_file, **given})
    except UsageError as err:
        parser.refuse(str(err))


def _checked(given: dict[str, Any]) -> Settings:
    """Make settings of what was given: labels without prefixes, absolute paths, sane pairs."""
    default = Settings(Path(), Path())
    # At the group level nobody asks for the work directory.
    defaults = {"work_dir": default.work_dir} if given.get("level") == "participant" else {}
    derivatives = [Path(value.rpartition("=")[2]) for value in given.get("derivatives", ())]
    settle({**given, "derivatives": derivatives, **({} if "work_dir" in given else defaults)})
    for name, prefix in (("participants", "sub-"), ("sessions", "ses-")):
        if name in given:
            given[name] = tuple(label.removeprefix(prefix) for label in given[name])
    for name in ("targets", "sources", "derivatives", "participants", "sessions"):
        if name in given:
            given[name] = tuple(dict.fromkeys(given[name]))
    for name in PATHS:
        if given.get(name) is not None:
            given[name] = given[name].expanduser().absolute()
    given.setdefault("work_dir", default.work_dir.absolute())
    settings = Settings(**given)
    if "auto" in settings.targets and len(settings.targets) > 1:
        raise UsageError("--target: auto stands alone; name the contrasts, or say auto.")
    if settings.mode == "preproc-only" and settings.evaluate:
        raise UsageError("--evaluate needs a synthesis, and --preproc-only stops before it.")
    if settings.slurm is None and (settings.slurm_dry_run or settings.slurm_failed):
        raise UsageError("--slurm-dry-run and --slurm-failed say how to submit; add --slurm FILE.")
    if settings.slurm is not None and settings.use_plugin is not None:
        raise UsageError("--slurm and --use-plugin are two ways to a cluster; choose one.")
    if settings.mode == "reports-only" and (settings.export or settings.slurm):
        raise UsageError("--reports-only does nothing else; leave --export and --slurm away.")
    if settings.export is not None and settings.level != "participant":
        raise UsageError("--export belongs to the participant level.")
    if settings.export is not None and settings.slurm is not None:
        raise UsageError(
            "--export works on what is finished, and --slurm leaves before; when the jobs have "
            "ended, give the same command again with --export and without --slurm."
        )
    return settings


def _memory(text: str) -> float:
    from colapipe.run.resources import parse_memory

    try:
        return parse_memory(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def _device(text: str) -> str:
    if text in ("auto", "cpu", "cuda") or text.removeprefix("cuda:").isdecimal():
        return text
    raise argparse.ArgumentTypeError(not_a_choice(text, ("auto", "cpu", "cuda", "cuda:N")))
