"""A mask that somebody made before: how it was understood reaches the sidecar of what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from colapipe.interfaces.anatomy import ChooseBrainMask, LesionToReference
from colapipe.interfaces.bids import SaveLesion, SaveTissue

BALL = ((np.indices((16, 16, 16)).T - 7.5) ** 2).sum(-1).T <= 25


def _save(path: Path, values: np.ndarray) -> str:
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Paths of a scan, a soft and a binary mask."""
    monkeypatch.chdir(tmp_path)
    voxels = np.random.default_rng(0).random((16, 16, 16), dtype=np.float32)
    soft = 0.001 + 0.9 * ndimage.gaussian_filter(BALL.astype(np.float32), 1)
    return {
        "scan": _save(tmp_path / "scan.nii", voxels),
        "soft": _save(tmp_path / "soft.nii.gz", soft),
        "binary": _save(tmp_path / "binary.nii.gz", BALL.astype(np.uint8)),
    }


@pytest.mark.parametrize("kind", ["soft", "binary"])
def test_a_soft_brain_mask_is_said_in_the_sidecar(
    tmp_path: Path, files: dict[str, str], kind: str
) -> None:
    chosen = ChooseBrainMask(in_file=files["scan"], existing_mask=files[kind]).run().outputs
    assert abs(int(nib.load(chosen.mask_file).get_fdata().sum()) - int(BALL.sum())) < 120
    SaveTissue(
        out_dir=str(tmp_path / "out"),
        participant="1",
        contrast="T1w",
        reference="T1w",
        sources=[],
        spatial_reference="bids:raw:scan",
        engine="builtin",
        engine_version="1",
        mask_file=chosen.mask_file,
        mask_method=chosen.method,
        mask_remark=chosen.remark,
        **dict.fromkeys(("csf", "gm", "wm", "dseg"), files["binary"]),
    ).run()
    (sidecar,) = (tmp_path / "out").rglob("*label-brain*_mask.json")
    remarks = json.loads(sidecar.read_text()).get("Remarks", [])
    assert len(remarks) == (kind == "soft")
    assert not remarks or "soft.nii.gz: the mask is not binary" in remarks[0]


def test_a_lesion_map_of_probabilities_is_said_in_the_sidecar(
    tmp_path: Path, files: dict[str, str]
) -> None:
    moved = LesionToReference(in_file=files["soft"], reference=files["scan"]).run().outputs
    assert 0 < nib.load(moved.out_file).get_fdata().sum() < 1000
    SaveLesion(
        out_dir=str(tmp_path / "out"),
        participant="1",
        contrast="T1w",
        reference="T1w",
        sources=[],
        spatial_reference="bids:raw:scan",
        in_file=moved.out_file,
        drawn_on="T1w",
        mask_remark=moved.remark,
    ).run()
    (sidecar,) = (tmp_path / "out").rglob("*label-lesion*_mask.json")
    assert "at least half of the maximum" in json.loads(sidecar.read_text())["Remarks"][0]
