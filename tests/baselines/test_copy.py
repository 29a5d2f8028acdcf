"""Nearest-contrast copy: it copies what was most like the target in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from colapipe.baselines.copy import CopyFit, CopyModel
from colapipe.baselines.load import load_model
from colapipe.coladiff.checkpoint import save_checkpoint
from colapipe.coladiff.model import UnsuitableModelError

Slices = dict[str, npt.NDArray[np.float32]]
Mask = npt.NDArray[np.bool_]

NAMES = ("T1w", "T2w", "T1ce", "FLAIR", "PDw")
ABOUT = {"training_data": "made up", "licence": "none"}


@pytest.fixture
def fitted(sources: Slices, mask: Mask) -> CopyModel:
    """Train where T1ce is close to T1w, FLAIR less so, and T2w not at all; nobody has PDw."""
    fit = CopyFit(NAMES)
    t1w = sources["T1w"]
    images = {
        "T1w": t1w,
        "T1ce": 0.95 * t1w,
        "FLAIR": 0.8 * t1w + 0.2 * sources["FLAIR"],
        "T2w": (1 - t1w) * mask,
    }
    fit.add(images, dict.fromkeys(images, mask))
    return fit.model(**ABOUT)


def test_the_source_that_was_most_like_the_target_is_copied(
    fitted: CopyModel, sources: Slices, mask: Mask
) -> None:
    given = {name: sources[name] for name in ("T2w", "T1ce", "FLAIR")}
    result = fitted.synthesise(given, "T1w", mask=mask)
    assert np.array_equal(result.mean, given["T1ce"])
    given.pop("T1ce")
    assert np.array_equal(fitted.synthesise(given, "T1w", mask=mask).mean, given["FLAIR"])
    assert result.std is None


def test_likeness_is_the_mean_psnr_over_participants_in_the_source_mask(mask: Mask) -> None:
    fit = CopyFit(("T1w", "T2w"))
    for difference in (0.1, 0.01):
        t1w = np.full(mask.shape, 0.5)
        # Outside the mask anything may be: it is not looked at.
        t2w = np.where(mask, 0.5 + difference, 99.0)
        fit.add({"T1w": t1w, "T2w": t2w}, {"T1w": mask, "T2w": mask})
    likeness = fit.model(**ABOUT).likeness
    assert float(likeness[1, 0]) == pytest.approx((20 + 40) / 2, abs=1e-4)
    assert np.isnan(float(likeness[0, 0]))


def test_what_training_never_saw_together_is_refused(
    fitted: CopyModel, sources: Slices, mask: Mask
) -> None:
    with pytest.raises(UnsuitableModelError, match="PDw together with T1w"):
        fitted.synthesise({"T1w": sources["T1w"]}, "PDw", mask=mask)


def test_it_comes_back_from_its_checkpoint(
    fitted: CopyModel, sources: Slices, mask: Mask, tmp_path: Path
) -> None:
    path = tmp_path / "copy.safetensors"
    save_checkpoint(path, fitted.tensors(), fitted.metadata)
    loaded = load_model(path)
    assert isinstance(loaded, CopyModel)
    given = {name: sources[name] for name in ("T2w", "FLAIR")}
    before, after = (m.synthesise(given, "T1w", mask=mask).mean for m in (fitted, loaded))
    assert np.array_equal(before, after)
