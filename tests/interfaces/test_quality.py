"""The node of the quality numbers writes what the library measures."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from colapipe.interfaces.quality import SaveQuality
from colapipe.quality.table import read_quality_table


def test_the_node_writes_the_table_of_its_reference_grid_only(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01" / "ses-A" / "anat"
    anat.mkdir(parents=True)
    for space in ("T1w", "T2w"):
        image = nib.Nifti1Image(np.arange(1, 28, dtype=np.float32).reshape(3, 3, 3), np.eye(4))
        nib.save(image, anat / f"sub-01_ses-A_space-{space}_desc-preproc_T1w.nii.gz")
    node = SaveQuality(out_dir=str(tmp_path), participant="01", session="A", reference="T2w")
    expected = anat / "sub-01_ses-A_space-T2w_desc-quality_qc.tsv"
    assert node.run().outputs.out_files in (str(expected), [str(expected)])
    assert [row["contrast"] for row in read_quality_table(expected)] == ["T1w"]
    assert not list(anat.glob("*space-T1w*_qc.tsv"))
