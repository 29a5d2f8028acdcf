"""Measure the bundled model against its gates: 80 slices within 60 s and 1.5 GB on two threads.

    python benchmarks/cola_tiny.py                     # the bundled model
    python benchmarks/cola_tiny.py --model model.safetensors --threads 1

Runs `colapipe-model synth` as the app does, in a process of its own, on three sources, a mask and
three tissue maps of 80 slices that are made for it: every slice has the cross-section of a large
brain, 150 x 185 mm, and so costs what the costliest slice of a volume does. Elapsed and CPU seconds
are those of the whole process, from starting Python to the last file written; the peak of its
memory is the one that it reports itself. Prints a Markdown table; the exit code is 1 if a gate is
missed. What else the machine does adds to the elapsed seconds: with a load above 2 before the first
run the time is printed but not judged; memory always is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np

from colapipe.weights import bundled_model_path

SECONDS_GATE, BYTES_GATE = 60.0, 1.5e9
HIGHEST_LOAD = 2.0
"""Above it other processes take the CPUs that the gate of the time is about."""
SLICES, STEPS = 80, (4, 1)
SOURCES, TARGET, TISSUES = ("T1w", "T1ce", "FLAIR"), "T2w", ("CSF", "GM", "WM")


@dataclass(frozen=True)
class Row:
    """One run."""

    name: str
    steps: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    judge_time: bool = True

    def missed(self) -> list[str]:
        """Name the gates that were missed."""
        return [
            what
            for what, value, gate in (
                ("time", self.seconds, SECONDS_GATE),
                ("memory", self.peak_bytes, BYTES_GATE),
            )
            if value > gate and (what != "time" or self.judge_time)
        ]

    def __str__(self) -> str:
        verdict = " and ".join(self.missed()) + " missed" if self.missed() else "met"
        verdict += "" if self.judge_time else ", time not judged"
        return (
            f"| {self.name} | {self.steps} | {self.seconds:.1f} | {self.cpu_seconds:.1f} | "
            f"{self.peak_bytes / 1e9:.2f} | {verdict} |"
        )


def write_inputs(folder: Path, slices: int) -> dict[str, str]:
    """Write the mask, the sources and the tissue maps; return their paths by name."""
    x, y = np.indices((224, 224)) - 223 / 2
    disc = (x / 75) ** 2 + (y / 92.5) ** 2 < 1
    mask = np.repeat(disc[:, :, None], slices, axis=2)
    rng = np.random.default_rng(0)
    paths = {}
    for name in ("mask", *SOURCES, *TISSUES):
        if name == "mask":
            volume = mask.astype(np.uint8)
        elif name in TISSUES:
            volume = mask / np.float32(3)
        else:
            volume = rng.random(mask.shape, dtype=np.float32) * mask
        paths[name] = str(folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(volume, np.eye(4)), paths[name])
    return paths


def measure(folder: Path, inputs: dict[str, str], model: Path, steps: int, threads: int) -> Row:
    """Run `colapipe-model synth` on all slices.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    request, info = folder / "request.json", folder / "info.json"
    content = {
        "format_version": 1,
        "model": str(model),
        "participant": "benchmark",
        "target": TARGET,
        "contrasts": {name: inputs[name] for name in SOURCES},
        "mask": inputs["mask"],
        "tissues": {name: inputs[name] for name in TISSUES},
        "tissue_source": SOURCES[0],
        "slices": list(range(nib.load(inputs["mask"]).shape[2])),
        "options": {"steps": steps, "samples": 1, "device": "cpu", "threads": threads},
        "outputs": {"mean": str(folder / "mean.nii.gz"), "info": str(info)},
    }
    request.write_text(json.dumps(content), encoding="utf-8")
    command = [sys.executable, "-P", "-m", "colapipe.cli.model", "synth", str(request)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, env=environment)
    seconds, after = time.perf_counter() - start, os.times()
    cpu_seconds = sum(after[2:4]) - sum(before[2:4])  # of children that were waited for
    facts = json.loads(info.read_text(encoding="utf-8"))
    return Row(facts["model"]["name"], steps, seconds, cpu_seconds, facts["peak_memory_bytes"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=bundled_model_path(), help="default: bundled")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--slices", type=int, default=SLICES, help="default: %(default)s")
    options = parser.parse_args(arguments)
    # Before the first run, which is itself a load.
    load = os.getloadavg()[0]
    print(
        f"{options.slices} slices, {options.threads} thread(s), load {load:.1f} on "
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}; gates: {SECONDS_GATE:.0f} s, "
        f"{BYTES_GATE / 1e9:.1f} GB\n"
    )
    judge_time = load <= HIGHEST_LOAD
    if not judge_time:
        print(f"time not judged, load {load:.1f} is above {HIGHEST_LOAD:.0f}\n")
    print("| model | steps | elapsed s | CPU s | peak GB | gates |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_inputs(folder, options.slices)
        for steps in STEPS:
            row = measure(folder, inputs, options.model, steps, options.threads)
            rows.append(replace(row, judge_time=judge_time))
            print(rows[-1], flush=True)
    return int(any(row.missed() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
