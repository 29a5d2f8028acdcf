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
from colapipe.anatomy.tissue import segment_tissue
from colapipe.coladiff.model import CoLaDiff
from colapipe.contrasts import TISSUES
from colapipe.evaluation.self_check import Brain, exchange_names, leave_out
from colapipe.quality.pose import middle_plane
from colapipe.quality.selfcheck import Pair
from colapipe.quality.selfcheck_table import check_session
from colapipe.quality.stored import Quality, read_model_quality
from colapipe.run.model import read_model
from colapipe.slices.intensity import normalise
from colapipe.slices.record import crop_to_model, plan_geometry
from colapipe.weights import bundled_model_path

Change = Callable[[Brain, str], Brain]
THREE = ("T1w", "T2w", "FLAIR")


@pytest.fixture(scope="module")
def model() -> CoLaDiff:
    return CoLaDiff.load(bundled_model_path(), "cpu")


@pytest.fixture(scope="module")
def quality() -> Quality:
    found = read_model_quality(read_model(None).metadata)
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


class Checked:
    """A session, its left-out syntheses, and what its self-check says when something is changed."""

    def __init__(self, model: CoLaDiff, quality: Quality, brain: Brain) -> None:
        self.model, self.quality, self.brain = model, quality, brain
        self.pairs = {name: self.leave_out(brain, name) for name in brain.images}

    def leave_out(self, brain: Brain, name: str) -> Pair:
        return leave_out(self.model, brain, name, [c for c in brain.images if c != name])

    def judge(self, pairs: dict[str, Pair]) -> dict[str, tuple[str, str]]:
        """Return light and reasons of some contrasts of the session."""
        others = dict.fromkeys(set(self.pairs) - set(pairs), "not asked for")
        rows = check_session(pairs, others, self.quality)
        return {row["contrast"]: (row["light"], row["reasons"]) for row in rows}

    def after(self, change: Change, name: str) -> tuple[str, str]:
        """Judge a contrast that was changed; what it is synthesised from was not."""
        changed = replace(self.pairs[name], real=change(self.brain, name).images[name])
        return self.judge({name: changed})[name]

    def exchanged(self, *names: str) -> dict[str, tuple[str, str]]:
        """Judge two contrasts that have each other's name."""
        wrong = exchange_names(self.brain, *names)
        return self.judge({name: self.leave_out(wrong, name) for name in names})


@pytest.fixture(scope="module")
def simulated(model: CoLaDiff, quality: Quality, simulated_brain: Brain) -> Checked:
    return Checked(model, quality, simulated_brain)


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


def turned(brain: Brain, name: str, axis: str = "x") -> Brain:
    places = np.indices(brain.masks[name].shape).astype(float)
    centre = np.array(ndimage.center_of_mass(brain.masks[name]))[:, None, None, None]
    turn = Rotation.from_euler(axis, 8, degrees=True).as_matrix()
    return moved(brain, name, np.tensordot(turn, places - centre, axes=1) + centre)


def judge_all(checked: Checked) -> None:
    """What an untouched session and the usual mishaps must look like."""
    untouched = checked.judge(checked.pairs)
    assert {light for light, _ in untouched.values()} <= {"green", "amber"}, untouched

    found = checked.exchanged("T2w", "FLAIR")
    for name in ("T2w", "FLAIR"):
        light, reasons = found[name]
        assert light == "red" and "exchanged names" in reasons, found
    # T1w and T2w: made from each other's scan and FLAIR, both syntheses are like neither.
    found = checked.exchanged("T1w", "T2w")
    assert any(light == "red" and "wrong name" in words for light, words in found.values()), found

    for name in ("T2w", "FLAIR"):
        light, reasons = checked.after(mirrored, name)
        assert light == "red" and "mirrored" in reasons, (name, reasons)
        light, reasons = checked.after(turned, name)
        assert light == "red", (name, reasons)
        angle = float(reasons.partition("turned by ")[2].partition(" ")[0])
        assert angle == pytest.approx(8, abs=2)


def test_the_usual_mishaps_are_red_in_simulated_scans_and_untouched_ones_are_not(simulated):
    judge_all(simulated)


def test_a_turn_about_another_axis_is_red_too(simulated):
    light, reasons = simulated.after(lambda brain, name: turned(brain, name, "z"), "T2w")
    assert light == "red" and "turned by" in reasons


def test_a_session_of_two_contrasts_is_judged_by_limits_of_its_own(model, quality, simulated_brain):
    two = replace(
        simulated_brain,
        images={name: simulated_brain.images[name] for name in ("T1w", "T2w")},
    )
    checked = Checked(model, quality, two)
    assert {light for light, _ in checked.judge(checked.pairs).values()} <= {"green", "amber"}
    light, reasons = checked.after(mirrored, "T2w")
    assert light == "red" and "mirrored" in reasons


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
def test_real_scans_are_judged_as_simulated_ones_are(model, quality, real_brain):
    judge_all(Checked(model, quality, real_brain))
