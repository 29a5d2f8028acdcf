"""The contrasts and tissues that colapipe knows, and how they look in each other's light."""

from __future__ import annotations

CONTRASTS = ("T1w", "T2w", "T1ce", "FLAIR", "PDw")
"""Contrasts in order of preference as the reference."""

TISSUES = ("CSF", "GM", "WM")
"""Tissue classes in the order of their labels 1, 2, 3 (FSL's order on a T1w image)."""

LESION_LABEL = 4

_DARK_TO_BRIGHT = {
    "T1w": ("CSF", "GM", "WM"),
    "T1ce": ("CSF", "GM", "WM"),
    "T2w": ("WM", "GM", "CSF"),
    "PDw": ("WM", "GM", "CSF"),
    # FLAIR nulls fluid, and its long TR and TE leave grey matter brighter than white matter.
    "FLAIR": ("CSF", "WM", "GM"),
}


def intensity_order(contrast: str) -> tuple[str, str, str]:
    """Return the tissue classes from dark to bright in an image of ``contrast``.

    Raises
    ------
    KeyError
        If the contrast is not one of ``CONTRASTS``.
    """
    return _DARK_TO_BRIGHT[contrast]
