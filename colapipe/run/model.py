"""What the app must know of a model before anything runs, without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colapipe.errors import ModelError


@dataclass(frozen=True)
class ModelInfo:
    """A checkpoint's own words about itself.

    Parameters
    ----------
    path : Path
    name : str
    sha256 : str
        Of the whole file.
    contrasts : tuple of str
        Contrasts it knows, as source and as target.
    min_sources : int
    steps, samples : int
        Defaults of a run.
    licence : str
    metadata : dict
        All of it.
    """

    path: Path
    name: str
    sha256: str
    contrasts: tuple[str, ...]
    min_sources: int
    steps: int
    samples: int
    licence: str
    metadata: dict[str, Any]


def read_description(path: Path, kinds: Sequence[str] | None = None) -> tuple[dict[str, Any], str]:
    """Read the metadata of a checkpoint and the SHA-256 of its file.

    Parameters
    ----------
    path : Path
    kinds : sequence of str, optional
        Kinds of model to accept; CoLa-Diff alone by default.

    Raises
    ------
    ModelError
        If the file is missing or is not a checkpoint of these kinds.
    """
    from colapipe.coladiff.checkpoint import KIND, CheckpointError, file_sha256, read_metadata

    try:
        return read_metadata(path, kinds or (KIND,)), file_sha256(path)
    except CheckpointError as err:
        raise ModelError(str(err)) from err
    except OSError as err:
        raise ModelError(f"{path}: the model cannot be read ({err.strerror})") from err


def read_model(path: Path | None) -> ModelInfo:
    """Read the metadata of a checkpoint; None is the bundled one.

    Raises
    ------
    ModelError
        If the file is missing or is not a checkpoint of colapipe.
    """
    from colapipe.coladiff.checkpoint import CheckpointError, file_sha256, read_metadata
    from colapipe.weights import bundled_model_path

    path = path or bundled_model_path()
    try:
        metadata = read_metadata(path)
        sha256 = file_sha256(path)
    except CheckpointError as err:
        raise ModelError(str(err)) from err
    except OSError as err:
        raise ModelError(
            f"{path}: the model cannot be read ({err.strerror}); expected a .safetensors file. "
            "Check --model."
        ) from err
    return ModelInfo(
        path=path,
        name=str(metadata["name"]),
        sha256=sha256,
        contrasts=tuple(metadata["contrasts"]),
        min_sources=int(metadata["min_sources"]),
        steps=int(metadata["defaults"]["steps"]),
        samples=int(metadata["defaults"]["samples"]),
        licence=str(metadata["licence"]),
        metadata=metadata,
    )
