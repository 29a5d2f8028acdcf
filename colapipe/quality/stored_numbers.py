"""What counts as a number where JSON is read that a user may have edited."""

from __future__ import annotations

import math
from typing import Any, TypeGuard


def is_number(value: Any) -> TypeGuard[int | float]:
    """Say whether a value is a finite number; true and false are none."""
    return type(value) in (int, float) and math.isfinite(value)
