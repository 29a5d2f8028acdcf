"""Tissue classes: what they agree with, what must not disturb them, and what is refused."""

from __future__ import annotations

from functools import lru_cache

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.images import image_like
from colapipe.anatomy.tissue import labels, order_classes, segment_tissue
from colapipe.contrasts import CONTRASTS, TISSUES, intensity_order

CSF, GM, WM = range(3)
# Dice with the truth of CSF, GM, WM: what was measured at 3 mm, less a margin. Fluid is hardly
# brighter than the cortex in PDw, and mixed with it nearly everywhere in a coarse T2w.
LEAST_DICE = {
    "T1w": (0.90, 0.93, 0.95),
    "T2w": (0.70, 0.90, 0.94),
    "T1ce": (0.90, 0.93, 0.95),
    "FLAIR": (0.90, 0.90, 0.88),
    "PDw": (0.50, 0.88, 0.86),
}


@lru_cache(maxsize=2)
def subject(resolution: float = 3.0):  # type: ignore[no-untyped-def]
    pytest.importorskip("nilearn", reason="nilearn, which brings the template, is not installed")
    from colapipe.phantom import simulate_subject

    return simulate_subject(3, resolution=resolution, head=False, coregistered=True, bias=0.0)


def brain() -> np.ndarray:
    return np.asarray(subject().truth.brain.dataobj) > 0


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (one.sum() + other.sum()))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_classes_are_those_of_the_truth(contrast: str) -> None:
    scan, mask = subject().images[contrast], subject().truth.brain
    found = labels(segment_tissue(scan, mask, contrast), brain())
    truth = np.stack([np.asarray(subject().truth.tissues[t].dataobj) for t in TISSUES], axis=-1)
    expected = labels(truth, brain())
    for index, least in enumerate(LEAST_DICE[contrast]):
        assert dice(found == index + 1, expected == index + 1) > least, TISSUES[index]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_fractions_fill_the_mask_and_nothing_else(contrast: str) -> None:
    scan, mask = subject().images[contrast], subject().truth.brain
    found = segment_tissue(scan, mask, contrast)
    assert found.shape == (*scan.shape, 3) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found.sum(axis=-1)[brain()], 1, atol=1e-5)
    assert not found[~brain()].any()
    # Neither hard labels nor a blur: some voxels are mixed, most are not.
    mixed = (found[brain()].max(axis=-1) < 0.99).mean()
    assert 0.02 < mixed < 0.6


