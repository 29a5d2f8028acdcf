"""What stands under a final name: the voxels that were given, the transform as others read it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from colapipe.anatomy.images import save_image
from colapipe.anatomy.transforms import write_itk
from colapipe.interfaces.bids import SaveContrast, SaveTissue, publish_image

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

MATRIX = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.1), [12.0, -7.0, 4.0])
"""Moving to reference, RAS+ mm; no part of it is its own inverse."""


def scan(place: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int]) -> nib.Nifti1Image:
    """Return a scan with one bright ball of 4 mm at a place in the world."""
    world = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    distance = np.linalg.norm(world - place, axis=-1)
    return nib.Nifti1Image((10 + 90 * np.exp(-((distance / 4) ** 2))).astype(np.float32), affine)


def brightest(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the middle of what is bright, mm in the world."""
    weights = np.clip(volume - 30, 0, None)
    places = nib.affines.apply_affine(affine, np.moveaxis(np.indices(volume.shape), 0, -1))
    return np.asarray((places * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum())


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """A moving scan, its reference, and what SaveContrast makes of the transform between them."""
    place = np.array([6.0, -9.0, 3.0])
    grid = nib.affines.from_matvec(np.diag([-1.5, -1.5, 2.0]), [30.0, 33.0, -30.0])
    moving = scan(place, grid, (40, 44, 30))
    grid = np.array([[0, 0, 1.2, -30], [-1.2, 0, 0, 30], [0, 1.2, 0, -32], [0, 0, 0, 1]])
    reference = scan(nib.affines.apply_affine(MATRIX, place), grid, (52, 54, 50))
    paths = {name: tmp_path / f"{name}.nii" for name in ("moving", "reference_scan")}
    nib.save(moving, paths["moving"])
    nib.save(reference, paths["reference_scan"])
    write_itk(MATRIX, tmp_path / "transform.txt")
    SaveContrast(
        out_dir=str(tmp_path / "out"),
        participant="01",
        contrast="T2w",
        reference="T1w",
        in_file=str(paths["reference_scan"]),
        transform=str(tmp_path / "transform.txt"),
        moving=str(paths["moving"]),
        reference_scan=str(paths["reference_scan"]),
        sources=["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"],
        spatial_reference="bids:raw:sub-01/anat/sub-01_T1w.nii.gz",
        engine="builtin",
        engine_version="1",
    ).run(cwd=str(tmp_path))
    stem = tmp_path / "out" / "sub-01" / "anat" / "sub-01_from-T2w_to-T1w_mode-image_xfm"
    return {**paths, **{ext: stem.with_suffix(ext) for ext in (".json", ".mat", ".txt")}}


def test_itk_brings_the_moving_scan_to_the_reference_with_the_stored_transform(saved):
    moving, reference = (sitk.ReadImage(str(saved[name])) for name in ("moving", "reference_scan"))
    transform = sitk.ReadTransform(str(saved[".txt"]))
    resampled = sitk.Resample(moving, reference, transform, sitk.sitkLinear, 10.0)
    on_grid = nib.load(saved["reference_scan"])
    volume = np.transpose(sitk.GetArrayFromImage(resampled), (2, 1, 0))
    truth = brightest(np.asarray(on_grid.dataobj), on_grid.affine)
    np.testing.assert_allclose(brightest(volume, on_grid.affine), truth, atol=0.2)


def test_fsl_brings_the_moving_scan_to_the_reference_with_the_stored_matrix(saved):
    """FLIRT's matrix maps scaled voxels of one grid to those of the other."""
    from fsl.data.image import Image
    from fsl.transform.flirt import fromFlirt

    moving, reference = Image(str(saved["moving"])), Image(str(saved["reference_scan"]))
    matrix = fromFlirt(np.loadtxt(saved[".mat"]), moving, reference, "world", "world")
    np.testing.assert_allclose(matrix, MATRIX, atol=1e-4)


def test_the_sidecar_of_a_transform_names_it_and_both_grids(saved):
    content = json.loads(saved[".json"].read_text())
    np.testing.assert_allclose(content["MovingToReference"], MATRIX, atol=1e-6)
    for name, key in (("moving", "MovingGrid"), ("reference_scan", "ReferenceGrid")):
        image = nib.load(saved[name])
        assert tuple(content[key]["Shape"]) == image.shape
        np.testing.assert_allclose(content[key]["Affine"], image.affine, atol=1e-5)


def test_saved_masks_and_maps_are_those_that_were_given(tmp_path):
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    rng = np.random.default_rng(0)
    shape = (7, 8, 9)
    volumes = {
        "mask_file": (rng.random(shape) > 0.3).astype(np.uint8),
        "dseg": rng.integers(0, 4, shape).astype(np.uint8),
        **{name: rng.random(shape).astype(np.float32) for name in ("csf", "gm", "wm")},
    }
    paths = {name: tmp_path / f"{name}.nii.gz" for name in volumes}
    for name, volume in volumes.items():
        nib.save(nib.Nifti1Image(volume, affine), paths[name])
    SaveTissue(
        out_dir=str(tmp_path / "out"),
        participant="01",
        contrast="T2w",
        reference="T1w",
        mask_method="engine",
        sources=[],
        spatial_reference="bids:raw:x",
        engine="builtin",
        engine_version="1",
        **{name: str(path) for name, path in paths.items()},
    ).run(cwd=str(tmp_path))
    stem = "sub-01_space-T1w"
    names = {
        "mask_file": "label-brain_desc-fromT2w_mask",
        "dseg": "desc-fromT2w_dseg",
        "csf": "label-CSF_desc-fromT2w_probseg",
        "gm": "label-GM_desc-fromT2w_probseg",
        "wm": "label-WM_desc-fromT2w_probseg",
    }
    for name, volume in volumes.items():
        image = nib.load(tmp_path / "out" / "sub-01" / "anat" / f"{stem}_{names[name]}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj), volume)
        np.testing.assert_allclose(image.affine, affine)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("save", ["save_image", "publish_image", "publish_compressed"])
def test_a_final_name_has_the_old_image_or_the_new_one_and_never_a_part(
    save, ending, tmp_path, monkeypatch
):
    """Whatever stops a writer half way leaves what was there, and no half file beside it."""
    old = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    new = nib.Nifti1Image(np.random.default_rng(0).random((30, 30, 30)), np.eye(4))
    target = tmp_path / f"final{ending}"
    nib.save(old, target)
    before = target.read_bytes()
    source = tmp_path / f"node.nii{'.gz' if save == 'publish_compressed' else ''}"
    nib.save(new, source)

    class Stopped(BaseException):
        """As a signal would."""

    def stop(*arguments: object) -> None:
        assert target.read_bytes() == before, "the file changed under its final name"
        raise Stopped

    # The one step in which a name changes its content.
    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(Stopped):
        save_image(new, target) if save == "save_image" else publish_image(source, target)
    assert target.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {target.name, source.name}
