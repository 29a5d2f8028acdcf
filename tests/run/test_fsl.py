"""FSL is found where it is, with its version, and never half of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from colapipe.run.fsl import PROGRAMS, find_fsl


def install(root: Path, version: str | None = None, programs: tuple[str, ...] = PROGRAMS) -> Path:
    """Make something that looks like FSL, and return the folder of its programs."""
    bin_dir = root / "bin"
    bin_dir.mkdir(parents=True)
    for name in programs:
        (bin_dir / name).write_text("#!/bin/sh\n")
        (bin_dir / name).chmod(0o755)
    if version is not None:
        (root / "etc").mkdir()
        (root / "etc" / "fslversion").write_text(version)
    return bin_dir


@pytest.mark.parametrize(
    ("written", "version"),
    [("5.0.9\n", "5.0.9"), ("6.0.5:9e026117\n", "6.0.5"), ("\n", "unknown"), (None, "unknown")],
)
def test_fsldir_leads_to_the_programs_and_the_version(
    tmp_path: Path, written: str | None, version: str
) -> None:
    bin_dir = install(tmp_path, written)
    found = find_fsl({"FSLDIR": str(tmp_path)})
    assert found is not None
    assert (found.bin_dir, found.version, found.root) == (bin_dir, version, tmp_path)


def test_path_leads_to_fsl_without_fsldir(tmp_path: Path) -> None:
    bin_dir = install(tmp_path / "fsl", "6.0.7.4")
    found = find_fsl({"PATH": os.pathsep.join(("", "/nowhere", str(bin_dir)))})
    assert found is not None
    assert (found.version, found.root) == ("6.0.7.4", tmp_path / "fsl")


def test_the_wrappers_of_fsl_6_on_path_lead_to_its_root(tmp_path: Path) -> None:
    install(tmp_path, "6.0.7.4")
    wrappers = install(tmp_path / "share" / "fsl")
    found = find_fsl({"PATH": str(wrappers)})
    assert found is not None
    assert (found.bin_dir, found.version, found.root) == (wrappers, "6.0.7.4", tmp_path)


def test_links_on_path_lead_to_the_fsl_behind_them(tmp_path: Path) -> None:
    bin_dir = install(tmp_path / "opt" / "fsl", "5.0.11")
    links = tmp_path / "local" / "bin"
    links.mkdir(parents=True)
    for name in PROGRAMS:
        (links / name).symlink_to(bin_dir / name)
    found = find_fsl({"PATH": str(links)})
    assert found is not None
    assert (found.version, found.root) == ("5.0.11", tmp_path / "opt" / "fsl")


def test_fsldir_comes_before_path(tmp_path: Path) -> None:
    install(tmp_path / "mine", "6.0.1")
    other = install(tmp_path / "other", "5.0.9")
    found = find_fsl({"FSLDIR": str(tmp_path / "mine"), "PATH": str(other)})
    assert found is not None and found.version == "6.0.1"


def test_an_fsldir_that_is_gone_does_not_hide_the_fsl_on_path(tmp_path: Path) -> None:
    bin_dir = install(tmp_path / "fsl", "6.0.1")
    found = find_fsl({"FSLDIR": str(tmp_path / "gone"), "PATH": str(bin_dir)})
    assert found is not None and found.version == "6.0.1"


@pytest.mark.parametrize("missing", PROGRAMS)
def test_an_fsl_without_one_of_the_programs_is_none(tmp_path: Path, missing: str) -> None:
    rest = tuple(name for name in PROGRAMS if name != missing)
    bin_dir = install(tmp_path, "6.0.1", rest)
    assert find_fsl({"FSLDIR": str(tmp_path), "PATH": str(bin_dir)}) is None


def test_a_program_that_may_not_run_does_not_count(tmp_path: Path) -> None:
    (install(tmp_path) / "fast").chmod(0o644)
    assert find_fsl({"FSLDIR": str(tmp_path)}) is None


def test_without_any_variable_there_is_no_fsl() -> None:
    assert find_fsl({}) is None


def test_the_programs_run_in_an_environment_of_their_own_fsl(tmp_path: Path) -> None:
    bin_dir = install(tmp_path)
    found = find_fsl({"FSLDIR": str(tmp_path)})
    assert found is not None
    assert found.environment({"PATH": "/usr/bin", "FSLOUTPUTTYPE": "ANALYZE"}) == {
        "FSLDIR": str(tmp_path),
        "FSLOUTPUTTYPE": "NIFTI_GZ",
        "PATH": f"{bin_dir}{os.pathsep}/usr/bin",
    }
