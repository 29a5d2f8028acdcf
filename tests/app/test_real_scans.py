"""Real scans go the whole way, and come out where they went in."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.bids.dataset import validate

pytestmark = [pytest.mark.shared_data, pytest.mark.slow]

DATASETS = ("stroke", "openms_native", "brats_raw", "openms_mni")


def correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    return float(np.corrcoef(a[inside], b[inside])[0, 1])


@pytest.mark.parametrize(
    ("dataset", "engine"),
    [
        *((dataset, "builtin") for dataset in DATASETS),
        *(pytest.param(name, "fsl", marks=pytest.mark.fsl) for name in ("stroke", "openms_native")),
    ],
)
def test_a_contrast_is_synthesised_in_place(dataset, engine, app, shared_data, tmp_path):
    raw, out = shared_data / dataset, tmp_path / "out"
    result = app(
        *(raw, out, "participant", "--engine", engine, "--evaluate", "--target", "FLAIR", "T2w"),
        *("-w", tmp_path / "work", "--skip-bids-validation"),
    )
    assert result.code == 0, result.text
    images = sorted(out.glob("sub-*/**/*_desc-synth_*.nii.gz"))
    assert len(images) == 2 * len(list(raw.glob("sub-*/**/*_FLAIR.nii.gz")))
    for path in images:
        check_place(path, raw, out)
    validation = validate(out)
    assert validation is None or validation.errors == ()


def check_place(path: Path, raw: Path, out: Path) -> None:
    """Check that an image has the grid of its reference and lies upon the real scan."""
    synthesised = nib.load(path)
    stem, _, suffix = path.name.partition("_space-T1w_desc-synth_")
    scan = nib.load(raw / path.parent.relative_to(out) / f"{stem}_T1w.nii.gz")
    assert synthesised.shape == scan.shape[:3]
    np.testing.assert_allclose(synthesised.affine, scan.affine, atol=1e-3)
    truth = nib.load(path.with_name(f"{stem}_space-T1w_desc-preproc_{suffix}"))
    # In RAS order the first axis goes from left to right: a mirrored brain fits worse.
    made = nib.as_closest_canonical(synthesised).get_fdata()
    real = nib.as_closest_canonical(truth).get_fdata()
    inside = (made > 0) & (real > 0)
    assert correlation(made, real, inside) > correlation(made[::-1], real, inside & inside[::-1])
    mask = nib.load(path.with_name(f"{stem}_space-T1w_label-brain_desc-fromT1w_mask.nii.gz"))
    brain = nib.as_closest_canonical(mask).get_fdata() > 0
    assert not made[~brain].any()
    assert np.mean(made[brain] > 0) > 0.9
