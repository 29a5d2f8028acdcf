"""Programs of this package as nodes, each in a process of its own."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from nipype.interfaces.base import CommandLine

from colapipe.errors import ParticipantError
from colapipe.run.failures import describe_exit


def python_command(module: str, *words: str) -> str:
    """Return the command line that runs a module of this package, quoted for a shell.

    With ``-P``, Python looks for modules where it is installed and not in the node's folder.
    """
    return shlex.join([sys.executable, "-P", "-m", module, *words])


class OwnCommand(CommandLine):
    """A command of this package, which fails with its own last words or with what ended it.

    Nipype itself says no more than the exit code.
    """

    def _run_interface(self, runtime: Any, *args: Any, **kwargs: Any) -> Any:
        runtime = super()._run_interface(runtime, *args, **kwargs)
        if runtime.returncode != 0:
            said = [line for line in (runtime.stderr or "").splitlines() if line.strip()]
            raise self._failure(runtime.returncode, said[-1].strip() if said else "")
        return runtime

    def _failure(self, code: int, words: str) -> ParticipantError:
        name, meaning = describe_exit(code)
        if name.startswith("SIG") or not words:
            return ParticipantError(f"`{self._cmd.partition(' -m ')[2]}` {meaning}")
        return ParticipantError(words)
