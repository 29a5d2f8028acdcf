"""Tables of scores: means over participants with intervals, differences, cost, and the paper's.

Every figure is a mean over participants (sessions of one are averaged first). "own / fitted" is the
figure on the synthesised image's own scale and after the best gain and offset per participant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import pandas as pd

from colapipe.bids.tables import as_tsv, table_of
from colapipe.contrasts import CONTRASTS
from colapipe.evaluation import paper
from colapipe.evaluation.bootstrap import (
    Interval,
    bootstrap_difference,
    bootstrap_mean,
    wilcoxon,
)
from colapipe.evaluation.cases import Task
from colapipe.quality.scores import Row

METRICS = {
    "psnr": ("PSNR in dB", 2),
    "ssim": ("SSIM", 3),
    "mae": ("MAE", 4),
    "nmse": ("NMSE", 4),
    "psnr_paper": ("PSNR of whole slices in dB", 2),
    "ssim_paper": ("SSIM of whole slices", 3),
}
"""Metrics, what tables call them, and their decimals. Each has a ``_fitted`` beside it."""

REGIONS = ("brain", "CSF", "GM", "WM", "lesion")

NOTHING = "-"


class Table(NamedTuple):
    """A table of text, and what has to be said about it."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table with its title as a heading."""
        lines = [f"## {self.title}", ""]
        lines += [_line(self.header), "|---" * len(self.header) + "|", *map(_line, self.rows)]
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"

    def tsv(self) -> str:
        """Return the table as tab-separated values, without title and note."""
        return as_tsv(pd.DataFrame(list(self.rows), columns=list(self.header)))


class Scores:
    """Rows of scores, asked by model, task, region and metric.

    Parameters
    ----------
    rows : sequence of dict
        From :func:`colapipe.evaluation.compare.read_results`.
    first : sequence of str
        Models that come first in every table; the others follow in the order of the rows.
    """

    def __init__(self, rows: Sequence[Row], first: Sequence[str] = ()) -> None:
        found = list(dict.fromkeys(row["model"] for row in rows))
        self.models = [m for m in first if m in found] + [m for m in found if m not in first]
        self.tasks: list[Task] = []
        self._rows: dict[tuple[str, Task, str], list[Row]] = {}
        for row in rows:
            task = Task(row["target"], tuple(row["sources"].split("+")))
            if task not in self.tasks:
                self.tasks.append(task)
            self._rows.setdefault((row["model"], task, row["region"]), []).append(row)

    def rows(self, model: str, task: Task, region: str = "brain") -> list[Row]:
        """Return the rows of a model's task, one per participant and session."""
        return self._rows.get((model, task, region), [])

    def values(
        self, model: str, task: Task, metric: str, region: str = "brain"
    ) -> dict[str, float]:
        """Return a figure of each participant, the mean over its sessions."""
        sessions: dict[str, list[float]] = {}
        for row in self.rows(model, task, region):
            value = float(row.get(metric, math.nan))
            if not math.isnan(value):
                sessions.setdefault(row["participant_id"], []).append(value)
        return {name: sum(values) / len(values) for name, values in sessions.items()}

    def interval(self, model: str, task: Task, metric: str, region: str = "brain") -> Interval:
        """Return the mean over participants with its interval."""
        return bootstrap_mean(list(self.values(model, task, metric, region).values()))

    def participants(self, task: Task) -> int:
        """Return the largest number of participants that a model was scored on."""
        return max((len(self.values(model, task, "psnr")) for model in self.models), default=0)

    def groups(self) -> list[list[Task]]:
        """Return the tasks, those that share all their contrasts side by side in one table."""
        by_contrasts: dict[frozenset[str], list[Task]] = {}
        for task in self.tasks:
            by_contrasts.setdefault(frozenset((task.target, *task.sources)), []).append(task)
        together = [tasks for tasks in by_contrasts.values() if len(tasks) > 1]
        alone = [tasks[0] for tasks in by_contrasts.values() if len(tasks) == 1]
        return together + ([alone] if alone else [])


def metric_tables(scores: Scores, metric: str, region: str = "brain") -> list[Table]:
    """Return a metric of every model, "own / fitted", a table per group of tasks."""
    words, digits = METRICS[metric]
    tables = []
    for tasks in scores.groups():
        rows = []
        for model in scores.models:
            cells = []
            for task in tasks:
                own, fitted = (
                    scores.interval(model, task, metric + kind, region) for kind in ("", "_fitted")
                )
                few = own.participants not in (0, scores.participants(task))
                both = f"{_figure(own, digits)} / {_figure(fitted, digits)}"
                count = f" (n={own.participants})" if few else ""
                cells.append(both + count if own.participants else NOTHING)
            if set(cells) != {NOTHING}:
                rows.append((model, *cells))
        if rows:
            title = f"{words}, {region}: own scale / fitted"
            tables.append(Table(title, ("Model", *_headings(scores, tasks)), rows))
    return tables


