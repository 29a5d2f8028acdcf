"""``colapipe-model calibrate``: give a model intervals that hold what they promise."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.cli.arguments import ArgumentParser, whole_number
from colapipe.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from colapipe.coladiff.calibration import Calibration
    from colapipe.evaluation.calibrate import Result

TABLES = "calibration.md"
COVERAGE = "coverage.tsv"


def add_calibrate(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command to those of ``colapipe-model``."""
    calibrate = commands.add_parser(
        "calibrate",
        help="calibrate a model's uncertainty and self-check on the validation participants of a "
        "split",
        description="Make several samples of contrasts that are there, compare their standard "
        "deviation with the errors, and write a copy of the model that knows how to turn it into "
        "intervals, what is usual in a self-check, and which intensities its training data had. "
        "Repeating the command goes on where it stopped.",
    )
    calibrate.add_argument("model", type=Path, metavar="MODEL")
    calibrate.add_argument(
        "--data", type=Path, nargs="+", help="BIDS datasets or derivatives, as for training"
    )
    calibrate.add_argument(
        "--cache", type=Path, help="folder of cached slices, made from --data (beside --out)"
    )
    calibrate.add_argument(
        "--split",
        type=Path,
        required=True,
        help="JSON file with the lists of participants 'train' and 'validation'",
    )
    calibrate.add_argument(
        "--participants",
        nargs="+",
        metavar="LABEL",
        help="only these of the validation participants, for example no simulated ones",
    )
    calibrate.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="NEW.safetensors",
        help="the new model; tables go to the folder NEW-calibration beside it",
    )
    calibrate.add_argument("--samples", type=whole_number, default=8, help="default: %(default)s")
    calibrate.add_argument("--steps", type=whole_number, help="default: the model's own")
    calibrate.add_argument(
        "--level", type=float, default=0.9, help="part of the voxels inside (%(default)s)"
    )
    calibrate.add_argument(
        "--lesions", type=Path, help="dataset of lesion masks, for a region of their own"
    )
    calibrate.add_argument(
        "--quality-only",
        action="store_true",
        help="self-check and training intensities only; intervals stay what they are",
    )
    calibrate.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    calibrate.add_argument("--threads", type=whole_number, default=1, help="default: %(default)s")
    calibrate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from colapipe.cli.process import run_with_models

    run_with_models(calibrate, options)


def calibrate(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Calibrate a model, and write it anew with tables of what its intervals cover.

    Raises
    ------
    UsageError, DatasetError, ModelError
        If options, split, data and model do not fit each other.
    """
    _check(options)
    import torch

    from colapipe.coladiff.model import CoLaDiff
    from colapipe.evaluation import calibrate as work
    from colapipe.evaluation.calibration_tables import coverage_rows
    from colapipe.evaluation.compare import conditions_of
    from colapipe.evaluation.self_check import calibrate_quality, false_alarms
    from colapipe.evaluation.tables import long_tsv
    from colapipe.files import write_text
    from colapipe.quality.selfcheck import SLICES
    from colapipe.run.model import read_description
    from colapipe.training.cache import cache_split
    from colapipe.training.split import read_split
    from colapipe.training.store import SliceStore

    torch.set_num_threads(options.threads)
    split = read_split(options.split)
    metadata, sha256 = read_description(options.model)
    defaults = metadata["defaults"]
    settings = work.Settings(
        sha256, defaults["sampler"], options.steps or defaults["sampled_steps"], options.samples
    )
    folder = options.out.with_name(f"{options.out.stem}-calibration")
    labels = _participants(options, split.validation)
    cached = options.cache or folder / "slices"
    cache_split(options.data or (), cached, [*labels, *split.train], report)
    store = SliceStore(cached, labels)
    if not store.entries:
        raise DatasetError(f"{cached}: holds none of the split's validation participants")
    conditions = conditions_of(store, settings.every, split.sha256, settings.seed, options.lesions)
    model = cache(lambda: CoLaDiff.load(options.model, options.device))
    quality, checks = calibrate_quality(
        model,
        SliceStore(cached, split.train),
        store,
        folder / "self-check",
        {
            name: {"weights": sha256, "count": SLICES, "slices": crc}
            for name, crc in conditions.checksums.items()
        },
        report,
    )
    alarms = false_alarms(checks)
    if options.quality_only:
        work.write_calibrated(options.model, options.out, None, quality)
        report(f"\n{alarms}\nthe calibrated model: {options.out}")
        return
    found = work.VoxelStore(folder / "voxels", settings, conditions.checksums, conditions.lesions)
    tasks = work.collect(
        model,
        store,
        found,
        settings,
        conditions.lesions,
        report,
    )
    report("fitting")
    calibration, results = work.calibrate(found, tasks, settings, options.level)
    work.write_calibrated(options.model, options.out, calibration, quality)
    text = _tables(results, calibration, metadata["name"])
    if metadata["split_sha256"] != split.sha256:
        text += (
            "\nThe model was trained with another split, or with one that is not known. If it has "
            "learned from these participants, its errors are larger on others, and the intervals "
            "too narrow.\n"
        )
    if alarms:
        text += f"\n{alarms}"
    write_text(folder / TABLES, text)
    write_text(folder / COVERAGE, long_tsv(coverage_rows(results)))
    report(f"\n{text}\ntables: {folder}\nthe calibrated model: {options.out}")


def _tables(results: Sequence[Result], calibration: Calibration, name: str) -> str:
    from colapipe.evaluation import calibration_tables as tables

    title = (
        f"# Calibration of {name}: {calibration.samples} samples of {calibration.steps} steps "
        f"({calibration.sampler})"
    )
    found = tables.calibration_table(results).markdown()
    covered = tables.coverage_table(results, calibration.level).markdown()
    return "\n".join((title, "", tables.promise(results, calibration.level), "", found, covered))


def _check(options: argparse.Namespace) -> None:
    """Say what is wrong with the options, before an hour of work."""
    if options.samples < 2:
        raise UsageError("--samples must be at least 2: one sample has no standard deviation")
    if not 0 < options.level < 1:
        raise UsageError(f"--level {options.level:g}: expected a number between 0 and 1")
    if options.out.suffix != ".safetensors":
        raise UsageError(f"--out {options.out}: expected a file name that ends in .safetensors")
    if options.out.resolve() == options.model.resolve():
        raise UsageError(f"--out {options.out}: is the model itself; choose another name")
    if options.lesions is not None and not options.lesions.is_dir():
        raise DatasetError(f"{options.lesions}: no such folder")


def _participants(options: argparse.Namespace, validation: Sequence[str]) -> list[str]:
    """Return the labels of those that are calibrated on."""
    if options.participants is None:
        return list(validation)
    labels = [label.removeprefix("sub-") for label in options.participants]
    if foreign := sorted(set(labels) - set(validation)):
        raise UsageError(
            f"--participants {foreign[0]}: not among the validation participants of {options.split}"
        )
    return labels
