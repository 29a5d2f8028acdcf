"""Nothing of a scan reaches its own synthesis."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np


def test_neither_noise_nor_absence_of_the_target_changes_a_synthesised_byte(
    app, simulated, quick, tmp_path, fingerprints
):
    target = "sub-01/anat/sub-01_T2w.nii.gz"
    outputs = {}
    for case in ("real", "noise", "absent"):
        raw = tmp_path / case / "raw"
        shutil.copytree(simulated, raw)
        path = raw / target
        if case == "noise":
            image = nib.load(path)
            noise = np.random.default_rng(0).integers(1, 1000, image.shape, dtype=np.int16)
            nib.save(nib.Nifti1Image(noise, image.affine), path)
        elif case == "absent":
            path.unlink()
            path.with_name("sub-01_T2w.json").unlink()
        result = app(
            raw,
            tmp_path / case / "out",
            *quick,
            *("--participant-label", "01", "--target", "T2w", "--evaluate"),
            *("-w", tmp_path / case / "work"),
        )
        assert result.code == 0, result.text
        outputs[case] = tmp_path / case / "out"
    for pattern in ("sub-01/anat/*_desc-synth_T2w.*", "sub-01/anat/*fromT1w*"):
        real = fingerprints(outputs["real"], pattern)
        assert real
        assert fingerprints(outputs["noise"], pattern) == real
        assert fingerprints(outputs["absent"], pattern) == real
    scores = "sub-01/anat/*_desc-synth_qc.tsv"
    assert fingerprints(outputs["real"], scores) != fingerprints(outputs["noise"], scores)
    assert not fingerprints(outputs["absent"], scores)
