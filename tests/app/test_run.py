"""A run on a simulated dataset, from scans to outputs, as a user starts it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.bids.dataset import validate
from colapipe.quality.table import read_quality_table


@pytest.fixture(scope="module")
def finished(app, simulated, quick, tmp_path_factory):
    """A run with two samples over the whole dataset: dataset, output, work folder, result."""
    root = tmp_path_factory.mktemp("run")
    out, work = root / "out", root / "work"
    result = app(simulated, out, *quick, "--samples", 2, "-w", work)
    assert result.code == 0, result.text
    return simulated, out, work, result


def synthesised(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("sub-*/anat/*_desc-synth_*.nii.gz"))


def test_what_is_missing_is_synthesised_and_nothing_else(finished):
    _, out, _, _ = finished
    assert synthesised(out) == [
        "sub-02_space-T1w_desc-synth_T2w.nii.gz",
        "sub-03_space-T1w_desc-synth_FLAIR.nii.gz",
    ]


def test_outputs_lie_on_the_grid_of_the_reference(finished):
    raw, out, _, _ = finished
    reference = nib.load(raw / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    images = sorted((out / "sub-02" / "anat").glob("*_space-T1w_*.nii.gz"))
    assert len(images) >= 12
    for path in images:
        image = nib.load(path)
        assert image.shape == reference.shape, path.name
        np.testing.assert_allclose(image.affine, reference.affine, atol=1e-4)


def test_synthesised_images_say_what_they_are(finished):
    _, out, _, _ = finished
    for path in out.glob("sub-*/anat/*_desc-synth*_*.json"):
        sidecar = json.loads(path.read_text())
        assert sidecar["Synthetic"] is True
        assert len(sidecar["SynthesisModel"]["WeightsSHA256"]) == 64
        assert not {"EchoTime", "RepetitionTime", "MagneticFieldStrength"} & set(sidecar)


def test_intensities_are_0_to_1000_inside_the_brain_and_0_outside(finished):
    _, out, _, _ = finished
    anat = out / "sub-02" / "anat"
    image = nib.load(anat / "sub-02_space-T1w_desc-synth_T2w.nii.gz").get_fdata()
    mask = nib.load(anat / "sub-02_space-T1w_label-brain_desc-fromT1w_mask.nii.gz").get_fdata()
    assert image.min() >= 0 and image.max() <= 1000
    assert image.max() > 0
    assert not image[mask == 0].any()


def test_two_samples_give_a_standard_deviation(finished):
    _, out, _, _ = finished
    path = out / "sub-02" / "anat" / "sub-02_space-T1w_desc-synthstd_T2w.nii.gz"
    assert nib.load(path).get_fdata().max() > 0


def test_tissue_maps_add_up_and_match_their_labels(finished):
    _, out, _, _ = finished
    anat = out / "sub-02" / "anat"
    stem = "sub-02_space-T1w"
    maps = [
        nib.load(anat / f"{stem}_label-{tissue}_desc-fromT1w_probseg.nii.gz").get_fdata()
        for tissue in ("CSF", "GM", "WM")
    ]
    labels = np.asarray(nib.load(anat / f"{stem}_desc-fromT1w_dseg.nii.gz").dataobj)
    inside = labels > 0
    np.testing.assert_allclose(sum(maps)[inside], 1, atol=1e-4)
    t1w = nib.load(anat / f"{stem}_desc-preproc_T1w.nii.gz").get_fdata()
    # In a T1w image, fluid is dark and white matter bright.
    csf, gm, wm = (np.median(t1w[labels == label]) for label in (1, 2, 3))
    assert csf < gm < wm


def test_the_output_is_a_valid_bids_dataset(finished):
    _, out, _, _ = finished
    validation = validate(out)
    if validation is None:
        pytest.skip("bids-validator-deno is not installed")
    assert validation.errors == ()


def test_every_participant_has_a_report_with_its_pictures(finished):
    _, out, _, _ = finished
    page = (out / "sub-02.html").read_text()
    assert "data:image/" in page and "synthetic" in page.lower()
    assert not (out / "sub-01.html").exists()


def test_every_contrast_of_a_grid_has_its_quality_numbers(finished):
    _, out, _, _ = finished
    [path] = out.glob("sub-02/anat/*_desc-quality_qc.tsv")
    rows = {(row["contrast"], row["synthetic"]): row for row in read_quality_table(path)}
    assert set(rows) == {("T1w", False), ("FLAIR", False), ("T2w", True)}
    assert rows["T1w", False]["volume_gm"] > 0 and rows["FLAIR", False]["nmi"] > 1
    assert rows["FLAIR", False]["coverage"] > 0.95 and rows["T2w", True]["sd_gm"] > 0
    assert json.loads(path.with_suffix(".json").read_text())["Warnings"] == []


def test_the_log_and_the_settings_of_the_run_are_kept(finished):
    _, out, _, _ = finished
    (folder,) = (path.parent for path in (out / "logs").glob("*/colapipe.log"))
    assert "nodes are cached" in (folder / "colapipe.log").read_text()
    assert "CoLa-Diff" in (folder / "CITATION.md").read_text()
    assert "@inproceedings{jiang2023coladiff," in (folder / "CITATION.bib").read_text()
    assert tomllib.loads((folder / "colapipe.toml").read_text())["samples"] == 2


def test_the_start_and_the_end_say_what_matters(finished):
    _, _, _, result = finished
    assert "0 of" in result.text and "will run" in result.text
    assert "2 contrast(s) synthesised, 0 participant(s) failed" in result.text
    assert "BIDS validation: skipped" in result.text


def test_nothing_half_written_is_left(finished):
    _, out, _, _ = finished
    assert [p for p in out.rglob(".*") if p.name != ".bidsignore"] == []


def test_a_second_run_does_no_work(finished, app, quick, fingerprints):
    raw, out, work, _ = finished
    before = fingerprints(out)
    times = {path: path.stat().st_mtime_ns for path in out.glob("sub-*/**/*")}
    result = app(raw, out, *quick, "--samples", 2, "-w", work)
    assert result.code == 0
    assert "Nothing to do" in result.text
    assert fingerprints(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.glob("sub-*/**/*")} == times


def test_a_scan_that_was_only_touched_is_recognised_by_its_content(
    finished, app, quick, fingerprints
):
    raw, out, work, _ = finished
    before = fingerprints(out)
    (raw / "sub-02" / "anat" / "sub-02_T1w.nii.gz").touch()
    result = app(raw, out, *quick, "--samples", 2, "-w", work)
    assert result.code == 0
    assert "Nothing to do" in result.text
    assert fingerprints(out) == before


def test_a_deleted_output_is_written_again(finished, app, quick, fingerprints):
    raw, out, work, _ = finished
    before = fingerprints(out)
    (out / "sub-02" / "anat" / "sub-02_space-T1w_desc-synth_T2w.nii.gz").unlink()
    result = app(raw, out, *quick, "--samples", 2, "-w", work)
    assert result.code == 0, result.text
    assert "Nothing to do" not in result.text and ", 0 will run" not in result.text
    assert fingerprints(out) == before


def test_the_two_halves_of_a_run_give_what_a_whole_run_gives(
    finished, app, simulated, quick, tmp_path, fingerprints
):
    _, whole, _, _ = finished
    out = tmp_path / "out"
    who = ("--participant-label", "02", "01", "-w", tmp_path / "work")
    first = app(simulated, out, *quick, *who, "--preproc-only")
    assert first.code == 0, first.text
    assert synthesised(out) == []
    # On the machine of the second half, the dataset has only its text files.
    text_only = tmp_path / "raw"
    text_only.mkdir()
    for name in ("dataset_description.json", "participants.tsv"):
        (text_only / name).write_bytes((simulated / name).read_bytes())
    second = app(text_only, out, *quick, *who, "--synth-only", "--samples", 2)
    assert second.code == 0, second.text
    name = "sub-02/anat/sub-02_space-T1w_desc-synth*_T2w.nii.gz"
    assert fingerprints(out, name) == fingerprints(whole, name)


def test_a_finished_run_is_exported_without_being_made_again(
    finished, app, simulated, quick, tmp_path, fingerprints
):
    _, out, work, _ = finished
    before = fingerprints(out)
    who = ("--participant-label", "02", "03", "--samples", 2, "-w", work)
    result = app(simulated, out, *quick, *who, "--export", tmp_path / "to")
    assert result.code == 0, result.text
    assert "Nothing to do." in result.text and "2 for nnU-Net" in result.text
    assert fingerprints(out) == before
    names = sorted(path.name for path in (tmp_path / "to" / "imagesTs").iterdir())
    assert names == [f"sub-0{n}_000{c}.nii.gz" for n in (2, 3) for c in range(3)]


def test_a_dry_run_prints_the_plan_and_writes_nothing(app, simulated, quick, tmp_path):
    result = app(simulated, tmp_path / "out", *quick, "-w", tmp_path / "work", "--dry-run")
    assert result.code == 0
    assert "sub-02" in result.text and "T2w" in result.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fsl
@pytest.mark.slow
def test_both_engines_write_the_same_files(finished, app, simulated, quick, tmp_path):
    _, builtin, _, _ = finished
    arguments = ["fsl" if word == "builtin" else word for word in quick]
    who = ("--participant-label", "02", "--samples", 2, "-w", tmp_path / "work")
    result = app(simulated, tmp_path / "out", *arguments, *who)
    assert result.code == 0, result.text

    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in (folder / "sub-02").rglob("*.*"))

    assert names(tmp_path / "out") == names(builtin)
