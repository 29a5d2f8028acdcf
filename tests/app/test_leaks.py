"""Nothing of a scan reaches its own synthesis."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("contrast", "reference"),
    [
        ("T2w", "T1w"),
        # The first of all in order: whoever forgets that it is the target takes it as reference.
        ("T1w", "T2w"),
        ("FLAIR", "T1w"),
    ],
)
def test_neither_noise_nor_absence_of_the_target_changes_a_synthesised_byte(
    contrast, reference, app, simulated, quick, tmp_path, fingerprints
):
    target = f"sub-01/anat/sub-01_{contrast}.nii.gz"
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
            path.with_name(f"sub-01_{contrast}.json").unlink()
        result = app(
            raw,
            tmp_path / case / "out",
            *quick,
            *("--participant-label", "01", "--target", contrast, "--evaluate"),
            *("-w", tmp_path / case / "work"),
        )
        assert result.code == 0, result.text
        outputs[case] = tmp_path / case / "out"
    for pattern in (f"sub-01/anat/*_desc-synth_{contrast}.*", f"sub-01/anat/*from{reference}*"):
        real = fingerprints(outputs["real"], pattern)
        assert real
        assert fingerprints(outputs["noise"], pattern) == real
        assert fingerprints(outputs["absent"], pattern) == real
    scores = "sub-01/anat/*_desc-synth_qc.tsv"
    assert fingerprints(outputs["real"], scores) != fingerprints(outputs["noise"], scores)
    assert not fingerprints(outputs["absent"], scores)
