"""The request of ``colapipe-model synth``: read it, run it, write what it asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.errors import ModelError, ReadWriteError, UsageError
from colapipe.files import write_text

if TYPE_CHECKING:
    import nibabel as nib
    import numpy as np
    import numpy.typing as npt

FORMAT_VERSION = 1
TISSUES = ("CSF", "GM", "WM", "lesion")


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


def run_request(request: Request) -> None:
    """Synthesise what a request asks for and write its outputs, each whole or not at all.

    Raises
    ------
    UsageError
        If the files do not fit each other, or the device is not there.
    ModelError
        If the model is missing, not a model, or cannot do what is asked.
    ReadWriteError
        If a file cannot be read or written.
    """
    started = time.monotonic()
    from colapipe.cli.process import ready_for_networks
    from colapipe.run.resources import peak_memory_bytes

    ready_for_networks()
    import nibabel as nib
    import numpy as np
    import torch

    from colapipe.anatomy.images import save_image
    from colapipe.coladiff.checkpoint import CheckpointError, file_sha256
    from colapipe.coladiff.model import CoLaDiff, DeviceError, UnsuitableModelError
    from colapipe.weights import bundled_model_path

    torch.set_num_threads(request.threads)
    path = request.model or bundled_model_path()
    try:
        model = CoLaDiff.load(path, request.device)
        sha256 = file_sha256(path)
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    except DeviceError as error:
        raise UsageError(f"'options.device': {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error.strerror})") from error

    mask_image = _open(request.mask)
    shape = mask_image.shape
    if len(shape) != 3:
        raise UsageError(f"'mask' {request.mask} has shape {shape}; expected three dimensions")
    if request.slices and max(request.slices) >= shape[2]:
        raise UsageError(f"'slices' names slice {max(request.slices)}; the mask has {shape[2]}")

    def read(field: str, file: Path) -> npt.NDArray[np.float32]:
        image = mask_image if file == request.mask else _open(file)
        if image.shape != shape:
            raise UsageError(f"'{field}' {file} has shape {image.shape}; the mask has {shape}")
        return _slices(image, file)

    try:
        # The whole volume, also for a few slices: no slice may depend on which others are asked
        # for, and a volume's intensity scale is measured over all of it.
        result = model.synthesise(
            {name: read(f"contrasts.{name}", file) for name, file in request.contrasts.items()},
            request.target,
            request.steps,
            request.samples,
            request.seed,
            mask=read("mask", request.mask),
            tissues={n: read(f"tissues.{n}", file) for n, file in request.tissues.items()},
            batch_size=request.batch_size,
            rows=request.slices,
            sampler=request.sampler,
            tissue_source=request.tissue_source,
            participant=request.participant,
            session=request.session,
        )
    except UnsuitableModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error

    def write(slices: npt.NDArray[np.float32], file: Path) -> None:
        image = nib.Nifti1Image(np.moveaxis(slices, 0, 2), mask_image.affine)
        image.header.set_xyzt_units("mm")
        save_image(image, file)

    write(result.mean, request.mean)
    if request.std is not None:
        if result.std is not None:
            write(result.std, request.std)
        else:
            # A file of an earlier run would pass for this one's.
            request.std.unlink(missing_ok=True)
    metadata = model.metadata
    described = ("name", "preset", "contrasts", "training_data", "licence", "calibration")
    info = {
        "format_version": FORMAT_VERSION,
        "participant": request.participant,
        "session": request.session,
        "model": {"sha256": sha256, **{key: metadata[key] for key in described}},
        **result.info,
        "tissue_source": request.tissue_source,
        "tissues": sorted(request.tissues),
        "threads": request.threads,
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(time.process_time(), 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_gpu_memory_bytes": (
            torch.cuda.max_memory_allocated() if model.device.type == "cuda" else None
        ),
        "torch": torch.__version__,
    }
    write_text(request.info, json.dumps(info, indent=1) + "\n")


def _open(path: Path) -> nib.Nifti1Image:
    import zlib

    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    broken = (EOFError, OverflowError, ValueError, zlib.error, HeaderDataError, ImageFileError)
    try:
        return nib.Nifti1Image.from_filename(path)
    except OSError as error:
        reason = error.strerror or "no such file, or not a file"
        raise ReadWriteError(f"{path}: cannot be read ({reason})") from error
    except broken as error:
        raise ReadWriteError(f"{path}: not a readable NIfTI file ({error})") from error


def _slices(image: nib.Nifti1Image, path: Path) -> npt.NDArray[np.float32]:
    """Return an image as slices, (slices, 224, 224)."""
    import zlib

    import numpy as np

    try:
        volume = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ReadWriteError(f"{path}: cannot be read ({error})") from error
    return np.ascontiguousarray(np.moveaxis(volume, 2, 0), dtype=np.float32)