def difference_tables(scores: Scores, reference: str, metric: str = "psnr") -> list[Table]:
    """Return each model's difference to one of them, with the p-value of Wilcoxon's test."""
    words, digits = METRICS[metric]
    tables = []
    for tasks in scores.groups():
        rows = []
        for model in scores.models:
            cells = []
            for task in tasks:
                parts = []
                for kind in ("", "_fitted"):
                    one, other = (
                        scores.values(name, task, metric + kind) for name in (model, reference)
                    )
                    found = bootstrap_difference(one, other)
                    if found.participants:
                        p = wilcoxon(one, other) if found.participants > 1 else math.nan
                        known = "" if math.isnan(p) else f", p={p:.2g}"
                        parts.append(_figure(found, digits, "+") + known)
                cells.append(" / ".join(parts) or NOTHING)
            if model != reference and set(cells) != {NOTHING}:
                rows.append((model, *cells))
        if rows:
            title = f"{words}, brain: difference to {reference}, own scale / fitted"
            note = (
                "Positive: better than the reference. Paired over participants; p: Wilcoxon's "
                "signed-rank test, two-sided."
            )
            tables.append(Table(title, ("Model", *_headings(scores, tasks)), rows, note))
    return tables


def region_tables(scores: Scores) -> list[Table]:
    """Return the PSNR in each region of every task: a table per task."""
    tables = []
    for task in scores.tasks:
        regions = [
            region
            for region in REGIONS
            if any(scores.values(model, task, "psnr", region) for model in scores.models)
        ]
        heading = []
        for region in regions:
            counts = {len(scores.values(m, task, "psnr", region)) for m in scores.models}
            heading.append(f"{region} (n={max(counts)})")
        rows = []
        for model in scores.models:
            if not scores.rows(model, task):
                continue
            cells = []
            for region in regions:
                own, fitted = (
                    scores.interval(model, task, f"psnr{kind}", region) for kind in ("", "_fitted")
                )
                cells.append(f"{own.mean:.2f} / {fitted.mean:.2f}" if own.participants else NOTHING)
            rows.append((model, *cells))
        title = f"PSNR in dB by region, {task}: own scale / fitted"
        tables.append(Table(title, ("Model", *heading), rows))
    return tables


