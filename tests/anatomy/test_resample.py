"""Resampling puts every point where the transform says, whatever the storage order."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.resample import resample


def _blob(shape: tuple[int, int, int], affine: np.ndarray, center: list[float]) -> nib.Nifti1Image:
    """A smooth bump of 6 mm around a point in the world."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    distance = np.linalg.norm(nib.affines.apply_affine(affine, index) - center, axis=-1)
    return nib.Nifti1Image((100 * np.exp(-(distance**2) / 72)).astype(np.float32), affine)


def _centre_of(image: nib.Nifti1Image) -> np.ndarray:
    data = image.get_fdata()
    index = np.moveaxis(np.indices(data.shape), 0, -1).reshape(-1, 3)
    return np.asarray(nib.affines.apply_affine(image.affine, data.ravel() @ index / data.sum()))


def _affine(order: str, zooms: list[float], shape: tuple[int, ...]) -> np.ndarray:
    ras = nib.affines.from_matvec(np.diag(zooms), -np.array(zooms) * (np.array(shape) - 1) / 2)
    return np.asarray(
        ras @ nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(order), shape)
    )


@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
@pytest.mark.parametrize("order", ["RAS", "LPS", "PSR"])
def test_a_point_lands_where_the_transform_says(order: str, interpolation: str) -> None:
    shape = (50, 48, 44)
    moving = _blob(shape, _affine(order, [1.2, 1.2, 2.4], shape), [5, -4, 3])
    matrix = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1), [3, 2, -5])
    reference = nib.Nifti1Image(
        np.zeros((60, 60, 60), np.uint8), _affine("LAS", [1, 1, 1], (60, 60, 60))
    )
    moved = resample(moving, reference, matrix, interpolation)  # type: ignore[arg-type]
    assert moved.shape == reference.shape
    np.testing.assert_allclose(
        _centre_of(moved), nib.affines.apply_affine(matrix, [5, -4, 3]), atol=0.2
    )


def test_the_identity_on_the_same_grid_touches_no_voxel() -> None:
    image = _blob((12, 11, 10), np.diag([1.1, 1.2, 1.3, 1]), [5, 5, 5])
    same = resample(image, image, np.eye(4))
    assert np.asarray(same.dataobj).tobytes() == np.asarray(image.dataobj).tobytes()


def test_another_storage_order_of_the_same_grid_loses_no_voxel() -> None:
    image = _blob((12, 11, 10), np.diag([1.1, 1.2, 1.3, 1]), [5, 5, 5])
    flipped = nib.Nifti1Image(
        image.get_fdata()[::-1],
        image.affine @ np.array([[-1, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    )
    same = resample(image, flipped, np.eye(4))
    np.testing.assert_allclose(same.get_fdata(), flipped.get_fdata(), atol=1e-4)


def test_labels_stay_labels_and_keep_their_type() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (20, 20, 20)).astype(np.uint8)
    image = nib.Nifti1Image(labels, np.eye(4))
    matrix = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, 0, 0.1), [0.3, 0.2, 0.1])
    moved = resample(image, image, matrix, "nearest")
    assert moved.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(moved.dataobj))) <= {0, 1, 2, 3}


def test_cubic_makes_no_values_that_were_not_there() -> None:
    box = np.zeros((20, 20, 20), np.float32)
    box[6:14, 6:14, 6:14] = 100
    image = nib.Nifti1Image(box, np.eye(4))
    moved = resample(image, image, nib.affines.from_matvec(np.eye(3), [0.4, 0.4, 0.4])).get_fdata()
    assert moved.min() >= 0
    assert moved.max() <= 100


def test_outside_the_field_of_view_is_zero_even_where_air_is_not() -> None:
    image = nib.Nifti1Image(np.full((10, 10, 4), 50, np.float32), np.diag([1, 1, 4, 1]))
    reference = nib.Nifti1Image(np.zeros((10, 10, 30)), np.eye(4))
    moved = resample(image, reference, np.eye(4)).get_fdata()[5, 5]
    # Slices of 4 mm centred at 0, 4, 8, 12 reach to 14 mm.
    np.testing.assert_allclose(moved[:14], 50, rtol=1e-5)
    np.testing.assert_array_equal(moved[15:], 0)


def test_a_much_coarser_grid_averages_instead_of_skipping() -> None:
    fine = np.random.default_rng(0).normal(100, 20, (64, 64, 64)).astype(np.float32)
    coarse = nib.Nifti1Image(
        np.zeros((14, 14, 14)), nib.affines.from_matvec(4 * np.eye(3), [5, 5, 5])
    )
    moved = resample(nib.Nifti1Image(fine, np.eye(4)), coarse, np.eye(4), "linear").get_fdata()
    assert moved.std() < 5
    assert abs(moved.mean() - 100) < 1
