"""Nodes that save: nothing of an earlier request stays beside what they write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.pipeline.engine import Node

from colapipe.interfaces.bids import SaveScores, SaveSelfCheck, SaveSynthesis
from colapipe.interfaces.published import is_intact
from colapipe.quality.scores import read_scores_tsv, write_scores_tsv


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_table_of_scores_has_only_targets_that_were_made(tmp_path: Path) -> None:
    table = tmp_path / "sub-01" / "anat" / "sub-01_space-T1w_desc-synth_qc.tsv"
    table.parent.mkdir(parents=True)
    write_scores_tsv(table, [{"target": "FLAIR", "region": "brain", "psnr": 30.0}])
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps([{"target": "PDw", "region": "brain", "psnr": 20.0}]))
    who = {"out_dir": str(tmp_path), "participant": "01", "reference": "T1w"}
    SaveScores(scores=[str(scores)], **who).run()
    assert [row["target"] for row in read_scores_tsv(table)] == ["PDw"]


def test_the_spread_of_an_earlier_image_does_not_stay_beside_another(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    nib.save(image, tmp_path / "image.nii.gz")
    geometry = {"grid": {"shape": [3, 3, 3], "affine": np.eye(4).tolist()}, "box": {"clipped": 0}}
    info = {
        "contrasts": ["T1w"],
        "model": {"name": "tiny", "sha256": "0" * 64},
        "slices": [1],
        **{"sampler": "ddim", "steps": 1, "samples": 2, "seed": 0},
        **{"device": "cpu", "precision": "float32"},
    }
    (tmp_path / "geometry.json").write_text(json.dumps(geometry))
    (tmp_path / "info.json").write_text(json.dumps(info))

    def save(**more: str) -> set[str]:
        SaveSynthesis(
            out_dir=str(tmp_path / "out"),
            participant="01",
            contrast="T2w",
            reference="T1w",
            sources=["bids::x"],
            spatial_reference="bids:raw:x",
            mean=str(tmp_path / "image.nii.gz"),
            info=str(tmp_path / "info.json"),
            geometry=str(tmp_path / "geometry.json"),
            **more,
        ).run()
        return {path.name for path in (tmp_path / "out" / "sub-01" / "anat").iterdir()}

    start = "sub-01_space-T1w_desc-"
    image_alone = {f"{start}synth_T2w.nii.gz", f"{start}synth_T2w.json"}
    spread = {f"{start}synthstd_T2w.nii.gz", f"{start}synthstd_T2w.json"}
    assert save(std=str(tmp_path / "image.nii.gz")) == image_alone | spread
    assert save() == image_alone


@pytest.mark.parametrize("change", ["edited", "touched", "sidecar", "gone"])
def test_a_node_knows_whether_what_it_wrote_is_still_there(tmp_path: Path, change: str) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"contrast": "T1w", "light": "green"}]))
    save = SaveSelfCheck(out_dir=str(tmp_path), participant="01", reference="T1w", rows=str(rows))
    node = Node(save, name="save", base_dir=str(tmp_path / "work"))
    # As the app sets Nipype up.
    node.config = {"execution": {"remove_unnecessary_outputs": "false"}}
    node.run()
    table = next(tmp_path.glob("sub-01/anat/*_desc-selfcheck_qc.tsv"))
    folder = Path(node.output_dir())
    assert is_intact(folder)
    if change == "touched":
        os.utime(table, ns=(1, 1))
    elif change == "gone":
        table.unlink()
    else:
        path = table if change == "edited" else table.with_suffix(".json")
        path.write_text(path.read_text() + " ")
    assert is_intact(folder) == (change == "touched")
    assert is_intact(tmp_path)
