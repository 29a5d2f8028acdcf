"""One safetensors file that holds a model and everything a run must know of it.

The description is JSON in the safetensors header, so it can be read without torch and without
running anything: a safetensors file holds numbers and text, no code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.coladiff.configuration import Configuration, ConfigurationError
from colapipe.coladiff.filekind import describe_file

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
KIND = "coladiff"
BASELINES = ("unet", "mmgan", "quadratic", "copy", "class-mean")
"""Kinds of :mod:`colapipe.baselines`, which share the format."""
METADATA_KEY = "colapipe"

_LARGEST_HEADER = 16 * 2**20
_SAFETENSORS = "a safetensors file"
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
_KEYS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "kind": str,
    "name": str,
    "preset": str,
    "configuration": dict,
    "contrasts": list,
    "min_sources": int,
    "latent": dict,
    "defaults": dict,
    "calibration": (dict, type(None)),
    "training_data": str,
    "split_sha256": (str, type(None)),
    "licence": str,
}


class CheckpointError(Exception):
    """The file is not a model of colapipe; the message says which file and why."""

    exit_code = 66


def make_metadata(
    configuration: Configuration,
    *,
    name: str,
    preset: str,
    latent_mean: list[float],
    latent_std: list[float],
    training_data: str,
    licence: str,
    min_sources: int = 1,
    sampler: str = "ddim",
    steps: int = 4,
    samples: int = 1,
    sampled_steps: int | None = None,
    split_sha256: str | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Return the description that a checkpoint carries; ``extra`` entries are kept as they are.

    Parameters
    ----------
    configuration : Configuration
    name, preset : str
        What the model is called, and the preset it was built from.
    latent_mean, latent_std : list of float, length z
    training_data : str
        In words: how many participants of what, and what was simulated.
    licence : str
        Of the weights.
    min_sources : int
        Fewest source contrasts it accepts.
    sampler, steps, samples
        Defaults of a run.
    sampled_steps : int, optional
        Default steps of a run with several samples; as ``steps`` if not given. The samples of a
        single step hardly differ, so their standard deviation would promise too much.
    split_sha256 : str, optional
        Which participants it was trained on.
    """
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "name": name,
        "preset": preset,
        "configuration": configuration.to_dict(),
        "contrasts": list(configuration.contrasts),
        "min_sources": min_sources,
        "latent": {"mean": latent_mean, "std": latent_std},
        "defaults": {
            "sampler": sampler,
            "steps": steps,
            "samples": samples,
            "sampled_steps": sampled_steps or steps,
        },
        "calibration": None,
        "training_data": training_data,
        "split_sha256": split_sha256,
        "licence": licence,
        **extra,
    }


def read_metadata(path: Path, kinds: Sequence[str] = (KIND,)) -> dict[str, Any]:
    """Read and check the description of a checkpoint, without torch and without its tensors.

    Parameters
    ----------
    path : Path
    kinds : sequence of str
        Kinds of model to accept; ``(KIND, *BASELINES)`` are all.

    Raises
    ------
    CheckpointError
        If the file is not a complete safetensors file, or not a model of this format.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    return _check(path, _read_header(path).get("__metadata__"), kinds)


def parameter_sizes(path: Path) -> dict[str, int]:
    """Return how many numbers each part of a model holds, from the checkpoint's header alone.

    A part is what stands before the first dot of a tensor's name.

    Raises
    ------
    CheckpointError
        If the file is not a complete safetensors file.
    """
    sizes: dict[str, int] = {}
    for name, entry in _read_header(Path(path)).items():
        if name != "__metadata__":
            part = name.partition(".")[0]
            sizes[part] = sizes.get(part, 0) + math.prod(entry["shape"])
    return sizes


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a whole file, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], half: bool = False
) -> None:
    """Write a checkpoint; a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : Path
    tensors : dict of Tensor
    metadata : dict
        As :func:`make_metadata` returns it.
    half : bool
        Store float32 tensors as float16, in half the space; they are float32 again when loaded.
    """
    import torch

    stored = {
        name: tensor.detach()
        .cpu()
        .to(torch.float16 if half and tensor.dtype == torch.float32 else tensor.dtype)
        .contiguous()
        for name, tensor in tensors.items()
    }
    write_safetensors(path, stored, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str]) -> None:
    """Write any safetensors file atomically: a temporary file in the same folder, then a rename."""
    from safetensors.torch import save

    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as stream:
            stream.write(save(dict(tensors), header))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, kinds: Sequence[str] = (KIND,)
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (float32, on the CPU) and the description of a checkpoint.

    Parameters are those of :func:`read_metadata`.

    Raises
    ------
    CheckpointError
        If the file is not a model of this format.
    OSError
        If the file cannot be read.
    """
    metadata = read_metadata(path, kinds)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as err:
        raise CheckpointError(f"{path}: not a readable safetensors file ({err})") from err
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }, metadata


