"""CoLa-Diff: the conditional latent diffusion model, on arrays, knowing nothing of BIDS or files.

Importing this package does not import torch, so that a command can read the description of a
model (:func:`colapipe.coladiff.checkpoint.read_metadata`) in a fraction of a second.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CoLaDiff"]


def __getattr__(name: str) -> Any:
    if name == "CoLaDiff":
        from colapipe.coladiff.model import CoLaDiff

        return CoLaDiff
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
