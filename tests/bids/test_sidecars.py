from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colapipe.bids import sidecars
from colapipe.errors import OutputError, ReadWriteError

GIVEN: dict[str, Any] = {
    "sources": ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz"],
    "spatial_reference": "bids:raw:sub-01/anat/sub-01_T1w.nii.gz",
}
ENGINE: dict[str, Any] = {"engine": "builtin", "engine_version": "0.1.0"}
GRID: Any = ((2, 3, 4), np.diag([1.0, 2.0, 3.0, 1.0]))
INFO: dict[str, Any] = {
    "model": {"name": "cola-small", "sha256": "ab" * 32, "licence": "CC0", "training_data": "x"},
    "target": "T2w",
    "contrasts": ["T1w", "FLAIR"],
    "sampler": "ddim",
    "steps": 10,
    "samples": 3,
    "seed": 7,
    "slices": [3, 4, 5, 9],
    "device": "cpu",
    "precision": "float32",
    "threads": 1,
    "batch_size": 8,
    "auto_weights": None,
    "seconds": 1.0,
}
SYNTHETIC: dict[str, Any] = {
    **GIVEN,
    "info": INFO,
    "tissue_source": "T1w",
    "lesion_conditioning": False,
}


def all_sidecars() -> dict[str, dict[str, Any]]:
    """One sidecar of each kind, by kind."""
    return {
        "preproc": sidecars.preproc("T2w", "T1w", resampled=True, **GIVEN, **ENGINE),
        "mask": sidecars.brain_mask("T2w", "T1w", **GIVEN, **ENGINE),
        "lesion": sidecars.lesion_mask("T1w", **GIVEN),
        "dseg": sidecars.dseg("T2w", "T1w", **GIVEN, **ENGINE),
        "probseg": sidecars.probseg("GM", "T2w", "T1w", **GIVEN, **ENGINE),
        "synth": sidecars.synth("T2w", "T1w", **SYNTHETIC, model_grid=GRID),
        "synthstd": sidecars.synthstd("T2w", "T1w", **SYNTHETIC),
        "xfm": sidecars.xfm(
            "T2w",
            "T1w",
            sources=GIVEN["sources"],
            moving_grid=GRID,
            reference_grid=GRID,
            moving_to_reference=np.eye(4),
            **ENGINE,
        ),
        "qc": sidecars.qc({"psnr": "Peak signal-to-noise ratio, in dB"}),
    }


@pytest.mark.parametrize("kind", ["preproc", "synth", "synthstd"])
def test_every_image_that_is_not_a_mask_says_whether_it_has_a_skull(kind: str) -> None:
    assert all_sidecars()[kind]["SkullStripped"] is True


@pytest.mark.parametrize("kind", list(all_sidecars()))
def test_every_sidecar_is_json_with_a_description(kind: str) -> None:
    content = all_sidecars()[kind]
    if kind != "qc":
        assert content["Description"].endswith(".")
        assert all(source.startswith("bids:") for source in content["Sources"])
    if kind not in ("qc", "xfm"):
        assert content["SpatialReference"].startswith("bids:")


@pytest.mark.parametrize("kind", ["mask", "dseg", "probseg"])
def test_masks_and_maps_say_which_contrast_they_came_from(kind: str) -> None:
    assert all_sidecars()[kind]["SourceContrast"] == "T2w"


@pytest.mark.parametrize("kind", ["synth", "synthstd"])
def test_a_synthesised_image_says_so_and_how_it_was_made(kind: str) -> None:
    content = all_sidecars()[kind]
    assert content["Synthetic"] is True
    assert content["SynthesizedFrom"] == ["T1w", "FLAIR"]
    assert content["SynthesizedSlices"]["Ranges"] == [[3, 5], [9, 9]]
    assert content["SynthesizedSlices"]["Count"] == 4
    assert content["TissueSource"] == "T1w"
    assert content["LesionConditioning"] is False
    assert content["IntensityUnits"] == "arbitrary"
    model = content["SynthesisModel"]
    assert model == {
        "Name": "cola-small",
        "WeightsSHA256": "ab" * 32,
        "Licence": "CC0",
        "TrainingData": "x",
        "Sampler": "ddim",
        "Steps": 10,
        "Samples": 3,
        "Seed": 7,
        "Device": "cpu",
        "Precision": "float32",
        "Threads": 1,
        "BatchSize": 8,
    }


CALIBRATION: dict[str, Any] = {
    "level": 0.9,
    "samples": 3,
    "steps": 10,
    "sampler": "ddim",
    "targets": {"T2w": {"floor": 0.02, "factor": 2.5, "participants": 5}},
}


def calibrated(changes: dict[str, Any], calibration: Any = CALIBRATION) -> dict[str, Any]:
    """The sidecar of a standard deviation whose model carries a calibration."""
    info = {**INFO, "model": {**INFO["model"], "calibration": calibration}, **changes}
    content = sidecars.synthstd("T2w", "T1w", **{**SYNTHETIC, "info": info})
    found: dict[str, Any] = content["UncertaintyCalibration"]
    return found


