"""Measure how long the commands take to show their help: 0.3 s at most.

    python benchmarks/help.py

Runs `--help` of each command five times in a process of its own, from starting Python to its end,
and takes the best: the others were disturbed by what else the machine does. Prints a Markdown
table; the exit code is 1 if a command takes longer.
"""

from __future__ import annotations

import subprocess
import sys
import time

SECONDS_GATE = 0.3
TIMES = 5
COMMANDS = ("colapipe.cli.app", "colapipe.cli.model", "colapipe.cli.demo")


def seconds_of(module: str) -> float:
    """Show the help of a command once.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", module, "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> int:
    print(f"best of {TIMES}, gate: {SECONDS_GATE} s\n\n| command | s | gate |\n|---|---|---|")
    slow = False
    for module in COMMANDS:
        best = min(seconds_of(module) for _ in range(TIMES))
        slow |= best > SECONDS_GATE
        print(f"| {module} | {best:.2f} | {'missed' if best > SECONDS_GATE else 'met'} |")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
