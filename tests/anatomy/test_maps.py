"""Masks and maps that cannot be read are named."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.maps import load_map
from colapipe.errors import InputFileError


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    voxels = np.arange(8000, dtype=np.float32).reshape(20, 20, 20)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:100] + b"\xff" * 300 + whole[400:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"mask\.nii\.gz"):
            load_map(path)
