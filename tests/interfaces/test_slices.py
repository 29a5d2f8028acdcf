"""What leaves the nodes between the reference grid and the model is where, and what, it was.

The truth is a function of the place in the world that has no symmetry, so that a mirrored, shifted
or turned volume cannot pass.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.bids.sidecars import INTENSITY_RANGE
from colapipe.interfaces.slices import Crop, PasteBack, PlanSlices
from colapipe.slices.record import Geometry

TURN = nib.eulerangles.euler2mat(0.1, -0.15, 0.2)

GRIDS = {
    "1 mm, LPS": (np.diag([-1.0, -1.0, 1.0]), (70, 60, 50)),
    "1 mm, PSR": (np.array([[0, 0, 1.0], [-1, 0, 0], [0, 1, 0]]), (60, 50, 70)),
    "0.9 x 0.9 x 3 mm, oblique": (TURN @ np.diag([-0.9, 0.9, 3.0]), (78, 67, 17)),
}


class Reference:
    """A reference grid with an egg-shaped brain that lies off its middle."""

    def __init__(self, name: str) -> None:
        matrix, self.shape = GRIDS[name]
        self.exact = name.startswith("1 mm")
        middle = matrix @ ((np.array(self.shape) - 1) / 2)
        self.affine = nib.affines.from_matvec(matrix, np.array([7.0, -11.0, 5.0]) - middle)
        x, y, z = self.world(self.affine, self.shape)
        self.brain = ((x - 4) / 25) ** 2 + ((y + 14) / 20) ** 2 + ((z - 8) / 14) ** 2 < 1

    @staticmethod
    def world(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the place of every voxel in the world, mm."""
        places = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        return np.moveaxis(places, -1, 0)

    @classmethod
    def truth(cls, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return a smooth image that tells right from left, front from back, up from down."""
        x, y, z = cls.world(affine, shape)
        return 0.5 + 0.25 * np.sin((x + 5) / 13) + 0.15 * np.sin((y - 3) / 9) + 0.1 * z / 20

    def save(self, volume: np.ndarray, path: Path) -> str:
        nib.save(nib.Nifti1Image(volume, self.affine), path)
        return str(path)


@pytest.fixture(params=GRIDS)
def reference(request) -> Reference:
    return Reference(request.param)


@pytest.fixture
def planned(reference, tmp_path):
    """The outputs of PlanSlices, and the record that it wrote."""
    mask = reference.save(reference.brain.astype(np.uint8), tmp_path / "brain.nii.gz")
    outputs = PlanSlices(mask_file=mask).run(cwd=str(tmp_path)).outputs
    return outputs, Geometry.from_dict(json.loads(Path(outputs.geometry).read_text())), mask


def test_the_mask_on_the_slices_is_where_the_brain_is(reference, planned):
    outputs, geometry, _ = planned
    image = nib.load(outputs.mask_file)
    np.testing.assert_allclose(image.affine, geometry.affine)
    cropped = np.asarray(image.dataobj) > 0
    for part in (cropped, reference.brain):
        assert part.any()
    centres = [
        reference.world(affine, part.shape)[:, part].mean(axis=1)
        for affine, part in ((geometry.affine, cropped), (reference.affine, reference.brain))
    ]
    np.testing.assert_allclose(*centres, atol=0.1)
    volumes = [
        part.sum() * abs(np.linalg.det(affine[:3, :3]))
        for affine, part in ((geometry.affine, cropped), (reference.affine, reference.brain))
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


def test_a_cropped_contrast_shows_the_brain_where_it_is_up_to_its_edge(
    reference, planned, tmp_path
):
    outputs, geometry, _ = planned
    scan = 300 + 500 * reference.truth(reference.affine, reference.shape)
    path = reference.save((scan * reference.brain).astype(np.float32), tmp_path / "scan.nii.gz")
    given = {"geometry": outputs.geometry, "mask_file": outputs.mask_file}
    crop = Crop(in_file=path, kind="contrast", **given)
    shown = np.asarray(nib.load(crop.run(cwd=str(tmp_path)).outputs.out_file).dataobj)
    inside = np.asarray(nib.load(outputs.mask_file).dataobj) > 0
    truth = reference.truth(geometry.affine, shown.shape)
    low, high = np.percentile(truth[inside], (0.1, 99.9))
    expected = np.clip((truth - low) / (high - low), 0, 1)
    # The background is 0: an edge that mixes with it is darker than the brain.
    edge = inside & ~ndimage.binary_erosion(inside, iterations=2)
    difference = shown - expected
    assert np.abs(difference[inside]).mean() < (1e-3 if reference.exact else 0.01)
    assert abs(difference[edge].mean()) < (1e-3 if reference.exact else 0.01)
    assert not shown[~inside].any()


def test_pasted_back_is_what_the_model_made_in_the_units_of_the_sidecar(
    reference, planned, tmp_path
):
    outputs, geometry, mask = planned
    inside = np.asarray(nib.load(outputs.mask_file).dataobj) > 0
    paths = {}
    for name, offset in (("mean", 0.0), ("std", -0.1)):
        volume = (reference.truth(geometry.affine, inside.shape) + offset) * inside
        paths[name] = str(tmp_path / f"model_{name}.nii.gz")
        nib.save(nib.Nifti1Image(volume.astype(np.float32), geometry.affine), paths[name])
    paste = PasteBack(
        geometry=outputs.geometry,
        mask_file=mask,
        model_mask=outputs.mask_file,
        slices=outputs.slices,
        **paths,
    )
    pasted = paste.run(cwd=str(tmp_path)).outputs
    truth = reference.truth(reference.affine, reference.shape)
    for name, offset in (("mean", 0.0), ("std", -0.1)):
        image = nib.load(getattr(pasted, name))
        np.testing.assert_allclose(image.affine, reference.affine, atol=1e-5)
        found = np.asarray(image.dataobj)
        covered = reference.brain & (found > 0)
        assert covered.sum() > 0.9 * reference.brain.sum()
        expected = (truth + offset) * INTENSITY_RANGE[1]
        error = np.abs(found - expected)[covered]
        assert error.mean() < (0.5 if reference.exact else 10)
        assert not found[~reference.brain].any()


def test_the_ends_of_the_models_scale_are_those_that_the_sidecar_names(planned, tmp_path):
    outputs, geometry, mask = planned
    inside = np.asarray(nib.load(outputs.mask_file).dataobj) > 0
    path = tmp_path / "ones.nii.gz"
    nib.save(nib.Nifti1Image(inside.astype(np.float32), geometry.affine), path)
    paste = PasteBack(
        geometry=outputs.geometry,
        mask_file=mask,
        model_mask=outputs.mask_file,
        slices=outputs.slices,
        mean=str(path),
    )
    found = np.asarray(nib.load(paste.run(cwd=str(tmp_path)).outputs.mean).dataobj)
    assert found.min() == INTENSITY_RANGE[0]
    assert np.median(found[found > 0]) == pytest.approx(INTENSITY_RANGE[1], rel=1e-4)