def test_a_standard_deviation_says_how_it_becomes_an_interval() -> None:
    found = calibrated({})
    assert found["Calibrated"] is True and found["Level"] == 0.9 and found["Participants"] == 5
    # In the units of the image, which leaves the app in 0 to 1000.
    assert (found["Factor"], found["Floor"]) == (2.5, 20.0)
    assert "Factor * max(this image, Floor)" in found["Interval"] and "0..1000" in found["Interval"]
    assert "UncertaintyCalibration" not in all_sidecars()["synth"]


@pytest.mark.parametrize(
    ("changes", "calibration", "reason"),
    [
        ({}, None, "carries no calibration"),
        ({"samples": 4}, CALIBRATION, "made for 3 samples of 10 steps (ddim), and these are 4"),
        ({"steps": 4}, CALIBRATION, "and these are 3 samples of 4 steps"),
        ({"sampler": "ddpm"}, CALIBRATION, "(ddpm)"),
        ({}, {**CALIBRATION, "targets": {"T1w": CALIBRATION["targets"]["T2w"]}}, "cover T2w"),
        ({}, {"level": 0.9}, "cannot be read"),
    ],
)
def test_a_standard_deviation_that_is_not_calibrated_says_why(
    changes: dict[str, Any], calibration: Any, reason: str
) -> None:
    found = calibrated(changes, calibration)
    assert found["Calibrated"] is False and reason in found["Reason"]
    assert not {"Factor", "Floor", "Level"} & set(found)


def test_a_transform_names_both_grids(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_from-T2w_to-T1w_mode-image_xfm.json"
    sidecars.write_json(path, all_sidecars()["xfm"])
    content = json.loads(path.read_text())
    for grid in ("MovingGrid", "ReferenceGrid"):
        assert content[grid]["Shape"] == [2, 3, 4]
        assert content[grid]["Affine"] == np.diag([1.0, 2.0, 3.0, 1.0]).tolist()
    assert content["MovingToReference"] == np.eye(4).tolist()


@pytest.mark.parametrize("field", ["EchoTime", "RepetitionTime", "MagneticFieldStrength", "Any"])
def test_no_acquisition_field_reaches_a_synthesised_image(tmp_path: Path, field: str) -> None:
    path = tmp_path / "sub-01_space-T1w_desc-synth_T2w.json"
    with pytest.raises(ValueError, match=field):
        sidecars.write_json(path, {**all_sidecars()["synth"], field: 1})
    assert list(tmp_path.iterdir()) == []


def test_a_synthesised_image_cannot_be_described_under_the_name_of_a_scan(tmp_path: Path) -> None:
    content = all_sidecars()
    with pytest.raises(ValueError, match="desc-synth"):
        sidecars.write_json(tmp_path / "sub-01_space-T1w_desc-preproc_T2w.json", content["synth"])
    with pytest.raises(ValueError, match="Synthetic"):
        sidecars.write_json(tmp_path / "sub-01_space-T1w_desc-synth_T2w.json", content["preproc"])


def test_an_image_synthesised_from_itself_is_refused() -> None:
    for build in (sidecars.synth, sidecars.synthstd):
        with pytest.raises(ValueError, match="from itself"):
            build("T1w", "FLAIR", **{**SYNTHETIC, "tissue_source": "FLAIR"})
        with pytest.raises(ValueError, match="from itself"):
            build("T2w", "T1w", **{**SYNTHETIC, "tissue_source": "T2w"})


def test_the_label_table_names_every_tissue() -> None:
    rows = [line.split("\t") for line in sidecars.dseg_table(lesion=True).splitlines()]
    assert rows[0][:2] == ["index", "name"]
    assert [(row[0], row[2]) for row in rows[1:]] == [
        ("1", "CSF"),
        ("2", "GM"),
        ("3", "WM"),
        ("4", "lesion"),
    ]
    assert sidecars.dseg_table().count("\n") == 4


def test_json_is_stable_and_written_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    sidecars.write_json(path, {"b": np.float32(1), "a": {"d": "ü", "c": np.arange(2)}})
    first = path.read_bytes()
    sidecars.write_json(path, {"a": {"c": [0, 1], "d": "ü"}, "b": 1.0})
    assert path.read_bytes() == first
    assert "ü".encode() in first and first.endswith(b"}\n")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_what_json_does_not_know_is_refused(tmp_path: Path) -> None:
    for content in ({"x": float("nan")}, {"x": tmp_path}):
        with pytest.raises((ValueError, TypeError)):
            sidecars.write_json(tmp_path / "a.json", content)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_is_told_in_words_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    sidecars.write_json(path, {"a": 1})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReadWriteError, match="No space left"):
        sidecars.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        sidecars.write_json(tmp_path / "file" / "a.json", {})


def test_new_files_have_the_rights_the_user_wants(
    tmp_path: Path, make_tree: Callable[..., Path]
) -> None:
    ordinary = make_tree({}) / "dataset_description.json"
    sidecars.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == ordinary.stat().st_mode
