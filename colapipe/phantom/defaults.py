"""What `colapipe-demo` does when it is not told otherwise; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

PROGRAM = "colapipe-demo"
"""Name under which simulated datasets say who generated them."""

TRUTH = PurePosixPath("derivatives/truth")
"""Where the truth lies within a dataset."""

SUBJECTS = 3
CONTRASTS_TAKEN = ("T1w", "T2w", "FLAIR")
RESOLUTION = 1.0


def default_missing(labels: Sequence[str], contrasts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return who lacks what: of every three participants one T2w and one FLAIR.

    The first is complete, and nobody is left without a scan.
    """
    gaps: dict[str, tuple[str, ...]] = {}
    if len(contrasts) > 1:
        for number, label in enumerate(labels):
            absent = ("", "T2w", "FLAIR")[number % 3]
            if absent in contrasts:
                gaps[label] = (absent,)
    return gaps
