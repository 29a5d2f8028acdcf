"""Which contrast a file name seems to mean, for names that BIDS would write otherwise.

Nothing here decides what is read. It only serves to tell a user that a scan lies there under a name
that is not read, before its contrast counts as missing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text that lists them."""
    return frozenset(text.split())


RESEMBLED: Mapping[str, tuple[str, ...]] = {
    "angio": ("T1w",),
    "flash": ("T1w",),
    "inplanet1": ("T1w",),
    "irt1": ("T1w",),
    "mp2rage": ("T1w",),
    "mpm": ("T1w",),
    "r1map": ("T1w",),
    "t1map": ("T1w",),
    "t1rho": ("T1w",),
    "unit1": ("T1w",),
    "vfa": ("T1w",),
    "inplanet2": ("T2w",),
    "mese": ("T2w",),
    "r2map": ("T2w",),
    "t2map": ("T2w",),
    "t2star": ("T2w",),
    "t2starmap": ("T2w",),
    "t2starw": ("T2w",),
    "pdt2": ("T2w", "PDw"),
    "pdmap": ("PDw",),
}
"""Suffixes of BIDS, in lower case, that show something like a contrast, and are not it."""

OTHER_SUFFIXES = words_of(
    """asl bold cbv chimap defacemask dseg dwi epi label m0map m0scan magnitude magnitude1
    magnitude2 mask megre minip mtrmap mtr mts mtsat mtvmap mtw mwfmap phase phase1 phase2 phasediff
    probseg r2starmap rb1cor rb1map s0map sbref swi tb1afi tb1dam tb1epi tb1rfm tb1srge tb1tfl
    tb1map"""
)
"""Suffixes of BIDS, in lower case, of images that nobody takes for a contrast of this app."""

_LABELS = re.compile(r"(?:^|(?<=_))(?:sub|ses)[-_]?[a-z0-9+]*(?:_|$)")
_NO_SCAN = words_of(
    """aseg atlas bias dseg field label labels lesion lesions localiser localizer mask masks probseg
    roi rois scout seg segmentation warp xfm"""
)
_AGENT = words_of(
    "ce contrast enhanced gad gado gadolinium gadovist gd km post postcontrast postgd"
)
_NO_AGENT = words_of("native no non pre precontrast without")
_PLANES = r"(?:[23]d|ax|axial|cor|sag|tra)*"
_WEIGHTED = re.compile(_PLANES + r"(t1|t2|pd)(.*)")
_ENHANCED = re.compile(r"w?(?:c|cw?e?|km|pc|(?:gd|gad|post|contrast|enh|\+)[\w+]*)\+?")
# A number of two digits or more belongs to a label: sub-T101.
_NOT_WEIGHTED = re.compile(r"star|map|rho|relax|\*|^s$|mask|seg|\d\d")
_GRADIENT_ECHO = re.compile(_PLANES + r"(?:me)?mprage.*|f?spgr.*|bravo")
_FLAIR = re.compile(r".*flair.*|t2f|tirm.*|darkfluid")


def looks_like(stem: str) -> str | None:
    """Guess the contrast from a file name without its extension.

    Parameters
    ----------
    stem : str
        It need not be a BIDS name, nor begin with ``sub-``.

    Returns
    -------
    str or None
        One of ``CONTRASTS``; None for what does not look like any, and for masks and the like.

    Examples
    --------
    >>> looks_like("sub-01_t2w"), looks_like("T1 post Gd"), looks_like("sub-01_T2starw")
    ('T2w', 'T1ce', None)
    """
    words = [word for word in re.split(r"[^a-z0-9+*]+", _LABELS.sub("", stem.lower())) if word]
    if _NO_SCAN.intersection(words):
        return None
    # The suffix comes last, and counts for more than what is said before it.
    contrast = next(filter(None, map(_contrast_of_word, reversed(words))), None)
    if contrast == "T2w" and any(map(_FLAIR.fullmatch, words)):
        return "FLAIR"
    if contrast == "T1w" and _AGENT.intersection(words) and not _NO_AGENT.intersection(words):
        return "T1ce"
    return contrast


def _contrast_of_word(word: str) -> str | None:
    # FAIR is a way to label blood.
    typo = word.isalpha() and word != "fair" and difflib.get_close_matches(word, ["flair"], 1, 0.8)
    if _FLAIR.fullmatch(word) or typo:
        return "FLAIR"
    if _GRADIENT_ECHO.fullmatch(word):
        return "T1w"
    if word.startswith("proton"):
        return "PDw"
    match = _WEIGHTED.fullmatch(word)
    if match is None or word in RESEMBLED or _NOT_WEIGHTED.search(match[2]):
        return None
    kind, rest = match.groups()
    if kind == "pd":
        return "PDw" if re.fullmatch(r"(?:w|wi|weighted|fs|tse|fse|\d)*", rest) else None
    if kind == "t1" and _ENHANCED.fullmatch(rest):
        return "T1ce"
    return f"{kind.upper()}w"
