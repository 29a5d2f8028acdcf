"""A registration that went wrong, or was given wrong, is never used and never passed over."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import from_matvec

from colapipe.anatomy.transforms import read_itk, write_itk

FAR = from_matvec(np.eye(3), [0.0, 0.0, 60.0])


def matrices(folder: Path, participant: str, matrix: np.ndarray) -> Path:
    """Write a derivative dataset with a matrix from FLAIR to T1w."""
    anat = folder / f"sub-{participant}" / "anat"
    anat.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(
        json.dumps({"Name": "aligned", "BIDSVersion": "1.10.0", "DatasetType": "derivative"})
    )
    name = f"sub-{participant}_from-FLAIR_to-T1w_mode-image_xfm.txt"
    write_itk(matrix, anat / name)
    return folder


def noise_instead_of(scan: Path) -> None:
    image = nib.load(scan)
    inside = np.asarray(image.dataobj) > 0
    noise = np.random.default_rng(0).integers(1, 1000, image.shape, dtype=np.int16) * inside
    nib.save(nib.Nifti1Image(noise.astype(np.int16), image.affine), scan)


def cube_instead_of(scan: Path) -> None:
    image = nib.load(scan)
    data = np.asarray(image.dataobj)
    middle = np.array(data.shape) // 2
    part = tuple(slice(m - 4, m + 4) for m in middle)
    nib.save(nib.Nifti1Image(data[part], image.affine), scan)


def said_everywhere(out: Path, text: str, target_is_warned: bool = True) -> None:
    """Hold a run to it: terminal, log, report, quality table, group page and sidecar all warn."""
    assert re.search(r"warning: .*sub-02", text), text
    log = "".join(path.read_text() for path in out.glob("logs/*/colapipe.log"))
    assert re.search(r"WARNING: .*sub-02", log)
    page = (out / "sub-02.html").read_text()
    assert "No failure and no warning was recorded" not in page
    tables = list(out.glob("sub-02/anat/*desc-quality_qc.tsv"))
    assert any("not used" in table.read_text() for table in tables)
    (sidecar,) = out.glob("sub-02/anat/*desc-synth_T2w.json")
    assert json.loads(sidecar.read_text()).get("Warnings")


@pytest.fixture
def dataset(simulated: Path, tmp_path: Path) -> Path:
    """A dataset of which the second participant lacks T2w."""
    raw = tmp_path / "raw"
    shutil.copytree(simulated, raw)
    return raw


def run(app, quick, raw: Path, out: Path, *more: object):
    result = app(
        raw, out, *quick, "--participant-label", "02", "--target", "T2w", "-w", out / "work", *more
    )
    assert result.code == 0, result.text
    return result.text


def test_a_given_matrix_that_is_60_mm_off_is_replaced_by_a_registration(
    app, quick, dataset, tmp_path
):
    out = tmp_path / "out"
    given = matrices(tmp_path / "aligned", "02", FAR)
    text = run(app, quick, dataset, out, "--derivatives", given)
    said_everywhere(out, text)
    assert str(next(given.rglob("*.txt"))) in text
    (transform,) = out.glob("sub-02/anat/*from-FLAIR_to-T1w*.txt")
    assert np.linalg.norm(read_itk(transform)[:3, 3]) < 15
    # The same again finds nothing to do, and warns again.
    again = run(app, quick, dataset, out, "--derivatives", given)
    assert "Nothing to do" in again and "not used" in again


@pytest.mark.parametrize("spoil", [noise_instead_of, cube_instead_of])
def test_a_scan_that_cannot_be_registered_is_no_source(app, quick, dataset, tmp_path, spoil):
    out = tmp_path / "out"
    spoil(dataset / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz")
    text = run(app, quick, dataset, out)
    said_everywhere(out, text)
    (sidecar,) = out.glob("sub-02/anat/*desc-synth_T2w.json")
    content = json.loads(sidecar.read_text())
    assert content["SynthesizedFrom"] == ["T1w"]
    assert not any("FLAIR" in source for source in content["Sources"])
    assert not list(out.glob("sub-02/anat/*FLAIR*.nii.gz"))


def test_a_reference_without_a_brain_is_the_one_that_is_left_out(app, quick, dataset, tmp_path):
    out = tmp_path / "out"
    cube_instead_of(dataset / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    text = run(app, quick, dataset, out)
    said_everywhere(out, text)
    (sidecar,) = out.glob("sub-02/anat/*space-FLAIR_desc-synth_T2w.json")
    assert json.loads(sidecar.read_text())["SynthesizedFrom"] == ["FLAIR"]
    assert not list(out.glob("sub-02/anat/*space-T1w*"))


def test_a_participant_for_whom_too_little_is_left_fails_and_the_others_go_on(
    app, quick, dataset, tmp_path
):
    out = tmp_path / "out"
    noise_instead_of(dataset / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz")
    result = app(
        *(dataset, out, *quick, "--target", "T2w", "--source", "FLAIR", "T1w"),
        *("--participant-label", "02", "03", "--evaluate", "-w", tmp_path / "work"),
    )
    assert result.code == 0, result.text
    assert list(out.glob("sub-03/anat/*desc-synth_T2w.nii.gz"))
    assert "sub-02.html" in {path.name for path in out.glob("*.html")}
