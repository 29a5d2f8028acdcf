"""From the options of ``colapipe-model train`` to a finished run."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from colapipe.coladiff.configuration import Configuration, ConfigurationError
from colapipe.coladiff.presets import PRESETS
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.run.locks import lock
from colapipe.suggest import did_you_mean
from colapipe.training.baseline_recipes import MMGANRecipe, UNetRecipe
from colapipe.training.cache import cache_split
from colapipe.training.loop import MODEL_FILE, Settings, Trainer
from colapipe.training.processes import Processes, join_processes, leave_processes
from colapipe.training.recipes import CoLaDiffRecipe, Recipe, known_contrasts
from colapipe.training.split import Split, read_split
from colapipe.training.state import STATE_FILE, stored_header
from colapipe.training.store import SliceStore

BASELINES: dict[str, Callable[[tuple[str, ...]], Recipe]] = {
    "unet": UNetRecipe,
    "mmgan": MMGANRecipe,
}


def train(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Cache the slices of the data, then train until done or out of time.

    Raises
    ------
    UsageError, DatasetError
        If options, split and data do not fit each other.
    LockedError
        If another run trains in the same folder.
    """
    torch.set_num_threads(options.threads)
    processes, device = join_processes(options.device)
    # Two runs in one folder would write each other's state.
    alone = lock(options.out / "run.lock", str(options.out))
    try:
        with alone if processes.first else contextlib.nullcontext():
            _train_together(options, report, processes, device)
    finally:
        leave_processes()


def _train_together(
    options: argparse.Namespace,
    report: Callable[[str], None],
    processes: Processes,
    device: torch.device,
) -> None:
    """Train as one of the processes; a call of its own, so that no model outlives their group."""
    if not processes.first:
        report = _silent
    split = read_split(options.split)
    folder = options.cache or options.out / "slices"
    if processes.first:
        cache_split(options.data, folder, (*split.train, *split.validation), report)
    processes.wait()  # for the cache
    store = SliceStore(folder, split.train)
    validation = SliceStore(folder, split.validation)
    if not len(store):
        raise DatasetError(f"{folder}: holds none of the split's training participants")
    there = known_contrasts(store)
    if missing := sorted(set(options.contrasts or ()) - set(there)):
        raise UsageError(f"--contrasts {missing[0]}: no training participant has it")
    contrasts = tuple(c for c in CONTRASTS if c in (options.contrasts or there))
    recipe = make_recipe(options.preset, contrasts, options.set, options.seed)
    settings = _settings(options)
    if options.cpu_minutes is not None:
        count = _stored_iterations(options.out) or iterations_in(
            60 * options.cpu_minutes, recipe, settings, store
        )
        settings = replace(settings, iterations=processes.largest(count))
        report(f"{settings.iterations} iterations, about {options.cpu_minutes:g} CPU-minutes")
        recipe = make_recipe(options.preset, contrasts, options.set, options.seed)
    datasets = ", ".join(dataset.resolve().name for dataset in options.data)
    words = options.training_data or f"{len(store.entries)} scan sessions of {datasets}"
    trainer = Trainer(
        options.out,
        recipe,
        settings,
        store,
        validation,
        {
            "name": options.name,
            "preset": options.preset,
            "training_data": words,
            "licence": options.licence,
        },
        split,
        report,
        processes,
        device,
        _tensorboard(options) if processes.first else _ignore,
    )
    limit = math.inf if options.max_minutes is None else 60 * options.max_minutes
    if trainer.run(options.save_every, limit):
        report(f"done: {options.out / MODEL_FILE}")
    else:
        report("out of time; repeat the command to go on")
    processes.wait()  # all leave together


def make_recipe(
    preset: str, contrasts: tuple[str, ...], changes: Sequence[str] | None, seed: int
) -> Recipe:
    """Return what a preset trains, its parameters drawn from the seed.

    Parameters
    ----------
    preset : str
        A name of :data:`~colapipe.coladiff.presets.PRESETS` or of :data:`BASELINES`.
    contrasts : tuple of str
    changes : sequence of str, optional
        ``entry=value``: entries of the configuration to change; the value in JSON or as a word.
    seed : int

    Raises
    ------
    UsageError
        If the preset is not known, or a change makes no configuration.
    """
    torch.manual_seed(seed)
    if preset in BASELINES and not changes:
        return BASELINES[preset](contrasts)
    if preset not in PRESETS:
        raise UsageError(
            f"--preset {preset}: known are {', '.join([*PRESETS, *BASELINES])}; the baselines "
            f"have nothing to --set.{did_you_mean(preset, [*PRESETS, *BASELINES])}"
        )
    try:
        entries = PRESETS[preset].to_dict() | {"contrasts": list(contrasts)}
        configuration = Configuration.from_dict(entries | _changes(changes or ()))
    except ConfigurationError as error:
        raise UsageError(f"--set: {error}") from error
    return CoLaDiffRecipe(configuration)


def iterations_in(
    seconds: float, recipe: Recipe, settings: Settings, store: SliceStore, tried: int = 20
) -> int:
    """Return how many iterations of the last stage take so much CPU time on this machine.

    The recipe is trained a little for it and should not be used afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = Trainer(
            Path(folder),
            recipe,
            settings,
            store,
            SliceStore(store.folder, ()),
            {"name": "rehearsal", "preset": "", "training_data": "", "licence": ""},
            Split((), ()),
        )
        rehearsal.skip_to_last_stage()
        rehearsal.step_times(5)  # the first are slower
        return max(1, round(seconds / statistics.median(rehearsal.step_times(tried))))


def _stored_iterations(out: Path) -> int | None:
    """Return the number of iterations that a run was begun with, if it was begun."""
    if not (out / STATE_FILE).is_file():
        return None
    return int(stored_header(out)["run"]["settings"]["iterations"])


def _changes(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word}: expected entry=value, such as gate=off")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _settings(options: argparse.Namespace) -> Settings:
    return replace(
        Settings(),
        iterations=options.iterations,
        autoencoder_iterations=options.autoencoder_iterations,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        constant_rate=options.constant_rate,
        ema=options.ema,
        precision=options.precision,
        seed=options.seed,
    )


def _silent(line: str) -> None:
    """Report nothing: the first process speaks for all."""


def _ignore(stage: str, iteration: int, figures: dict[str, float]) -> None:
    """Log nothing."""


def _tensorboard(options: argparse.Namespace) -> Callable[[str, int, dict[str, float]], None]:
    """Return what writes figures for TensorBoard, if that is asked for.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
    """
    if not options.tensorboard:
        return _ignore
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "--tensorboard: TensorBoard is not installed; pip install 'colapipe[tensorboard]'"
        ) from error
    writer = SummaryWriter(str(Path(options.out) / "tensorboard"))

    def write(stage: str, iteration: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(f"{stage}/{name}", value, iteration)
        writer.flush()

    return write
