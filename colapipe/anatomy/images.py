"""Reading scans so that a bad one says what is wrong with it, and writing images atomically."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, cast

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError, SpatialImage

from colapipe.anatomy.headers import FETCH_AGAIN, ScanHeader, corner_distance, describe
from colapipe.errors import InputFileError
from colapipe.files import whole

__all__ = [
    "Grid",
    "ScanHeader",
    "check_header",
    "grid_of",
    "image_like",
    "load_scan",
    "oriented_image",
    "read_image",
    "same_grid",
    "save_image",
]

Grid = tuple[tuple[int, ...], np.ndarray]
"""Shape and 4x4 voxel-to-world affine (RAS+ millimetres)."""

_A_SCAN = "a 3-D magnitude NIfTI scan (.nii or .nii.gz)"
_SAME_PLACE_MM = 0.01
# Beyond these, squares and sums of intensities leave float32, or differences count as none.
_LARGEST, _SMALLEST = 1e12, 1e-10
# Fewer steps than this between the darkest and the brightest voxel are no image.
_FEWEST_STEPS = 256
_CHUNK = 1 << 24
# Level 1 makes float32 scans 5 to 8 % larger than level 6 in a third of the time.
_GZIP_LEVEL = 1


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
    image, _ = read_image(path)
    _check_contrast(Path(path), np.asarray(image.dataobj))
    return image


def read_image(
    path: Path | str, expected: str = _A_SCAN, least: int = 2
) -> tuple[Nifti1Image, tuple[str, ...]]:
    """Read a scan or a map, which may be constant, in its stored orientation.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, in words.
    least : int
        The least number of voxels along each axis.

    Returns
    -------
    image : Nifti1Image
        (X, Y, Z) float32 with the scaling slope applied, all finite.
    remarks : tuple of str
        In words: what in the header contradicts itself, and which value was taken.

    Raises
    ------
    InputFileError
        As `load_scan`, except for a constant image.
    """
    path = Path(path)
    with _open_scan(path, expected) as stream:
        stored = _read_header(path, stream, expected)
        header = describe(path, stored, expected, least)
        raw = _read_voxels(path, stream, int(stored.sizeof_hdr), header)
    data = _scaled(path, raw.reshape(header.shape, order="F"), header)
    return oriented_image(data, header.affine, header.code), header.remarks


def check_header(path: Path | str) -> ScanHeader:
    """Check what can be checked of a scan without reading its voxels.

    Raises
    ------
    InputFileError
        As `load_scan`, except for what only the voxels can tell (truncation of a compressed
        file, NaN, a constant image).
    """
    path = Path(path)
    with _open_scan(path, _A_SCAN) as stream:
        header = describe(path, _read_header(path, stream, _A_SCAN), _A_SCAN)
    if path.suffix == ".nii" and path.stat().st_size < header.end:
        raise _truncated(path, path.stat().st_size, header)
    return header


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
    return corner_distance(affine_a, affine_b, shape_a) <= tolerance


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
    return oriented_image(
        data,
        np.asarray(reference.affine, dtype=np.float64),
        int(header["sform_code"] or header["qform_code"]),
    )


def oriented_image(data: np.ndarray, affine: np.ndarray, code: int = 1) -> Nifti1Image:
    """Make an image that lies at the same place for every program that reads it.

    Parameters
    ----------
    data : numpy.ndarray
        (X, Y, Z)
    affine : numpy.ndarray
        4x4, voxel indices to RAS+ millimetres, its axes orthogonal.
    code : int
        NIfTI's code of the space; 0 becomes 1, scanner coordinates: a grid is a grid.

    Returns
    -------
    Nifti1Image
        Its sform and qform agree, so that no reader has to choose. Where a quaternion in float32
        cannot hold the affine (half turns with a small tilt), the qform is marked as not set.
    """
    image = Nifti1Image(data, affine)
    image.set_sform(affine, code=code or 1)
    image.set_qform(affine, code=code or 1, update_affine=False)
    if corner_distance(image.get_qform(), image.affine, image.shape) > _SAME_PLACE_MM:
        image.set_qform(None, code=0, update_affine=False)
    image.header.set_xyzt_units("mm")
    return image


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
    with whole(path) as temporary, temporary.open("xb") as stream:
        if path.suffix == ".gz":
            with gzip.GzipFile(
                filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=stream, mtime=0
            ) as packed:
                packed.write(payload)
        else:
            stream.write(payload)


def _open_scan(path: Path, expected: str) -> IO[bytes]:
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
            expected,
            "If the dataset is managed by DataLad or git-annex, fetch it first ('datalad get').",
        )
    if not path.exists():
        raise InputFileError(path, "no such file", expected, "Check the path.")
    if not path.is_file():
        raise InputFileError(path, "not a regular file", expected, "Check the path.")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputFileError(
            path, f"a file named '*{path.suffix}'", expected, "Convert it to NIfTI."
        )
    try:
        if path.stat().st_size == 0:
            raise InputFileError(path, "an empty file", expected, FETCH_AGAIN)
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
            FETCH_AGAIN,
        ) from error
    except gzip.BadGzipFile as error:
        reason = "a corrupt gzip file" if "CRC" in str(error) else "not a gzip file"
        raise InputFileError(path, reason, "a complete .nii.gz file", FETCH_AGAIN) from error
    except zlib.error as error:
        raise InputFileError(
            path,
            f"the compressed data are corrupt ({error})",
            "a complete .nii.gz file",
            FETCH_AGAIN,
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


def _truncated(path: Path, found: int, header: ScanHeader) -> InputFileError:
    return InputFileError(
        path,
        f"the file is truncated: {found} bytes",
        f"{header.end} bytes as its header says, the voxels from byte {header.offset}",
        FETCH_AGAIN,
    )


def _read_header(path: Path, stream: IO[bytes], expected: str) -> Nifti1Header:
    """Read the header, NIfTI-1 or NIfTI-2, leaving the stream right after it."""
    start = _read(path, stream, 348)
    if start.startswith(b"version https://git-lfs") or b"/annex/objects" in start[:200]:
        raise InputFileError(
            path,
            "a pointer of git-lfs or git-annex, not the scan itself",
            expected,
            "Fetch the content of the dataset first ('git lfs pull' or 'datalad get').",
        )
    if len(start) < 348:
        raise InputFileError(
            path, f"only {len(start)} bytes", f"{expected}, at least 348 bytes", FETCH_AGAIN
        )
    try:
        if start[344:348] == b"n+1\0":
            return Nifti1Header(start, check=False)
        if start[4:8] == b"n+2\0":
            return Nifti2Header(start + _read(path, stream, 540 - 348), check=False)
    except (nib.wrapstruct.WrapStructError, HeaderDataError, ValueError) as error:
        raise InputFileError(path, f"a broken header ({error})", expected, FETCH_AGAIN) from error
    if start[344:348] == b"ni1\0":
        raise InputFileError(
            path, "the header of a .hdr/.img pair", expected, "Convert it to one .nii file."
        )
    raise InputFileError(
        path, "no NIfTI signature in it: not a NIfTI file", expected, "Convert it to NIfTI."
    )


def _read_voxels(path: Path, stream: IO[bytes], start: int, header: ScanHeader) -> np.ndarray:
    """Read the voxels, flat and unscaled, from a stream that stands at byte ``start``."""
    position, body = start, bytearray()
    while position < header.end:
        # In pieces: a damaged header may ask for more than there is memory.
        piece = _read(path, stream, min(_CHUNK, header.end - position))
        if not piece:
            raise _truncated(path, position, header)
        body += piece[max(header.offset - position, 0) :]
        position += len(piece)
    # Reading past the end is what makes gzip compare its checksum.
    while _read(path, stream, 1 << 20):
        pass
    return np.frombuffer(body, dtype=header.dtype)


def _scaled(path: Path, stored: np.ndarray, header: ScanHeader) -> np.ndarray:
    """Apply slope and intercept: (X, Y, Z) float32, or say why that cannot hold the values."""
    exact = (header.slope, header.intercept) == (1.0, 0.0) and np.can_cast(stored.dtype, np.float32)
    low, high, bad = np.inf, -np.inf, 0
    # Whatever overflows here is told below, in words.
    with np.errstate(all="ignore"):
        data = stored.astype(np.float32, order="F", copy=False) if exact else None
        if data is None:
            data = np.empty(stored.shape, dtype=np.float32, order="F")
        for k in range(stored.shape[2]):
            values: np.ndarray = data[..., k]
            if not exact:
                # In double precision, a slice at a time.
                values = stored[..., k].astype(np.float64) * header.slope + header.intercept
                data[..., k] = values
            finite = np.isfinite(stored[..., k])
            bad += finite.size - int(np.count_nonzero(finite))
            values = values if finite.all() else values[finite]
            low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
    if bad:
        raise InputFileError(
            path,
            f"{bad} of {data.size} voxels are NaN or infinite",
            "finite intensities",
            "Replace them (by 0 where there is no signal), or give the original scan.",
        )
    largest = float(max(abs(low), abs(high)))
    found = f"values from {low:g} to {high:g}"
    arbitrary = "Scale them: intensities of a scan are in arbitrary units."
    if largest > _LARGEST or 0 < largest < _SMALLEST:
        expected = f"a largest value between {_SMALLEST:g} and {_LARGEST:g}"
        raise InputFileError(path, found, expected, arbitrary)
    if not exact and 0 < high - low < _FEWEST_STEPS * float(np.spacing(np.float32(largest))):
        raise InputFileError(
            path,
            f"{found}, too close together for numbers of seven digits",
            "an image with contrast in single precision",
            "Subtract the smallest value.",
        )
    return data


def _check_contrast(path: Path, data: np.ndarray) -> None:
    low, high = float(data.min()), float(data.max())
    if low == high:
        found = "every voxel is zero" if low == 0 else f"every voxel has the same value, {low:g}"
        raise InputFileError(path, found, "an image with contrast", FETCH_AGAIN)
