"""A round brain with a lesion, as a run leaves it: files small enough to count their voxels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (24, 26, 20)
AFFINE = np.diag([5.0, 5.0, 5.0, 1.0])
AFFINE[:3, 3] = (-60, -65, -50)


class Session:
    """Writes the files of ``sub-01`` the way the workflow names them."""

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        self.anat = out_dir / "sub-01" / "anat"
        self.anat.mkdir(parents=True)
        x, y, z = np.indices(SHAPE)
        radius = ((x - 11.5) / 9) ** 2 + ((y - 12.5) / 10) ** 2 + ((z - 9.5) / 7) ** 2
        self.mask = radius < 1
        self.labels = np.where(self.mask, 1 + (radius < 0.7) + (radius < 0.35), 0)
        self.scan = (100.0 + 100 * self.labels + 20 * np.random.default_rng(0).random(SHAPE)) * (
            self.mask
        )

    def write(self, name: str, data: Any, sidecar: object = None, affine: Any = AFFINE) -> Path:
        path = self.anat / f"sub-01_space-T1w_{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(data, dtype=np.float32), affine), path)
        if sidecar is not None:
            self.write_json(f"space-T1w_{name}", sidecar)
        return path

    def write_json(self, name: str, content: object) -> Path:
        path = self.anat / f"sub-01_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def reference(self) -> None:
        """T1w with its mask and labels: 5 mm voxels are 0.125 mL."""
        self.write("desc-preproc_T1w", self.scan)
        self.write("label-brain_desc-fromT1w_mask", self.mask)
        self.write("desc-fromT1w_dseg", self.labels)

    def moved(self, contrast: str, data: Any, **changes: Any) -> None:
        """Another contrast on the grid of T1w, with its transform."""
        self.write(f"desc-preproc_{contrast}", data)
        transform = {
            "MovingToReference": np.eye(4).tolist(),
            "MovingGrid": {"Shape": SHAPE, "Affine": AFFINE.tolist()},
            "IdentityKept": False,
            **changes,
        }
        self.write_json(f"from-{contrast}_to-T1w_mode-image_xfm", transform)

    def synthetic(
        self,
        contrast: str,
        data: Any,
        std: Any = None,
        calibration: object = None,
        ranges: Any = None,
    ) -> None:
        """A synthetic image; ``ranges`` of slices are numbered on the grid of T1w."""
        sidecar: dict[str, Any] = {"Synthetic": True, "SynthesizedFrom": ["T1w"]}
        if ranges is not None:
            sidecar["SynthesizedSlices"] = {
                "Count": sum(last - first + 1 for first, last in ranges),
                "Ranges": ranges,
                "Grid": {"Shape": SHAPE, "Affine": AFFINE.tolist()},
            }
        self.write(f"desc-synth_{contrast}", data, sidecar)
        if std is not None:
            more = {} if calibration is None else {"UncertaintyCalibration": calibration}
            self.write(f"desc-synthstd_{contrast}", std, sidecar | more)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "out")
