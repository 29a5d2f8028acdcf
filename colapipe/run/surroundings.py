"""What a process takes over from where it was started, made safe: folder, search path, sockets.

Nothing that lies in the working directory may be imported or run, and that directory may not even
be there any more.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from colapipe.errors import UsageError

SEARCH_PATHS = ("PYTHONPATH", "PATH", "LD_LIBRARY_PATH")
"""Variables that say where a process and its children find modules, programs and libraries."""


@contextlib.contextmanager
def in_folder(folder: str) -> Iterator[None]:
    """Work in another folder for a while, and come back even to one that was deleted."""
    # As a place, not by its name, and also where one may enter and not read.
    here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(folder)
        yield
    finally:
        os.fchdir(here)
        os.close(here)


def settle(given: Mapping[str, object]) -> None:
    """Make a command independent of where it was started, as far as what it was given allows.

    A working directory that is gone is left for the root. One that is there takes no part in
    search paths, where an empty entry (``PYTHONPATH=$PYTHONPATH:/mine``) stands for it.

    Parameters
    ----------
    given : mapping
        Options to values; paths and lists of paths among them count.

    Raises
    ------
    UsageError
        If a path is relative to a working directory that is gone, or has a name that no text file
        can hold.
    """
    try:
        here = Path.cwd()
    except OSError as err:
        for option, path in _paths(given):
            if not path.is_absolute():
                raise UsageError(
                    f"{option} {path}: is relative to the working directory, which cannot be "
                    f"found any more ({err.strerror}). Change to another folder (cd), or give "
                    "a path from the root."
                ) from err
        os.chdir("/")
        here = Path("/")
    for option, path in _paths(given):
        try:
            str(here / path).encode()
        except UnicodeEncodeError as err:
            raise UsageError(
                f"{option} {path}: is not UTF-8, the only encoding that the settings, sidecars "
                "and reports of a run can name files in. Rename that folder, or give a link to it."
            ) from err
    for variable in SEARCH_PATHS:
        if named := os.environ.get(variable):
            _leave_search_path(variable, named.split(os.pathsep), here)


def _paths(given: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    for option, value in given.items():
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, Path):
                yield option, path.expanduser()


def _leave_search_path(variable: str, entries: list[str], here: Path) -> None:
    """Take the working directory out of a search path where it is not named in full."""
    kept = []
    for entry in entries:
        # A relative entry would mean another folder in a process that starts elsewhere.
        path = os.path.normpath(here / entry)
        if Path(entry).is_absolute() or path != str(here):
            kept.append(entry if Path(entry).is_absolute() else path)
    if kept == entries:
        return
    if variable == "PYTHONPATH" and str(here) not in kept:
        sys.path[:] = [path for path in sys.path if path != str(here)]
    os.environ[variable] = os.pathsep.join(kept)
    if not kept:
        del os.environ[variable]