def test_twice_the_same_is_the_same() -> None:
    scan, mask = subject().images["FLAIR"], subject().truth.brain
    once, again = (segment_tissue(scan, mask, "FLAIR") for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_the_unit_of_the_scan_does_not_matter() -> None:
    scan, mask = subject().images["T1w"], subject().truth.brain
    other = image_like(np.asarray(scan.dataobj) * np.float32(7) + np.float32(100), scan)
    difference = np.abs(segment_tissue(scan, mask, "T1w") - segment_tissue(other, mask, "T1w"))
    assert difference.mean() < 1e-3


def test_thick_slices_are_segmented_too() -> None:
    scan, mask = (im.slicer[:, :, ::2] for im in (subject().images["T1w"], subject().truth.brain))
    truth = np.stack(
        [np.asarray(subject().truth.tissues[t].dataobj)[:, :, ::2] for t in TISSUES], axis=-1
    )
    inside = np.asarray(mask.dataobj) > 0
    found, expected = labels(segment_tissue(scan, mask, "T1w"), inside), labels(truth, inside)
    for index, least in enumerate(LEAST_DICE["T1w"]):
        assert dice(found == index + 1, expected == index + 1) > least


@pytest.mark.parametrize(("contrast", "times_white"), [("T1w", 1.8), ("FLAIR", 2.0), ("T1ce", 2.5)])
def test_a_bright_lesion_captures_no_class(contrast: str, times_white: float) -> None:
    scan, mask = subject().images[contrast], subject().truth.brain
    white = np.asarray(subject().truth.tissues["WM"].dataobj) > 0.9
    # The ball around a point of white matter that holds a twentieth of the brain.
    centre = np.argwhere(white)[np.count_nonzero(white) // 2]
    distance = np.linalg.norm(np.moveaxis(np.indices(scan.shape), 0, -1) - centre, axis=-1)
    lesion = brain() & (distance <= np.sort(distance[brain()])[brain().sum() // 20])
    data = np.asarray(scan.dataobj).copy()
    data[lesion] = times_white * np.median(data[white])
    before = labels(segment_tissue(scan, mask, contrast), brain())
    after = labels(segment_tissue(image_like(data, scan), mask, contrast), brain())
    for tissue in (GM, WM):
        assert dice((before == tissue + 1)[~lesion], (after == tissue + 1)[~lesion]) > 0.95


def test_dark_spots_are_not_taken_for_white_matter_in_t2w() -> None:
    scan, mask = subject().images["T2w"], subject().truth.brain
    data = np.asarray(scan.dataobj).copy()
    spots = np.random.default_rng(0).permutation(np.flatnonzero(brain()))[: brain().sum() // 50]
    data.ravel()[spots] = 0.05 * np.median(data[brain()])
    rest = np.ones(data.size, bool)
    rest[spots] = False
    before = labels(segment_tissue(scan, mask, "T2w"), brain()).ravel()[rest]
    after = labels(segment_tissue(image_like(data, scan), mask, "T2w"), brain()).ravel()[rest]
    for tissue in (GM, WM):
        assert dice(before == tissue + 1, after == tissue + 1) > 0.95


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("stored", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_classes_are_known_by_their_brightness(contrast: str, stored: tuple[int, ...]) -> None:
    brightness = {tissue: 100.0 * (k + 1) for k, tissue in enumerate(intensity_order(contrast))}
    names = [TISSUES[k] for k in stored]
    found = order_classes([brightness[name] for name in names], contrast)
    assert [names[k] for k in found] == list(TISSUES)


def test_the_reversed_classes_of_a_t2w_scan_are_put_right() -> None:
    # `fast -t 2` counts from the brightest class: fluid, cortex, white matter.
    assert order_classes([690.0, 420.0, 265.0], "T2w") == (0, 1, 2)
    assert order_classes([265.0, 420.0, 690.0], "T2w") == (2, 1, 0)
    # In FLAIR, from the brightest: cortex, white matter, fluid.
    assert order_classes([320.0, 260.0, 30.0], "FLAIR") == (2, 0, 1)


@pytest.mark.parametrize("means", [[1.0, 2.0], [1.0, np.nan, 3.0], [[1.0, 2.0, 3.0]]])
def test_anything_but_three_means_is_refused(means: list[float]) -> None:
    with pytest.raises(ValueError, match="three finite numbers"):
        order_classes(means, "T1w")


def test_labels_are_one_to_four() -> None:
    probabilities = np.zeros((5, 1, 1, 3), np.float32)
    probabilities[[0, 1, 2, 3], 0, 0, [CSF, GM, WM, WM]] = 1
    mask = np.array([1, 1, 1, 0, 1], bool).reshape(5, 1, 1)
    # No label outside the mask, nor where nothing is known.
    assert labels(probabilities, mask).ravel().tolist() == [1, 2, 3, 0, 0]
    lesion = np.array([0, 1, 0, 1, 1], bool).reshape(5, 1, 1)
    assert labels(probabilities, mask, lesion).ravel().tolist() == [1, 4, 3, 0, 4]
    assert labels(probabilities, mask).dtype == np.uint8


def test_a_constant_scan_is_refused() -> None:
    flat = nib.Nifti1Image(np.full((12, 12, 12), 7, np.float32), np.eye(4))
    mask = nib.Nifti1Image(np.ones((12, 12, 12), np.uint8), np.eye(4))
    with pytest.raises(ValueError, match="constant inside the brain mask"):
        segment_tissue(flat, mask, "T1w")


@pytest.mark.parametrize("voxels", [0, 1, 99])
def test_a_mask_too_small_for_three_tissues_is_refused(voxels: int) -> None:
    scan = nib.Nifti1Image(np.arange(1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4))
    inside = (np.arange(1000) < voxels).astype(np.uint8).reshape(10, 10, 10)
    with pytest.raises(ValueError, match=f"{voxels} voxels; at least 100"):
        segment_tissue(scan, nib.Nifti1Image(inside, np.eye(4)), "T1w")


def test_a_mask_of_another_shape_is_refused() -> None:
    scan = nib.Nifti1Image(np.arange(1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4))
    with pytest.raises(ValueError, match="mask of shape"):
        segment_tissue(scan, nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)), "T1w")


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_small_mask_and_few_grey_levels_are_borne(contrast: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (6, 6, 6)).astype(np.float32)
    mask = nib.Nifti1Image(np.ones((6, 6, 6), np.uint8), np.eye(4))
    found = segment_tissue(nib.Nifti1Image(values, np.eye(4)), mask, contrast)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
