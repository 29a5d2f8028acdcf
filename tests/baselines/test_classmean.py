"""Class means: the mixture of what each tissue looked like in training, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from colapipe.baselines.classmean import ClassMeanFit, ClassMeanModel
from colapipe.baselines.load import load_model
from colapipe.coladiff.checkpoint import save_checkpoint
from colapipe.coladiff.model import UnsuitableModelError
from colapipe.contrasts import TISSUES

Slices = dict[str, npt.NDArray[np.float32]]
Mask = npt.NDArray[np.bool_]

NAMES = ("T1w", "T2w", "T1ce", "PDw")
ABOUT = {"training_data": "made up", "licence": "none"}


def probabilities(mask: Mask, seed: int) -> npt.NDArray[np.float32]:
    """Return maps of three classes, (slices, 3, height, width), that leave a bit of brain out."""
    drawn = np.random.default_rng(seed).dirichlet((1, 1, 1, 0.2), mask.shape)
    maps = np.moveaxis(drawn[..., :3], -1, 1) * mask[:, None]
    return np.ascontiguousarray(maps, dtype=np.float32)


def by_name(maps: npt.NDArray[np.float32]) -> Slices:
    return {name: maps[:, k] for k, name in enumerate(TISSUES)}


@pytest.fixture
def fit(sources: Slices, mask: Mask) -> ClassMeanFit:
    """Train on a participant without PDw."""
    fit = ClassMeanFit(NAMES)
    images = {name: sources[name] for name in ("T1w", "T2w", "T1ce")}
    maps = {name: probabilities(mask, seed) for seed, name in enumerate(images)}
    fit.add(images, dict.fromkeys(images, mask), maps)
    return fit


def test_pure_tissues_of_one_intensity_are_recovered(mask: Mask) -> None:
    labels = np.random.default_rng(0).integers(0, 3, mask.shape)
    maps = np.stack([(labels == k) & mask for k in range(3)], axis=1).astype(np.float32)
    t2w = np.array([0.9, 0.5, 0.3])[labels] * mask
    images = {"T1w": np.zeros_like(t2w), "T2w": t2w}
    fit = ClassMeanFit(NAMES)
    fit.add(images, dict.fromkeys(images, mask), dict.fromkeys(images, maps))
    given = {"T1w": images["T1w"]}
    result = fit.model(**ABOUT).synthesise(given, "T2w", mask=mask, tissues=by_name(maps))
    assert np.abs(result.mean - t2w).max() < 1e-6
    assert result.std is None


def test_the_means_are_weighted_by_the_probabilities_of_all_participants(mask: Mask) -> None:
    rng = np.random.default_rng(3)
    fit = ClassMeanFit(("T1w", "T2w"))
    values, weights = [], []
    for seed in range(2):
        images = {name: rng.random(mask.shape) for name in ("T1w", "T2w")}
        maps = {"T1w": probabilities(mask, seed), "T2w": probabilities(mask, seed + 10)}
        # Outside the mask anything may be: it is not looked at.
        maps["T1w"][~np.broadcast_to(mask[:, None], maps["T1w"].shape)] = 1
        fit.add(images, {"T1w": mask, "T2w": np.ones_like(mask)}, maps)
        values.append(images["T2w"][mask])
        weights.append(np.moveaxis(maps["T1w"], 1, -1)[mask])
    x, s = np.concatenate(values), np.concatenate(weights)
    expected = (s * x[:, None]).sum(axis=0) / s.sum(axis=0)
    assert fit.model(**ABOUT).means[1].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_no_target_is_segmented_by_itself(sources: Slices, mask: Mask) -> None:
    """Whatever a contrast's own mask and maps are, its means are the same."""
    means = []
    for own in (1.0, 0.0):
        fit = ClassMeanFit(NAMES)
        images = {name: sources[name] for name in ("T1w", "T2w")}
        maps = {"T1w": own * probabilities(mask, 0), "T2w": probabilities(mask, 1)}
        fit.add(images, {"T1w": mask & (own > 0), "T2w": mask}, maps)
        means.append(fit.model(**ABOUT).means[0].tolist())
    assert means[0] == means[1] and all(mean > 0 for mean in means[0])


def test_the_image_is_the_mixture_whatever_the_sources_are(
    fit: ClassMeanFit, sources: Slices, mask: Mask
) -> None:
    model, maps = fit.model(**ABOUT), probabilities(mask, 7)
    expected = np.einsum("nkhw,k->nhw", maps, model.means[1].numpy())
    for names in (("T1w",), ("T1w", "T1ce"), ("PDw",)):
        given = {name: sources.get(name, np.float32(0.5) * mask) for name in names}
        result = model.synthesise(given, "T2w", mask=mask, tissues=by_name(maps))
        assert np.abs(result.mean - expected).max() < 1e-6
        assert not result.mean[~mask].any()


def test_what_it_cannot_make_is_refused(fit: ClassMeanFit, sources: Slices, mask: Mask) -> None:
    model, maps = fit.model(**ABOUT), by_name(probabilities(mask, 7))
    given = {"T1w": sources["T1w"]}
    with pytest.raises(UnsuitableModelError, match="had PDw together with tissue maps"):
        model.synthesise(given, "PDw", mask=mask, tissues=maps)
    with pytest.raises(UnsuitableModelError, match="none of GM and WM"):
        model.synthesise(given, "T2w", mask=mask, tissues={"CSF": maps["CSF"]})
    with pytest.raises(ValueError, match="tissue maps come from the target"):
        model.synthesise(given, "T2w", mask=mask, tissues=maps, tissue_source="T2w")


def test_a_class_that_training_never_met_counts_as_nothing(sources: Slices, mask: Mask) -> None:
    fit = ClassMeanFit(("T1w", "T2w"))
    maps = probabilities(mask, 0)
    maps[:, 2] = 0
    images = {name: sources[name] for name in ("T1w", "T2w")}
    fit.add(images, dict.fromkeys(images, mask), dict.fromkeys(images, maps))
    means = fit.model(**ABOUT).means
    assert bool((means[:, :2] > 0).all()) and not means[:, 2].any()


def test_it_comes_back_from_its_checkpoint(
    fit: ClassMeanFit, sources: Slices, mask: Mask, tmp_path: Path
) -> None:
    model, path = fit.model(**ABOUT), tmp_path / "class-mean.safetensors"
    save_checkpoint(path, model.tensors(), model.metadata)
    loaded = load_model(path)
    assert isinstance(loaded, ClassMeanModel)
    given, maps = {"T1w": sources["T1w"]}, by_name(probabilities(mask, 7))
    before, after = (m.synthesise(given, "T2w", mask=mask, tissues=maps) for m in (model, loaded))
    assert np.array_equal(before.mean, after.mean)
