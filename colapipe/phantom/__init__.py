"""Simulated multi-contrast scans and BIDS datasets from a deformed template brain."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colapipe.phantom.dataset import simulate_dataset
    from colapipe.phantom.simulate import SimulatedSubject, Truth, simulate_subject

_HOMES = {
    "simulate_dataset": "dataset",
    "simulate_subject": "simulate",
    "SimulatedSubject": "simulate",
    "Truth": "simulate",
}
__all__ = ["SimulatedSubject", "Truth", "simulate_dataset", "simulate_subject"]


def __getattr__(name: str) -> Any:
    # The command reads the defaults of this package for its --help, which must not load numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
