"""What participants cost before anything runs: the plan of a dry run, and the graph of each.

    python benchmarks/many_subjects.py                     # up to 1,000 participants
    python benchmarks/many_subjects.py --most 100 --plot graph_cost.svg

Prints a Markdown table. The dataset is simulated: one participant's small scans under many labels
(hard links), every second one without its T2w. A dry run is timed as a user starts it, in a
process of its own, when nothing is done and when all are finished. The graph's cost is the time to
build the workflows of all participants and to ask every node whether it is cached, in portions as
the app does it, divided by the participants; for comparison also as one graph of all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("NIPYPE_NO_ET", "1")

from colapipe.cli.run import choose_engine, make_request, plan_resources
from colapipe.config import Settings
from colapipe.phantom import simulate_dataset
from colapipe.plan.participants import plan_run
from colapipe.plan.sessions import SessionPlan
from colapipe.run.finished import FinishedParticipants
from colapipe.run.model import read_model
from colapipe.run.portions import PORTION, by_participant
from colapipe.run.workdir import work_folder

OPTIONS = ("--engine", "builtin", "--skip-bids-validation")
COLUMNS = (
    "participants",
    "dry run, nothing done (s)",
    "dry run, all finished (s)",
    "graph (CPU ms each)",
    "one graph of all (CPU ms each)",
)
MOST_IN_ONE_GRAPH = 320
"""More would take an hour."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="participants")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="draw the graph's cost")
    options = parser.parse_args()
    counts = [n for n in (10, 32, 100, 320, 1000) if n <= options.most]
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        one = simulate_dataset(Path(folder) / "one", resolution=8, head=False)
        for count in counts:
            dataset = multiply(one, Path(folder) / f"raw{count}", count)
            rows.append(measure(dataset, Path(folder) / f"out{count}", count))
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
    if options.plot:
        options.plot.write_text(plot(rows), encoding="utf-8")


def multiply(one: Path, dataset: Path, count: int) -> Path:
    """Link the scans of one participant under many labels."""
    dataset.mkdir()
    (dataset / "dataset_description.json").write_bytes(
        (one / "dataset_description.json").read_bytes()
    )
    for number in range(1, count + 1):
        label = f"{number:04d}"
        anat = dataset / f"sub-{label}" / "anat"
        anat.mkdir(parents=True)
        for contrast in ("T1w", "FLAIR", "T2w")[: 3 - number % 2]:
            source = one / "sub-01" / "anat" / f"sub-01_{contrast}.nii.gz"
            os.link(source, anat / f"sub-{label}_{contrast}.nii.gz")
    return dataset


def measure(dataset: Path, out: Path, count: int) -> tuple[str, ...]:
    """Return a row of the table."""
    settings = Settings(dataset, out, engine="builtin", work_dir=out.with_name(f"work{count}"))
    model = read_model(None)
    engine, version = choose_engine("builtin")
    plans = [plan for plan in plan_run(settings, make_request(settings, model)) if plan.spaces]
    fresh = dry_run(settings)
    graph = graph_cost(settings, plans, PORTION)
    whole = graph_cost(settings, plans, len(plans)) if count <= MOST_IN_ONE_GRAPH else None
    finished = FinishedParticipants(settings, engine, version, model)
    for participant, group in by_participant(plans).items():
        anat = out / f"sub-{participant}" / "anat"
        anat.mkdir(parents=True)
        # As many files as a run leaves.
        for number in range(28):
            (anat / f"sub-{participant}_desc-{number}_T1w.json").write_text("{}")
        (out / f"sub-{participant}.html").write_text("")
        finished.note(participant, finished.task(group))
    done = dry_run(settings)
    each = (f"{1000 * seconds / len(plans):.0f}" if seconds else "-" for seconds in (graph, whole))
    return (str(count), f"{fresh:.1f}", f"{done:.1f}", *each)


def dry_run(settings: Settings) -> float:
    """Return the wall seconds of a dry run."""
    paths = (settings.bids_dir, settings.out_dir, "participant", "-w", settings.work_dir)
    words = [
        sys.executable,
        "-P",
        "-m",
        "colapipe.cli.app",
        *map(str, paths),
        *OPTIONS,
        "--dry-run",
    ]
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def graph_cost(settings: Settings, plans: Sequence[SessionPlan], portion: int) -> float:
    """Return the CPU seconds to build the workflows of all and to count what is cached."""
    from colapipe.workflows.base import init_colapipe_wf
    from colapipe.workflows.cache import count_nodes
    from colapipe.workflows.engines import load_engine
    from colapipe.workflows.execution import ask_quietly
    from colapipe.workflows.session import Run

    ask_quietly()
    engine, version = choose_engine("builtin")
    run = Run(
        settings=settings,
        engine=load_engine(engine),
        engine_version=version,
        model=read_model(None),
        threads=plan_resources(settings).threads,
        use_gpu=False,
        described={plan.participant: {} for plan in plans},
    )
    start = time.process_time()
    for first in range(0, len(plans), portion):
        count_nodes(init_colapipe_wf(plans[first : first + portion], run, work_folder(settings)))
    return time.process_time() - start


def plot(rows: Sequence[Sequence[str]]) -> str:
    """Return an SVG of the graph's cost over participants, both on a logarithmic axis."""
    from math import log10

    def place(row: Sequence[str], column: int) -> tuple[float, float]:
        return 60 + 160 * (log10(float(row[0])) - 1), 260 - 80 * (log10(float(row[column])) - 1)

    lines = []
    # The names stand above and below their curves, which end close to each other.
    for column, colour, name, shift in (
        (3, "#0b6", "in portions", -8),
        (4, "#c40", "one graph of all", 16),
    ):
        points = [place(row, column) for row in rows if row[column] != "-"]
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        x, y = points[-1]
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines.append(f'<text x="{x + 6:.0f}" y="{y + shift:.0f}" fill="{colour}">{name}</text>')
    for row in rows:
        x, _ = place(row, 3)
        lines.append(f'<text x="{x:.0f}" y="285" text-anchor="middle">{row[0]}</text>')
    for cost in (10, 100, 1000):
        y = 260 - 80 * (log10(cost) - 1)
        lines.append(f'<line x1="60" x2="400" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>')
        lines.append(f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{cost}</text>')
    lines.append('<text x="220" y="310" text-anchor="middle">participants</text>')
    lines.append('<text x="60" y="60">ms of graph per participant</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 320" '
        'font-family="sans-serif" font-size="12">' + "".join(lines) + "</svg>\n"
    )


if __name__ == "__main__":
    main()
