"""What each of the paper's parts brings: the ablations over several seeds as one table.

    colapipe-model evaluate whole-0 no-net-0 ... --reference whole-0 --out ABLATION_FOLDER_0
    python benchmarks/ablation_table.py ABLATION_FOLDER_0 ABLATION_FOLDER_1 ABLATION_FOLDER_2

Each folder holds one seed's scores, its models named CHANGE-SEED and the unchanged one whole-SEED
(benchmarks/validation_table.sh makes them). For each change and target: PSNR inside the brain with
the change minus PSNR without it, so that a negative number speaks for a part that was left out; the
mean over participants of the mean over seeds, its bootstrap interval over participants, and the
smallest and largest mean of one seed; and the same for the mean of all targets. Prints Markdown
tables: own scale, after gain and offset.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from colapipe.errors import ColapipeError
from colapipe.evaluation.bootstrap import bootstrap_mean
from colapipe.evaluation.cases import Task
from colapipe.evaluation.compare import read_results
from colapipe.evaluation.tables import Scores

WHOLE = "whole"
METRICS = {
    "psnr": "PSNR in dB, own scale",
    "psnr_fitted": "PSNR in dB, after the best gain and offset",
    "ssim": "SSIM, own scale",
}


def split_label(label: str) -> tuple[str, str]:
    """Return change and seed of a model's label.

    >>> split_label("no-net-2, 1 step")
    ('no-net', '2')
    """
    part, _, seed = label.partition(",")[0].rpartition("-")
    return part, seed


def differences(
    seeds: Sequence[Scores], part: str, tasks: Sequence[Task], metric: str
) -> tuple[np.ndarray, list[float]]:
    """Return one difference per participant, averaged over seeds and tasks, and one per seed."""
    per_seed: list[dict[str, float]] = []
    for scores in seeds:
        names = {split_label(model)[0]: model for model in scores.models}
        of_tasks = []
        for task in tasks:
            without = scores.values(names[part], task, metric)
            whole = scores.values(names[WHOLE], task, metric)
            of_tasks.append({who: without[who] - whole[who] for who in without if who in whole})
        everywhere = set.intersection(*(set(found) for found in of_tasks))
        per_seed.append(
            {who: float(np.mean([found[who] for found in of_tasks])) for who in everywhere}
        )
    shared = sorted(set.intersection(*(set(found) for found in per_seed)))
    table = np.array([[found[who] for who in shared] for found in per_seed])
    return table.mean(axis=0), [float(row.mean()) for row in table]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="ABLATION_FOLDER")
    options = parser.parse_args(arguments)
    try:
        seeds = [Scores(read_results(folder)[0]) for folder in options.folders]
    except ColapipeError as error:
        parser.error(str(error))
    found = [{split_label(model)[0] for model in scores.models} for scores in seeds]
    if any(WHOLE not in names for names in found):
        parser.error(f"each folder needs a model named {WHOLE}-SEED")
    shared = set.intersection(*found)
    parts = [split_label(m)[0] for m in seeds[0].models if split_label(m)[0] in shared - {WHOLE}]
    if not parts:
        parser.error("no change is in all of the folders")
    tasks = seeds[0].tasks
    for metric, title in METRICS.items():
        digits = 3 if metric == "ssim" else 2
        print(f"\n{title}, changed minus whole, {len(seeds)} seed(s):\n")
        columns = [(str(task), [task]) for task in tasks]
        columns += [("mean of all", list(tasks))] if len(tasks) > 1 else []
        print("| change |" + "".join(f" {name} |" for name, _ in columns))
        print("|---" * (len(columns) + 1) + "|")
        for part in parts:
            cells = []
            for _, some in columns:
                values, means = differences(seeds, part, some, metric)
                interval = bootstrap_mean(values)
                mean, low, high, least, most = (
                    # Adding 0 turns -0.0 into 0.0.
                    f"{round(value, digits) + 0:+.{digits}f}"
                    for value in (*interval[:3], min(means), max(means))
                )
                cells.append(f"{mean} [{low}, {high}] ({least} to {most})")
            print(f"| {part} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
