"""What a user installs: the wheel holds every room under its installed name, with its data."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "colapipe": "colapipe",
    "workflows": "colapipe/workflows",
    "interfaces": "colapipe/interfaces",
    "bids_templates": "colapipe/bids_templates",
}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from a copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ROOMS:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    code = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(source / built.stdout.split()[-1]) as wheel:
        return set(wheel.namelist())


def test_every_file_of_the_house_is_in_the_wheel(wheel_names: set[str]) -> None:
    expected = {
        f"{installed}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, installed in ROOMS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= wheel_names, sorted(expected - wheel_names)


def test_nothing_is_installed_beside_the_package(wheel_names: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel_names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"colapipe"}


def test_the_licence_is_in_the_wheel(wheel_names: set[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_every_requirement_has_a_tested_version_and_torchvision_is_none_of_them() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    requirements = [setup["options"]["install_requires"]]
    requirements += setup["options.extras_require"].values()
    needed = {
        normalised(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0])
        for line in "\n".join(requirements).split("\n")
        if line.strip()
    }
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normalised(line.split("==")[0]) for line in lines if "==" in line}
    assert needed <= pinned, sorted(needed - pinned)
    # PyPI's torchvision breaks imports beside a CPU build of torch, merely by being installed.
    assert "torchvision" not in needed | pinned
