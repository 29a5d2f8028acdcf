"""What a dataset's ``.bidsignore`` leaves out: patterns as in git's ``.gitignore``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.errors import DatasetError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".bidsignore"


class BidsIgnore:
    """The patterns of a ``.bidsignore``.

    Parameters
    ----------
    lines : sequence of str
        Its lines; empty ones and comments may be among them.

    Raises
    ------
    ValueError
        If a line is not a pattern; the message has its number and text.
    """

    def __init__(self, lines: list[str]) -> None:
        from pathspec import GitIgnoreSpec

        for number, line in enumerate(lines, 1):
            try:
                GitIgnoreSpec.from_lines([line])
            except ValueError as err:
                raise ValueError(f"line {number}, {line!r}, is not a pattern") from err
        # pathspec counts patterns, and an empty line is none.
        self._lines = [line for line in lines if line]
        self._spec: GitIgnoreSpec = GitIgnoreSpec.from_lines(self._lines)

    def line_for(self, relative: str) -> str | None:
        """Return the line that leaves a path out, or None if it stays.

        Parameters
        ----------
        relative : str
            Path within the dataset, with forward slashes; a folder ends with one.
        """
        result = self._spec.check_file(relative)
        return self._lines[result.index] if result.include and result.index is not None else None


def read_bidsignore(root: Path) -> BidsIgnore | None:
    """Read the ``.bidsignore`` of a dataset, or return None if there is none.

    Raises
    ------
    DatasetError
        If it cannot be read, or has a line that is not a pattern.
    """
    path = root / IGNORE_FILE
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as err:
        reason = err.strerror if isinstance(err, OSError) else "it is not UTF-8 text"
        raise DatasetError(
            f"{path}: cannot be read ({reason}); expected patterns as in .gitignore, one a line. "
            "Without it nobody knows what to leave out. Correct or remove it."
        ) from err
    try:
        return BidsIgnore(lines) if any(line.strip() for line in lines) else None
    except ValueError as err:
        raise DatasetError(
            f"{path}: {err}; expected patterns as in .gitignore. Correct the line."
        ) from err
