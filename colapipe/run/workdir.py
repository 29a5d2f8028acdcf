"""This dataset's part of the work directory, and how it is emptied."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from colapipe import __version__
from colapipe.config import Settings
from colapipe.errors import OutputError
from colapipe.run.failures import node_name

WORKFLOW = "colapipe"
"""Name of the workflow of a run, and of the folder that Nipype makes for it."""


def work_folder(settings: Settings) -> Path:
    """Return the folder of one dataset and version in the work directory.

    One work directory may serve several datasets, and versions may not share results.
    """
    key = hashlib.sha256(str(settings.bids_dir.resolve()).encode()).hexdigest()[:8]
    return settings.work_dir / f"{settings.bids_dir.name}-{key}" / f"v{__version__}"


def provide_temporary_folder(settings: Settings) -> None:
    """Let temporary files go to the work directory where the system has no place for them.

    That is so in a container whose root is read-only and has nothing mounted on ``/tmp``. A
    ``TMPDIR`` that cannot be used is replaced by what Python uses instead: other programs take it
    at its word.

    Raises
    ------
    OutputError
        If the work directory cannot be written to, either.
    """
    try:
        usable = tempfile.gettempdir()
    except FileNotFoundError:
        folder = settings.work_dir / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise OutputError(
                f"{folder}: cannot be made ({err.strerror}); expected a place for temporary files, "
                "for which the system has none. Set TMPDIR to a folder that you may write to, or "
                "choose another --work-dir."
            ) from err
        # For the processes of nodes and their commands, too.
        os.environ["TMPDIR"] = str(folder)
        return
    named = os.environ.get("TMPDIR")
    if named and not (Path(named).is_absolute() and os.access(named, os.W_OK | os.X_OK)):
        os.environ["TMPDIR"] = usable


def participant_folders(folder: Path, participant: str) -> list[Path]:
    """Return what a work folder holds of one participant."""
    return sorted((folder / WORKFLOW).glob(f"{node_name(participant)}_*"))


def clean(folder: Path, participants: Iterable[str]) -> None:
    """Delete what a work folder holds of some participants; of others nothing.

    Raises
    ------
    OutputError
        If a file cannot be deleted.
    """
    for participant in participants:
        for path in participant_folders(folder, participant):
            try:
                shutil.rmtree(path)
            except OSError as err:
                raise OutputError(
                    f"{err.filename or path}: cannot be deleted ({err.strerror}); expected a work "
                    "directory that is yours. Delete it yourself, or leave --clean-workdir away."
                ) from err
