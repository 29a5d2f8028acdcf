"""A place for the sockets of ``multiprocessing``, whose paths may have no more than 107 bytes."""

from __future__ import annotations

import functools
import os
import socket
import tempfile
from multiprocessing import util
from pathlib import Path

from colapipe.errors import OutputError

PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where sockets go if the folder of temporary files cannot hold any."""

_MOST_BYTES = 107
_ADDED = "/pymp-abcdefgh/listener-abcdefgh"
"""As long as what `multiprocessing` adds to the folder that it is given."""


@functools.cache
def choose_socket_folder() -> None:
    """Let `multiprocessing` make the folder of its sockets where they can be.

    It does so once in the life of a process, in the folder of temporary files, whose name may be
    too long for it. Everything else that is temporary stays there.

    Raises
    ------
    OutputError
        If no folder can hold a socket.
    """
    usual = tempfile.gettempdir()
    problems: list[str] = []
    for folder in dict.fromkeys((usual, *PLACES)):
        name = folder
        if len(os.fsencode(folder + _ADDED)) > _MOST_BYTES:
            name = _short_name(folder)
        try:
            _try_socket(name)
        except OSError as err:
            problems.append(f"{folder} ({err.strerror or err})")
            continue
        tempfile.tempdir = name
        try:
            util.get_temp_dir()
        finally:
            tempfile.tempdir = usual
        return
    raise OutputError(
        f"no folder can hold a socket, by which the steps of a run are started: "
        f"{', '.join(problems)}. Set TMPDIR to a folder that you may write to."
    )


def _short_name(folder: str) -> str:
    """Return another name of a folder, valid as long as this process lives."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return folder
    return f"/proc/{os.getpid()}/fd/{handle}"


def _try_socket(folder: str) -> None:
    """Listen and connect in a folder of it, as `multiprocessing` will; raise OSError if not."""
    with tempfile.TemporaryDirectory(prefix="pymp-", dir=folder) as inner:
        address = str(Path(inner, "listener-abcdefgh"))
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(address)
            listener.listen()
            client.connect(address)
