"""What a user installs: the wheel holds every room under its installed name, with its data."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import venv
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

HOSTILE = ("nibabel", "torch", "json", "logging", "numpy", "nipype", "yaml", "sitecustomize")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources, and the wheel built from it."""
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
    return source


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel built from a copy of the sources."""
    return next(source.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    """Names of the files in it."""
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


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


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console script of an installation that is not editable.

    As ``pip install .`` leaves it; the other packages are those that the tests run with.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    site = Path(done.stdout.strip())
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(site)
    # Lines of a .pth file are not searched for others, such as that of an editable installation.
    others = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "others.pth").write_text("".join(f"{path}\n" for path in others))
    script = folder / "bin" / "colapipe"
    script.write_text(
        f"#!{python}\nimport sys\nfrom colapipe.cli.app import main\n"
        "if __name__ == '__main__':\n    sys.exit(main())\n"
    )
    script.chmod(0o755)
    return script


def test_an_installed_app_runs_inside_its_own_sources_and_beside_hostile_files(
    installed, source, simulated, quick, tmp_path
) -> None:
    # A clone holds a folder called colapipe, which lacks the workflows.
    hit = tmp_path / "hit"
    for name in HOSTILE:
        (source / f"{name}.py").write_text(f"open({str(hit)!r}, 'a').write({name!r})\n")
    (source / "nipype.cfg").write_text("[execution]\nplugin = None\nkeep_inputs = perhaps\n")
    arguments = (simulated, tmp_path / "out", *quick, "--participant-label", "02")
    done = subprocess.run(
        [installed, *map(str, arguments), "-w", tmp_path / "work"],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    assert not hit.exists(), hit.read_text()
    assert list((tmp_path / "out").glob("sub-02/anat/*_desc-synth_T2w.nii.gz"))


def test_every_command_of_ours_is_looked_for_where_it_is_installed() -> None:
    folders = [ROOT / folder for folder in (*ROOMS, "benchmarks")]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"sys\.executable\}?,? \W?-m\b", text), path
    script = (ROOT / "bids_templates" / "train.sbatch").read_text(encoding="utf-8")
    assert "export PYTHONSAFEPATH=1" in script


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
