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
    voxels = np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"\xff" * 20 + whole[2020:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputFileError, match=r"mask\.nii\.gz"):
            load_map(path)
