"""The command ``colapipe``. What is heavy is imported when it is known that it is needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from colapipe.errors import ColapipeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (see ``docs/exit_codes.md``)."""
    # Nipype looks for new versions on the network unless this is set before it is imported.
    os.environ["NIPYPE_NO_ET"] = "1"
    from colapipe.cli.parser import parse_settings

    settings = parse_settings(argv)
    try:
        from colapipe.cli.run import run

        return run(settings)
    except ColapipeError as err:
        return _complain(str(err), err.exit_code)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        where = err.filename or settings.work_dir
        return _complain(f"{where}: {err.strerror}. Make room, then start the same again.", 74)
    except KeyboardInterrupt:
        return _complain("interrupted; start the same command again to go on.", 130)


def _complain(message: str, code: int) -> int:
    print(f"colapipe: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
