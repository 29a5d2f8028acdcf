"""The export hands on what there is, where it is, under names that say which file is which."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from colapipe.cli.app import main
from colapipe.errors import UsageError
from colapipe.export import COLUMNS, SHAPE, check_export_folder, export, window_around

SIZE = 36  # Voxels of the field of view along each axis.
FOUR = ("T1w", "T1ce", "T2w", "FLAIR")


def affine_of(axes: str, zooms: tuple[float, float, float], turned: float = 0.0) -> np.ndarray:
    """Return the affine of a field of view around the origin; turned about z by degrees."""
    ornt = nib.orientations.axcodes2ornt(tuple(axes))
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign * zooms[axis]
    angle = np.deg2rad(turned)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, (SIZE - 1) / 2) + (5, -3, 11)
    affine[3, 3] = 1
    return affine


class Outputs:
    """Writes derivatives of a small round brain whose intensity grows to the right and upwards."""

    def __init__(self, root: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> None:
        self.root, self.affine, self.shape = root, affine, shape
        world = np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3, None, None, None]
        middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
        extent = np.abs(affine[:3, :3]) @ np.array(shape) * 0.4
        ratio = (world - middle[:, None, None, None]) / extent[:, None, None, None]
        self.mask = (ratio**2).sum(axis=0) < 1
        self.image = np.where(self.mask, 400 + 3 * world[0] + 2 * world[1] + world[2], 0)

    def write(self, who: str, name: str, data: Any = None, sidecar: Any = None) -> Path:
        participant, _, session = who.partition("/")
        anat = self.root / f"sub-{participant}" / (f"ses-{session}" if session else "") / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        start = f"sub-{participant}_" + (f"ses-{session}_" if session else "")
        path = anat / f"{start}{name}.nii.gz"
        data = self.image if data is None else data
        nib.save(nib.Nifti1Image(np.asarray(data, dtype=np.float32), self.affine), path)
        if sidecar is not None:
            path.with_name(f"{start}{name}.json").write_text(json.dumps(sidecar))
        return path

    def scans(self, who: str, *contrasts: str, reference: str = "T1w") -> None:
        for number, contrast in enumerate(contrasts, start=1):
            agent, suffix = ("ce-gadolinium_", "T1w") if contrast == "T1ce" else ("", contrast)
            name = f"{agent}space-{reference}_desc-preproc_{suffix}"
            self.write(who, name, self.image * number)
        self.write(who, f"space-{reference}_label-brain_desc-from{reference}_mask", self.mask)

    def synthesis(self, who: str, contrast: str, *, std: bool = False, **sidecar: Any) -> None:
        model = {"Name": "tiny", "WeightsSHA256": "ab" * 32}
        said = {"Synthetic": True, "SynthesizedFrom": ["T1w", "T2w"], "SynthesisModel": model}
        self.write(who, f"space-T1w_desc-synth_{contrast}", self.image * 9, said | sidecar)
        if std:
            self.write(who, f"space-T1w_desc-synthstd_{contrast}", self.image, said)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path / "out", affine_of("RAS", (3, 3, 3)), (SIZE, SIZE, SIZE))


def manifest(directory: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (directory / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {(row["case"], row["contrast"]): row for row in rows}


def volumes(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("axes", "zooms", "turned"),
    [
        ("RAS", (1.0, 1.0, 1.0), 0),
        ("LPS", (3.0, 3.0, 3.0), 0),
        ("PSR", (2.0, 1.5, 3.0), 0),
        ("LIA", (2.0, 2.0, 2.0), 0),
        ("RAS", (3.0, 2.0, 4.0), 20),
    ],
)
def test_a_voxel_is_exported_to_where_it_was(tmp_path, axes, zooms, turned):
    outputs = Outputs(tmp_path / "out", affine_of(axes, zooms, turned), (SIZE, SIZE, SIZE))
    outputs.scans("01", *FOUR)
    export(outputs.root, tmp_path / "to", [("01", None)])
    for number, short in enumerate(("t1n", "t1c", "t2w", "t2f"), start=1):
        image = nib.load(tmp_path / "to" / "brats" / "sub-01" / f"sub-01-{short}.nii.gz")
        assert image.shape == SHAPE
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        np.testing.assert_allclose(image.header.get_zooms(), 1, atol=1e-4)
        data = image.get_fdata()
        assert data[0, 0, 0] == 0
        # World positions well inside the brain, at voxels of the source.
        for voxel in ((18, 18, 18), (22, 15, 18), (14, 20, 21)):
            world = outputs.affine @ (*voxel, 1)
            index = np.linalg.inv(image.affine) @ world
            nearest = np.rint(index).astype(int)[:3]
            moved = image.affine @ (*nearest, 1)
            expected = number * (400 + 3 * moved[0] + 2 * moved[1] + moved[2])
            assert data[tuple(nearest)] == pytest.approx(expected, rel=2e-3)


def test_all_contrasts_of_a_case_share_one_affine(outputs, tmp_path):
    outputs.scans("01", *FOUR)
    export(outputs.root, tmp_path / "to", [("01", None)])
    images = [nib.load(path) for path in (tmp_path / "to").rglob("*.nii.gz")]
    assert len(images) == 8
    assert all(np.array_equal(image.affine, images[0].affine) for image in images)
    assert all(np.array_equal(image.get_sform(), image.affine) for image in images)
    np.testing.assert_allclose(images[0].get_qform(), images[0].affine, atol=1e-3)


def test_a_scan_on_the_grid_of_brats_keeps_its_voxels(tmp_path):
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = 239
    outputs = Outputs(tmp_path / "out", affine, SHAPE)
    outputs.scans("01", "T1w")
    export(outputs.root, tmp_path / "to", [("01", None)])
    image = nib.load(tmp_path / "to" / "imagesTs" / "sub-01_0000.nii.gz")
    np.testing.assert_array_equal(image.affine, affine)
    np.testing.assert_array_equal(image.get_fdata(), outputs.image.astype(np.float32))


def test_of_a_brain_that_is_too_high_the_top_is_kept():
    brain = np.zeros((60, 60, 200), dtype=bool)
    brain[20:40, 10:30, 20:190] = True
    start = window_around(brain, (40, 40, 155))
    assert start == (10, 0, 190 - 155)


def test_the_brain_lies_in_the_middle(outputs, tmp_path):
    outputs.scans("01", "T1w")
    export(outputs.root, tmp_path / "to", [("01", None)])
    data = nib.load(tmp_path / "to" / "imagesTs" / "sub-01_0000.nii.gz").get_fdata()
    for axis, size in enumerate(SHAPE):
        filled = np.flatnonzero(data.any(axis=tuple(a for a in range(3) if a != axis)))
        assert abs((filled[0] + filled[-1]) / 2 - (size - 1) / 2) <= 1


def test_the_manifest_says_what_is_synthetic_and_from_what(outputs, tmp_path):
    outputs.scans("01", "T1w", "T1ce", "T2w")
    outputs.synthesis("01", "FLAIR", std=True)
    done = export(outputs.root, tmp_path / "to", [("01", None)])
    assert (done.brats, done.nnunet, done.incomplete, done.problems) == (1, 1, 0, [])
    rows = manifest(tmp_path / "to")
    assert [row["origin"] for row in rows.values()] == ["real", "real", "real", "synthetic"]
    flair = rows["sub-01", "FLAIR"]
    assert flair["sources"] == "T1w+T2w" and flair["weights_sha256"] == "ab" * 32
    assert flair["std_file"] == "sub-01/anat/sub-01_space-T1w_desc-synthstd_FLAIR.nii.gz"
    assert flair["brats_file"] == "brats/sub-01/sub-01-t2f.nii.gz"
    assert flair["nnunet_file"] == "imagesTs/sub-01_0003.nii.gz"
    assert float(flair["covered"]) > 0.99 and flair["outside"] == "0"
    assert rows["sub-01", "T1w"]["sources"] == "n/a"
    for row in rows.values():
        assert (outputs.root / row["source_file"]).is_file()
    described = json.loads((tmp_path / "to" / "manifest.json").read_text())
    assert list(next(iter(rows.values()))) == list(COLUMNS) and set(described) == set(COLUMNS)
    assert "NOT the SRI24" in described["brats_file"]["Description"]


def test_a_synthetic_file_says_so_inside(outputs, tmp_path):
    outputs.scans("01", "T1w", "T2w", "FLAIR")
    outputs.synthesis("01", "T1ce")
    export(outputs.root, tmp_path / "to", [("01", None)])
    said = {
        path.name: bytes(nib.load(path).header["descrip"]).rstrip(b"\0").decode()
        for path in (tmp_path / "to" / "imagesTs").iterdir()
    }
    assert said["sub-01_0001.nii.gz"].startswith("SYNTHETIC T1ce: made by a model, not acquired")
    assert said["sub-01_0001.nii.gz"].endswith("manifest.tsv")
    assert not any("SYNTHETIC" in said[f"sub-01_000{number}.nii.gz"] for number in (0, 2, 3))
    note = manifest(tmp_path / "to")["sub-01", "T1ce"]["note"]
    assert note == "enhancement in a synthetic T1ce is not evidence of enhancement"


def test_an_image_that_is_partly_empty_is_remarked(outputs, tmp_path):
    outputs.scans("01", "T1w")
    half = np.where(np.indices(outputs.shape)[2] < SIZE // 2, outputs.image, 0)
    outputs.write("01", "space-T1w_desc-synth_T2w", half, {"Synthetic": True})
    export(outputs.root, tmp_path / "to", [("01", None)])
    row = manifest(tmp_path / "to")["sub-01", "T2w"]
    assert 0.4 < float(row["covered"]) < 0.6 and "of the brain" in row["note"]


def test_a_real_scan_is_preferred_to_a_synthetic_one(outputs, tmp_path):
    outputs.scans("01", *FOUR)
    outputs.synthesis("01", "FLAIR")
    export(outputs.root, tmp_path / "to", [("01", None)])
    assert manifest(tmp_path / "to")["sub-01", "FLAIR"]["origin"] == "real"


def test_a_case_that_lacks_a_contrast_is_listed_and_not_written(outputs, tmp_path):
    outputs.scans("01", *FOUR)
    outputs.scans("02", "T1w", "T2w", "FLAIR")
    done = export(outputs.root, tmp_path / "to", [("01", None), ("02", None), ("03", None)])
    assert (done.brats, done.nnunet, done.incomplete) == (1, 1, 2)
    assert not [name for name in volumes(tmp_path / "to") if "sub-01" not in name]
    rows = manifest(tmp_path / "to")
    assert rows["sub-02", "T1ce"]["origin"] == "missing"
    assert "lacks T1ce" in rows["sub-02", "T1w"]["note"]
    assert rows["sub-03", "T1w"]["origin"] == "missing"


def test_channels_are_what_half_of_the_cases_have(outputs, tmp_path):
    outputs.scans("01", "T1w", "T2w", "PDw")
    outputs.scans("02", "T1w", "T2w")
    outputs.scans("03", "T1w", "T2w")
    done = export(outputs.root, tmp_path / "to", [("01", None), ("02", None), ("03", None)])
    assert done.channels == ("T1w", "T2w") and (done.brats, done.nnunet) == (0, 3)
    dataset = json.loads((tmp_path / "to" / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T1w", "1": "T2w"}
    assert "fewer than half" in manifest(tmp_path / "to")["sub-01", "PDw"]["note"]


def test_what_may_be_of_an_earlier_run_is_not_handed_on(outputs, tmp_path):
    outputs.scans("01/A", *FOUR)
    outputs.scans("01/B", *FOUR)
    export(outputs.root, tmp_path / "to", [("01", "A"), ("01", "B")])
    assert len(volumes(tmp_path / "to")) == 16
    why = {("01", "B"): "the run failed"}
    done = export(outputs.root, tmp_path / "to", [("01", "A"), ("01", "B")], (), why)
    assert (done.brats, done.nnunet, done.incomplete) == (1, 1, 1)
    assert not [name for name in volumes(tmp_path / "to") if "ses-B" in name]
    row = manifest(tmp_path / "to")["sub-01_ses-B", "T1w"]
    assert (row["origin"], row["note"]) == ("missing", "not exported: the run failed")


def test_the_grid_with_most_contrasts_is_exported(outputs, tmp_path):
    outputs.scans("01/A", "T1w", reference="T1w")
    outputs.scans("01/A", "T2w", "FLAIR", reference="T2w")
    export(outputs.root, tmp_path / "to", [("01", "A")])
    rows = manifest(tmp_path / "to")
    assert {row["reference"] for row in rows.values()} == {"T2w"}
    assert volumes(tmp_path / "to") == [f"imagesTs/sub-01_ses-A_000{n}.nii.gz" for n in (0, 1)]


def test_another_export_leaves_only_its_own_volumes(outputs, tmp_path, fingerprints):
    outputs.scans("01", *FOUR)
    outputs.scans("02", *FOUR)
    both = [("01", None), ("02", None)]
    export(outputs.root, tmp_path / "to", both)
    before = fingerprints(tmp_path / "to", "**/*")
    export(outputs.root, tmp_path / "to", both)
    assert fingerprints(tmp_path / "to", "**/*") == before
    segmentation = tmp_path / "to" / "brats" / "sub-01" / "segmentation.nii.gz"
    segmentation.write_bytes(b"somebody's work")
    export(outputs.root, tmp_path / "to", both[1:])
    assert [name for name in volumes(tmp_path / "to") if "sub-01" in name] == [
        "brats/sub-01/segmentation.nii.gz"
    ]


def test_a_broken_image_spoils_its_case_only(outputs, tmp_path):
    outputs.scans("01", "T1w", "T2w")
    outputs.scans("02", "T1w", "T2w")
    broken = outputs.root / "sub-01" / "anat" / "sub-01_space-T1w_desc-preproc_T2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:2000])
    done = export(outputs.root, tmp_path / "to", [("01", None), ("02", None)])
    assert len(done.problems) == 1 and broken.name in done.problems[0]
    assert [name for name in volumes(tmp_path / "to") if "sub-01" in name] == []
    assert done.nnunet == 1


def test_hostile_text_stays_in_its_cell(outputs, tmp_path):
    outputs.scans("01", "T1w")
    outputs.synthesis("01", "T2w", SynthesizedFrom=["T1w\nsub-02\t<b>"], SynthesisModel=["no"])
    export(outputs.root, tmp_path / "to", [("01", None)])
    rows = manifest(tmp_path / "to")
    assert len(rows) == 2
    assert rows["sub-01", "T2w"]["sources"] == "T1w sub-02 <b>"
    assert rows["sub-01", "T2w"]["model"] == "n/a"


@pytest.mark.parametrize("place", ["raw/derivatives/to", "raw", "out/to"])
def test_a_folder_in_the_dataset_or_the_outputs_is_refused(tmp_path, place):
    with pytest.raises(UsageError, match="outside"):
        check_export_folder(tmp_path / place, tmp_path / "raw", tmp_path / "out")


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "to").mkdir()
    check_export_folder(tmp_path / "to", tmp_path / "raw", tmp_path / "out")
    (tmp_path / "to" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="no export wrote"):
        check_export_folder(tmp_path / "to", tmp_path / "raw", tmp_path / "out")


@pytest.mark.parametrize("options", [["group"], ["participant", "--slurm", "cluster.yaml"]])
def test_an_export_needs_a_finished_participant_level(options, capsys):
    with pytest.raises(SystemExit):
        main(["raw", "out", *options, "--export", "to"])
    assert "--export" in capsys.readouterr().err


def test_a_mask_without_a_brain_spoils_its_case_only(outputs, tmp_path):
    outputs.scans("01", "T1w")
    outputs.scans("02", "T1w")
    outputs.write("01", "space-T1w_label-brain_desc-fromT1w_mask", -1.0 * outputs.mask)
    done = export(outputs.root, tmp_path / "to", [("01", None), ("02", None)])
    assert done.nnunet == 1 and len(done.problems) == 1 and "_mask" in done.problems[0]
