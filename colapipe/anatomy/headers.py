"""What a NIfTI header says about its voxels, and where it contradicts itself."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from colapipe.errors import InputFileError

FETCH_AGAIN = "Copy or convert the file again, or exclude it."

_VOXEL_SIZES_MM = (0.05, 20.0)
# From here on, float32 places the grid no better than 0.01 mm.
_FARTHEST_MM = 1e5
# Quaternions in float32 may be off by a quarter of a millimetre in the corners of a head.
_SAME_PLACE_MM = 0.5
# Directions that were written with three digits shear a head by up to 0.1 mm.
_ROUNDED_MM = 0.01, 0.1, 0.5
_SCALES_TO_MM = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_KNOWN_CODES = range(6)

# nibabel mends headers as it reads them, and says so on the terminal; here it is said in words.
_silent = logging.getLogger(f"{__name__}.nibabel")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


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
        4x4, voxel indices to RAS+ millimetres, its axes orthogonal.
    dtype : numpy.dtype
        Type of the voxels on disk.
    code : int
        NIfTI's code of the space that the affine leads to; 0 if the header does not say.
    offset : int
        The byte at which the voxels start.
    slope, intercept : float
        What stored numbers are multiplied by, and what is added then.
    remarks : tuple of str
        In words: what in the header contradicts itself, and which value was taken.
    """

    shape: tuple[int, int, int]
    zooms: tuple[float, float, float]
    affine: np.ndarray
    dtype: np.dtype[Any]
    code: int = 0
    offset: int = 352
    slope: float = 1.0
    intercept: float = 0.0
    remarks: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """The number of bytes that the file must have, uncompressed."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def describe(path: Path, stored: Nifti1Header, expected: str, least: int = 2) -> ScanHeader:
    """Check everything that a header alone can tell, and say what in it contradicts itself.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stored : Nifti1Header
        As it was read, unchecked. It is taken as nibabel takes it, which repairs what it can.
    expected : str
        What the file should be, in words.
    least : int
        The least number of voxels along each axis.

    Raises
    ------
    InputFileError
        If it is not of one 3-D volume of real numbers, or has no usable affine.
    """
    header = stored.copy()
    with np.errstate(all="ignore"):
        header.check_fix(logger=_silent, error_level=100)
    dtype = _voxel_type(path, header, expected)
    shape = _shape(path, header, expected, least)
    offset, about_offset = _offset(path, stored)
    slope, intercept = _scaling(path, header)
    with np.errstate(all="ignore"):
        affine, code, remarks = _affine(path, stored, header, shape)
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    return ScanHeader(
        shape,
        (float(zooms[0]), float(zooms[1]), float(zooms[2])),
        affine,
        dtype,
        code,
        offset,
        slope,
        intercept,
        (*about_offset, *remarks),
    )


def corner_distance(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far two affines put corners of a volume apart, mm; infinity if not finite."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape[:3]], [1])).reshape(4, -1)
    with np.errstate(all="ignore"):
        largest = float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())
    return largest if math.isfinite(largest) else math.inf


def _voxel_type(path: Path, header: Nifti1Header, expected: str) -> np.dtype[Any]:
    unknown = InputFileError(
        path, f"an unknown voxel type ({header['datatype']})", expected, FETCH_AGAIN
    )
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise unknown from error
    if dtype.itemsize == 0:
        raise unknown
    if dtype.kind == "c":
        raise InputFileError(path, "complex voxels", expected, "Give the magnitude image instead.")
    if dtype.kind not in "iuf":
        raise InputFileError(
            path, "colour (RGB) voxels", expected, "Give the original scan instead."
        )
    return dtype


def _shape(path: Path, header: Nifti1Header, expected: str, least: int) -> tuple[int, int, int]:
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
    except (HeaderDataError, ValueError) as error:
        found = f"impossible dimensions ({error})"
        raise InputFileError(path, found, expected, FETCH_AGAIN) from error
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
    if len(shape) != 3 or min(shape) < least:
        raise InputFileError(
            path,
            f"an image of shape {_times(shape)}",
            "a 3-D volume with at least two voxels along each axis",
            "Give the whole volume instead of a slice.",
        )
    return shape[0], shape[1], shape[2]


def _offset(path: Path, stored: Nifti1Header) -> tuple[int, tuple[str, ...]]:
    """Return where the voxels start."""
    offset, first = stored["vox_offset"].item(), int(stored.single_vox_offset)
    if offset == 0:
        # The NIfTI standard has voxels of a .nii never start before; nibabel and ITK would take
        # the header itself for voxels.
        remark = (
            f"vox_offset is 0; the voxels are read from byte {first}, where the NIfTI standard "
            "has them start. Other programs may read them from elsewhere: convert the file again."
        )
        return first, (remark,)
    if not math.isfinite(offset) or offset < first:
        raise InputFileError(
            path,
            f"vox_offset is {offset:g}",
            f"voxels that start at byte {first} or later",
            FETCH_AGAIN,
        )
    return int(offset), ()


def _scaling(path: Path, header: Nifti1Header) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise InputFileError(
            path,
            f"a scaling that cannot be used: scl_slope {header['scl_slope']}, "
            f"scl_inter {header['scl_inter']}",
            "two finite numbers",
            FETCH_AGAIN,
        ) from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept))


def _affine(
    path: Path, stored: Nifti1Header, header: Nifti1Header, shape: tuple[int, ...]
) -> tuple[np.ndarray, int, list[str]]:
    """Return the affine that nibabel takes, its code, and what contradicts it."""
    remarks = [
        f"{name} is {stored[name]}, which NIfTI does not know; it is taken as 0, not set."
        for name in ("sform_code", "qform_code")
        if int(stored[name]) not in _KNOWN_CODES
    ]
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    pixdim = np.asarray(stored["pixdim"][1:4], dtype=np.float64)
    qform, reason = None, ""
    if qform_code:
        try:
            if not (np.isfinite(pixdim) & (pixdim != 0)).all():
                raise ValueError(f"pixdim is {_times(pixdim)}")
            qform = np.asarray(header.get_qform(), dtype=np.float64)
        except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
            reason = str(error)
    if sform_code:
        affine, code = np.asarray(header.get_sform(), dtype=np.float64), sform_code
        remarks += _against_sform(affine, qform, reason, pixdim, (sform_code, qform_code), shape)
    elif qform_code:
        if qform is None:
            raise _bad_affine(path, f"a qform that cannot be used ({reason})")
        affine, code = qform, qform_code
    else:
        if not (np.isfinite(pixdim) & (pixdim != 0)).all():
            raise _bad_affine(
                path, f"neither sform nor qform, and pixdim is {_times(pixdim)}: no voxel sizes"
            )
        affine, code = np.asarray(header.get_base_affine(), dtype=np.float64), 0
        remarks.append(
            "neither sform nor qform is set (both codes are 0), so nothing says which side is "
            "left; the first axis is taken to run to the left, the second to the front and the "
            "third to the top. Convert it again, with its orientation, if that is not so."
        )
    if (pixdim < 0).any():
        remarks.append(f"pixdim is {_times(pixdim)}; the signs are not used.")
    if not np.isfinite(affine).all():
        raise _bad_affine(path, "an affine with NaN or infinity")
    affine, about_units = _in_millimetres(affine, int(header["xyzt_units"]) & 7)
    _check_span(path, affine)
    affine, about_shear = _orthogonal(path, affine, shape, qform is not None)
    return affine, code, [*remarks, *about_units, *about_shear]


def _against_sform(
    sform: np.ndarray,
    qform: np.ndarray | None,
    reason: str,
    pixdim: np.ndarray,
    codes: tuple[int, int],
    shape: tuple[int, ...],
) -> list[str]:
    """Say what else in the header contradicts the sform, which is used."""
    remarks = []
    if qform is not None:
        apart = corner_distance(sform, qform, shape)
        if apart > _SAME_PLACE_MM:
            remarks.append(
                f"its sform and its qform (codes {codes[0]} and {codes[1]}) put the same corner "
                f"{apart:.1f} mm apart; the sform is used, as nibabel does. If the qform is the "
                "right one, set sform_code to 0."
            )
    elif reason:
        remarks.append(f"its qform cannot be used ({reason}); the sform is used.")
    zooms = np.linalg.norm(sform[:3, :3], axis=0)
    apart_by = np.abs(np.abs(pixdim) - zooms) * np.array(shape)
    if not (apart_by <= _SAME_PLACE_MM).all():
        remarks.append(
            f"pixdim gives voxels of {_times(np.round(pixdim, 4))} mm, the sform of "
            f"{_times(np.round(zooms, 4))} mm; the sform is used, as nibabel does. Programs that "
            "go by pixdim see another size: convert it again."
        )
    return remarks


def _in_millimetres(affine: np.ndarray, unit: int) -> tuple[np.ndarray, list[str]]:
    """Follow a unit that is not the millimetre if that, and only that, gives sizes of voxels."""
    if unit not in _SCALES_TO_MM:
        return affine, []
    name, scale = _SCALES_TO_MM[unit]
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    if _likely(zooms) or not _likely(zooms * scale):
        return affine, [
            f"its unit is {name}, its voxels of {_times(np.round(zooms, 4))}; they are taken as "
            "millimetres, as nibabel does. Set xyzt_units to 2 (mm) if that is right."
        ]
    scaled = affine.copy()
    scaled[:3] *= scale
    return scaled, [
        f"its unit is {name}; sizes and places are converted to millimetres, voxels of "
        f"{_times(np.round(zooms * scale, 4))} mm. Programs that take every file for one in "
        "millimetres see another size: convert it again."
    ]


def _likely(zooms: np.ndarray) -> bool:
    return bool(_VOXEL_SIZES_MM[0] <= zooms.min() and zooms.max() <= _VOXEL_SIZES_MM[1])


def _check_span(path: Path, affine: np.ndarray) -> None:
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    # The determinant over the product of the zooms is 1 for orthogonal axes, 0 if two coincide.
    if zooms.min() == 0 or abs(np.linalg.det(affine[:3, :3] / zooms)) < 1e-3:
        raise _bad_affine(path, "a singular affine: its axes do not span space")
    if not _likely(zooms):
        raise _bad_affine(path, f"voxels of {_times(np.round(zooms, 4))} mm")
    if np.abs(affine[:3, 3]).max() > _FARTHEST_MM:
        raise _bad_affine(path, f"its first voxel at {_times(affine[:3, 3])} mm")


def _orthogonal(
    path: Path, affine: np.ndarray, shape: tuple[int, ...], has_qform: bool
) -> tuple[np.ndarray, list[str]]:
    """Return the affine with orthogonal axes, around the same centre.

    A qform cannot hold sheared axes and ITK does not read them: a scan that kept them would mean
    one thing to nibabel and another to ITK.
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / zooms)
    straight = np.eye(4)
    straight[:3, :3] = left @ right * zooms
    centre = (np.array(shape) - 1) / 2
    straight[:3, 3] = affine[:3, 3] + (affine[:3, :3] - straight[:3, :3]) @ centre
    apart = corner_distance(affine, straight, shape)
    exact, unsaid, most = _ROUNDED_MM
    if apart <= exact:
        return affine, []
    if apart <= unsaid:
        return straight, []
    said = f"its axes are not at right angles: corners are {apart:.1f} mm off"
    if apart <= most:
        return straight, [f"{said}; the nearest axes at right angles are used."]
    qform = " If its qform is right, set sform_code to 0." if has_qform else ""
    raise InputFileError(
        path,
        f"a sheared affine; {said}",
        "axes at right angles, which is all that ITK and a qform can hold",
        f"Resample it to a grid without shear, or convert it again from the original data.{qform}",
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
