"""Interrupt a run at random moments, start it again, and compare with a run left in peace.

    python benchmarks/interrupt_ten_times.py FOLDER [--times 10] [--seed 0]

FOLDER takes a simulated dataset of two brain-extracted participants at 3 mm, an untrained model,
and the outputs. Each time a fresh run gets SIGINT, SIGTERM or SIGKILL in turn, at a moment drawn
evenly from the duration of the undisturbed run. Then the same command is started again.

Prints a Markdown table: the moment, the signal, the exit code and the seconds until the run had
ended with all its children, how many files stood under final names then, whether each of these was
the final one already, and whether the voxels and sidecars at the end are those of the undisturbed
run. Exit code 1 if one of them is not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def command(folder: Path, name: str) -> list[str]:
    """Return the command of one run."""
    return [
        *(sys.executable, "-P", "-m", "colapipe.cli.app", str(folder / "raw"), str(folder / name)),
        *("participant", "--participant-label", "01", "02", "--target", "PDw"),
        *("--engine", "builtin", "--skull-strip", "skip", "--sloppy", "--skip-bids-validation"),
        *("--model", str(folder / "nano.safetensors"), "--work-dir", str(folder / f"{name}-work")),
    ]


def prepare(folder: Path) -> None:
    """Make dataset and model, if they are not there."""
    from colapipe.coladiff.presets import write_nano_checkpoint
    from colapipe.phantom import simulate_dataset

    if not (folder / "raw").exists():
        folder.mkdir(parents=True, exist_ok=True)
        simulate_dataset(folder / "raw", resolution=3, head=False)
        write_nano_checkpoint(folder / "nano.safetensors")


def fingerprints(out: Path) -> dict[str, str]:
    """Return the hashes of all files of participants that stand under a final name."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob("sub-*/**/[!.]*"))
        if path.is_file()
    }


def children_of(out: Path) -> list[int]:
    """Return the processes of nodes that a run has left, from what its log says."""
    log = "".join(path.read_text() for path in out.glob("logs/*/colapipe.log"))
    pids = [int(line.rpartition(" ")[2]) for line in log.splitlines() if " is process " in line]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def interrupt(folder: Path, name: str, after: float, number: signal.Signals) -> tuple[int, float]:
    """Start a run and interrupt it; return its exit code and the seconds until all had ended."""
    process = subprocess.Popen(
        command(folder, name), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(after)
    process.send_signal(number)
    sent = time.monotonic()
    code = process.wait()
    while children_of(folder / name) and time.monotonic() - sent < 60:
        time.sleep(0.05)
    return code, time.monotonic() - sent


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A Ctrl-C reaches the app only if nothing above it has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = options.folder.absolute()
    prepare(folder)
    clear(folder, "whole")
    started = time.monotonic()
    subprocess.run(command(folder, "whole"), check=True, stdout=subprocess.DEVNULL)
    duration = time.monotonic() - started
    expected = fingerprints(folder / "whole")
    print(f"An undisturbed run takes {duration:.1f} s and leaves {len(expected)} files.\n")
    print("| at | signal | exit code | all ended after | files then | final | again | same |")
    print("|---|---|---|---|---|---|---|---|")
    draw, wrong = random.Random(options.seed), 0
    for time_number in range(options.times):
        clear(folder, "broken")
        after, number = draw.uniform(0, duration), SIGNALS[time_number % len(SIGNALS)]
        code, seconds = interrupt(folder, "broken", after, number)
        found = fingerprints(folder / "broken")
        final = found.items() <= expected.items()
        again = subprocess.run(command(folder, "broken"), stdout=subprocess.DEVNULL).returncode
        same = fingerprints(folder / "broken") == expected
        wrong += not (final and same and again == 0)
        print(
            f"| {after:.1f} s | {number.name} | {code} | {seconds:.1f} s | {len(found)} | "
            f"{'yes' if final else 'NO'} | {again} | {'yes' if same else 'NO'} |",
            flush=True,
        )
    print(f"\n{options.times - wrong} of {options.times} interrupted runs ended as if undisturbed.")
    return 1 if wrong else 0


def clear(folder: Path, name: str) -> None:
    """Remove what an earlier run of this script left."""
    for path in (folder / name, folder / f"{name}-work"):
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
