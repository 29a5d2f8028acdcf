"""N4 removes a smooth field inside the mask, and changes nothing else."""

from __future__ import annotations

from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.bias import correct_bias
from colapipe.anatomy.images import image_like
from colapipe.errors import ParticipantError
from colapipe.phantom.simulate import simulate_subject


@lru_cache(maxsize=1)
def _brain() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A T1w head without any field, and its brain."""
    subject = simulate_subject(1, ["T1w"], resolution=2.0, coregistered=True, bias=0)
    return subject.images["T1w"], subject.truth.brain


def _with_field(scan: nib.Nifti1Image) -> tuple[nib.Nifti1Image, np.ndarray]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in scan.shape), indexing="ij")
    field = np.exp(0.35 * x - 0.3 * y + 0.2 * z * x + 0.25 * z**2)
    return image_like((np.asarray(scan.dataobj) * field).astype(np.float32), scan), field


def _unevenness(scan: nib.Nifti1Image, truth: nib.Nifti1Image, brain: np.ndarray) -> float:
    ratio = np.asarray(scan.dataobj)[brain] / np.asarray(truth.dataobj)[brain]
    return float(np.std(np.log(ratio)))


@pytest.mark.parametrize("step", [1, 2])
def test_a_smooth_field_is_removed(step: int) -> None:
    # With step 2, voxels are 2 x 2 x 4 mm.
    scan, truth = (image.slicer[:, :, ::step] for image in _brain())
    brain = (np.asarray(truth.dataobj) > 0) & (np.asarray(scan.dataobj) > 0)
    uneven, _ = _with_field(scan)
    corrected = correct_bias(uneven, truth)
    assert corrected.get_data_dtype() == np.float32
    assert _unevenness(uneven, scan, brain) > 0.15
    assert _unevenness(corrected, scan, brain) < 0.07


def test_the_mean_of_the_brain_and_everything_outside_stay() -> None:
    scan, truth = _brain()
    uneven, _ = _with_field(scan)
    before = np.asarray(uneven.dataobj)
    after = np.asarray(correct_bias(uneven, truth).dataobj)
    brain = np.asarray(truth.dataobj) > 0
    np.testing.assert_allclose(after[brain].mean(), before[brain].mean(), rtol=1e-4)
    np.testing.assert_array_equal(after[~brain], before[~brain])
    assert np.array_equal(np.sign(after), np.sign(before))


def test_zeros_and_small_negatives_in_the_brain_are_borne() -> None:
    scan, truth = _brain()
    data = np.where(np.asarray(truth.dataobj) > 0, scan.dataobj, 0).astype(np.float32)
    inside = np.argwhere(data > 0)[::50]
    data[tuple(inside.T)] *= -0.05
    after = np.asarray(correct_bias(image_like(data, scan), truth).dataobj)
    assert np.isfinite(after).all()
    assert np.array_equal(after == 0, data == 0)


def test_twice_the_same_is_the_same() -> None:
    scan, truth = _brain()
    once, again = (np.asarray(correct_bias(scan, truth).dataobj) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_an_empty_mask_is_refused() -> None:
    scan, truth = _brain()
    with pytest.raises(ParticipantError, match="brighter than zero"):
        correct_bias(scan, image_like(np.zeros(truth.shape, np.uint8), truth))
