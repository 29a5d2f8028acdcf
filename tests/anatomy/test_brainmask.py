"""The brain is found in any storage order, and a scan without skull is told from one with it."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.anatomy.brainmask import (
    brain_mask,
    has_constant_background,
    is_brain_extracted,
    support_mask,
)
from colapipe.anatomy.images import image_like, load_scan, save_image
from colapipe.errors import ParticipantError
from colapipe.phantom.simulate import simulate_subject


@lru_cache(maxsize=1)
def _head() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """A head with skull, moved to the left and back in its field of view, and its brain."""
    subject = simulate_subject(3, ["T1w"], resolution=2.0, coregistered=True)
    scan, truth = subject.images["T1w"], subject.truth.brain
    moved = [np.roll(np.asarray(image.dataobj), (-6, -4), axis=(0, 1)) for image in (scan, truth)]
    return image_like(moved[0], scan), image_like(moved[1], truth)


def _dice(a: nib.Nifti1Image, b: nib.Nifti1Image) -> float:
    first, second = np.asarray(a.dataobj) > 0, np.asarray(b.dataobj) > 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def _stored(image: nib.Nifti1Image, order: str) -> nib.Nifti1Image:
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(order)
    )
    turned = image.as_reoriented(turn)
    return nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine)


@pytest.mark.parametrize("order", ["RAS", "PSR"])
def test_the_mask_lies_on_the_brain_in_any_storage_order(order: str) -> None:
    scan, truth = (_stored(image, order) for image in _head())
    mask = brain_mask(scan)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, scan.affine)
    data = np.asarray(mask.dataobj)
    assert set(np.unique(data)) == {0, 1}
    assert ndimage.label(data)[1] == 1
    np.testing.assert_array_equal(data, ndimage.binary_fill_holes(data))
    assert _dice(mask, truth) > 0.93
    # A mirrored mask would miss the moved brain.
    assert _dice(image_like(data[::-1], mask), truth) < 0.9


def test_the_program_writes_the_mask_that_the_function_returns(tmp_path: Path) -> None:
    scan, truth = _head()
    save_image(scan, tmp_path / "scan.nii.gz")
    command = [sys.executable, "-m", "colapipe.anatomy.brainmask"]
    done = subprocess.run(
        [*command, str(tmp_path / "scan.nii.gz"), str(tmp_path / "mask.nii.gz"), "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert _dice(load_scan(tmp_path / "mask.nii.gz"), truth) > 0.93


def test_the_program_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    from colapipe.anatomy.brainmask import main

    (tmp_path / "scan.nii.gz").write_bytes(b"nothing")
    assert main([str(tmp_path / "scan.nii.gz"), str(tmp_path / "mask.nii.gz")]) == 1
    assert not (tmp_path / "mask.nii.gz").exists()


def test_a_scan_without_a_brain_is_refused() -> None:
    data = np.zeros((40, 40, 40), np.float32)
    data[5, 5, 5] = 1
    with pytest.raises(ParticipantError, match="no brain"):
        brain_mask(nib.Nifti1Image(data, np.diag([4.0, 4, 4, 1])))


def _air_is_zero(scan: nib.Nifti1Image) -> np.ndarray:
    data = np.asarray(scan.dataobj).copy()
    data[data < 0.15 * np.percentile(data, 99)] = 0
    return data


def test_a_head_is_not_taken_for_an_extracted_brain() -> None:
    scan, truth = _head()
    assert not has_constant_background(scan)
    assert not is_brain_extracted(scan, truth)


def test_zeroed_air_around_a_head_is_not_brain_extraction() -> None:
    scan, truth = _head()
    zeroed = image_like(_air_is_zero(scan), scan)
    assert has_constant_background(zeroed)
    assert not is_brain_extracted(zeroed, truth)


def test_a_head_without_face_is_not_brain_extraction() -> None:
    scan, truth = _head()
    data = _air_is_zero(scan)
    brain = np.asarray(truth.dataobj) > 0
    front = np.argwhere(brain)[:, 1].max()
    data[:, front - 15 :, : np.argwhere(brain)[:, 2].min() + 15] = 0
    assert not is_brain_extracted(image_like(data, scan), truth)


@pytest.mark.parametrize("background", [0.0, -3.5])
def test_an_extracted_brain_is_recognised_and_its_support_is_the_brain(background: float) -> None:
    scan, truth = _head()
    brain = np.asarray(truth.dataobj) > 0
    data = np.where(brain, scan.dataobj, background).astype(np.float32)
    # Values below the background, and a dark ventricle, are inside the brain.
    inside = np.argwhere(ndimage.binary_erosion(brain, iterations=4))[::500]
    data[tuple(inside.T)] = background - 2
    data[tuple(inside[len(inside) // 2])] = background
    extracted = image_like(data, scan)
    larger = image_like(ndimage.binary_dilation(brain).astype(np.uint8), scan)
    for engine_mask in (truth, larger):
        assert is_brain_extracted(extracted, engine_mask)
    assert _dice(support_mask(extracted), truth) > 0.995


def test_a_slab_of_an_extracted_brain_is_still_extracted_and_one_of_a_head_is_not() -> None:
    scan, truth = _head()
    brain = np.asarray(truth.dataobj)
    middle = int(np.argwhere(brain)[:, 2].mean())
    slab = (slice(None), slice(None), slice(middle, middle + 12))
    mask = nib.Nifti1Image(brain[slab], scan.affine)
    head = nib.Nifti1Image(_air_is_zero(scan)[slab], scan.affine)
    bare = nib.Nifti1Image(np.asarray(head.dataobj) * brain[slab], scan.affine)
    assert is_brain_extracted(bare, mask)
    assert not is_brain_extracted(head, mask)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("scan", "extracted"),
    [
        ("stroke/sub-cstar01/anat/sub-cstar01_T2w.nii.gz", True),
        ("openms_mni/sub-ms07/anat/sub-ms07_T1w.nii.gz", True),
        ("brats_raw/sub-Brats182013201/anat/sub-Brats182013201_FLAIR.nii.gz", True),
        ("openms_native/sub-mslong01/ses-01/anat/sub-mslong01_ses-01_T1w.nii.gz", False),
    ],
)
def test_real_scans_are_told_apart(shared_data: Path, scan: str, extracted: bool) -> None:
    image = load_scan(shared_data / scan)
    assert has_constant_background(image)
    assert is_brain_extracted(image, brain_mask(image)) is extracted
