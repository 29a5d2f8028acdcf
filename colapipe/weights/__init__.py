"""The bundled model: weights, model card, and the licence that they have of their own."""

from __future__ import annotations

from pathlib import Path


def bundled_model_path() -> Path:
    """Return the path of the bundled model."""
    return Path(__file__).resolve().parent / "cola-tiny.safetensors"
