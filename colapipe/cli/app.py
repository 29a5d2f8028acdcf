"""The command ``colapipe``. What is heavy is imported when it is known that it is needed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from colapipe.cli.streams import Output, run_with_streams
from colapipe.config import Settings
from colapipe.errors import ColapipeError, ReadWriteError

_GO_ON = "What is finished is kept; start the same command again to go on."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BUG = 70


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it at the time limit; it ends a run as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``docs/when-something-goes-wrong.md``)."""
    # Nipype looks for new versions on the network unless this is set before it is imported.
    os.environ["NIPYPE_NO_ET"] = "1"
    # Only the main thread may do this; who calls from another handles signals itself.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _terminate)
    return run_with_streams("colapipe", lambda output: _main(argv, output))


def _main(argv: Sequence[str] | None, output: Output) -> int:
    from colapipe.cli.parser import parse_settings

    settings = None
    try:
        settings = parse_settings(argv)
        output.only_words = settings.dry_run
        from colapipe.cli.run import run

        return run(settings)
    except ColapipeError as err:
        return _complain(str(err), err.exit_code)
    except Terminated:
        return _complain(f"ended by SIGTERM. {_GO_ON}", 143)
    except KeyboardInterrupt:
        return _complain(f"interrupted. {_GO_ON}", 130)
    except OSError as err:
        return _complain(_words(err, settings), ReadWriteError.exit_code)
    except MemoryError:
        return _complain(f"out of memory; --nprocs and --mem make a run smaller. {_GO_ON}", 1)
    except Exception as err:
        traceback.print_exc()
        return _complain(
            f"this is a bug in colapipe: {type(err).__name__}: {err}. Please report it with the "
            "lines above.",
            _BUG,
        )


def _words(err: OSError, settings: Settings | None) -> str:
    """Return what an error of the system says, and of which file if that is known."""
    reason = err.strerror or str(err) or type(err).__name__
    if err.errno not in _NO_ROOM:
        where = err.filename or "a file"
        return f"{where}: cannot be read or written ({reason}). {_GO_ON}"
    # A write does not say which file it was for; a disk that is full does.
    where = err.filename or _full_folder(settings)
    return f"{f'{where}: ' if where else ''}{reason}. Make room, then start the same again."


def _full_folder(settings: Settings | None) -> Path | str:
    """Return the folder whose disk is full; empty if none of those of a run is."""
    folders = [settings.out_dir, settings.work_dir, settings.export] if settings else []
    with contextlib.suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    for folder in folders:
        with contextlib.suppress(OSError):
            if folder is not None and shutil.disk_usage(folder).free < 1024**2:
                return folder
    return ""


def _terminate(*_: object) -> None:
    raise Terminated


def _complain(message: str, code: int) -> int:
    print(f"colapipe: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
