"""One node in a process of its own: what happens on the app's side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from traceback import format_exception
from typing import Any

from colapipe.run.failures import describe_exit
from colapipe.run.resources import count_oom_kills
from colapipe.run.usage import Consumed
from colapipe.workflows.plugins.failures import no_result, traceback_lines
from colapipe.workflows.plugins.worker import Share, work

_UNKNOWN = 255
"""What `multiprocessing` says of a process whose exit code it cannot learn."""


class NodeProcess:
    """A node that runs in a process of its own.

    A process that dies takes nothing with it but its own node, and its exit code belongs to it
    alone; a pool of processes would break as a whole and not say which one it was.

    Parameters
    ----------
    node : nipype.Node
    updatehash : bool
    taskid : int
    share : Share

    Attributes
    ----------
    answer : Connection
        Becomes ready when the node has ended.
    started, ended : float
        Seconds since the epoch; ``ended`` is 0 as long as it runs.
    consumed : Consumed or None
        As the process itself measured it; None for one that died.
    exit : str
        ``ok``, ``failed``, or what ended the process.
    """

    def __init__(self, node: Any, updatehash: bool, taskid: int, share: Share) -> None:
        self.node, self.share = node, share
        self.consumed: Consumed | None = None
        self.exit = ""
        self.ended = 0.0
        self._oom_kills = count_oom_kills()
        self.started = time.time()
        context = multiprocessing.get_context("forkserver")
        self.answer, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=work, args=(node, updatehash, taskid, share, sender), name=node.fullname
        )
        self._process.start()
        sender.close()

    @property
    def pid(self) -> int:
        """The process, and the group of the node's commands."""
        return self._process.pid or 0

    def poll(self) -> dict[str, Any] | None:
        """Return the result as Nipype wants it, or None as long as the node runs."""
        died = not self._process.is_alive()
        if self.answer.poll():
            try:
                result, self.consumed = self.answer.recv()
            except EOFError:
                self._process.join()
                return self._finish(self._no_answer())
            except Exception as err:
                return self._finish({"result": None, "traceback": format_exception(err)})
            return self._finish(self._explained(result))
        return self._finish(self._no_answer()) if died else None

    @property
    def lost(self) -> bool:
        """The server that this process was forked from died, and its exit code with it."""
        return self.exit == str(_UNKNOWN)

    def signal(self, number: int) -> None:
        """Send a signal to the node and to all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
            return
        # The group is not there yet if the process has only just begun.
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process and say whether it came."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def _finish(self, result: dict[str, Any]) -> dict[str, Any]:
        self.ended = time.time()
        self.exit = self.exit or ("failed" if result["traceback"] else "ok")
        # What a node leaves running, it leaves to nobody.
        self.signal(signal.SIGKILL)
        self._process.join()
        self.answer.close()
        return result

    def _no_answer(self) -> dict[str, Any]:
        code = self._process.exitcode
        self.exit, words = describe_exit(_UNKNOWN if code is None else code)
        if oom := self._oom_words():
            # Then nothing needs to be guessed.
            words = f"{words.partition(',')[0]}: {oom}"
        return no_result(f"its process {words}")

    def _explained(self, result: dict[str, Any]) -> dict[str, Any]:
        """Add what the node cannot know: that the system ended one of its commands."""
        if result["traceback"] and (words := self._oom_words()):
            lines = traceback_lines(result)
            result["traceback"] = [*lines, f"While it ran, {words}\n"]
        return result

    def _oom_words(self) -> str:
        kills = count_oom_kills() - self._oom_kills
        if kills <= 0:
            return ""
        return (
            f"the system ended {kills} process(es) of this run for want of memory. Let fewer "
            "steps run at once (a lower --mem or --nprocs), or ask for more memory."
        )
