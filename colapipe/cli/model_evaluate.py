"""``colapipe-model evaluate``: score models on participants that they did not learn from."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.cli.arguments import ArgumentParser, seed_argument, whole_number
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from colapipe.evaluation.compare import Candidate
    from colapipe.evaluation.tables import Scores
    from colapipe.training.split import Split

TABLES = "tables.md"
"""Everything that is worth reading, in the output folder."""


def add_evaluate(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command to those of ``colapipe-model``."""
    evaluate = commands.add_parser(
        "evaluate",
        help="score models on the validation participants of a split",
        description="Synthesise contrasts that are there, compare them with the real ones, and "
        "write tables with intervals over participants. Repeating the command goes on where it "
        "stopped; models can be added to a folder later.",
    )
    evaluate.add_argument(
        "models", type=Path, nargs="*", metavar="MODEL", help="default: the bundled model"
    )
    evaluate.add_argument(
        "--data", type=Path, nargs="+", help="BIDS datasets or derivatives, as for training"
    )
    evaluate.add_argument(
        "--cache", type=Path, help="folder of cached slices, made from --data (OUT/slices)"
    )
    evaluate.add_argument(
        "--split",
        type=Path,
        required=True,
        help="JSON file with the lists of participants 'train' and 'validation'",
    )
    evaluate.add_argument("--out", type=Path, required=True, help="folder of the scores")
    evaluate.add_argument(
        "--targets",
        nargs="+",
        choices=CONTRASTS,
        metavar="CONTRAST",
        help="default: every contrast",
    )
    evaluate.add_argument(
        "--sources",
        nargs="+",
        metavar="A+B",
        help="sets of sources, such as T1w T1w+T1ce (default: all contrasts but the target)",
    )
    evaluate.add_argument(
        "--steps", type=whole_number, nargs="+", help="a row for each (default: the model's own)"
    )
    evaluate.add_argument(
        "--samples", type=whole_number, default=1, help="images to average (default: %(default)s)"
    )
    evaluate.add_argument(
        "--ceiling",
        action="store_true",
        help="also a row for the autoencoder alone of each CoLa-Diff: the real image encoded and "
        "decoded, which bounds what its latent can do",
    )
    evaluate.add_argument(
        "--baselines",
        nargs="+",
        default=[],
        choices=("copy", "quadratic", "class-mean"),
        help="baselines to fit on the training participants, and to score as well",
    )
    evaluate.add_argument(
        "--fit",
        type=Path,
        metavar="SPLIT",
        help="another split whose training participants --baselines are fitted on",
    )
    evaluate.add_argument(
        "--slices",
        type=_every,
        default=2,
        metavar="N|all",
        help="score every N-th slice with brain on 15 %% of it, or all (default: %(default)s)",
    )
    evaluate.add_argument(
        "--lesions", type=Path, help="dataset of lesion masks, for a region of their own"
    )
    evaluate.add_argument(
        "--reference",
        metavar="MODEL",
        help="name of the model that the others are compared with (default: the quadratic "
        "regression, if it is there)",
    )
    evaluate.add_argument("--seed", type=seed_argument, default=0, help="default: %(default)s")
    evaluate.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    evaluate.add_argument("--threads", type=whole_number, default=1, help="default: %(default)s")
    evaluate.set_defaults(run=_run)


def _every(word: str) -> int:
    """Return which slices are scored: ``all`` is every one."""
    if word == "all":
        return 1
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor all")
    return int(word)


def _run(options: argparse.Namespace) -> None:
    from colapipe.cli.process import run_with_models

    run_with_models(evaluate, options)


