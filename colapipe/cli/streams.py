"""Standard output and standard error that may break without ending the work.

Who reads a pipe may go away (``| head -1``), a disk that output is redirected to may be full, and a
batch system may start a command without any standard output. None of these is a reason to lose
hours of work or to blame another file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

READER_GONE = 141
"""Exit code of a command that only prints and whose reader went away: that of SIGPIPE."""
WRITE_FAILED = 74


class _Stream:
    """A text stream; once it breaks, what is written to it is dropped."""

    def __init__(self, stream: Any, on_gone: Callable[[], None]) -> None:
        self._stream, self._on_gone = stream, on_gone
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or drop what cannot be written."""
        try:
            self._stream.write(text)
        except OSError as err:
            self._break(err)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        try:
            self._stream.flush()
        except OSError as err:
            self._break(err)

    def _break(self, err: OSError) -> None:
        first, self.error = self.error is None, self.error or err
        # What is still in buffers, and what child processes print, has to go somewhere.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        if first and err.errno == errno.EPIPE:
            self._on_gone()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Output:
    """The standard output of a command.

    Attributes
    ----------
    only_words : bool
        What is printed is all that the command makes: it ends when nobody reads it any more. A
        command that writes files sets this to False and goes on.
    """

    def __init__(self) -> None:
        self.only_words = True

    def _reader_went_away(self) -> None:
        if self.only_words:
            raise SystemExit(READER_GONE)


def run_with_streams(program: str, command: Callable[[Output], int]) -> int:
    """Run a command with streams that may break, and return its exit code.

    Parameters
    ----------
    program : str
        Its name, for a message.
    command : callable
        Returns its exit code.

    Returns
    -------
    int
        That of the command. If standard output could not be written and nothing else failed, 74;
        or 141 where the reader of a command that only prints went away.

    Raises
    ------
    SystemExit
        With the same codes, where the command ends with it (``--help``).
    """
    _fill_standard_descriptors()
    output = Output()
    before = sys.stdout, sys.stderr
    out = _guarded(sys.stdout, output._reader_went_away)
    err = _guarded(sys.stderr, lambda: None)
    sys.stdout, sys.stderr = out, err
    ended = False
    try:
        try:
            code: Any = command(output)
        except SystemExit as end:
            code, ended = end.code or 0, True
        if out is not None:
            with contextlib.suppress(SystemExit):
                out.flush()
            code = _exit_code(program, code, out.error, output.only_words)
        if err is not None:
            err.flush()
    finally:
        sys.stdout, sys.stderr = before
    if ended:
        raise SystemExit(code)
    return int(code)


def _exit_code(program: str, code: Any, error: OSError | None, only_words: bool) -> Any:
    if error is None or code:
        return code
    if error.errno == errno.EPIPE:
        return READER_GONE if only_words else code
    reason = error.strerror or str(error)
    print(f"{program}: error: standard output cannot be written ({reason}).", file=sys.stderr)
    return WRITE_FAILED


def _guarded(stream: Any, on_gone: Callable[[], None]) -> Any:
    """Return a stream that may break; one that was closed from outside stays None."""
    if stream is None:
        return None
    if hasattr(stream, "reconfigure"):
        # A file name may hold what the encoding of a terminal does not know.
        stream.reconfigure(errors="backslashreplace")
    return _Stream(stream, on_gone)


def _fill_standard_descriptors() -> None:
    """Open what was closed from outside (``>&-``), lest the next file take its number.

    Child processes would write their words into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
