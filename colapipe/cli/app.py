"""The command ``colapipe``. What is heavy is imported when it is known that it is needed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence

from colapipe.errors import ColapipeError

_GO_ON = "What is finished is kept; start the same command again to go on."


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it at the time limit; it ends a run as Ctrl-C does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``docs/when-something-goes-wrong.md``)."""
    # Nipype looks for new versions on the network unless this is set before it is imported.
    os.environ["NIPYPE_NO_ET"] = "1"
    # Only the main thread may do this; who calls from another handles signals itself.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _terminate)
    from colapipe.cli.parser import parse_settings

    settings = None
    try:
        settings = parse_settings(argv)
        from colapipe.cli.run import run

        return run(settings)
    except ColapipeError as err:
        return _complain(str(err), err.exit_code)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        where = err.filename or (settings.work_dir if settings else "")
        return _complain(f"{where}: {err.strerror}. Make room, then start the same again.", 74)
    except Terminated:
        return _complain(f"ended by SIGTERM. {_GO_ON}", 143)
    except KeyboardInterrupt:
        return _complain(f"interrupted. {_GO_ON}", 130)


def _terminate(*_: object) -> None:
    raise Terminated


def _complain(message: str, code: int) -> int:
    print(f"colapipe: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
