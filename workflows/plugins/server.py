"""The server that the processes of nodes are forked from, with their libraries loaded already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver

from colapipe.workflows.plugins.sockets import choose_socket_folder
from colapipe.workflows.plugins.worker import THREAD_LIMITS

PRELOADED = [
    "colapipe.quality.scores",
    "colapipe.interfaces.anatomy",
    "colapipe.interfaces.bids",
    "colapipe.interfaces.builtin",
    "colapipe.interfaces.evaluation",
    "colapipe.interfaces.report",
    "colapipe.interfaces.slices",
    "colapipe.interfaces.synthesis",
    "colapipe.anatomy.registration",
    "colapipe.anatomy.resample",
    "colapipe.anatomy.tissue",
    "colapipe.report.page",
    "colapipe.slices.present",
    "colapipe.workflows.plugins.worker",
]
"""What the server has loaded that processes fork from. Not torch: its users have own processes."""

ENVIRONMENT = {
    # Libraries that the server loads start no threads; those of a node do, within its share.
    **dict.fromkeys(THREAD_LIMITS, "1"),
    # Without it, the working directory comes first where Python looks for modules.
    "PYTHONSAFEPATH": "1",
}
"""What the server is started with."""


def start_server() -> None:
    """Start the server that the processes of nodes are forked from, if it does not run yet.

    A process forked from this one could not use a GPU, and would inherit its threads.
    """
    multiprocessing.set_forkserver_preload(PRELOADED)
    # A Ctrl-C is for the app, which ends its nodes. A blocked signal stays so in the server.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        choose_socket_folder()
        with environment(ENVIRONMENT):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
