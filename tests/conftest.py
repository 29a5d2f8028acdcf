"""What every test can rely on: one thread, no network calls at import, and the optional extras.

Tests that need something a fresh machine may lack (FSL, SLURM, Chromium, the real scans) say so
with a marker and are skipped, with the reason, where it is missing.
"""

from __future__ import annotations

import os

# Before anything imports numpy, torch or Nipype: several workers share the cores, and Nipype asks
# a server for its newest version when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NIPYPE_NO_ET"] = "1"

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FSL_PROGRAMS = ("flirt", "fast", "bet")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def shared_data_folder() -> Path:
    """Return the folder of real scans, which need not exist."""
    named = os.environ.get("COLAPIPE_TEST_DATA")
    return Path(named).expanduser() if named else ROOT.parent / "shared" / "data"


def _missing_shared_data() -> str | None:
    folder = shared_data_folder()
    if folder.is_dir():
        return None
    return f"no real scans at {folder}; set COLAPIPE_TEST_DATA to the folder that holds them"


def _missing_fsl() -> str | None:
    folders = os.environ.get("PATH", "")
    if fsldir := os.environ.get("FSLDIR"):
        folders = os.pathsep.join((str(Path(fsldir) / "bin"), folders))
    missing = [name for name in FSL_PROGRAMS if shutil.which(name, path=folders) is None]
    return f"FSL is not here: no {', '.join(missing)} in FSLDIR/bin or PATH" if missing else None


def _missing_slurm() -> str | None:
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return "SLURM is not here: no sbatch and sinfo in PATH"
    try:
        answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return "SLURM does not answer: sinfo took longer than 10 s"
    return None if answer.returncode == 0 else "SLURM does not answer: sinfo failed"


def _missing_chromium() -> str | None:
    if any(shutil.which(name) for name in CHROMIUM_NAMES):
        return None
    return f"no Chromium: none of {', '.join(CHROMIUM_NAMES)} in PATH"


REQUIREMENTS = {
    "fsl": _missing_fsl,
    "slurm": _missing_slurm,
    "chromium": _missing_chromium,
    "shared_data": _missing_shared_data,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests whose marker names something that is not on this machine."""
    for name, missing in REQUIREMENTS.items():
        marked = [item for item in items if item.get_closest_marker(name)]
        reason = missing() if marked else None
        if reason is not None:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real scans laid out as BIDS datasets; skips the test where it is absent."""
    if reason := _missing_shared_data():
        pytest.skip(reason)
    return shared_data_folder()