def cost_table(scores: Scores) -> Table:
    """Return time and memory of every model."""
    rows = []
    for model in scores.models:
        of_model = [row for task in scores.tasks for row in scores.rows(model, task)]
        seconds, cpu = (
            _median(row[column] for row in of_model if column in row)
            for column in ("seconds_per_80", "cpu_seconds_per_80")
        )
        peak = max((float(row.get("peak_memory", math.nan)) for row in of_model), default=math.nan)
        rows.append((model, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak / 1e9:.2f}"))
    return Table(
        "Time and memory",
        ("Model", "Seconds per 80 slices", "CPU seconds per 80 slices", "Peak memory in GB"),
        rows,
        "Median over participants and tasks; memory is the largest of all, the images of one "
        "participant and the libraries included. Elapsed time depends on what else the machine "
        "did. The whole volume is prepared, however few of its slices are scored.",
    )


def paper_tables(scores: Scores) -> list[Table]:
    """Return the paper's Table 1 with our rows below: a table for each of its datasets.

    Only for tasks that were scored here; none without any.
    """
    datasets: dict[str, dict[str, dict[Task, paper.Published]]] = {}
    for cell in paper.TABLE_1:
        task = Task(cell.target, cell.sources)
        if task in scores.tasks:
            datasets.setdefault(cell.dataset, {}).setdefault(cell.model, {})[task] = cell
    tables = []
    for dataset, published in datasets.items():
        rows = []
        for model, cells in published.items():
            figures = [
                (f"{cell.psnr:.2f} ± {cell.psnr_sd:.2f}", f"{cell.ssim:.2f} ± {cell.ssim_sd:.2f}")
                for cell in cells.values()
            ]
            rows.append((f"{model} (paper)", *chain.from_iterable(figures)))
        tasks = list(next(iter(published.values())))
        for model in scores.models:
            ours = [
                (
                    _spread(scores, model, task, "psnr_paper", 1),
                    _spread(scores, model, task, "ssim_paper", 100),
                )
                for task in tasks
            ]
            if any(NOTHING not in pair for pair in ours):
                rows.append((f"{model} (here)", *chain.from_iterable(ours)))
        header = [f"{task.target} {metric}" for task in tasks for metric in ("PSNR", "SSIM %")]
        others = ", ".join(
            name
            for name in CONTRASTS
            if any(name in (task.target, *task.sources) for task in tasks)
        )
        note = (
            f"{paper.NOT_COMPARABLE}\n\nEach target from the others of {others}. Paper: "
            f"{paper.REFERENCE}; mean ± standard deviation in its test set. Here: mean over "
            "participants of the mean over their slices, own scale, ± standard deviation over "
            "participants (over all slices)."
        )
        title = f"Beside the paper's Table 1, {dataset}: whole slices, background included"
        tables.append(Table(title, ("Model", *header), rows, note))
    return tables


def paper_sources_table(scores: Scores) -> Table | None:
    """Return the lower part of the paper's Table 2 with our rows; None without such a task."""
    published = {Task(c.target, c.sources): c for c in paper.TABLE_2_SOURCES}
    ours = [task for task in scores.tasks if task in published]
    if len(ours) < 2:
        return None
    rows = []
    for cell in paper.TABLE_2_SOURCES:
        rows.append(
            (
                f"{cell.model} (paper, {cell.dataset})",
                str(Task(cell.target, cell.sources)),
                f"{cell.psnr:.2f}",
                f"{cell.ssim:.2f}",
                NOTHING,
            )
        )
    for model in scores.models:
        for task in sorted(ours, key=lambda task: len(task.sources)):
            if scores.rows(model, task):
                own, fitted = (
                    scores.interval(model, task, f"psnr{kind}") for kind in ("", "_fitted")
                )
                rows.append(
                    (
                        f"{model} (here)",
                        str(task),
                        _spread(scores, model, task, "psnr_paper", 1),
                        _spread(scores, model, task, "ssim_paper", 100),
                        f"{_figure(own, 2)} / {_figure(fitted, 2)}",
                    )
                )
    return Table(
        "Beside the paper's Table 2: more sources",
        (
            "Model",
            "Task",
            "PSNR of whole slices",
            "SSIM % of whole slices",
            "PSNR, brain: own scale / fitted",
        ),
        rows,
        paper.NOT_COMPARABLE,
    )


def summary(scores: Scores) -> list[dict[str, Any]]:
    """Return every mean and interval as one row each, for people who make their own tables."""
    rows = []
    for model in scores.models:
        for task in scores.tasks:
            for region in REGIONS:
                for metric in METRICS:
                    for kind in ("", "_fitted"):
                        found = scores.interval(model, task, metric + kind, region)
                        if found.participants:
                            rows.append(
                                {
                                    "model": model,
                                    "target": task.target,
                                    "sources": task.joined,
                                    "region": region,
                                    "metric": metric + kind,
                                    **found._asdict(),
                                }
                            )
    return rows


def differences(scores: Scores, reference: str) -> list[dict[str, Any]]:
    """Return the differences to a model, in the brain, as one row each."""
    rows = []
    for model in scores.models:
        if model == reference:
            continue
        for task in scores.tasks:
            for metric in METRICS:
                for kind in ("", "_fitted"):
                    one, other = (
                        scores.values(name, task, metric + kind) for name in (model, reference)
                    )
                    found = bootstrap_difference(one, other)
                    if found.participants:
                        rows.append(
                            {
                                "model": model,
                                "reference": reference,
                                "target": task.target,
                                "sources": task.joined,
                                "region": "brain",
                                "metric": metric + kind,
                                **found._asdict(),
                                "p_wilcoxon": wilcoxon(one, other),
                            }
                        )
    return rows


def for_metadata(scores: Scores, model: str) -> list[dict[str, Any]]:
    """Return a model's scores in the brain as its checkpoint's ``metadata["scores"]`` has them.

    A list with an entry per task: target, sources, region, participants, and for each metric
    ``[mean, low, high]``, with None where there is no interval.
    """
    entries = []
    for task in scores.tasks:
        found = {
            metric + kind: scores.interval(model, task, metric + kind)
            for metric in ("psnr", "ssim", "nmse", "mae")
            for kind in ("", "_fitted")
        }
        if found["psnr"].participants:
            entries.append(
                {
                    "target": task.target,
                    "sources": list(task.sources),
                    "region": "brain",
                    "participants": found["psnr"].participants,
                    **{
                        metric: [_rounded(value) for value in interval[:3]]
                        for metric, interval in found.items()
                    },
                }
            )
    return entries


def long_tsv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of :func:`summary` or :func:`differences` as tab-separated values."""
    if not rows:
        return ""
    return as_tsv(table_of(rows, list(rows[0])))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _headings(scores: Scores, tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(f"{task} (n={scores.participants(task)})" for task in tasks)


def _figure(found: Interval, digits: int, sign: str = "") -> str:
    """Return "mean [low, high]"."""
    if math.isnan(found.low):
        return f"{found.mean:{sign}.{digits}f}"
    return (
        f"{found.mean:{sign}.{digits}f} "
        f"[{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]"
    )


def _spread(scores: Scores, model: str, task: Task, metric: str, factor: float) -> str:
    """Return "mean ± SD over participants (SD over slices)" of a paper-like metric."""
    values = list(scores.values(model, task, metric).values())
    if not values:
        return NOTHING
    mean = sum(values) / len(values)
    text = f"{factor * mean:.2f}"
    if math.isinf(mean):
        return text
    if len(values) > 1:
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        text += f" ± {factor * math.sqrt(variance):.2f}"
    rows = scores.rows(model, task)
    count = sum(row["slices"] for row in rows)
    pooled = sum(row["slices"] * row[metric] for row in rows) / count
    square = sum(row["slices"] * (row[f"{metric}_sd"] ** 2 + row[metric] ** 2) for row in rows)
    return f"{text} ({factor * math.sqrt(max(square / count - pooled**2, 0.0)):.2f})"


def _median(values: Iterable[float]) -> float:
    ordered = sorted(value for value in values if not math.isnan(value))
    return ordered[len(ordered) // 2] if ordered else math.nan


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
