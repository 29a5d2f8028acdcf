"""Training as the command runs it: killed and repeated, and by two processes together.

Two processes are what ``torchrun`` starts on one machine (manual: docs/training.md).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from colapipe.run.locks import lock
from colapipe.training.processes import Processes

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LONGEST = 300  # seconds, against hanging


def command(cache: Path, dataset: Path, out: Path, *more: str, processes: int = 1) -> list[str]:
    split = cache / "split.json"
    split.write_text(json.dumps({"train": ["01", "02"], "validation": []}))
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    words = f"train --data {dataset} --cache {cache} --out {out} --split {split} --preset nano"
    return [*start, "colapipe.cli.model", *words.split(), *more]


def state(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "state.safetensors")


def test_a_run_that_is_killed_goes_on_to_the_same_bits(
    cache: Path, dataset: Path, tmp_path: Path
) -> None:
    options = ("--iterations", "40", "--batch-size", "2", "--save-every", "10")
    killed = command(cache, dataset, tmp_path / "killed", *options)
    with subprocess.Popen(killed, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + LONGEST
        while not (tmp_path / "killed" / "state.safetensors").is_file():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(
        killed, env=ENVIRONMENT, capture_output=True, text=True, timeout=LONGEST, check=True
    )
    assert "going on at iteration" in again.stdout
    whole = command(cache, dataset, tmp_path / "whole", *options)
    subprocess.run(whole, env=ENVIRONMENT, capture_output=True, timeout=LONGEST, check=True)
    one, other = state(tmp_path / "killed"), state(tmp_path / "whole")
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_two_processes_train_as_one_would(cache: Path, dataset: Path, tmp_path: Path) -> None:
    """The same global batch, 20 steps in float64: losses and weights to 1e-8."""
    options = ("--iterations", "20", "--batch-size", "4", "--precision", "float64")
    for out, processes in (("one", 1), ("two", 2)):
        words = command(
            cache, dataset, tmp_path / out, *options, "--save-every", "1", processes=processes
        )
        run = subprocess.run(words, env=ENVIRONMENT, capture_output=True, timeout=LONGEST)
        assert run.returncode == 0, run.stderr.decode()[-2000:]
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one["network.denoiser.out.weight"].dtype == torch.float64
    for name, tensor in one.items():
        if not name.startswith("adam."):
            assert float((tensor - two[name]).abs().max()) <= 1e-8, name
    losses = [
        [line.split("\t")[2] for line in (tmp_path / out / "log.tsv").read_text().splitlines()[1:]]
        for out in ("one", "two")
    ]
    assert len(losses[0]) == 20
    for alone, together in zip(*losses, strict=True):
        assert float(alone) == pytest.approx(float(together), abs=1e-8)


def test_a_batch_that_cannot_be_shared_is_refused(
    cache: Path, dataset: Path, tmp_path: Path
) -> None:
    assert Processes(1, 3).share(6) == slice(2, 4)
    words = command(cache, dataset, tmp_path, "--batch-size", "3", processes=2)
    run = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=LONGEST)
    assert run.returncode != 0
    assert "--batch-size 3 cannot be shared equally by 2 processes" in run.stderr


def test_a_folder_in_which_another_run_trains_is_refused(
    cache: Path, dataset: Path, tmp_path: Path
) -> None:
    words = command(cache, dataset, tmp_path, "--iterations", "1")
    with lock(tmp_path / "run.lock", "a run"):
        run = subprocess.run(
            words, env=ENVIRONMENT, capture_output=True, text=True, timeout=LONGEST
        )
    assert run.returncode == 75
    assert "another run of colapipe is at work on it" in run.stderr
