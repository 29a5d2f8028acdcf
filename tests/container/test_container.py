"""The container image: what the Dockerfile promises, and a run inside it.

manual: docs/containers.md
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import colapipe

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("build_and_run.sh")
GIGABYTES = 12
"""Disk that a build takes for a while: the packages three times over, and the layers."""


def answers(program: str) -> bool:
    """Say whether Docker or Podman is there and does what it is told."""
    if shutil.which(program) is None:
        return False
    return subprocess.run([program, "info"], capture_output=True, timeout=60).returncode == 0


def options() -> list[str]:
    """Return the options with which the image can be built here; skip the test where it cannot."""
    if shutil.disk_usage("/").free < GIGABYTES * 1e9:
        pytest.skip(f"building an image takes {GIGABYTES} GB of disk, and / has less")
    if answers("docker"):
        return []
    if not answers("podman"):
        pytest.skip("no image can be built: neither Docker nor Podman answers")
    if os.getuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("Podman makes its base image here as root, with debootstrap")
    return ["--bootstrap"]


def test_the_version_label_is_the_version_of_the_package() -> None:
    assert set(re.findall(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE)) == {
        colapipe.__version__
    }


def test_every_room_and_everything_that_is_copied_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    rooms = {
        line.partition("=")[2].strip()
        for line in setup["options"]["package_dir"].splitlines()
        if line
    }
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for name in line.split()
        if name != "."
    }
    described = {"pyproject.toml", setup["metadata"]["license_files"]}
    described |= {setup["metadata"]["long_description"].removeprefix("file:").strip()}
    needed = rooms | copied | described
    assert needed <= {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored, "whatever else lies in the clone, patients' scans too, stays out"


def test_fsl_is_nowhere_in_the_image_unless_it_is_given() -> None:
    assert "FROM scratch AS fsl\n\n" in DOCKERFILE
    assert not re.search(r"fslinstaller|curl|wget|^ADD ", DOCKERFILE, re.MULTILINE)


def test_the_guide_explains_every_argument_of_the_build() -> None:
    guide = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)) - {"VERSION"}
    assert {name for name in arguments if f"`{name}`" not in guide} == set()


@pytest.mark.slow
def test_the_simulated_dataset_goes_through_a_read_only_image_without_a_network(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        ["bash", SCRIPT, "--scratch", tmp_path, *options()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Against hanging only.
        timeout=3 * 3600,
    )
    assert done.returncode == 0, done.stdout
