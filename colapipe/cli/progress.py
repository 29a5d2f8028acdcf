"""How far a run is: a bar on a terminal, a plain line now and then where nobody sees a bar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from colapipe.run.failures import participant_of

SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Counts the nodes of a run and says how far it is.

    Parameters
    ----------
    total : int
        Nodes, cached ones included.
    say : callable
        Says a sentence.
    """

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self.total, self.done = total, 0
        self.running: list[str] = []
        self._say = say
        self._started = time.monotonic()
        self._stopped = threading.Event()

    def note(self, name: str, status: str) -> None:
        """Take note of a node's ``start``, ``end`` or ``exception``."""
        short = name.partition(".")[2]
        if status == "start":
            # A node that is repeated starts twice.
            self.running = [*dict.fromkeys([*self.running, short])]
            return
        self.done += 1
        if short in self.running:
            self.running.remove(short)
        if status == "end" and short.endswith("_report"):
            self._say(f"sub-{participant_of(name)[0]} is complete ({self.words()})")

    def words(self) -> str:
        """Return how far the run is, in words."""
        minutes = (time.monotonic() - self._started) / 60
        return f"{self.done} of {self.total} nodes, {minutes:.1f} min"

    def say_now_and_then(self) -> None:
        """Say once a minute how far the run is, from another thread, until closed."""
        threading.Thread(target=self._repeat, daemon=True).start()

    def close(self) -> None:
        """Say nothing more."""
        self._stopped.set()

    def _repeat(self) -> None:
        while not self._stopped.wait(SECONDS_BETWEEN_LINES):
            now = ", ".join(self.running) or "nothing"
            self._say(f"{self.words()}; running: {now}")
