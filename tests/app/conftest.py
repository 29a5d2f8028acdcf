"""Small simulated datasets, a model of no worth, and a way to run the app as a user does."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run left: exit code and everything it printed."""

    code: int
    text: str


@pytest.fixture(scope="session")
def app() -> Callable[..., Result]:
    """Run ``colapipe`` in a process of its own; every argument is turned into text."""

    def run(*arguments: object, prefix: tuple[str, ...] = (), **environment: str) -> Result:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "colapipe.cli.app", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Against hanging only.
            timeout=900,
            env={**os.environ, "COLUMNS": "200", **environment},
        )
        return Result(done.returncode, done.stdout)

    return run


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of a few thousand parameters that knows all contrasts."""
    from colapipe.coladiff.presets import write_nano_checkpoint

    return write_nano_checkpoint(tmp_path_factory.mktemp("model") / "nano.safetensors")


@pytest.fixture(scope="session")
def quick(nano: Path) -> list[object]:
    """Options of a run that is quick and needs no network of its own to find brains."""
    return [
        "participant",
        *("--engine", "builtin"),
        *("--skull-strip", "skip"),
        *("--model", nano),
        "--sloppy",
        "--skip-bids-validation",
    ]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three brain-extracted participants at 3 mm; the second lacks T2w, the third FLAIR."""
    pytest.importorskip("nilearn")
    from colapipe.phantom import simulate_dataset

    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "raw", resolution=3, head=False)


@pytest.fixture(scope="session")
def fingerprints() -> Callable[..., dict[str, str]]:
    """Hash the files of a folder that match a pattern, by their path in it."""

    def take(folder: Path, pattern: str = "sub-*/**/*") -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.glob(pattern))
            if path.is_file()
        }

    return take
