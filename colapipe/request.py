"""What the app asks of the model's process: one JSON file, written and read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colapipe.errors import ReadWriteError, UsageError
from colapipe.files import write_text

FORMAT_VERSION = 1
TISSUES = ("CSF", "GM", "WM", "lesion")
_OPTIONS = ("sampler", "steps", "samples", "seed", "device", "threads", "batch_size")
_OUTPUTS = ("mean", "std", "info")


@dataclass(frozen=True)
class Request:
    """What the app asks of the model, checked.

    Attributes
    ----------
    model : Path or None
        None is the bundled one.
    participant, session, target
        As in the file names.
    contrasts, tissues : dict of Path
        Sources (224, 224, Z) in [0, 1] with 0 outside the brain; probability maps.
    mask : Path
    tissue_source : str or None
        Contrast that mask and tissue maps came from.
    slices : tuple of int
        Indices along z to synthesise.
    sampler, steps, samples
        None is the checkpoint's default.
    seed, device, threads, batch_size
        How to run.
    mean, std, info : Path
        Outputs; ``std`` may be None, and is not written for a single sample.
    """

    model: Path | None
    participant: str
    session: str | None
    target: str
    contrasts: dict[str, Path]
    mask: Path
    tissues: dict[str, Path]
    tissue_source: str | None
    slices: tuple[int, ...]
    sampler: str | None
    steps: int | None
    samples: int | None
    seed: int
    device: str
    threads: int
    batch_size: int
    mean: Path
    std: Path | None
    info: Path

    def write(self, path: Path) -> None:
        """Write what :func:`read_request` reads; raise OutputError or ReadWriteError."""
        content = {
            "format_version": FORMAT_VERSION,
            "model": self.model,
            "participant": self.participant,
            "session": self.session,
            "target": self.target,
            "contrasts": self.contrasts,
            "mask": self.mask,
            "tissues": self.tissues,
            "tissue_source": self.tissue_source,
            "slices": self.slices,
            "options": {name: getattr(self, name) for name in _OPTIONS},
            "outputs": {name: getattr(self, name) for name in _OUTPUTS},
        }
        write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def read_request(path: Path) -> Request:
    """Read and check a request.

    Raises
    ------
    UsageError
        If it is not a request; the message names the field.
    ReadWriteError
        If the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReadWriteError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a JSON file ({error})") from error
    fields = _Fields(path, content, "")
    if fields.get("format_version", int) != FORMAT_VERSION:
        raise fields.wrong("format_version", f"must be {FORMAT_VERSION}")
    options = _Fields(path, fields.get("options", dict, {}), "options.")
    outputs = _Fields(path, fields.get("outputs", dict), "outputs.")
    model, std = fields.get("model", str, None), outputs.get("std", str, None)
    request = Request(
        model=Path(model) if model else None,
        participant=fields.get("participant", str),
        session=fields.get("session", str, None),
        target=fields.get("target", str),
        contrasts=fields.paths("contrasts"),
        mask=Path(fields.get("mask", str)),
        tissues=fields.paths("tissues"),
        tissue_source=fields.get("tissue_source", str, None),
        slices=fields.indices("slices"),
        sampler=options.get("sampler", str, None),
        steps=options.positive("steps", None),
        samples=options.positive("samples", None),
        seed=options.get("seed", int, 0),
        device=options.get("device", str, "auto"),
        threads=options.positive("threads", 1) or 1,
        batch_size=options.positive("batch_size", 8) or 8,
        mean=Path(outputs.get("mean", str)),
        std=Path(std) if std else None,
        info=Path(outputs.get("info", str)),
    )
    for part in (fields, options, outputs):
        part.refuse_unknown()
    if request.target in request.contrasts:
        raise fields.wrong("contrasts", f"holds the target {request.target}")
    if not request.contrasts:
        raise fields.wrong("contrasts", "names no source")
    if unknown := sorted(set(request.tissues) - set(TISSUES)):
        raise fields.wrong("tissues", f"has {unknown[0]!r}; known are {', '.join(TISSUES)}")
    if request.tissues and request.tissue_source is None:
        raise fields.wrong("tissue_source", "must name the contrast of the tissue maps")
    if request.tissue_source == request.target:
        raise fields.wrong("tissue_source", f"is the target {request.target}")
    return request


class _Fields:
    """Fields of a JSON object, read once each, with messages that name them."""

    def __init__(self, path: Path, content: Any, prefix: str) -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(content, dict):
            what = f"{prefix.rstrip('.')!r}" if prefix else "it"
            raise UsageError(f"{path}: {what} must be a JSON object")
        self.content: Mapping[str, Any] = content
        self.seen: set[str] = set()

    def wrong(self, name: str, problem: str) -> UsageError:
        return UsageError(f"{self.path}: '{self.prefix}{name}' {problem}")

    def get(self, name: str, kind: type, *default: Any) -> Any:
        """Return a field of a type; null and a missing field are the default, if there is one."""
        self.seen.add(name)
        value = self.content.get(name)
        if value is None and default:
            return default[0]
        # bool is an int to Python, but not to a person who writes a seed.
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "is missing" if name not in self.content else f"is {json.dumps(value)[:60]}"
            raise self.wrong(name, f"{found}; expected {kind.__name__}")
        return value

    def positive(self, name: str, default: int | None) -> int | None:
        value: int | None = self.get(name, int, default)
        if value is not None and value < 1:
            raise self.wrong(name, f"is {value}; expected 1 or more")
        return value

    def paths(self, name: str) -> dict[str, Path]:
        entries = self.get(name, dict, {})
        for key, value in entries.items():
            if not isinstance(value, str):
                raise self.wrong(f"{name}.{key}", "must be a path")
        return {key: Path(value) for key, value in entries.items()}

    def indices(self, name: str) -> tuple[int, ...]:
        entries = self.get(name, list)
        if any(type(entry) is not int or entry < 0 for entry in entries):
            raise self.wrong(name, "must be a list of indices, 0 or more")
        if len(set(entries)) != len(entries):
            raise self.wrong(name, "names a slice twice")
        return tuple(entries)

    def refuse_unknown(self) -> None:
        if unknown := sorted(set(self.content) - self.seen):
            raise self.wrong(unknown[0], "is not known")
