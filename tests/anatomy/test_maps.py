"""Masks of any tool are understood, or refused by name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.anatomy.maps import given_mask, load_map, load_mask, read_mask
from colapipe.errors import InputFileError


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    voxels = np.arange(8000, dtype=np.float32).reshape(20, 20, 20)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\xff" * 300 + whole[400:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"mask\.nii\.gz"):
            load_map(path)


AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def _ball(radius: float = 6, shape: tuple[int, ...] = (20, 20, 20)) -> np.ndarray:
    return radius**2 >= ((np.indices(shape).T - 9.5) ** 2).sum(-1).T


def _save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


# Centred on no voxel, so that it has many values.
_DISTANCE = np.sqrt(((np.indices((20, 20, 20)).T - (9.3, 9.63, 9.1)) ** 2).sum(-1).T)
SOFT = (1 / (1 + np.exp(1.5 * (_DISTANCE - 6)))).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "inside", "words"),
    [
        (_ball().astype(np.uint8), _ball(), ""),
        (_ball() * np.uint8(255), _ball(), ""),
        (_ball() * np.float32(0.3), _ball(), ""),
        (_ball()[..., None].astype(np.int16), _ball(), ""),
        (_ball().astype(np.uint8) + np.uint8(1), _ball(), "values 1 and 2"),
        (np.where(_ball(), 1, -1).astype(np.int16), _ball(), "values -1 and 1"),
        (0.001 + 0.998 * SOFT, 0.001 + 0.998 * SOFT >= 0.4995, "not binary, its values are 0.001"),
        (SOFT - 0.04, SOFT - 0.04 >= 0.48, "not binary, its values are -0.04"),
        (np.round(SOFT * 255).astype(np.uint8), np.round(SOFT * 255) >= 127.5, "not binary"),
        (np.round(SOFT * 98).astype(np.float32), np.round(SOFT * 98) >= 49, "not binary"),
        (_ball().astype(np.uint8) + _ball(3) + _ball(2), _ball(), "3 labels, 1 to 3"),
        (_ball() * 1024 + _ball(3) * 1000, _ball(), ""),
        (np.zeros((20, 20, 20), np.uint8), np.zeros((20, 20, 20)), ""),
    ],
)
def test_masks_of_other_tools_are_understood(
    tmp_path: Path, values: np.ndarray, inside: np.ndarray, words: str
) -> None:
    if values.dtype == np.int64:
        values = values.astype(np.int32)
    path = _save(tmp_path / "sub-1_mask.nii.gz", values)
    mask, remark = read_mask(path)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), inside)
    np.testing.assert_array_equal(np.asarray(load_mask(path).dataobj), inside)
    assert words in remark
    if words:
        assert "sub-1_mask.nii.gz" in remark and str(tmp_path) not in remark


def _with_nan() -> np.ndarray:
    values = _ball().astype(np.float32)
    values[0] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (_with_nan(), "NaN"),
        (np.where(_ball(), -1, 0).astype(np.int16), "values from -1 to 0"),
        (ndimage.distance_transform_edt(_ball()) - 5, "values from -5 to"),
        (np.stack([_ball(), _ball()], -1).astype(np.uint8), "series of 2 volumes"),
        (np.ones((20, 20, 20), np.uint8), "every voxel is inside"),
        (np.zeros((20, 20, 20), np.uint8), "an empty mask"),
    ],
)
def test_what_is_no_brain_mask_is_refused_by_name(
    tmp_path: Path, values: np.ndarray, words: str
) -> None:
    path = _save(tmp_path / "mask.nii.gz", values)
    scan = nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), AFFINE)
    with pytest.raises(InputFileError, match=words) as caught:
        given_mask(path, scan)
    assert str(path) in str(caught.value)


def test_a_mask_beside_its_scan_or_all_over_it_is_refused(tmp_path: Path) -> None:
    scan = nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), AFFINE)
    far = AFFINE.copy()
    far[:3, 3] = 300
    path = _save(tmp_path / "far.nii.gz", _ball().astype(np.uint8), far)
    with pytest.raises(InputFileError, match="outside its scan"):
        given_mask(path, scan)
    around = np.pad(np.ones((24, 24, 24), np.uint8), 2)
    shifted = AFFINE.copy()
    shifted[:3, 3] = -8
    path = _save(tmp_path / "around.nii.gz", around, shifted)
    with pytest.raises(InputFileError, match="covers the whole scan"):
        given_mask(path, scan)


def test_a_mask_on_another_grid_is_brought_to_its_scan_and_an_empty_lesion_is_one(
    tmp_path: Path,
) -> None:
    scan = nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), AFFINE)
    # The same ball, its first axis stored backwards.
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -2, 38
    path = _save(tmp_path / "flipped.nii.gz", _ball(5)[::-1].astype(np.uint8), flipped)
    mask, remark = given_mask(path, scan)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), _ball(5))
    assert remark == ""
    path = _save(tmp_path / "none.nii.gz", np.zeros((20, 20, 20), np.uint8))
    assert not np.asarray(given_mask(path, scan, may_be_empty=True)[0].dataobj).any()


def test_a_mask_whose_header_contradicts_itself_says_so(tmp_path: Path) -> None:
    image = nib.Nifti1Image(_ball().astype(np.uint8), AFFINE)
    image.set_qform(np.diag([2.0, 2.0, 4.0, 1.0]), 1)
    image.set_sform(AFFINE, 1)
    nib.save(image, tmp_path / "mask.nii.gz")
    assert "sform is used" in read_mask(tmp_path / "mask.nii.gz")[1]
