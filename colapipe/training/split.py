"""Which participants teach the model and which only judge it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from colapipe.errors import UsageError


@dataclass(frozen=True)
class Split:
    """A split by participant: no participant, and so no session of one, is on both sides.

    Attributes
    ----------
    train, validation : tuple of str
        Participant labels without ``sub-``.
    sha256 : str
        Of the two lists in canonical JSON; stored in the checkpoint.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def sha256(self) -> str:
        canonical = json.dumps({"train": sorted(self.train), "validation": sorted(self.validation)})
        return hashlib.sha256(canonical.encode()).hexdigest()


def read_split(path: Path) -> Split:
    """Read a split file: JSON with lists of participant labels ``train`` and ``validation``.

    Raises
    ------
    UsageError
        If the file cannot be read, is not such a file, or has a participant on both sides.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sides = [
            tuple(str(label).removeprefix("sub-") for label in content[side])
            for side in ("train", "validation")
        ]
    except OSError as err:
        raise UsageError(f"{path}: the split cannot be read ({err.strerror})") from err
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError(
            f"{path}: not a split file; expected JSON with the lists 'train' and 'validation'"
        ) from err
    if both := sorted(set(sides[0]) & set(sides[1])):
        raise UsageError(f"{path}: {both[0]} is on both sides; a split is by participant")
    if not sides[0]:
        raise UsageError(f"{path}: 'train' is empty")
    return Split(*sides)


def shipped_splits() -> list[Split]:
    """Return the splits that come with this package, which its models were trained with."""
    return [read_split(path) for path in sorted(Path(__file__).with_name("splits").glob("*.json"))]
