"""``colapipe-model synth``: run a request, and write what it asks for."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from colapipe.errors import ModelError, ReadWriteError, UsageError
from colapipe.files import write_text
from colapipe.request import FORMAT_VERSION, Request

if TYPE_CHECKING:
    import nibabel as nib
    import numpy as np
    import numpy.typing as npt


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
