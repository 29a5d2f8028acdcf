"""What a run says: to the terminal with rich, to its log file in plain lines."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from colapipe.bids.names import synthetic_path
from colapipe.cli.progress import Progress
from colapipe.plan.sessions import SessionPlan
from colapipe.run.model import ModelInfo
from colapipe.run.usage import NodeUsage, memory_to_ask_for, most_memory_gb, slowest

MOST_LISTED = 20
"""Files, and warnings, that the terminal lists at the end of a run; the log lists all."""


class Screen:
    """The voice of a run.

    Parameters
    ----------
    verbosity : int
        0 says what matters, 1 every node, 2 everything.
    """

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity
        self.console = Console(stderr=False, soft_wrap=True, highlight=False)
        self._logger = logging.getLogger("colapipe")
        self._logger.setLevel(logging.DEBUG)
        self._logger.propagate = False
        # Without any handler, logging would print warnings itself, beside the console.
        self._logger.addHandler(logging.NullHandler())

    def log_to(self, path: Path) -> None:
        """Write everything that is said from now on to a file, too."""
        for old in list(self._logger.handlers):
            self._logger.removeHandler(old)
        # A log that cannot be written (the disk is full) is no reason to print its stack.
        logging.raiseExceptions = False
        # A file name may hold bytes that are no text.
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
        handler.on_failure = lambda words: self.console.print(
            f"[yellow]warning:[/] {escape(words)}"
        )
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        self._logger.addHandler(handler)

    def say(self, text: str, *, log_only: bool = False) -> None:
        """Say a sentence."""
        self._logger.info("%s", text)
        if not log_only:
            self.console.print(escape(text))

    def warn(self, text: str) -> None:
        """Say a sentence that should not be missed."""
        self._logger.warning("%s", text)
        self.console.print(f"[yellow]warning:[/] {escape(text)}")

    def warn_at_the_end(self, warnings: Sequence[str]) -> None:
        """Say what must not be missed: the first on the terminal, all in the log."""
        for number, text in enumerate(warnings):
            self._logger.warning("%s", text)
            if number < MOST_LISTED:
                self.console.print(f"[yellow]warning:[/] {escape(text)}")
        if len(warnings) > MOST_LISTED:
            self.console.print(f"... and {len(warnings) - MOST_LISTED} more, see the log")

    def plan(
        self,
        plans: Sequence[SessionPlan],
        engine: str,
        model: ModelInfo | None,
        about_dataset: Sequence[str] = (),
    ) -> None:
        """Print the plan as a table, with all notes and problems below it."""
        name = f"{model.name} (sha256 {model.sha256[:12]})" if model else "none"
        self.say(f"engine: {engine}; model: {name}")
        if model:
            self.say(f"terms of the model: {model.licence}", log_only=True)
        table = Table(box=None, pad_edge=False)
        for title in ("participant", "contrasts", "reference", "to synthesise", "from"):
            table.add_column(title)
        for plan in plans:
            for row in _rows(plan):
                table.add_row(*(escape(cell) for cell in row))
                self._logger.info("plan: %s", " | ".join(row))
        self.console.print(table)
        for line in about_dataset:
            self.warn(line)
        for plan in plans:
            for note in plan.notes:
                self.say(f"{plan.label}: {note}")
            for warning in plan.warnings:
                self.warn(f"{plan.label}: {warning.message}")
            for error in plan.errors:
                self._logger.error("%s", error)
                self.console.print(f"[red]problem:[/] {escape(error)}")

    @contextlib.contextmanager
    def progress(
        self, total: int, checks: Collection[str] = ()
    ) -> Iterator[Callable[[str, str], None]]:
        """Show how far the run is; yields the function that is told about each node.

        An exception of one of the nodes ``checks`` is the answer to its question, and no failure.
        """
        bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        progress = Progress(total, self.say)
        if bar.disable:
            progress.say_now_and_then()
        with bar, contextlib.closing(progress):
            task = bar.add_task("starting", total=total)

            def on_node(name: str, status: str) -> None:
                short = name.partition(".")[2]
                self._logger.info(
                    "%s %s", {"start": "running", "end": "done"}.get(status, status), short
                )
                if status == "exception" and name not in checks:
                    self.console.print(f"[red]failed:[/] {escape(short)}")
                elif self.verbosity and status == "end":
                    self.console.print(f"done: {escape(short)}")
                progress.note(name, status)
                bar.update(task, description=escape(short), completed=progress.done)

            yield on_node

    def consumed(self, usages: Sequence[NodeUsage]) -> None:
        """Print which nodes took longest, and the memory to ask for the next time."""
        if not usages:
            return
        nodes = ", ".join(
            f"{usage.node.partition('.')[2]} {_duration(usage.seconds)}"
            for usage in slowest(usages)
        )
        self.say(
            f"slowest: {nodes}; most memory at once {most_memory_gb(usages):.1f} GB, "
            f"--mem {memory_to_ask_for(usages)}G is enough for the same again"
        )

    def summary(
        self,
        out_dir: Path,
        plans: Sequence[SessionPlan],
        written: Sequence[str],
        problems: Mapping[str, Sequence[Mapping[str, str]]],
        seconds: float,
        warnings: Sequence[str] = (),
    ) -> None:
        """Print what was written, what failed and why, all warnings, and how long it took."""
        for participant, group in problems.items():
            self.console.print(f"[red]sub-{escape(participant)} failed:[/]")
            for problem in group:
                crash = f" (crash file: {problem['crash_file']})" if problem["crash_file"] else ""
                self._logger.error(
                    "sub-%s failed at %s: %s%s",
                    participant,
                    problem["node"],
                    problem["message"],
                    crash,
                )
                self.console.print(
                    f"  {escape(problem['node'])}: {escape(problem['message'] + crash)}"
                )
        made = [path for plan in plans if plan.label in written for path in _synthesised(plan)]
        for number, path in enumerate(made):
            self.say(f"written: {path}", log_only=number >= MOST_LISTED)
        if len(made) > MOST_LISTED:
            self.console.print(f"... and {len(made) - MOST_LISTED} more, see the log")
        self.warn_at_the_end(warnings)
        self.say(
            f"{len(written)} session(s) complete, {len(made)} contrast(s) synthesised, "
            f"{len(problems)} participant(s) failed, {len(warnings)} warning(s); "
            f"{_duration(seconds)}"
        )
        if written or problems:
            self.say(f"reports: {out_dir}/sub-*.html")


class _LogFile(logging.FileHandler):
    """A log that says once that it cannot be written."""

    on_failure: Callable[[str], None] | None = None

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell the terminal, the first time."""
        tell, self.on_failure = self.on_failure, None
        reason = sys.exc_info()[1]
        if tell is not None:
            tell(f"{self.baseFilename}: cannot be written ({reason}); the run goes on")


def _synthesised(plan: SessionPlan) -> list[str]:
    """Return the paths of the synthesised images of a session, relative to the output folder."""
    return [
        str(synthetic_path(plan.participant, plan.session, target.contrast, space.reference))
        for space in plan.spaces
        for target in space.targets
    ]


def _rows(plan: SessionPlan) -> list[tuple[str, ...]]:
    """Return the rows of the plan's table, one for each target."""
    available = ", ".join(plan.scans) or ", ".join(
        dict.fromkeys(c for space in plan.spaces for c in space.contrasts)
    )
    if not plan.spaces:
        return [(plan.label, available, "", "-", "")]
    rows: list[tuple[str, ...]] = []
    for space in plan.spaces:
        for target in space.targets:
            scored = " (scored)" if target.has_truth else ""
            rows.append(
                (
                    plan.label,
                    available,
                    space.reference,
                    target.contrast + scored,
                    ", ".join(target.sources),
                )
            )
        if not space.targets:
            rows.append((plan.label, available, space.reference, "- (preprocessing only)", ""))
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if minutes else "") + f"{rest} s"
