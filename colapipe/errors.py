"""Errors that speak to the person at the keyboard, each with the exit code of its class.

The codes are those of ``sysexits.h`` where one fits, so that a scheduler can branch on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ColapipeError(Exception):
    """Base of every error whose message is meant for the user. A bare one is a bug (70)."""

    exit_code = 70


class ParticipantError(ColapipeError):
    """One participant cannot be processed; the others go on."""

    exit_code = 1


class TransformError(ParticipantError):
    """A transform between two scans cannot be believed; nothing is made with it."""


class InputFileError(ParticipantError):
    """A file of the dataset cannot be used.

    Parameters
    ----------
    path : Path
        The file.
    found, expected, action : str
        What is wrong with it, what was expected, and what the user can do.
    """

    def __init__(self, path: Path | str, found: str, expected: str, action: str) -> None:
        self.path = Path(path)
        self.found, self.expected, self.action = found, expected, action
        super().__init__(f"{path}: {found}; expected {expected}. {action}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        # Exceptions cross process borders by pickling their constructor arguments.
        return type(self), (str(self.path), self.found, self.expected, self.action)


class UsageError(ColapipeError):
    """The command line asks for something impossible."""

    exit_code = 2


class DatasetError(ColapipeError):
    """The input folder is not a usable BIDS dataset."""

    exit_code = 65


class ModelError(ColapipeError):
    """The model file is missing, or is not a model of colapipe."""

    exit_code = 66


class MissingToolError(ColapipeError):
    """A program that was asked for is not installed."""

    exit_code = 69


class OutputError(ColapipeError):
    """The output folder cannot be created or written."""

    exit_code = 73


class ReadWriteError(ColapipeError):
    """Reading or writing failed, a full disk included."""

    exit_code = 74


class LockedError(ColapipeError):
    """Another run works on the same participant in the same folder."""

    exit_code = 75


@dataclass(frozen=True)
class ScanWarning:
    """What a user must not miss about a session; unlike an error, it does not stop anything.

    Attributes
    ----------
    contrast : str
        The contrast that it is about; empty for the session as a whole.
    message : str
        What was found, in which file, what was expected, and what the user can do.
    """

    contrast: str
    message: str