def _read_header(path: Path) -> dict[str, Any]:
    """Parse the header: 8 bytes of length, then JSON, then the tensors' bytes."""
    kind = describe_file(path)
    if kind != _SAFETENSORS:
        raise CheckpointError(
            f"{path}: is {kind}, not a safetensors file; expected a model of colapipe "
            "(.safetensors). Other formats, such as PyTorch pickles, are never loaded."
        )
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
            raise CheckpointError(
                f"{path}: a safetensors file that is incomplete or damaged: its header announces "
                f"{length} bytes, the file has {size}. Fetch the model again."
            )
        text = stream.read(length)
    try:
        header = json.loads(text.decode("utf-8"))
        ends = [0]
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                count = math.prod(entry["shape"])
                if end - begin != count * _BYTES[entry["dtype"]] or begin < 0:
                    raise ValueError("a tensor's size does not fit its shape")
                ends.append(end)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise CheckpointError(
            f"{path}: its safetensors header is damaged ({err}). Fetch the model again."
        ) from err
    if 8 + length + max(ends) != size:
        raise CheckpointError(
            f"{path}: has {size} bytes where its header announces {8 + length + max(ends)}; "
            "the file is incomplete or damaged. Fetch the model again."
        )
    return dict(header)


def _check(path: Path, header: Any, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the description, or say what is wrong with it."""
    if not isinstance(header, dict) or METADATA_KEY not in header:
        raise CheckpointError(
            f"{path}: a safetensors file, but not a model of colapipe (no {METADATA_KEY!r} in its "
            "metadata)"
        )
    try:
        metadata = json.loads(header[METADATA_KEY])
    except (ValueError, TypeError, RecursionError) as err:
        raise CheckpointError(f"{path}: its description is not JSON ({err})") from err
    if not isinstance(metadata, dict) or metadata.get("kind") not in kinds:
        raise CheckpointError(
            f"{path}: not a {'CoLa-Diff' if kinds == (KIND,) else 'known kind of model'}; "
            f"expected 'kind': {' or '.join(map(repr, kinds))}"
        )
    if metadata.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {metadata.get('format_version')!r}; this colapipe reads "
            f"version {FORMAT_VERSION}"
        )
    for key, kind in _KEYS.items():
        # A baseline has no latent.
        if (key != "latent" or metadata["kind"] == KIND) and (
            key not in metadata or not isinstance(metadata[key], kind)
        ):
            raise CheckpointError(f"{path}: {key!r} of its description is missing or malformed")
    if metadata["kind"] == KIND:
        _check_coladiff(path, metadata)
    # Files of before there were two defaults have one for both.
    defaults = {"sampled_steps": metadata["defaults"].get("steps"), **metadata["defaults"]}
    if not isinstance(defaults.get("sampler"), str) or any(
        type(defaults.get(key)) is not int or defaults[key] < 1
        for key in ("steps", "samples", "sampled_steps")
    ):
        raise CheckpointError(f"{path}: 'defaults' needs a sampler, steps and samples")
    return {**metadata, "defaults": defaults}


def _check_coladiff(path: Path, metadata: dict[str, Any]) -> None:
    """Say what is wrong with those entries that only a CoLa-Diff has."""
    try:
        configuration = Configuration.from_dict(metadata["configuration"])
    except ConfigurationError as err:
        raise CheckpointError(f"{path}: its configuration is not valid: {err}") from err
    if metadata["contrasts"] != list(configuration.contrasts):
        raise CheckpointError(f"{path}: 'contrasts' differs from its configuration's")
    if not 1 <= metadata["min_sources"] < len(configuration.contrasts):
        raise CheckpointError(f"{path}: 'min_sources' must be at least 1 and leave a target")
    for statistic in ("mean", "std"):
        values = metadata["latent"].get(statistic)
        numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
        if not numbers or len(values) != configuration.latent_channels:
            raise CheckpointError(f"{path}: 'latent' needs a {statistic} for each latent channel")
        if statistic == "std" and min(values) <= 0:
            raise CheckpointError(f"{path}: a standard deviation of 'latent' is not positive")
