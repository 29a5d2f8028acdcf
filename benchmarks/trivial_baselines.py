"""Judge models by the trivial baselines: better than the best of them by 1 dB, in the brain.

    colapipe-model evaluate MODEL --baselines copy quadratic class-mean ... --out TABLE_FOLDER
    python benchmarks/trivial_baselines.py TABLE_FOLDER
    python benchmarks/trivial_baselines.py TABLE_FOLDER --model cola-tiny --margin 0.5

Reads the scores that the evaluation left in its folder; it computes nothing anew. For each target
and set of sources: the model's PSNR, the best of the fitted baselines that are there, and the
difference, on the images' own scale and after the best gain and offset. All are means over the
participants whom both were scored on. Prints a Markdown table; the exit code is 1 if a difference
on the own scale is below the margin, and 2 if there is nothing to judge.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from colapipe.errors import ColapipeError
from colapipe.evaluation.cases import Task
from colapipe.evaluation.compare import read_results
from colapipe.evaluation.fitting import FITTED
from colapipe.evaluation.tables import Scores


class Duel(NamedTuple):
    """A model and the best of the baselines, in dB."""

    model: float
    baseline: float
    name: str
    participants: int

    @property
    def difference(self) -> float:
        return self.model - self.baseline

    def __str__(self) -> str:
        return f"{self.model:.2f} | {self.baseline:.2f} ({self.name}) | {self.difference:+.2f}"


def duel(
    scores: Scores, model: str, baselines: Sequence[str], task: Task, metric: str
) -> Duel | None:
    """Return the model beside the baseline that comes closest to it, or exceeds it most.

    None where no participant has scores of the model and of a baseline.
    """
    own = scores.values(model, task, metric)
    duels = []
    for name in baselines:
        theirs = scores.values(name, task, metric)
        if both := sorted(set(own) & set(theirs)):
            means = [sum(of[one] for one in both) / len(both) for of in (own, theirs)]
            duels.append(Duel(*means, name, len(both)))
    return min(duels, key=lambda found: found.difference, default=None)


def models_of(about: dict[str, dict[str, Any]], name: str | None) -> list[str]:
    """Return the labels that ``name`` means, with any number of steps; without, all CoLa-Diffs."""
    judged = [
        label
        for label, facts in about.items()
        if facts["kind"] not in FITTED and not facts.get("ceiling")
    ]
    if name is None:
        return [label for label in judged if about[label]["kind"] == "coladiff"]
    return [label for label in judged if label == name or label.startswith(f"{name}, ")]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="TABLE_FOLDER", help="--out of the evaluation")
    parser.add_argument("--model", metavar="NAME", help="default: every CoLa-Diff")
    parser.add_argument("--margin", type=float, default=1.0, help="in dB (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        rows, about = read_results(options.folder)
    except ColapipeError as error:
        parser.error(str(error))
    scores = Scores(rows)
    models = models_of(about, options.model)
    kinds = {label: facts["kind"] for label, facts in about.items()}
    baselines = [label for label, kind in kinds.items() if kind in FITTED]
    if not models or not baselines:
        what = "baseline" if models else f"model {options.model or ''}".strip()
        parser.error(f"{options.folder}: no scores of a {what}; there are {', '.join(about)}")
    print("Means over participants, PSNR in dB inside the brain.")
    if absent := [kind for kind in FITTED if kind not in kinds.values()]:
        print(f"Not in the folder, and so not compared with: {', '.join(absent)}.")
    print("\n| model | task | n | own | best baseline | difference | fitted | best | difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    differences = []
    for model in models:
        for task in scores.tasks:
            own, fitted = (duel(scores, model, baselines, task, m) for m in ("psnr", "psnr_fitted"))
            if own is not None and fitted is not None:
                print(f"| {model} | {task} | {own.participants} | {own} | {fitted} |")
                differences.append((own.difference, f"{model}: {task}"))
    if not differences:
        parser.error(f"{options.folder}: no participant has scores of a model and of a baseline")
    # Not "below": NaN must not pass.
    short = [name for difference, name in differences if not difference >= options.margin]
    met = len(differences) - len(short)
    print(f"\n{met} of {len(differences)} better by {options.margin:g} dB on their own scale.")
    return int(bool(short))


if __name__ == "__main__":
    sys.exit(main())
