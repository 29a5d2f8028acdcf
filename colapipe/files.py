"""Files that are whole or not there, and the JSON in them."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from colapipe.errors import OutputError, ReadWriteError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` when the block ends without an error.

    Readers see the old file or the new one. Several processes, on several machines, may write the
    same file at the same moment.

    Parameters
    ----------
    path : Path
        The final name.

    Yields
    ------
    Path
        A hidden name in the same folder, with the same suffixes. Nothing is left of it after an
        error.

    Raises
    ------
    ReadWriteError
        If the file cannot be written: no folder, no right, a full disk.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as err:
        raise ReadWriteError(
            f"{path}: cannot be written ({err.strerror or err}). "
            "Check the free space and the permissions of its folder."
        ) from err
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that is there is fine.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"{path}: cannot be created ({err.strerror or err}). "
            "Choose an output folder that you may write to."
        ) from err


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step; its folder is made if it is missing.

    Raises
    ------
    OutputError, ReadWriteError
        If the folder cannot be made, or the file not be written.
    """
    make_folder(path.parent)
    with whole(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 as :func:`write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def read_json(path: Path) -> tuple[dict[str, Any], str | None]:
    """Read a JSON object.

    Returns
    -------
    content : dict
        Empty if there was a problem.
    problem : str or None
        Which file, what was found, what was expected; None if all is well.
    """
    try:
        # A byte order mark, as Windows editors write it, is not a mistake worth stopping for.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        return {}, f"{path}: cannot be read ({err.strerror}); expected a JSON file"
    except ValueError as err:
        return {}, f"{path}: is not JSON ({err}); expected a JSON object"
    if not isinstance(content, dict):
        return {}, f"{path}: is a JSON {type(content).__name__}; expected a JSON object"
    return content, None


def is_number(value: Any) -> TypeGuard[int | float]:
    """Say whether a value of a JSON file is a finite number; true and false are none."""
    return type(value) in (int, float) and math.isfinite(value)
