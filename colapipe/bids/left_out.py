"""Folders of a dataset that hold scans and are no participant's: which, and why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.bids.ignore import IGNORE_FILE
from colapipe.bids.looks import words_of
from colapipe.bids.unread import (
    MOST_NAMED,
    at_most,
    contrasts_in,
    first,
    legal_name,
    look_into,
    scans_below,
)

if TYPE_CHECKING:
    from colapipe.bids.ignore import BidsIgnore

_NOT_PARTICIPANTS = words_of("code derivatives log logs phenotype rawdata sourcedata stimuli work")


def left_out(root: Path, ignore: BidsIgnore | None = None) -> list[str]:
    """Say which folders of a dataset hold scans and are left out, and which scans lie in its root.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    ignore : BidsIgnore or None

    Returns
    -------
    list of str
        One line for each folder, at most `MOST_NAMED` and how many more there are.
    """
    lines = []
    loose = []
    for name, is_folder in look_into(root):
        line = ignore.line_for(f"{name}/" if is_folder else name) if ignore else None
        if not is_folder:
            loose += [name] if contrasts_in([name]) and line is None else []
        elif is_participant(name):
            if line is not None:
                lines.append(f"{name}/ is left out: {IGNORE_FILE} has the line {line!r}")
        elif line is None and name not in _NOT_PARTICIPANTS and scans_below(root / name, 2):
            lines.append(f"{first([name])}/ {_why(name)}")
    lines = at_most(MOST_NAMED, lines, "folders are left out likewise")
    if loose:
        lines.append(
            f"not read, because outside of any participant's folder: {first(loose)}; expected in "
            "sub-<label>/anat/"
        )
    return lines


def why_left_out(root: Path, label: str, ignore: BidsIgnore | None = None) -> str | None:
    """Say why a participant is not there who was asked for; None if nothing is known of it.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    label : str
        As the user wrote it, with or without ``sub-``.
    ignore : BidsIgnore or None
    """
    wanted = {label, f"sub-{label}"}
    for name, is_folder in look_into(root):
        if not is_folder or (name not in wanted and _bare(name) != _bare(label)):
            continue
        if not is_participant(name):
            return f"{first([name])}/ {_why(name)}" if scans_below(root / name, 2) else None
        line = ignore.line_for(f"{name}/") if ignore else None
        if line is not None and name in wanted:
            return f"{name}/ is left out: {IGNORE_FILE} has the line {line!r}"
    return None


def is_participant(name: str) -> bool:
    """Tell whether a folder has the name of a participant's folder."""
    return re.fullmatch(r"sub-[a-zA-Z0-9+]+", name) is not None


def _why(name: str) -> str:
    return (
        "holds scans and is left out: a participant's folder is named sub-<label>, with a label of "
        f"letters, digits and + only. Rename it to {legal_name(name, 'sub')}, for "
        "example, and the files in it accordingly."
    )


def _bare(name: str) -> str:
    return legal_name(name, "sub").lower()
