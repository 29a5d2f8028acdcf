"""The columns of the quality table: the one dictionary of what each number means."""

from __future__ import annotations

from typing import Any

from colapipe.bids.names import template

REGIONS = {
    "brain": "the brain mask",
    "csf": "cerebrospinal fluid",
    "gm": "grey matter",
    "wm": "white matter",
    "lesion": "lesions",
}
"""Where uncertainty is averaged, by the part that stands in a column's name."""


COLUMNS: dict[str, dict[str, Any]] = template("columns_quality.json")
"""Every column of ``*_desc-quality_qc.tsv``, in order, described as BIDS asks."""

TEXT_COLUMNS = ("contrast", "alike_with", "warnings")
BOOLEAN_COLUMNS = ("synthetic", "identity_kept")
COUNT_COLUMNS = ("slices",)
"""Columns that do not hold a fraction; all others do."""
