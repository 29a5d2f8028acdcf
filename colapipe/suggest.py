"""Which of the known words a mistyped one was probably meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CUTOFF = 0.6
_NO, _YES = ("off", "skip", "never"), ("on", "force", "success")
_MEANT = {
    **dict.fromkeys(
        ("t1gd", "t1wgd", "t1gad", "t1post", "t1wpost", "t1contrast", "t1km", "cet1", "cet1w"),
        ("T1ce",),
    ),
    **dict.fromkeys(("gd", "gad", "gadolinium", "t1c", "t1wc", "t1wce"), ("T1ce",)),
    **dict.fromkeys(("no", "false", "none", "0"), _NO),
    **dict.fromkeys(("yes", "true", "1"), _YES),
    **dict.fromkeys(("gpu", "nvidia", "cuda:"), ("cuda",)),
}
"""What other tools call the same thing, where spelling alone would lead astray."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that comes nearest to a mistyped one, or None if none comes near.

    Case and signs do not count.

    Examples
    --------
    >>> contrasts = ("T1w", "T2w", "T1ce", "FLAIR")
    >>> [closest(word, contrasts) for word in ("T2", "t1w", "T1Gd", "T2-FLAIR", "bold")]
    ['T2w', 'T1w', 'T1ce', 'FLAIR', None]
    >>> closest("false", ("on", "off"))
    'off'
    """
    plain = {_plain(choice): choice for choice in reversed(list(known))}
    meant = [choice for choice in _MEANT.get(_plain(word), ()) if choice in plain.values()]
    if meant:
        return meant[0]
    longer = [known for known in plain if len(word) > 2 and known.startswith(_plain(word))]
    if len(longer) == 1:
        return plain[longer[0]]
    near = difflib.get_close_matches(_plain(word), list(plain)[::-1], n=1, cutoff=_CUTOFF)
    return plain[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question to put behind a message, with a space before it; empty without a guess."""
    near = closest(word, known)
    return f" Did you mean {near}?" if near else ""


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower()) or word
