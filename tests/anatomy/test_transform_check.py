"""Which transforms can be believed: those of an optimiser that found its way, and no others."""

from __future__ import annotations

import json
import math

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from scipy import ndimage

from colapipe.anatomy.transform_check import (
    check_transform,
    first_accepted,
    mutual_information,
)
from colapipe.anatomy.transforms import write_itk
from colapipe.errors import ParticipantError, TransformError
from colapipe.interfaces.anatomy import CheckTransform, ExistingTransform

EXTENT = np.array([168.0, 192.0, 168.0])
"""Of the field of view, mm."""

TRUTH = from_matvec(euler2mat(0.15, -0.1, 0.2), [9.0, -6.0, 12.0])
"""Moving to reference."""


def head(
    contrast: str,
    pose: np.ndarray | None = None,
    zooms: tuple[float, float, float] = (3.0, 3.0, 3.0),
    seed: int = 0,
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a head of one contrast and the mask of its brain.

    ``pose`` takes the scan's coordinates to those of the reference; each seed is another person.
    """
    rng = np.random.default_rng(seed)
    shape = np.rint(EXTENT / zooms).astype(int)
    grid = from_matvec(np.diag(zooms), -(shape - 1) * zooms / 2)
    places = apply_affine(grid, np.moveaxis(np.indices(shape), 0, -1))
    affine = grid if pose is None else np.linalg.inv(pose) @ grid
    x, y, z = np.moveaxis(places, -1, 0)
    radius = np.sqrt((x / 66) ** 2 + (y / 80) ** 2 + ((z - 5) / 60) ** 2)
    brain = radius < 1
    folds = np.random.default_rng(7 + seed).normal(size=(12, 3)) / 14
    pattern = sum(np.sin(places @ fold + k) for k, fold in enumerate(folds)) / 3
    tissue = np.digitize(pattern - 1.5 * (radius - 0.8), [-0.5, 0.5])
    levels = {"T1w": (20, 60, 100), "T2w": (100, 55, 35), "FLAIR": (15, 90, 70)}[contrast]
    image = np.take(levels, tissue) * brain + 80 * ((radius > 1.08) & (radius < 1.15))
    noise = ndimage.gaussian_filter(rng.normal(0, 12, image.shape), 0.5)
    scan = nib.Nifti1Image((image + np.abs(noise)).astype(np.float32), affine)
    return scan, nib.Nifti1Image(brain.astype(np.uint8), affine)


@pytest.fixture(scope="module")
def reference():
    return head("T1w")


def check(matrix, reference, moving, mask=None):
    return check_transform(matrix, moving, *reference, mask)


@pytest.mark.parametrize("contrast", ["T2w", "FLAIR"])
@pytest.mark.parametrize("zooms", [(3.0, 3.0, 3.0), (2.0, 2.0, 5.5)])
def test_the_true_transform_is_accepted_on_thin_and_thick_slices(reference, contrast, zooms):
    moving, mask = head(contrast, TRUTH, zooms)
    found = check(TRUTH, reference, moving, mask)
    assert found.accepted, found.reasons
    assert found.dice > 0.9 and found.peak > 0.4
    assert found.turn == pytest.approx(math.degrees(math.acos((np.trace(TRUTH[:3, :3]) - 1) / 2)))


def test_a_cut_field_of_view_is_accepted(reference):
    moving, _ = head("FLAIR", TRUTH)
    cut = np.asarray(moving.dataobj).copy()
    cut[:, :, : cut.shape[2] * 4 // 10] = 0
    found = check(TRUTH, reference, nib.Nifti1Image(cut, moving.affine))
    assert found.accepted, found.reasons
    assert 0.5 < found.seen < 0.85


SPOILT = {
    "60 mm to the side": from_matvec(np.eye(3), [60, 0, 0]),
    "60 mm up": from_matvec(np.eye(3), [0, 0, 60]),
    "35 mm back": from_matvec(np.eye(3), [0, -35, 0]),
    "out of view": from_matvec(np.eye(3), [0, 300, 0]),
    "turned by 40 degrees": from_matvec(euler2mat(0, math.radians(40), 0)),
    "upside down": from_matvec(euler2mat(math.pi, 0, 0)),
    "mirrored": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "stretched": np.diag([1.06, 1.0, 1.0, 1.0]),
    "sheared": np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    "no numbers": np.full((4, 4), np.nan),
}


@pytest.mark.parametrize("contrast", ["T2w", "FLAIR"])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_transform_is_refused_with_a_reason(reference, contrast, spoilt):
    moving, _ = head(contrast, TRUTH)
    found = check(SPOILT[spoilt] @ TRUTH, reference, moving)
    assert not found.accepted
    json.dumps(found.to_dict(), allow_nan=False)


def test_where_the_headers_were_better_the_optimiser_has_lost_its_way(reference):
    moving, _ = head("T2w", np.eye(4))
    assert check(np.eye(4), reference, moving).accepted
    away = check(from_matvec(np.eye(3), [8.0, 0, 0]), reference, moving)
    assert any("headers" in reason for reason in away.reasons)


def test_noise_and_another_head_are_refused(reference):
    moving, _ = head("T2w", TRUTH)
    noise = np.random.default_rng(3).random(moving.shape).astype(np.float32)
    assert not check(TRUTH, reference, nib.Nifti1Image(noise, moving.affine)).accepted
    other, _ = head("T2w", TRUTH, seed=5)
    assert not check(TRUTH, reference, other).accepted


def test_a_reference_without_a_brain_is_to_blame(reference):
    scan, mask = reference
    small = np.zeros(mask.shape, np.uint8)
    small[24:30, 24:30, 24:30] = 1
    moving, _ = head("T2w", TRUTH)
    found = check(TRUTH, (scan, nib.Nifti1Image(small, mask.affine)), moving)
    assert not found.accepted and found.reference_to_blame
    assert not check(SPOILT["60 mm up"] @ TRUTH, reference, moving).reference_to_blame


def test_registration_is_tried_until_a_transform_can_be_believed(reference):
    moving, _ = head("T2w", TRUTH)
    tried: list[str] = []

    def attempt(name: str, matrix: np.ndarray | None):
        def register() -> np.ndarray:
            tried.append(name)
            if matrix is None:
                raise ParticipantError("nothing in common")
            return matrix

        return register

    bad, worse = SPOILT["35 mm back"] @ TRUTH, SPOILT["out of view"] @ TRUTH
    steps = [attempt("none", None), attempt("bad", bad), attempt("good", TRUTH)]
    found = first_accepted([*steps, attempt("more", worse)], moving, *reference)
    assert np.array_equal(found, TRUTH) and tried == ["none", "bad", "good"]
    # Where none can be believed, the check that follows tells what is wrong with the best one.
    kept = first_accepted([attempt("worse", worse), attempt("bad", bad)], moving, *reference)
    assert np.array_equal(kept, bad)
    with pytest.raises(ParticipantError, match="nothing in common"):
        first_accepted([attempt("none", None)], moving, *reference)


def test_mutual_information_of_equal_and_of_independent_images():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 50_000))
    assert mutual_information(one, -3 * one) == pytest.approx(math.log(32), abs=0.01)
    assert mutual_information(one, other) < 0.02


# --- the node ------------------------------------------------------------------------------------


@pytest.fixture
def files(reference, tmp_path):
    moving, mask = head("T2w", TRUTH)
    images = {
        "moving": moving,
        "moving_mask": mask,
        "reference": reference[0],
        "reference_mask": reference[1],
    }
    for name, image in images.items():
        nib.save(image, tmp_path / f"{name}.nii.gz")
    return {name: str(tmp_path / f"{name}.nii.gz") for name in images}


def test_the_node_lets_a_good_transform_pass_and_says_what_it_measured(files, tmp_path):
    write_itk(TRUTH, tmp_path / "transform.txt")
    node = CheckTransform(**files, transform=str(tmp_path / "transform.txt"))
    assert node.run(cwd=str(tmp_path)).outputs.transform == str(tmp_path / "transform.txt")
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["accepted"] is True and verdict["dice"] > 0.9


def test_the_node_refuses_a_spoilt_transform_and_leaves_its_reasons(files, tmp_path):
    write_itk(SPOILT["60 mm up"] @ TRUTH, tmp_path / "transform.txt")
    node = CheckTransform(**files, transform=str(tmp_path / "transform.txt"))
    with pytest.raises(TransformError):
        node.run(cwd=str(tmp_path))
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["accepted"] is False and verdict["reasons"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("given.mat", "1 0 0\n"), ("given.mat", "nan " * 16), ("given.txt", "not a transform")],
)
def test_a_given_matrix_that_cannot_be_read_is_refused_like_a_wrong_one(
    name, text, files, tmp_path
):
    (tmp_path / name).write_text(text)
    node = ExistingTransform(
        in_file=str(tmp_path / name), moving=files["moving"], reference=files["reference"]
    )
    with pytest.raises(TransformError):
        node.run(cwd=str(tmp_path))
    assert json.loads((tmp_path / "verdict.json").read_text())["accepted"] is False
