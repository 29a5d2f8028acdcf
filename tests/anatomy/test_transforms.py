"""A transform moves the same point to the same place in memory, in FSL's and in ITK's file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.transforms import read_fsl, read_itk, write_fsl, write_itk
from colapipe.errors import InputFileError, OutputError

MATRIX = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.4, -0.2, 0.1), [12.5, -7.25, 3.0])


def _grid(
    order: str, zooms: tuple[float, ...], oblique: bool
) -> tuple[tuple[int, ...], np.ndarray]:
    shape = (40, 30, 20)
    rotation = nib.eulerangles.euler2mat(0.3, 0.1, -0.2) if oblique else np.eye(3)
    ras = nib.affines.from_matvec(rotation @ np.diag(zooms), [-30, -20, 10])
    axes = nib.orientations.axcodes2ornt(order)
    return shape, ras @ nib.orientations.inv_ornt_aff(axes, shape)


GRIDS = {
    "RAS": _grid("RAS", (1, 1, 1), False),
    "LAS": _grid("LAS", (0.9, 0.9, 1.2), False),
    "LPS": _grid("LPS", (0.5, 0.5, 4), False),
    "PSR": _grid("PSR", (0.94, 0.94, 1.2), False),
    "oblique": _grid("RAS", (0.7, 0.7, 3), True),
    "oblique LPS": _grid("LPS", (0.7, 0.8, 3), True),
}


def _flirt_world(matrix: np.ndarray, moving: str, reference: str) -> np.ndarray:
    """FLIRT's convention from its definition: scaled voxels, x flipped where det > 0."""

    def scaled(name: str) -> np.ndarray:
        shape, affine = GRIDS[name]
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
        to_scaled = np.diag([*zooms, 1.0])
        if np.linalg.det(affine) > 0:
            to_scaled[0] = [-zooms[0], 0, 0, (shape[0] - 1) * zooms[0]]
        return np.asarray(affine @ np.linalg.inv(to_scaled))

    return np.asarray(scaled(reference) @ matrix @ np.linalg.inv(scaled(moving)))


@pytest.mark.parametrize("reference", GRIDS)
@pytest.mark.parametrize("moving", GRIDS)
def test_both_files_move_a_point_to_the_same_place(
    tmp_path: Path, moving: str, reference: str
) -> None:
    import SimpleITK as sitk

    write_fsl(MATRIX, tmp_path / "x.mat", GRIDS[moving], GRIDS[reference])
    write_itk(MATRIX, tmp_path / "x.txt")

    by_fslpy = read_fsl(tmp_path / "x.mat", GRIDS[moving], GRIDS[reference])
    by_definition = _flirt_world(np.loadtxt(tmp_path / "x.mat"), moving, reference)
    itk = sitk.ReadTransform(str(tmp_path / "x.txt"))
    lps = np.array([-1, -1, 1])
    for point in np.random.default_rng(0).uniform(-80, 80, (5, 3)):
        moved = nib.affines.apply_affine(MATRIX, point)
        np.testing.assert_allclose(nib.affines.apply_affine(by_fslpy, point), moved, atol=1e-4)
        np.testing.assert_allclose(nib.affines.apply_affine(by_definition, point), moved, atol=1e-4)
        # ITK's direction is the one of resampling: from the reference to the moving image.
        np.testing.assert_allclose(
            np.array(itk.TransformPoint((lps * moved).tolist())) * lps, point, atol=1e-9
        )
    np.testing.assert_allclose(read_itk(tmp_path / "x.txt"), MATRIX, atol=1e-12)


def test_a_transform_of_itk_with_a_centre_is_read(tmp_path: Path) -> None:
    import SimpleITK as sitk

    affine = sitk.AffineTransform(3)
    affine.SetMatrix(nib.eulerangles.euler2mat(0.1, 0.2, 0.3).ravel().tolist())
    affine.SetTranslation((3.0, -4.0, 5.0))
    affine.SetCenter((10.0, 20.0, -30.0))
    sitk.WriteTransform(affine, str(tmp_path / "x.txt"))
    lps = np.array([-1, -1, 1])
    point = np.array([7.0, 8.0, 9.0])
    moving = np.array(affine.TransformPoint((lps * point).tolist())) * lps
    back = nib.affines.apply_affine(read_itk(tmp_path / "x.txt"), moving)
    np.testing.assert_allclose(back, point, atol=1e-9)


def test_the_identity_is_written_as_the_identity(tmp_path: Path) -> None:
    write_fsl(np.eye(4), tmp_path / "x.mat", GRIDS["LPS"], GRIDS["LPS"])
    write_itk(np.eye(4), tmp_path / "x.txt")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "x.mat"), np.eye(4), atol=1e-6)
    assert "Parameters: 1 0 0 0 1 0 0 0 1 0 0 0\n" in (tmp_path / "x.txt").read_text()


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "a b c d\n" * 4, "nan 0 0 0\n" * 4, "\xff\xfe", "1 0 0 0\n" * 3 + "1 0"]
)
def test_a_file_that_is_no_transform_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.mat"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputFileError, match="not a rigid transform"):
        read_fsl(path, GRIDS["RAS"], GRIDS["RAS"])
    with pytest.raises(InputFileError, match="not a rigid transform"):
        read_itk(path)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((4, 4)),
        np.diag([1.0, 1, 0, 1]),
        np.diag([1e300, 1, 1, 1]),
        np.diag([1.0, 1, 1, 2]),
        np.vstack([np.eye(4)[:3], [0, 0, 0.01, 1]]),
    ],
    ids=["zeros", "flat", "huge", "scaled last row", "perspective"],
)
def test_numbers_that_move_no_points_in_space_are_refused(tmp_path: Path, rows: np.ndarray) -> None:
    np.savetxt(tmp_path / "x.mat", rows)
    with pytest.raises(InputFileError, match="not a rigid transform"):
        read_fsl(tmp_path / "x.mat", GRIDS["RAS"], GRIDS["RAS"])


def test_two_transforms_of_itk_in_one_file_are_not_taken_for_the_last(tmp_path: Path) -> None:
    import SimpleITK as sitk

    steps = [sitk.AffineTransform(3), sitk.AffineTransform(3)]
    steps[0].SetTranslation((5.0, 0.0, 0.0))
    sitk.WriteTransform(sitk.CompositeTransform(steps), str(tmp_path / "x.txt"))
    # As sitk writes it, and without the line that names the composite.
    text = (tmp_path / "x.txt").read_text()
    bare = text.replace("Transform: CompositeTransform_double_3_3\n", "")
    for content in (text, bare):
        (tmp_path / "x.txt").write_text(content)
        with pytest.raises(InputFileError, match="not a rigid transform"):
            read_itk(tmp_path / "x.txt")


def test_writing_where_no_folder_can_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: cannot be created"):
        write_itk(MATRIX, tmp_path / "file" / "x.txt")
