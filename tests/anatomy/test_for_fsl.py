"""FAST gets an image that suits it, and its classes are named by what they look like."""

from __future__ import annotations

from itertools import permutations

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.for_fsl import (
    image_for_fast,
    registration_weight,
    tissues_from_classes,
)
from colapipe.contrasts import CONTRASTS, TISSUES, intensity_order
from colapipe.errors import ParticipantError


def image(data: np.ndarray, zooms: tuple[float, float, float] = (1, 1, 1)) -> nib.Nifti1Image:
    return nib.Nifti1Image(data, np.diag([*zooms, 1.0]))


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("numbering", list(permutations(range(3))))
def test_classes_are_named_by_intensity_however_they_are_numbered(
    contrast: str, numbering: tuple[int, int, int]
) -> None:
    intensities = dict(zip(intensity_order(contrast), (100.0, 200.0, 300.0), strict=True))
    scan = np.array([intensities[tissue] for tissue in TISSUES], np.float32).reshape(3, 1, 1)
    truth = np.eye(3).reshape(3, 3, 1, 1)  # one voxel of each tissue
    named = tissues_from_classes([truth[i] for i in numbering], image(scan), contrast)
    np.testing.assert_array_equal(named, truth)


def test_fractions_sum_to_one_in_the_brain_and_are_zero_outside() -> None:
    rng = np.random.default_rng(0)
    brain = rng.uniform(100, 900, (6, 7, 8)).astype(np.float32)
    brain[:2] = 0
    maps = tissues_from_classes(list(rng.random((3, 6, 7, 8))), image(brain), "T1w")
    total = np.sum(maps, axis=0)
    np.testing.assert_allclose(total[2:], 1, atol=1e-6)
    assert not total[:2].any()
    assert {tissue.dtype for tissue in maps} == {np.dtype(np.float32)}


def test_an_empty_class_is_not_called_a_tissue() -> None:
    brain = np.full((2, 2, 2), 5, np.float32)
    classes = [np.ones_like(brain), np.zeros_like(brain), np.zeros_like(brain)]
    with pytest.raises(ParticipantError, match="1 tissues in this T1w, expected 3"):
        tissues_from_classes(classes, image(brain), "T1w")


@pytest.mark.parametrize("units", [0.001, 1.0, 4000.0])
def test_fast_gets_the_same_image_whatever_the_units_of_the_scan(units: float) -> None:
    rng = np.random.default_rng(1)
    scan = rng.uniform(0.2, 1, (8, 8, 8)).astype(np.float32)
    mask = np.ones(scan.shape, np.uint8)
    mask[0] = 0
    prepared = np.asarray(image_for_fast(image(scan * units), image(mask), "T1w").dataobj)
    assert np.median(prepared[1:]) == pytest.approx(1000)
    np.testing.assert_allclose(prepared[1:] / 1000, scan[1:] / np.median(scan[1:]), rtol=1e-5)
    assert not prepared[0].any()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_every_voxel_of_the_mask_is_in_the_brain_of_fast(contrast: str) -> None:
    scan = np.full((4, 4, 4), 80, np.float32)
    scan[0], scan[1, 0] = 0, -30
    mask = image(np.ones(scan.shape, np.uint8))
    prepared = np.asarray(image_for_fast(image(scan), mask, contrast).dataobj)
    assert prepared.min() == pytest.approx(100)
    assert prepared[3, 3, 3] == pytest.approx(1000)


def test_what_is_darker_than_tissue_is_lifted_where_fluid_is_bright_and_kept_where_it_is_dark() -> (
    None
):
    scan = np.linspace(1, 101, 1001, dtype=np.float32).reshape(7, 11, 13)
    mask = image(np.ones(scan.shape, np.uint8))
    of_t2w = np.asarray(image_for_fast(image(scan), mask, "T2w").dataobj)
    of_t1w = np.asarray(image_for_fast(image(scan), mask, "T1w").dataobj)
    assert np.mean(of_t2w == of_t2w.min()) == pytest.approx(0.1, abs=0.002)
    assert np.mean(of_t1w == of_t1w.min()) == pytest.approx(0.04, abs=0.002)
    np.testing.assert_allclose(of_t1w.ravel()[150:], of_t2w.ravel()[150:])


@pytest.mark.parametrize("scan", [np.zeros((3, 3, 3)), np.full((3, 3, 3), -4.0)])
def test_a_scan_without_signal_in_the_mask_is_refused(scan: np.ndarray) -> None:
    mask = image(np.ones(scan.shape, np.uint8))
    with pytest.raises(ParticipantError, match="expected a positive one"):
        image_for_fast(image(scan.astype(np.float32)), mask, "T2w")


def test_an_empty_mask_is_refused() -> None:
    scan = np.ones((3, 3, 3), np.float32)
    with pytest.raises(ParticipantError, match="mask of 0 voxels"):
        image_for_fast(image(scan), image(np.zeros(scan.shape, np.uint8)), "T1w")


def test_flirt_looks_ten_millimetres_around_the_brain_on_any_grid() -> None:
    mask = np.zeros((41, 41, 11), np.uint8)
    mask[20, 20, 5] = 1
    weight = np.asarray(registration_weight(image(mask, (1.0, 2.0, 4.0))).dataobj)
    assert weight.dtype == np.uint8
    assert np.flatnonzero(weight[:, 20, 5]).tolist() == list(range(10, 31))
    assert np.flatnonzero(weight[20, :, 5]).tolist() == list(range(15, 26))
    assert np.flatnonzero(weight[20, 20, :]).tolist() == [3, 4, 5, 6, 7]
