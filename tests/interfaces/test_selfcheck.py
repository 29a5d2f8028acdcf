"""What fails in a self-check is a word in its table, and no failure of a run."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from colapipe.interfaces.bids import SaveSelfCheck
from colapipe.interfaces.selfcheck import Judge, LeaveOut

SHAPE = (64, 64, 4)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A mask and a texture on the model grid, as small as the network allows."""
    x, y = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    mask = np.repeat((x**2 + y**2 < 0.8)[..., None], SHAPE[2], axis=2)
    texture = np.random.default_rng(0).random(SHAPE) * mask
    paths = {}
    for name, volume in (("mask", mask), ("image", texture)):
        paths[name] = str(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), paths[name])
    return paths


def leave_out(files: dict[str, str], model: Path, folder: Path) -> Any:
    folder.mkdir()
    node = LeaveOut(
        participant="1",
        target="T2w",
        source_names=["T1w"],
        sources=[files["image"]],
        mask_file=files["mask"],
        csf=files["mask"],
        gm=files["mask"],
        wm=files["mask"],
        tissue_source="T1w",
        slices=[1, 2],
        weights_sha256="0",
        model=str(model),
        steps=1,
        samples=1,
        device="cpu",
    )
    return node.run(cwd=str(folder)).outputs


def test_a_synthesis_that_fails_leaves_its_words(files, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    outputs = leave_out(files, broken, tmp_path / "node")
    assert "could not be synthesised" in outputs.problem
    assert "not a safetensors file" in outputs.problem


def test_a_contrast_is_synthesised_and_judged_without_limits(files, nano, tmp_path):
    outputs = leave_out(files, nano, tmp_path / "node")
    assert outputs.problem == "" and Path(outputs.mean).is_file()
    rows = judge(files, nano, tmp_path, synthetic_T2w=outputs.mean, problem_T2w="")
    assert [row["contrast"] for row in rows] == ["T1w", "T2w"]
    assert [row["light"] for row in rows] == ["n/a", "n/a"]
    assert rows[0]["reasons"] == "no other contrast"
    assert "not calibrated" in rows[1]["reasons"] and float(rows[1]["ssim_fitted"]) < 1


def test_what_could_not_be_compared_is_a_row_without_a_light(files, nano, tmp_path):
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), np.eye(4)), empty)
    files = {**files, "mask": str(empty)}
    rows = judge(files, nano, tmp_path, synthetic_T2w=files["image"], problem_T2w="")
    assert rows[1]["light"] == "n/a" and "could not be compared" in rows[1]["reasons"]
    rows = judge(files, nano, tmp_path, problem_T2w="could not be synthesised: killed\n\tby")
    assert rows[1]["reasons"] == "could not be synthesised: killed by"


def test_one_unusable_contrast_leaves_the_others_judged(files, nano, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    for bad in (str(broken), str(_other_shape(tmp_path))):
        rows = judge_three(files, nano, tmp_path, real_T1ce=bad)
        t1w, t2w, t1ce = rows["T1w"], rows["T2w"], rows["T1ce"]
        assert t1ce["light"] == "n/a" and t1ce["reasons"].startswith("could not be compared")
        assert float(t2w["correlation"]) == 1 and "not calibrated" in t2w["reasons"]
        assert t1w["reasons"] == "no other contrast"


def test_a_scan_that_lies_elsewhere_leaves_the_others_judged(files, nano, tmp_path):
    """The reference is compared inside the mask of another contrast, which may not meet its own."""
    elsewhere = tmp_path / "elsewhere.nii.gz"
    mask = np.zeros(SHAPE, np.float32)
    mask[:2, :2] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), elsewhere)
    rows = judge_three(
        files,
        nano,
        tmp_path,
        checks=("T1w", "T2w"),
        second_mask=str(elsewhere),
        real_T1w=files["image"],
        synthetic_T1w=files["image"],
    )
    assert rows["T1w"]["light"] == "n/a" and "no voxel in the slices" in rows["T1w"]["reasons"]
    assert float(rows["T2w"]["correlation"]) == 1


def _other_shape(folder: Path) -> Path:
    path = folder / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((8, 8, 4), np.float32), np.eye(4)), path)
    return path


def judge_three(
    files: dict[str, str],
    model: Path,
    folder: Path,
    checks: tuple[str, ...] = ("T2w", "T1ce"),
    **given: str,
) -> dict[str, dict[str, Any]]:
    """Judge T2w and what else is asked for, with the scan as its own synthesis; rows by name."""
    usual = {"sources": ("T1w",), "tissue_source": "T1w", "problem": ""}
    listed = [{**usual, "contrast": name} for name in checks]
    if "T1w" not in checks:
        listed.insert(0, {**usual, "contrast": "T1w", "problem": "no other contrast"})
    node = Judge(
        checks=listed,
        mask_file=files["mask"],
        reference="T1w",
        slices=[1, 2],
        weights_sha256="0",
        model=str(model),
        **{f"{kind}_{name}": files["image"] for name in checks for kind in ("real", "synthetic")}
        | given,
    )
    rows = json.loads(Path(node.run(cwd=str(folder)).outputs.rows).read_text(encoding="utf-8"))
    return {row["contrast"]: row for row in rows}


def judge(files: dict[str, str], model: Path, folder: Path, **given: str) -> list[dict[str, str]]:
    """Judge T2w, and T1w that cannot be checked; return the rows of the table."""
    check = {"sources": ("T1w",), "tissue_source": "T1w", "problem": ""}
    node = Judge(
        checks=[
            {**check, "contrast": "T1w", "sources": (), "problem": "no other contrast"},
            {**check, "contrast": "T2w"},
        ],
        mask_file=files["mask"],
        reference="T1w",
        slices=[1, 2],
        weights_sha256="0",
        model=str(model),
        real_T2w=files["image"],
        **given,
    )
    assert pickle.loads(pickle.dumps(node)).inputs.reference == "T1w"
    found = node.run(cwd=str(folder)).outputs.rows
    save = SaveSelfCheck(
        out_dir=str(folder / "out"), participant="1", reference="T1w", rows=found, sources=[]
    )
    (table,) = np.atleast_1d(save.run(cwd=str(folder)).outputs.out_files)
    described = json.loads(Path(table).with_suffix(".json").read_text(encoding="utf-8"))
    with Path(table).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert set(rows[0]) == set(described)
    return rows
