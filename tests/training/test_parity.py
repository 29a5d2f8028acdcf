"""What training shows a network of a head is what the app shows it, voxel by voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.interfaces.slices import Crop, PlanSlices
from colapipe.training.cache import find_scans, planes, present
from colapipe.training.store import CachedScans

CONTRASTS = ("T1w", "T1ce", "T2w", "FLAIR")


@pytest.fixture(scope="module")
def prepared(app, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derivatives of a head with four contrasts, whose brain masks differ."""
    pytest.importorskip("nilearn")
    from colapipe.phantom import simulate_dataset

    folder = tmp_path_factory.mktemp("parity")
    raw = simulate_dataset(
        folder / "raw", subjects=1, resolution=3, contrasts=CONTRASTS, missing={}
    )
    out = folder / "out"
    done = app(
        *(raw, out, "participant", "--preproc-only", "--engine", "builtin"),
        *("--work-dir", folder / "work", "--skip-bids-validation"),
    )
    assert done.code == 0, done.text
    return out


def crop(cwd: Path, **inputs: object) -> np.ndarray:
    cwd.mkdir()
    result = Crop(**inputs).run(cwd=str(cwd))
    return np.asarray(nib.load(result.outputs.out_file).dataobj)


def test_the_app_and_training_show_a_head_alike(prepared: Path, tmp_path: Path) -> None:
    (scans,) = find_scans(prepared)
    assert set(scans.images) == set(CONTRASTS) and set(scans.masks) == {"T1w", "T2w"}
    brains = [np.asarray(nib.load(path).dataobj) > 0 for path in scans.masks.values()]
    assert not np.array_equal(*brains), "with one mask this test would prove nothing"

    shown = present(scans)
    grid = PlanSlices(mask_file=str(scans.masks["T1w"])).run(cwd=str(tmp_path)).outputs
    assert np.array_equal(np.asarray(nib.load(grid.mask_file).dataobj), shown.masks["T1w"])
    common = {"geometry": grid.geometry, "mask_file": grid.mask_file}
    for contrast, path in scans.images.items():
        in_app = crop(tmp_path / contrast, in_file=str(path), kind="contrast", **common)
        assert in_app[in_app > 0].std() > 0.05
        assert np.abs(in_app - shown.contrasts[contrast]).max() < 1e-6
    for number, path in enumerate(scans.tissues["T1w"]):
        in_app = crop(tmp_path / f"tissue{number}", in_file=str(path), kind="probability", **common)
        assert np.abs(in_app - shown.tissues["T1w"][number]).max() < 1e-6


def test_the_cache_keeps_what_is_shown_but_for_its_rounding(prepared: Path) -> None:
    (scans,) = find_scans(prepared)
    shown, found = present(scans), planes(scans)
    cached = CachedScans(found.array, {"contrasts": list(CONTRASTS), "slices": found.slices})
    for contrast in CONTRASTS:
        expected = np.moveaxis(shown.contrasts[contrast][:, :, found.slices], 2, 0)
        assert np.abs(cached.image(contrast) - expected).max() <= 0.5 / 255 + 1e-6
