"""Cells of BIDS tables: what a value looks like between two tabs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MISSING = "n/a"


def cell(value: Any, digits: int = 6) -> str:
    """Return the text of one cell: one line, and ``n/a`` for nothing.

    Parameters
    ----------
    value : bool, number, str or None
        Of Python or NumPy. NaN is nothing; an infinite number is ``inf`` or ``-inf``.
    digits : int
        Significant digits of numbers that are not whole by their type.

    Examples
    --------
    >>> cell(0.123456789), cell(True), cell(None), cell("two\\nlines")
    ('0.123457', 'true', 'n/a', 'two lines')
    """
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return MISSING if math.isnan(value) else f"{value:.{digits}g}"
    return MISSING if value is None else " ".join(str(value).split()) or MISSING
