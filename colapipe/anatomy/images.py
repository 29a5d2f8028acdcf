"""Reading scans so that a bad one says what is wrong with it, and writing images atomically."""

from __future__ import annotations

import gzip
import math
import secrets
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError, SpatialImage

from colapipe.errors import InputFileError, ReadWriteError

Grid = tuple[tuple[int, ...], np.ndarray]
"""Shape and 4x4 voxel-to-world affine (RAS+ millimetres)."""

_A_SCAN = "a 3-D magnitude NIfTI scan (.nii or .nii.gz)"
_FETCH_AGAIN = "Copy or convert the file again, or exclude it."
_VOXEL_SIZES_MM = (0.05, 20.0)
# Level 1 makes float32 scans 5 to 8 % larger than level 6 in a third of the time.
_GZIP_LEVEL = 1


@dataclass(frozen=True)
class ScanHeader:
    """What a scan's header says: enough to plan with, without reading a voxel.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels along each stored axis.
    zooms : tuple of 3 float
        Voxel sizes along the stored axes, mm.
    affine : numpy.ndarray
        4x4, voxel indices to RAS+ millimetres.
    dtype : numpy.dtype
        Type of the voxels on disk.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    affine: np.ndarray
    dtype: np.dtype[Any]


def load_scan(path: Path | str) -> Nifti1Image:
    """Read a scan in its stored orientation.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file. A fourth axis of length one is dropped.

    Returns
    -------
    Nifti1Image
        (X, Y, Z) float32 with the scaling slope applied, all finite, not constant; the affine
        maps voxels to RAS+ millimetres. Nothing of the header but the grid is kept.

    Raises
    ------
    InputFileError
        If the file is missing, unreadable, truncated, not NIfTI, a series, complex or colour,
        has no usable affine, holds NaN or infinity, or is constant. The message says which.
    """
    path = Path(path)
    with _open_scan(path) as stream:
        header = _read_header(path, stream)
        checked = _check(path, header)
        raw = _read_voxels(path, stream, header)

    data = raw.reshape(checked.shape, order="F").astype(np.float32, copy=False)
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        data = data * np.float32(slope) + np.float32(intercept)
    _check_voxels(path, data)
    return _image_with_codes(
        np.asfortranarray(data), checked.affine, int(header["sform_code"] or header["qform_code"])
    )


def check_header(path: Path | str) -> ScanHeader:
    """Check what can be checked of a scan without reading its voxels.

    Raises
    ------
    InputFileError
        As `load_scan`, except for what only the voxels can tell (truncation of a compressed
        file, NaN, a constant image).
    """
    path = Path(path)
    with _open_scan(path) as stream:
        header = _read_header(path, stream)
        checked = _check(path, header)
    if path.suffix == ".nii" and path.stat().st_size < _bytes_needed(header):
        raise _truncated(path, path.stat().st_size, _bytes_needed(header))
    return checked


def grid_of(image: SpatialImage | Grid) -> Grid:
    """Return (shape, affine) of an image, or the pair itself; only the first three axes count."""
    if isinstance(image, tuple):
        shape, affine = image
        return tuple(int(n) for n in shape[:3]), np.asarray(affine, dtype=np.float64)
    return tuple(int(n) for n in image.shape[:3]), np.asarray(image.affine, dtype=np.float64)


def same_grid(a: SpatialImage | Grid, b: SpatialImage | Grid, tolerance: float = 0.01) -> bool:
    """Tell whether two images have their voxels at the same places.

    Parameters
    ----------
    a, b : image or (shape, affine)
        The grids to compare.
    tolerance : float
        Largest distance between corresponding corner voxels, mm. It absorbs what headers lose
        by storing affines in float32 or as quaternions.
    """
    (shape_a, affine_a), (shape_b, affine_b) = grid_of(a), grid_of(b)
    if shape_a != shape_b:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape_a], [1])).reshape(4, -1)
    distances = np.linalg.norm(((affine_a - affine_b) @ corners)[:3], axis=0)
    return bool(distances.max() <= tolerance)


def image_like(data: np.ndarray, reference: Nifti1Image) -> Nifti1Image:
    """Wrap an array as an image on the grid of ``reference``, keeping the array's type.

    Raises
    ------
    ValueError
        If the array does not have the shape of the reference.
    """
    if data.shape[:3] != reference.shape[:3]:
        raise ValueError(f"array of shape {data.shape} on a grid of shape {reference.shape}")
    if data.dtype == np.bool_:
        data = data.astype(np.uint8)
    header = reference.header
    return _image_with_codes(
        data,
        np.asarray(reference.affine, dtype=np.float64),
        int(header["sform_code"] or header["qform_code"]),
    )


def save_image(image: Nifti1Image, path: Path | str) -> None:
    """Write an image so that a reader finds the whole of it or nothing.

    The bytes depend on the image alone: the gzip header carries neither time nor name.

    Raises
    ------
    ReadWriteError
        If the file cannot be written, a full disk included. Nothing is left behind then.
    """
    path = Path(path)
    payload = image.to_bytes()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            if path.suffix == ".gz":
                with gzip.GzipFile(
                    filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=stream, mtime=0
                ) as packed:
                    packed.write(payload)
            else:
                stream.write(payload)
        temporary.replace(path)
    except OSError as error:
        raise ReadWriteError(
            f"{path}: cannot be written ({error.strerror or error}). "
            "Check the free space and the permissions of its folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _image_with_codes(data: np.ndarray, affine: np.ndarray, code: int) -> Nifti1Image:
    """Make an image whose sform and qform agree, so that no reader has to choose."""
    image = Nifti1Image(data, affine)
    # A header without any orientation code still has a grid; call it scanner coordinates.
    image.set_sform(affine, code=code or 1)
    image.set_qform(affine, code=code or 1)
    image.header.set_xyzt_units("mm")
    return image


def _open_scan(path: Path) -> IO[bytes]:
    """Open a scan for reading its uncompressed bytes."""
    try:
        path.exists()
    except OSError as error:
        # A folder above it may not be entered, or its disk does not answer.
        raise _unreadable(path, error) from error
    if path.is_symlink() and not path.exists():
        raise InputFileError(
            path,
            "a link to a file that is not there",
            _A_SCAN,
            "If the dataset is managed by DataLad or git-annex, fetch it first ('datalad get').",
        )
    if not path.exists():
        raise InputFileError(path, "no such file", _A_SCAN, "Check the path.")
    if not path.is_file():
        raise InputFileError(path, "not a regular file", _A_SCAN, "Check the path.")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputFileError(
            path, f"a file named '*{path.suffix}'", _A_SCAN, "Convert it to NIfTI."
        )
    try:
        if path.stat().st_size == 0:
            raise InputFileError(path, "an empty file", _A_SCAN, _FETCH_AGAIN)
        # The caller closes it.
        opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
        return cast("IO[bytes]", opened)
    except PermissionError as error:
        raise InputFileError(
            path, "no permission to read it", "a readable file", "Change its permissions."
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path, stream: IO[bytes], count: int) -> bytes:
    """Read up to ``count`` bytes, turning every way a (compressed) stream can break into words."""
    try:
        return stream.read(count)
    except EOFError as error:
        raise InputFileError(
            path,
            "the compressed data end too early: the file is truncated",
            "a complete .nii.gz file",
            _FETCH_AGAIN,
        ) from error
    except gzip.BadGzipFile as error:
        reason = "a corrupt gzip file" if "CRC" in str(error) else "not a gzip file"
        raise InputFileError(path, reason, "a complete .nii.gz file", _FETCH_AGAIN) from error
    except zlib.error as error:
        raise InputFileError(
            path,
            f"the compressed data are corrupt ({error})",
            "a complete .nii.gz file",
            _FETCH_AGAIN,
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputFileError:
    return InputFileError(
        path,
        f"it cannot be read ({error.strerror or error})",
        "a readable file",
        "Check the file system, then try again.",
    )


def _truncated(path: Path, found: int, needed: int) -> InputFileError:
    return InputFileError(
        path,
        f"the file is truncated: {found} bytes",
        f"{needed} bytes as its header says",
        _FETCH_AGAIN,
    )


def _read_header(path: Path, stream: IO[bytes]) -> Nifti1Header:
    """Read the header, NIfTI-1 or NIfTI-2, leaving the stream right after it."""
    start = _read(path, stream, 348)
    if start.startswith(b"version https://git-lfs") or b"/annex/objects" in start[:200]:
        raise InputFileError(
            path,
            "a pointer of git-lfs or git-annex, not the scan itself",
            _A_SCAN,
            "Fetch the content of the dataset first ('git lfs pull' or 'datalad get').",
        )
    if len(start) < 348:
        raise InputFileError(
            path, f"only {len(start)} bytes", f"{_A_SCAN}, at least 348 bytes", _FETCH_AGAIN
        )
    try:
        if start[344:348] == b"n+1\0":
            return Nifti1Header(start, check=False)
        if start[4:8] == b"n+2\0":
            return Nifti2Header(start + _read(path, stream, 540 - 348), check=False)
    except (nib.wrapstruct.WrapStructError, HeaderDataError, ValueError) as error:
        raise InputFileError(path, f"a broken header ({error})", _A_SCAN, _FETCH_AGAIN) from error
    if start[344:348] == b"ni1\0":
        raise InputFileError(
            path, "the header of a .hdr/.img pair", _A_SCAN, "Convert it to one .nii file."
        )
    raise InputFileError(
        path, "no NIfTI signature in it: not a NIfTI file", _A_SCAN, "Convert it to NIfTI."
    )


def _check(path: Path, header: Nifti1Header) -> ScanHeader:
    """Check everything that the header alone can tell."""
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise InputFileError(
            path, f"an unknown voxel type ({header['datatype']})", _A_SCAN, _FETCH_AGAIN
        ) from error
    if dtype.kind == "c":
        raise InputFileError(
            path,
            "complex voxels",
            _A_SCAN,
            "Give the magnitude image instead.",
        )
    if dtype.kind not in "iuf":
        raise InputFileError(
            path, "colour (RGB) voxels or bits", _A_SCAN, "Give the original scan instead."
        )

    try:
        shape = tuple(int(n) for n in header.get_data_shape())
    except (HeaderDataError, ValueError) as error:
        raise InputFileError(
            path, f"impossible dimensions ({error})", _A_SCAN, _FETCH_AGAIN
        ) from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3 and min(shape) > 0:
        count = math.prod(shape[3:])
        raise InputFileError(
            path,
            f"a series of {count} volumes, {len(shape)}-D of shape {_times(shape)}",
            "one 3-D volume",
            "Give the anatomical scan itself, or one volume of the series.",
        )
    if len(shape) < 3 or min(shape) < 2:
        raise InputFileError(
            path,
            f"an image of shape {_times(shape)}",
            "a 3-D volume with at least two voxels along each axis",
            "Give the whole volume instead of a slice.",
        )

    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise _bad_affine(path, f"no usable orientation ({error})") from error
    if not np.all(np.isfinite(affine)):
        raise _bad_affine(path, "an affine with NaN or infinity")
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant over the product of the zooms is 1 for orthogonal axes, 0 if two coincide.
    if zooms.min() == 0 or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-3:
        raise _bad_affine(path, "a singular affine: its axes do not span space")
    if zooms.min() < _VOXEL_SIZES_MM[0] or zooms.max() > _VOXEL_SIZES_MM[1]:
        raise _bad_affine(path, f"voxels of {_times(np.round(zooms, 4))} mm")
    return ScanHeader(
        (shape[0], shape[1], shape[2]),
        (float(zooms[0]), float(zooms[1]), float(zooms[2])),
        affine,
        dtype,
    )


def _bad_affine(path: Path, found: str) -> InputFileError:
    low, high = _VOXEL_SIZES_MM
    return InputFileError(
        path,
        found,
        f"a finite, invertible affine with voxels of {low:g} to {high:g} mm",
        "Repair its sform and qform, or convert it again from the original data.",
    )


def _times(numbers: Any) -> str:
    return " x ".join(f"{n:g}" for n in numbers)


def _bytes_needed(header: Nifti1Header) -> int:
    voxels = math.prod(int(n) for n in header.get_data_shape())
    return int(header["vox_offset"]) + voxels * int(header.get_data_dtype().itemsize)


def _read_voxels(path: Path, stream: IO[bytes], header: Nifti1Header) -> np.ndarray:
    """Read the voxels that follow the header, flat and unscaled."""
    already = int(header["sizeof_hdr"])
    needed = _bytes_needed(header)
    offset = max(int(header["vox_offset"]) - already, 0)
    body = _read(path, stream, needed - already)
    if len(body) < needed - already:
        raise _truncated(path, already + len(body), needed)
    # Reading past the end is what makes gzip compare its checksum.
    while _read(path, stream, 1 << 20):
        pass
    return np.frombuffer(body, dtype=header.get_data_dtype(), offset=offset)


def _check_voxels(path: Path, data: np.ndarray) -> None:
    finite = np.isfinite(data)
    if not finite.all():
        bad = data.size - int(np.count_nonzero(finite))
        raise InputFileError(
            path,
            f"{bad} of {data.size} voxels are NaN or infinite",
            "finite intensities",
            "Replace them (by 0 where there is no signal), or give the original scan.",
        )
    low, high = float(data.min()), float(data.max())
    if low == high:
        found = "every voxel is zero" if low == 0 else f"every voxel has the same value, {low:g}"
        raise InputFileError(path, found, "an image with contrast", _FETCH_AGAIN)
