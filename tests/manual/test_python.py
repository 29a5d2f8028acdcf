"""The Python of the manual runs as it is printed.

manual: README.md, manual: docs/model.md, manual: docs/python.md
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

PAGES = ("README.md", "docs/model.md", "docs/python.md")


@pytest.fixture
def place(
    tmp_path: Path, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, object]]:
    """A folder with the files that the examples name, and what their names stand for."""
    x, y, z = np.mgrid[-40:40, -40:40, -3:3]
    brain = (x / 30) ** 2 + (y / 35) ** 2 < 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    for name, wave in (("T1w", 5), ("FLAIR", 8)):
        scan = brain * (100 + 20 * np.cos(x / wave) * np.sin(y / wave) + z)
        nib.save(nib.Nifti1Image(scan.astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "model.safetensors").symlink_to(nano)
    monkeypatch.chdir(tmp_path)
    # The example takes the bundled model, which costs more and is tested elsewhere.
    monkeypatch.setattr("colapipe.weights.bundled_model_path", lambda: nano)
    a, b = np.mgrid[-112:112, -112:112]
    disc = np.stack([(a / 65) ** 2 + (b / 80) ** 2 < 1] * 2)
    image = np.where(disc, 0.6 + 0.2 * np.cos(a / 9) * np.sin(b / 7), 0).astype(np.float32)
    return tmp_path, {"t1w": image, "flair": 0.9 * image}


@pytest.mark.parametrize("page", PAGES)
def test_the_example_runs_and_makes_what_it_says(
    page: str,
    place: tuple[Path, dict[str, object]],
    tool: Callable[[str], ModuleType],
) -> None:
    folder, names = place
    examples = [b for b in tool("run_blocks").blocks_of(page) if b.language == "python"]
    assert len(examples) == 1
    exec(compile(examples[0].text, page, "exec"), names)
    mean, std = names["mean"], names["std"]
    assert mean.shape == std.shape and mean.shape[1:] == (224, 224)
    assert 0 <= mean.min() < mean.max() <= 1
    if page == "docs/python.md":
        made = nib.load(folder / "synthetic_T2w.nii.gz")
        mask = nib.load(folder / "mask.nii.gz")
        assert made.shape == mask.shape
        np.testing.assert_array_equal(made.affine, mask.affine)
        assert made.get_fdata()[np.asarray(mask.dataobj) > 0].mean() > 1
