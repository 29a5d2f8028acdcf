"""Scans are brought together from far away, and left alone where they are aligned already."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.anatomy.images import image_like, load_scan
from colapipe.anatomy.registration import aligned_at_identity, register_rigid
from colapipe.errors import ParticipantError
from colapipe.phantom.simulate import SimulatedSubject, simulate_subject


@lru_cache(maxsize=1)
def _session() -> SimulatedSubject:
    """A 1 mm T1w in PSR and a FLAIR of 1 x 1 x 3 mm in LAS, heads with skull, that moved."""
    return simulate_subject(1, ["T1w", "FLAIR"], resolution=1.0)


@lru_cache(maxsize=1)
def _aligned() -> SimulatedSubject:
    return simulate_subject(4, ["T1w", "T2w"], resolution=2.0, coregistered=True)


def _misplaced(
    image: nib.Nifti1Image, axis: list[float], shift: list[float]
) -> tuple[nib.Nifti1Image, np.ndarray]:
    """Turn by 30 degrees and shift by 30 mm, in the header alone; return what was done."""
    turn = nib.quaternions.angle_axis2mat(np.radians(30), axis)
    moved = nib.affines.from_matvec(turn, 30 * np.array(shift) / np.linalg.norm(shift))
    return nib.Nifti1Image(np.asarray(image.dataobj), moved @ image.affine), moved


def _error(found: np.ndarray, truth: np.ndarray, brain: nib.Nifti1Image) -> float:
    points = np.argwhere(np.asarray(brain.dataobj) > 0)[::97]
    points = nib.affines.apply_affine(brain.affine, points)
    apart = nib.affines.apply_affine(found @ np.linalg.inv(truth), points) - points
    return float(np.linalg.norm(apart, axis=1).mean())


@pytest.mark.parametrize(
    ("axis", "shift", "extracted"),
    [([1, 2, -1], [1, -1, 2], False), ([-1, 0.3, 0.2], [-2, 1, -1], True)],
)
def test_thick_slices_of_another_contrast_are_found_30_degrees_and_30_mm_away(
    axis: list[float], shift: list[float], extracted: bool
) -> None:
    session = _session()
    reference, brain = session.images["T1w"], session.truth.brain
    if extracted:
        inside = np.asarray(brain.dataobj) > 0
        reference = image_like(np.where(inside, reference.dataobj, 0), reference)
    moving, moved = _misplaced(session.images["FLAIR"], axis, shift)
    truth = session.truth.moving_to_reference["FLAIR"] @ np.linalg.inv(moved)
    result = register_rigid(moving, reference, brain)
    assert _error(result.moving_to_reference, truth, brain) < 0.3
    rotation = result.moving_to_reference[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert not result.identity_kept
    assert result.cost < result.cost_at_identity


def test_scans_aligned_on_one_grid_keep_exactly_the_identity() -> None:
    scans, brain = _aligned().images, _aligned().truth.brain
    result = register_rigid(scans["T2w"], scans["T1w"], brain)
    assert result.identity_kept
    np.testing.assert_array_equal(result.moving_to_reference, np.eye(4))
    assert aligned_at_identity(scans["T2w"], scans["T1w"], brain)


@pytest.mark.parametrize("change", ["shift", "turn"])
def test_a_true_shift_of_1_mm_or_turn_of_1_degree_on_one_grid_is_seen(change: str) -> None:
    scans, brain = _aligned().images, _aligned().truth.brain
    data = np.asarray(scans["T2w"].dataobj)
    if change == "shift":
        moved = ndimage.shift(data, [0, 0.5, 0], order=3)  # half of a voxel of 2 mm
    else:
        turn = nib.quaternions.angle_axis2mat(np.radians(1), [0, 0, 1])
        middle = (np.array(data.shape) - 1) / 2
        moved = ndimage.affine_transform(data, turn, middle - turn @ middle, order=3)
    moving = image_like(moved.astype(np.float32), scans["T2w"])
    assert not aligned_at_identity(moving, scans["T1w"], brain)
    assert not register_rigid(moving, scans["T1w"], brain).identity_kept


def test_scans_on_different_grids_are_never_called_aligned() -> None:
    scans = _aligned().images
    cut = scans["T2w"].slicer[:, :, 2:]
    assert not aligned_at_identity(cut, scans["T1w"], _aligned().truth.brain)


def test_without_a_mask_the_head_is_found() -> None:
    scans, brain = _aligned().images, _aligned().truth.brain
    moving, moved = _misplaced(scans["T2w"], [0, 1, 1], [0, 1, -1])
    result = register_rigid(moving, scans["T1w"])
    assert _error(result.moving_to_reference, np.linalg.inv(moved), brain) < 0.5


def test_the_same_scans_give_the_same_matrix() -> None:
    scans, brain = _aligned().images, _aligned().truth.brain
    moving, _ = _misplaced(scans["T2w"], [1, 0, 0], [1, 0, 0])
    once, again = (register_rigid(moving, scans["T1w"], brain) for _ in range(2))
    np.testing.assert_array_equal(once.moving_to_reference, again.moving_to_reference)
    assert once.cost == again.cost


def test_an_empty_mask_is_refused() -> None:
    scans, brain = _aligned().images, _aligned().truth.brain
    empty = image_like(np.zeros(brain.shape, np.uint8), brain)
    with pytest.raises(ParticipantError, match="empty"):
        register_rigid(scans["T2w"], scans["T1w"], empty)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("stroke/sub-cstar01", "sub-cstar01"),
        ("openms_mni/sub-ms07", "sub-ms07"),
        ("brats_raw/sub-Brats182013201", "sub-Brats182013201"),
    ],
)
def test_real_scans_that_were_aligned_keep_the_identity(
    shared_data: Path, folder: str, name: str
) -> None:
    from colapipe.anatomy.brainmask import support_mask

    reference = load_scan(shared_data / folder / "anat" / f"{name}_T1w.nii.gz")
    moving = load_scan(shared_data / folder / "anat" / f"{name}_FLAIR.nii.gz")
    assert aligned_at_identity(moving, reference, support_mask(reference))


@pytest.mark.shared_data
def test_slices_of_a_real_clinical_scan_do_not_mislead_the_descent(shared_data: Path) -> None:
    from colapipe.anatomy.brainmask import brain_mask

    # No simulated scan shows this: with the gradient taken between thick slices as they are, the
    # descent ends at a pose that is worse than where the headers say.
    folder = shared_data / "openms_native/sub-mslong01/ses-02/anat"
    reference = load_scan(folder / "sub-mslong01_ses-02_T1w.nii.gz")
    moving = load_scan(folder / "sub-mslong01_ses-02_T2w.nii.gz")
    result = register_rigid(moving, reference, brain_mask(reference))
    assert result.cost < result.cost_at_identity


@pytest.mark.shared_data
def test_a_head_that_turned_between_scans_of_thick_slices_is_found(shared_data: Path) -> None:
    from colapipe.anatomy.brainmask import brain_mask

    # Descents by the gradient of small images ended 24 mm away here, whatever the start.
    folder = shared_data / "openms_native/sub-mslong04/ses-01/anat"
    reference = load_scan(folder / "sub-mslong04_ses-01_T1w.nii.gz")
    scan = load_scan(folder / "sub-mslong04_ses-01_T2w.nii.gz")
    # Slices of 5.5 mm, each blurred along its thickness.
    step = 5.5 / scan.header.get_zooms()[2]
    data = np.asarray(scan.dataobj, dtype=np.float32)
    data = ndimage.gaussian_filter1d(data, np.sqrt(step**2 - 1) / 2.355, axis=2, mode="nearest")
    shape = (*data.shape[:2], int(data.shape[2] / step))
    first = (step - 1) / 2
    data = ndimage.affine_transform(
        data, np.diag([1, 1, step]), [0, 0, first], shape, order=1, mode="nearest"
    )
    to_scan = nib.affines.from_matvec(np.diag([1, 1, step]), [0, 0, first])
    thick = nib.Nifti1Image(data, scan.affine @ to_scan)
    brain = brain_mask(reference)
    as_stored = register_rigid(scan, reference, brain).moving_to_reference
    turn = nib.quaternions.angle_axis2mat(np.radians(12), [0.6, 0.64, 0.48])
    middle = nib.affines.apply_affine(thick.affine, (np.array(thick.shape) - 1) / 2)
    shift = 18 * np.array([0.6, 0.5, 0.62]) / np.linalg.norm([0.6, 0.5, 0.62])
    moved = nib.affines.from_matvec(turn, middle - turn @ middle + shift)
    moving = nib.Nifti1Image(np.asarray(thick.dataobj), moved @ thick.affine)
    found = register_rigid(moving, reference, brain).moving_to_reference
    assert _error(found, as_stored @ np.linalg.inv(moved), brain) < 0.6
