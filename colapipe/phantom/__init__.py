"""Simulated multi-contrast scans and BIDS datasets from a deformed template brain."""

from __future__ import annotations

from colapipe.phantom.simulate import SimulatedSubject, Truth, simulate_subject

__all__ = ["SimulatedSubject", "Truth", "simulate_subject"]
