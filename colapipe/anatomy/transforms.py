"""Rigid transforms on disk: FSL's .mat and ITK's .txt, each moving the same point alike.

In memory a transform is a 4x4 matrix ``moving_to_reference`` in RAS+ world millimetres.
FSL's file maps scaled voxels of one grid to scaled voxels of the other, so it means nothing
without the two grids. ITK's file maps points of the reference to points of the moving image, in
LPS+ millimetres, which is the direction that resampling needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialImage

from colapipe.anatomy.images import Grid, grid_of
from colapipe.errors import InputFileError
from colapipe.files import write_text

if TYPE_CHECKING:
    from fsl.data.image import Nifti

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ITK_KINDS = ("AffineTransform_double_3_3", "MatrixOffsetTransformBase_double_3_3")


def write_fsl(
    matrix: np.ndarray,
    path: Path | str,
    moving: SpatialImage | Grid,
    reference: SpatialImage | Grid,
) -> None:
    """Write a transform as FLIRT does.

    Parameters
    ----------
    matrix : numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm.
    path : Path
        The ``.mat`` file.
    moving, reference : image or (shape, affine)
        The grids between which the file is valid.

    Raises
    ------
    ReadWriteError
        If the file cannot be written.
    """
    from fsl.transform.flirt import toFlirt

    flirt = toFlirt(matrix, _fsl_grid(moving), _fsl_grid(reference), "world", "world")
    rows = "\n".join("  ".join(_number(value) for value in row) for row in flirt)
    write_text(Path(path), rows + "\n")


def read_fsl(
    path: Path | str, moving: SpatialImage | Grid, reference: SpatialImage | Grid
) -> np.ndarray:
    """Read a transform of FLIRT.

    Returns
    -------
    numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm.

    Raises
    ------
    InputFileError
        If the file is not a 4x4 matrix of finite numbers.
    """
    from fsl.transform.flirt import fromFlirt

    path = Path(path)
    try:
        flirt = np.array([line.split() for line in _read_text(path).split("\n") if line.strip()])
        flirt = flirt.astype(np.float64)
    except ValueError as error:
        raise _not_a_transform(path, "4 x 4 numbers, as FLIRT writes them") from error
    if not _is_affine(flirt):
        raise _not_a_transform(path, "4 x 4 numbers, as FLIRT writes them")
    matrix = fromFlirt(flirt, _fsl_grid(moving), _fsl_grid(reference), "world", "world")
    return np.asarray(matrix, dtype=np.float64)


def write_itk(matrix: np.ndarray, path: Path | str) -> None:
    """Write a transform in ITK's text format, as ITK and ANTs resample with.

    Parameters
    ----------
    matrix : numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm. The file holds its inverse in LPS+ mm.
    path : Path
        The ``.txt`` file.

    Raises
    ------
    ReadWriteError
        If the file cannot be written.
    """
    points = _LPS @ np.linalg.inv(matrix) @ _LPS
    parameters = [*points[:3, :3].ravel(), *points[:3, 3]]
    write_text(
        Path(path),
        "#Insight Transform File V1.0\n"
        "#Transform 0\n"
        f"Transform: {_ITK_KINDS[0]}\n"
        f"Parameters: {' '.join(_number(value) for value in parameters)}\n"
        "FixedParameters: 0 0 0\n",
    )


def read_itk(path: Path | str) -> np.ndarray:
    """Read a transform in ITK's text format.

    Returns
    -------
    numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm.

    Raises
    ------
    InputFileError
        If the file does not hold one affine transform of ITK.
    """
    path = Path(path)
    expected = f"one {_ITK_KINDS[0]} in ITK's text format"
    lines = [line for line in _read_text(path).split("\n") if ":" in line and line[0] != "#"]
    fields = dict(line.split(":", 1) for line in lines)
    # Of several transforms, which ITK would apply one after the other, none means the whole.
    if len(fields) != len(lines):
        raise _not_a_transform(path, expected)
    try:
        kind = fields["Transform"].strip()
        parameters = np.array(fields["Parameters"].split(), dtype=np.float64)
        center = np.array(fields["FixedParameters"].split(), dtype=np.float64)
    except (KeyError, ValueError) as error:
        raise _not_a_transform(path, expected) from error
    if kind not in _ITK_KINDS or parameters.shape != (12,) or center.shape != (3,):
        raise _not_a_transform(path, expected)
    points = np.eye(4)
    points[:3, :3] = parameters[:9].reshape(3, 3)
    points[:3, 3] = parameters[9:] + center - points[:3, :3] @ center
    if not _is_affine(points):
        raise _not_a_transform(path, expected)
    return np.asarray(np.linalg.inv(_LPS @ points @ _LPS))


def _is_affine(matrix: np.ndarray) -> bool:
    """Tell whether a matrix moves points in space, and can be inverted; perhaps not rigidly."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return False
    lengths = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    inverts = lengths.min() > 1e-3 and lengths.max() < 1e3
    return bool(inverts and np.array_equal(matrix[3], [0, 0, 0, 1]))


def _fsl_grid(image: SpatialImage | Grid) -> Nifti:
    """Describe a grid to fslpy, which takes voxel sizes and handedness from a header."""
    from fsl.data.image import Nifti

    shape, affine = grid_of(image)
    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_sform(affine, code=1)
    return Nifti(header)


def _number(value: float) -> str:
    # 17 digits bring a float64 back exactly; adding 0 turns -0.0 into 0.0.
    return f"{value + 0.0:.17g}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_a_transform(path, "a transform in text") from error


def _not_a_transform(path: Path, expected: str) -> InputFileError:
    return InputFileError(path, "not a rigid transform", expected, "Delete it and run again.")
