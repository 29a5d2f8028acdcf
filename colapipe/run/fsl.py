"""Which FSL is on this machine. FSL is optional: without it the built-in engine does the work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("flirt", "fast", "bet")
"""What the FSL engine needs; only with all of them does ``--engine auto`` take FSL."""

UNKNOWN_VERSION = "unknown"

# How far above its programs an installation may keep its version: FSL 6 puts them on PATH as
# FSLDIR/share/fsl/bin, older ones and FSLDIR itself as FSLDIR/bin.
_LEVELS_ABOVE_PROGRAMS = 4


@dataclass(frozen=True)
class FSLInstallation:
    """An FSL that has every program this app needs.

    Attributes
    ----------
    bin_dir : Path
        Folder of the programs.
    version : str
        What ``etc/fslversion`` says, such as "6.0.7.4"; "unknown" where there is no such file.
    root : Path
        What FSL's own scripts expect in FSLDIR.
    """

    bin_dir: Path
    version: str
    root: Path

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the variables with which the programs of this FSL run and write ``.nii.gz``."""
        search_path = [str(self.bin_dir), environ.get("PATH", os.defpath)]
        return {
            "FSLDIR": str(self.root),
            "FSLOUTPUTTYPE": "NIFTI_GZ",
            "PATH": os.pathsep.join(search_path),
        }


def find_fsl(environ: Mapping[str, str] = os.environ) -> FSLInstallation | None:
    """Find FSL through FSLDIR or, failing that, PATH.

    Parameters
    ----------
    environ : mapping
        Environment variables to look in.

    Returns
    -------
    FSLInstallation or None
        None unless ``flirt``, ``fast`` and ``bet`` are found in one folder.
    """
    if fsldir := environ.get("FSLDIR"):
        root = Path(fsldir).absolute()
        if _has_programs(root / "bin"):
            return FSLInstallation(root / "bin", _version(root), root)
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder and _has_programs(Path(folder)):
            bin_dir = Path(folder).absolute()
            root = _root_above(bin_dir)
            return FSLInstallation(bin_dir, _version(root), root)
    return None


def _has_programs(folder: Path) -> bool:
    return all(shutil.which(name, path=str(folder)) for name in PROGRAMS)


def _root_above(bin_dir: Path) -> Path:
    """Return the folder that holds ``etc/fslversion``, else the one above the programs."""
    # A link to one program (/usr/local/bin/flirt -> /opt/fsl/bin/flirt) leads to its own FSL.
    program = (bin_dir / PROGRAMS[0]).resolve()
    for start in (bin_dir, program.parent):
        for folder in list(start.parents)[:_LEVELS_ABOVE_PROGRAMS]:
            if _version_file(folder).is_file():
                return folder
    return program.parent.parent


def _version_file(root: Path) -> Path:
    return root / "etc" / "fslversion"


def _version(root: Path) -> str:
    try:
        text = _version_file(root).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return UNKNOWN_VERSION
    # FSL 6 writes "6.0.5:9e026117" (version and build).
    lines = text.strip().splitlines()
    return lines[0].split(":")[0].strip() if lines else UNKNOWN_VERSION
