"""From the options of ``colapipe-model train`` to a finished run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace

import torch

from colapipe.coladiff.configuration import ConfigurationError
from colapipe.coladiff.presets import PRESETS
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.training.loop import MODEL_FILE, Settings, Trainer
from colapipe.training.slices import SliceStore, build_cache
from colapipe.training.split import read_split


def train(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Cache the slices of the data, then train until done or out of time.

    Raises
    ------
    UsageError, DatasetError
        If options, split and data do not fit each other.
    """
    torch.set_num_threads(options.threads)
    split = read_split(options.split)
    if options.preset not in PRESETS:
        raise UsageError(f"--preset {options.preset}: known are {', '.join(PRESETS)}")
    for dataset in options.data:
        build_cache(dataset, options.out / "slices", report=report)
    store = SliceStore(options.out / "slices", split.train)
    validation = SliceStore(options.out / "slices", split.validation)
    if not len(store):
        raise DatasetError(f"{options.data[0]}: holds none of the split's training participants")
    there = {c for entry in store.entries.values() for c in entry["contrasts"]}
    contrasts = tuple(c for c in CONTRASTS if c in (options.contrasts or there))
    if missing := sorted(set(options.contrasts or ()) - there):
        raise UsageError(f"--contrasts {missing[0]}: no training participant has it")
    configuration = replace(PRESETS[options.preset], contrasts=contrasts)
    if options.latent == "kl":
        configuration = replace(configuration, latent="kl", latent_channels=4)
    settings = Settings(
        iterations=options.iterations,
        autoencoder_iterations=options.autoencoder_iterations,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        bfloat16=options.bfloat16,
        seed=options.seed,
    )
    datasets = ", ".join(dataset.resolve().name for dataset in options.data)
    words = options.training_data or f"{len(store.entries)} scan sessions of {datasets}"
    description = {
        "name": options.name,
        "preset": options.preset,
        "training_data": words,
        "licence": options.licence,
    }
    try:
        trainer = Trainer(
            options.out, configuration, settings, store, validation, description, split, report
        )
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    limit = math.inf if options.max_minutes is None else 60 * options.max_minutes
    if trainer.run(options.save_every, limit):
        report(f"done: {options.out / MODEL_FILE}")
    else:
        report("out of time; repeat the command to go on")
