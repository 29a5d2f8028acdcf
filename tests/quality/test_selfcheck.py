"""The self-check finds what goes wrong in practice, with the bundled model and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from colapipe.anatomy.images import load_scan
from colapipe.anatomy.intensity import normalise
from colapipe.anatomy.tissue import segment_tissue
from colapipe.coladiff.model import CoLaDiff
from colapipe.contrasts import TISSUES
from colapipe.evaluation.self_check import Brain, exchange_names, leave_out
from colapipe.geometry import crop_to_model, plan_geometry
from colapipe.model_info import read_model
from colapipe.quality.pose import middle_plane
from colapipe.quality.selfcheck_table import check_session
from colapipe.quality.stored import Quality, read_quality
from colapipe.weights import bundled_model_path

Change = Callable[[Brain], Brain]
THREE = ("T1w", "T2w", "FLAIR")


@pytest.fixture(scope="module")
def model() -> CoLaDiff:
    return CoLaDiff.load(bundled_model_path(), "cpu")


@pytest.fixture(scope="module")
def quality() -> Quality:
    found = read_quality(read_model(None).metadata)
    assert found is not None
    return found


def brain_of(
    mask_image: nib.Nifti1Image,
    images: dict[str, nib.Nifti1Image],
    tissues: dict[str, list[nib.Nifti1Image]],
) -> Brain:
    """Bring a session to the model grid, with the maps of two contrasts."""
    geometry, found = plan_geometry(mask_image)
    rows = geometry.with_brain
    mask = np.asarray(found)[:, :, rows] > 0

    def maps(contrast: str) -> dict[str, np.ndarray]:
        return {
            tissue: crop_to_model(image, geometry, order=1)[:, :, rows] * mask
            for tissue, image in zip(TISSUES, tissues[contrast], strict=True)
        }

    made = {contrast: maps(contrast) for contrast in tissues}
    return Brain(
        "sub-1",
        {
            contrast: normalise(crop_to_model(image, geometry)[:, :, rows], mask)[0]
            for contrast, image in images.items()
        },
        dict.fromkeys(images, mask),
        {contrast: made.get(contrast, made["T1w"]) for contrast in images},
        rows,
    )


def segmented(
    images: dict[str, nib.Nifti1Image], mask: nib.Nifti1Image
) -> dict[str, list[nib.Nifti1Image]]:
    """Segment T1w and T2w, as preprocessing does for the two best contrasts."""
    maps = {name: segment_tissue(images[name], mask, name) for name in ("T1w", "T2w")}
    return {
        name: [nib.Nifti1Image(found[..., k], mask.affine) for k in range(len(TISSUES))]
        for name, found in maps.items()
    }


@pytest.fixture(scope="module")
def simulated_brain() -> Brain:
    """Three contrasts of a simulated head with lesions, noise and a bias field."""
    pytest.importorskip("nilearn")
    from colapipe.phantom.simulate import simulate_subject

    subject = simulate_subject(
        7, THREE, resolution=2, head=False, lesion=True, coregistered=True, bias=0.05
    )
    return brain_of(
        subject.truth.brain, subject.images, segmented(subject.images, subject.truth.brain)
    )


def lights(model: CoLaDiff, quality: Quality, brain: Brain) -> dict[str, tuple[str, str]]:
    """Return light and reasons of each contrast."""
    pairs = {
        name: leave_out(model, brain, name, [other for other in brain.images if other != name])
        for name in brain.images
    }
    rows = check_session(pairs, {}, quality)
    return {row["contrast"]: (row["light"], row["reasons"]) for row in rows}


def moved(brain: Brain, name: str, places: np.ndarray) -> Brain:
    """Take a contrast, its mask and its maps from other places; the outline stays."""
    mask = brain.masks[name]

    def move(volume: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(volume.astype(np.float32), places, order=1) * mask

    return replace(
        brain,
        images={**brain.images, name: move(brain.images[name])},
        masks={**brain.masks, name: move(mask) > 0.5},
        tissues={
            **brain.tissues,
            name: {tissue: move(values) for tissue, values in brain.tissues[name].items()},
        },
    )


def mirrored(brain: Brain, name: str) -> Brain:
    x, y, z = np.indices(brain.masks[name].shape)
    return moved(brain, name, np.stack([2 * middle_plane(brain.masks[name])[y, z] - x, y, z]))


def turned(brain: Brain, name: str, axis: str) -> Brain:
    places = np.indices(brain.masks[name].shape).astype(float)
    centre = np.array(ndimage.center_of_mass(brain.masks[name]))[:, None, None, None]
    turn = Rotation.from_euler(axis, 8, degrees=True).as_matrix()
    return moved(brain, name, np.tensordot(turn, places - centre, axes=1) + centre)


def test_an_untouched_session_is_green_or_amber(model, quality, simulated_brain):
    found = lights(model, quality, simulated_brain)
    assert {light for light, _ in found.values()} <= {"green", "amber"}, found


def test_two_contrasts_with_exchanged_names_are_red(model, quality, simulated_brain):
    found = lights(model, quality, exchange_names(simulated_brain, "T1w", "T2w"))
    for name in ("T1w", "T2w"):
        assert found[name][0] == "red"
        assert "exchanged names" in found[name][1]


def test_a_mirrored_contrast_is_red_and_the_reason_says_so(model, quality, simulated_brain):
    light, reasons = lights(model, quality, mirrored(simulated_brain, "FLAIR"))["FLAIR"]
    assert light == "red" and "mirrored" in reasons


@pytest.mark.parametrize("axis", ["x", "z"])
def test_a_contrast_that_is_turned_by_8_degrees_is_red(axis, model, quality, simulated_brain):
    light, reasons = lights(model, quality, turned(simulated_brain, "T2w", axis))["T2w"]
    assert light == "red"
    angle = float(reasons.partition("turned by ")[2].partition(" ")[0])
    assert angle == pytest.approx(8, abs=1.5)


@pytest.fixture(scope="module", params=["openms_mni", "stroke"])
def real_brain(request: pytest.FixtureRequest, shared_data: Path) -> Brain:
    """People with multiple sclerosis and with a stroke, whom no limit comes from."""
    (anat,) = (shared_data / request.param).glob("sub-*/anat")
    images = {
        name: load_scan(
            next(p for p in sorted(anat.glob(f"sub-*_{name}.nii*")) if "_ce-" not in p.name)
        )
        for name in THREE
    }
    inside = (images["T1w"].get_fdata() != 0).astype(np.uint8)
    mask = nib.Nifti1Image(inside, images["T1w"].affine)
    return brain_of(mask, images, segmented(images, mask))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("change", "touched", "word"),
    [
        (lambda brain: brain, (), ""),
        (lambda brain: exchange_names(brain, "T1w", "T2w"), ("T1w", "T2w"), "exchanged names"),
        (lambda brain: exchange_names(brain, "T2w", "FLAIR"), ("T2w", "FLAIR"), "exchanged names"),
        (lambda brain: mirrored(brain, "T2w"), ("T2w",), "mirrored"),
        (lambda brain: turned(brain, "FLAIR", "x"), ("FLAIR",), "turned"),
    ],
    ids=["untouched", "T1w and T2w exchanged", "T2w and FLAIR exchanged", "mirrored", "turned"],
)
def test_real_scans_are_judged_as_simulated_ones_are(
    change: Change, touched: tuple[str, ...], word: str, model, quality, real_brain
):
    found = lights(model, quality, change(real_brain))
    if not touched:
        assert {light for light, _ in found.values()} <= {"green", "amber"}, found
    for name in touched:
        light, reasons = found[name]
        assert light == "red" and word in reasons, found
