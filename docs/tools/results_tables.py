"""Print the tables of docs/results.md from the scores that benchmarks/validation_table.sh left.

    RUNS=build/comparisons bash benchmarks/validation_table.sh DERIVATIVES...
    python docs/tools/results_tables.py build/comparisons

Only how they look is made here: the figures are those of `colapipe-model evaluate` in the folder's
``table``, ``fifty-steps`` and ``more-inputs``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from colapipe.evaluation.bootstrap import bootstrap_difference
from colapipe.evaluation.cases import Task
from colapipe.evaluation.compare import read_results
from colapipe.evaluation.tables import Scores

NAMES = {
    "tiny, 1 step": "CoLa-Diff, 1 step",
    "tiny, 4 steps": "CoLa-Diff, 4 steps",
    "tiny, 4 steps, 8 samples": "CoLa-Diff, 4 steps, mean of 8",
    "tiny, 10 steps": "CoLa-Diff, 10 steps",
    "ldm, 1 step": "plain latent diffusion, 1 step",
    "ldm, 4 steps": "plain latent diffusion, 4 steps",
    "unet": "regression U-Net",
    "mmgan": "MM-GAN",
    "quadratic regression": "quadratic regression",
    "class means": "tissue class means",
    "copy": "copy of the nearest contrast",
}
WHOLE = "tiny, 1 step"
TARGETS = ("T1w", "T2w", "T1ce", "FLAIR")
REFERENCES = ("quadratic regression", "unet", "ldm, 1 step")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(("", *header)).lstrip() + " |")
    print("|---" * (len(header) + 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def means(scores: Scores, model: str, task: Task, metric: str, digits: int) -> str:
    """Return a model's mean over participants: own scale / fitted."""
    return " / ".join(
        f"{scores.interval(model, task, name).mean:.{digits}f}"
        for name in (metric, f"{metric}_fitted")
    )


def intervals(scores: Scores, model: str, task: Task, metric: str, digits: int) -> str:
    """Return the 95 % intervals of a model's means: own scale / fitted."""
    found = [scores.interval(model, task, name) for name in (metric, f"{metric}_fitted")]
    return " / ".join(f"[{each.low:.{digits}f}, {each.high:.{digits}f}]" for each in found)


def difference(scores: Scores, model: str, other: str, task: Task) -> str:
    """Return the paired difference of two models with its interval: own scale / fitted."""
    parts = []
    for metric in ("psnr", "psnr_fitted"):
        found = bootstrap_difference(
            scores.values(model, task, metric), scores.values(other, task, metric)
        )
        parts.append(f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]")
    return " / ".join(parts)


def print_tables(runs: Path) -> None:
    """Print all tables of a folder of ``benchmarks/validation_table.sh``."""
    scores, fifty, more = (
        Scores(read_results(runs / folder)[0]) for folder in ("table", "fifty-steps", "more-inputs")
    )
    tasks = sorted(scores.tasks, key=lambda task: TARGETS.index(task.target))
    targets = [task.target for task in tasks]
    rows = {model: name for model, name in NAMES.items() if model in scores.models}

    def print_metric(metric: str, digits: int, interval_digits: int) -> None:
        for title, words, shown in (
            (f"## {metric.upper()}", means, digits),
            ("95 % intervals of these means:", intervals, interval_digits),
        ):
            print(f"{title}\n")
            table(
                targets,
                [
                    (name, *(words(scores, model, task, metric, shown) for task in tasks))
                    for model, name in rows.items()
                ],
            )

    print_metric("psnr", 2, 1)
    print("With 50 steps (1 step), on every sixteenth slice only:")
    for task in tasks:
        many, one = (means(fifty, f"tiny, {n}", task, "psnr", 2) for n in ("50 steps", "1 step"))
        print(f"{task.target} {many} (1 step: {one})")
    print()
    table(
        targets,
        [
            (
                f"{rows[WHOLE]}, over {rows[other]}",
                *(difference(scores, WHOLE, other, task) for task in tasks),
            )
            for other in REFERENCES
            if other in rows
        ],
    )
    print_metric("ssim", 3, 2)

    print("## More sources\n")
    by_number = sorted(more.tasks, key=lambda task: len(task.sources))
    table(
        [" + ".join(task.sources) for task in by_number],
        [
            (NAMES[model], *(means(more, model, task, "psnr", 2) for task in by_number))
            for model in more.models
        ],
    )

    print("## Time and memory\n")
    table(
        ["CPU seconds", "GB"],
        [
            (
                name,
                f"{median(of(scores, model, tasks, 'cpu_seconds_per_80')):.1f}",
                f"{max(of(scores, model, tasks, 'peak_memory')) / 1e9:.2f}",
            )
            for model, name in rows.items()
        ],
    )

    print("## Beside the paper: whole slices, own scale\n")
    (task,) = (task for task in tasks if task.target == "T2w")
    paper = list(scores.values(WHOLE, task, "psnr_paper").values())
    spread = (sum((x - sum(paper) / len(paper)) ** 2 for x in paper) / (len(paper) - 1)) ** 0.5
    print(f"T2w: {sum(paper) / len(paper):.2f} ± {spread:.2f} dB")


def of(scores: Scores, model: str, tasks: Sequence[Task], column: str) -> list[float]:
    """Return a column of a model's rows of all tasks, inside the brain."""
    return [float(row[column]) for task in tasks for row in scores.rows(model, task)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, metavar="RUNS")
    print_tables(parser.parse_args().runs)


if __name__ == "__main__":
    main()