def evaluate(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Score models and write the tables.

    Raises
    ------
    UsageError, DatasetError, ModelError
        If options, split, data and models do not fit each other.
    """
    import torch

    from colapipe.evaluation.cases import tasks_of
    from colapipe.evaluation.compare import compare, conditions_of, read_results
    from colapipe.evaluation.tables import Scores
    from colapipe.training.cache import cache_split
    from colapipe.training.split import read_split
    from colapipe.training.store import SliceStore

    torch.set_num_threads(options.threads)
    sources = [words.split("+") for words in options.sources or ()] or None
    # A task that makes no sense should say so before an hour of preparations.
    tasks_of(CONTRASTS, options.targets, sources)
    split = read_split(options.split)
    fit = read_split(options.fit) if options.fit else split
    if both := sorted(set(fit.train) & set(split.validation)):
        raise UsageError(f"{options.fit}: learns from {both[0]}, who is scored")
    candidates = _candidates(options, (split, fit))
    if options.ceiling and not any(candidate.ceiling for candidate in candidates):
        raise UsageError("--ceiling: none of the models is a CoLa-Diff, so none has an autoencoder")
    folder = options.cache or options.out / "slices"
    # Segmenting those whom nobody looks at would take most of the time.
    labels = [*split.validation, *(fit.train if options.baselines else ())]
    cache_split(options.data or (), folder, labels, report)
    store = SliceStore(folder, split.validation)
    if not store.entries:
        raise DatasetError(f"{folder}: holds none of the split's validation participants")
    if options.baselines:
        from colapipe.evaluation.fitting import fit_baselines

        paths = fit_baselines(
            options.baselines,
            SliceStore(folder, fit.train),
            options.out / "baselines",
            fit.sha256,
            report,
        )
        candidates = _distinct([*candidates, *_of_files(paths, options, (split, fit))])
    conditions = conditions_of(store, options.slices, split.sha256, options.seed, options.lesions)
    reference = _reference(options, candidates)
    device = options.device
    compare(candidates, store, options.out, conditions, options.targets, sources, device, report)
    rows, about = read_results(options.out)
    scores = Scores(rows, [candidate.label for candidate in candidates])
    if reference is None and "quadratic regression" in scores.models:
        reference = "quadratic regression"
    for text in write_tables(options.out, scores, about, reference):
        report("\n" + text.rstrip())
    report(f"\nall tables: {options.out / TABLES}")


def write_tables(
    folder: Path, scores: Scores, about: dict[str, dict[str, Any]], reference: str | None
) -> list[str]:
    """Write all tables, and return those that everybody wants to see at once, in Markdown."""
    import json

    from colapipe.evaluation import tables
    from colapipe.files import write_text
    from colapipe.quality.scores import describe_columns, write_scores_tsv

    main = tables.metric_tables(scores, "psnr")
    like_paper = {
        f"paper_table_1_{number}": table
        for number, table in enumerate(tables.paper_tables(scores), start=1)
    }
    more_sources = tables.paper_sources_table(scores)
    if more_sources is not None:
        like_paper["paper_table_2"] = more_sources
    compared = []
    if reference is not None:
        for metric in ("psnr", "ssim"):
            compared += tables.difference_tables(scores, reference, metric)
    everything = [
        *main,
        *tables.metric_tables(scores, "ssim"),
        *compared,
        *tables.region_tables(scores),
        tables.cost_table(scores),
        *like_paper.values(),
    ]
    text = "\n".join([_introduction(scores, about), *(table.markdown() for table in everything)])
    write_text(folder / TABLES, text)
    rows = [
        row
        for model in scores.models
        for task in scores.tasks
        for region in tables.REGIONS
        for row in scores.rows(model, task, region)
    ]
    temporary = folder / ".scores.tsv"
    write_scores_tsv(temporary, rows)
    temporary.replace(folder / "scores.tsv")
    write_text(folder / "scores.json", json.dumps(describe_columns(rows), indent=1) + "\n")
    write_text(folder / "summary.tsv", tables.long_tsv(tables.summary(scores)))
    if reference is not None:
        differences = tables.long_tsv(tables.differences(scores, reference))
        write_text(folder / "differences.tsv", differences)
    for name, table in like_paper.items():
        write_text(folder / f"{name}.tsv", table.tsv())
    carried = {
        model: [
            {**entry, "steps": about[model]["steps"], "samples": about[model]["samples"]}
            for entry in tables.for_metadata(scores, model)
        ]
        for model in scores.models
    }
    write_text(folder / "metadata_scores.json", json.dumps(carried, indent=1) + "\n")
    return [table.markdown() for table in (*main, *like_paper.values())]


def _introduction(scores: Scores, about: dict[str, dict[str, Any]]) -> str:
    """Return what a reader must know before the first table."""
    first = about[scores.models[0]] if scores.models else {}
    number = first.get("every", 1)
    every = {1: "every", 2: "every second"}.get(number, f"every {number}th")
    lines = [
        "# Scores",
        "",
        f"Axial slices with brain on 15 % of the crop or more, {every} one; intensities in [0, 1] "
        "(brain percentiles 0.1 and 99.9). Mask and tissues come from the best source, never from "
        "the target. Figures are taken inside the brain, unless a table says otherwise, and "
        "averaged over participants; in brackets the 95 % interval of 10,000 bootstrap resamples "
        "of the participants, which is too narrow where they are few.",
        "Own scale / fitted: as synthesised, and after the best gain and offset per participant, "
        "because the scale of a scan is its scanner's own.",
    ]
    if any(about[model].get("ceiling") for model in scores.models):
        lines += [
            "",
            "Autoencoder alone: the real image, encoded and decoded. It has seen what it is "
            "compared with; its error is what the latent loses, whoever fills it.",
        ]
    unsure = [model for model in scores.models if not about[model]["held_out"]]
    if unsure:
        lines += [
            "",
            f"Trained with another split, or with one that is not known: {', '.join(unsure)}. "
            "They may have learned from these participants.",
        ]
    return "\n".join(lines) + "\n"


def _candidates(options: argparse.Namespace, splits: Sequence[Split]) -> list[Candidate]:
    from colapipe.weights import bundled_model_path

    return _distinct(_of_files(options.models or [bundled_model_path()], options, splits))


def _of_files(
    paths: Sequence[Path], options: argparse.Namespace, splits: Sequence[Split]
) -> list[Candidate]:
    """Return what is to be run: each model with each number of steps, if it has any."""
    from colapipe.coladiff.checkpoint import BASELINES, KIND
    from colapipe.evaluation.compare import Candidate
    from colapipe.run.model import read_description
    from colapipe.training.split import shipped_splits

    # A split that this package knows will do as well, if it taught nobody who is scored here.
    scored = set(splits[0].validation)
    known = {
        split.sha256
        for split in (*splits, *shipped_splits())
        if not scored.intersection(split.train)
    }
    candidates: list[Candidate] = []
    for path in paths:
        metadata, sha256 = read_description(path, (KIND, *BASELINES))
        held_out = metadata["split_sha256"] in known
        runs = [(1, 1)]
        if metadata["kind"] == KIND:
            default = metadata["defaults"]["steps" if options.samples == 1 else "sampled_steps"]
            runs = [(steps, options.samples) for steps in options.steps or [default]]
        for steps, samples in runs:
            label = str(metadata["name"])
            if metadata["kind"] == KIND:
                label += f", {steps} step{'s' if steps > 1 else ''}"
                label += f", {samples} samples" if samples > 1 else ""
            candidates.append(Candidate(label, path, steps, samples, metadata, sha256, held_out))
        if metadata["kind"] == KIND and options.ceiling:
            label = f"{metadata['name']}, autoencoder alone"
            alone = Candidate(label, path, 0, 1, metadata, sha256, held_out, ceiling=True)
            candidates.append(alone)
    return candidates


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Add the path to labels that several models have."""
    from dataclasses import replace

    labels = [candidate.label for candidate in candidates]
    distinct = [
        replace(candidate, label=f"{candidate.label} ({candidate.path})")
        if labels.count(candidate.label) > 1
        else candidate
        for candidate in candidates
    ]
    names = [candidate.label for candidate in distinct]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{twice[0]} is asked for twice")
    return distinct


def _reference(options: argparse.Namespace, candidates: Sequence[Candidate]) -> str | None:
    """Return the label that ``--reference`` names, which may be a name or a path, too."""
    from colapipe.evaluation.compare import read_results

    if options.reference is None:
        return None
    earlier = read_results(options.out)[1]
    if options.reference in {*earlier, *(candidate.label for candidate in candidates)}:
        return str(options.reference)
    meant = [
        candidate.label
        for candidate in candidates
        if options.reference in (candidate.metadata["name"], str(candidate.path))
        and not candidate.ceiling
    ]
    if len(meant) == 1:
        return meant[0]
    known = ", ".join([*(candidate.label for candidate in candidates), *earlier])
    raise UsageError(
        f"--reference {options.reference}: names {'several' if meant else 'none'} of the models "
        f"({known})"
    )
