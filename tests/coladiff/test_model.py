"""CoLaDiff.synthesise: what a result may depend on, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from colapipe.coladiff import CoLaDiff
from colapipe.coladiff.model import DeviceError, UnsuitableModelError, resolve_device
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.presets import PRESETS, write_nano_checkpoint
from colapipe.coladiff.samplers import SAMPLERS

SLICES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CoLaDiff:
    folder = tmp_path_factory.mktemp("model")
    return CoLaDiff.load(write_nano_checkpoint(folder / "nano.safetensors"))


@pytest.fixture(scope="module")
def scan() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    mask = np.zeros((SLICES, 224, 224), dtype=np.uint8)
    for row in range(SLICES):
        mask[row, 70 : 130 + 5 * row, 60:160] = 1
    mask[4, 20:200] = 1  # needs a larger window than the others

    def image() -> np.ndarray:
        return (rng.random(mask.shape) * mask).astype(np.float32)

    return {
        "contrasts": {"T1w": image(), "FLAIR": image()},
        "mask": mask,
        "tissues": {"CSF": image(), "GM": image(), "WM": image()},
        "target": "T2w",
    }


def rows(scan: dict[str, Any], chosen: list[int]) -> dict[str, Any]:
    return {
        **scan,
        "contrasts": {name: values[chosen] for name, values in scan["contrasts"].items()},
        "tissues": {name: values[chosen] for name, values in scan["tissues"].items()},
        "mask": scan["mask"][chosen],
    }


def test_the_result_is_an_image_inside_the_mask(model: CoLaDiff, scan: dict[str, Any]) -> None:
    mean, std, info = model.synthesise(**scan, samples=3)
    assert mean.shape == scan["mask"].shape
    assert mean.dtype == np.float32
    assert mean.min() >= 0 and mean.max() <= 1
    assert std is not None and std.dtype == np.float32
    assert not mean[scan["mask"] == 0].any() and not std[scan["mask"] == 0].any()
    assert mean[scan["mask"] > 0].std() > 0
    assert std[scan["mask"] > 0].max() > 0
    assert info["contrasts"] == ["T1w", "FLAIR"]
    assert info["steps"] == 2 and info["samples"] == 3 and info["sampler"] == "ddim"


def test_one_sample_has_no_standard_deviation(model: CoLaDiff, scan: dict[str, Any]) -> None:
    assert model.synthesise(**scan).std is None


def test_several_samples_may_take_more_steps_than_one(scan: dict[str, Any], tmp_path: Path) -> None:
    path = write_nano_checkpoint(tmp_path / "m.safetensors", steps=1, sampled_steps=3)
    model = CoLaDiff.load(path)
    assert model.synthesise(**scan).info["steps"] == 1
    assert model.synthesise(**scan, samples=2).info["steps"] == 3
    assert model.synthesise(**scan, samples=2, steps=2).info["steps"] == 2


def test_the_batch_size_does_not_matter(model: CoLaDiff, scan: dict[str, Any]) -> None:
    one = model.synthesise(**scan, samples=2, batch_size=1)
    many = model.synthesise(**scan, samples=2, batch_size=8)
    assert np.abs(one.mean - many.mean).max() <= 1e-5
    assert one.std is not None and many.std is not None
    assert np.abs(one.std - many.std).max() <= 1e-5


def test_the_number_of_threads_hardly_matters(model: CoLaDiff, scan: dict[str, Any]) -> None:
    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(model.synthesise(**scan, steps=3).mean)
    finally:
        torch.set_num_threads(before)
    assert np.abs(made[0] - made[1]).max() <= 1e-4


def test_the_order_of_the_slices_does_not_matter(model: CoLaDiff, scan: dict[str, Any]) -> None:
    whole = model.synthesise(**scan, slice_ids=[10, 11, 12, 13, 14, 15]).mean
    order = [4, 1, 3, 0, 5, 2]
    other = model.synthesise(**rows(scan, order), slice_ids=[10 + row for row in order]).mean
    assert np.abs(other - whole[order]).max() <= 1e-5


def test_a_slice_does_not_depend_on_which_others_are_made(
    model: CoLaDiff, scan: dict[str, Any]
) -> None:
    whole = model.synthesise(**scan).mean
    part = model.synthesise(**scan, rows=[3, 1])
    assert np.abs(part.mean[[1, 3]] - whole[[1, 3]]).max() <= 1e-5
    assert not part.mean[[0, 2, 4, 5]].any()
    assert part.info["slices"] == [3, 1]


def test_a_slice_is_made_from_its_neighbours_too(model: CoLaDiff, scan: dict[str, Any]) -> None:
    whole = model.synthesise(**scan).mean
    changed = {name: values.copy() for name, values in scan["contrasts"].items()}
    # The same intensities elsewhere: the scale of the volume stays what it is.
    changed["T1w"][3] = changed["T1w"][3][:, ::-1] * scan["mask"][3] + 0.0
    other = model.synthesise(**{**scan, "contrasts": changed, "tissues": None}).mean
    plain = model.synthesise(**{**scan, "tissues": None}).mean
    assert np.abs(other[[2, 4]] - plain[[2, 4]]).max() > 1e-4
    assert np.abs(other[[0]] - plain[[0]]).max() < np.abs(other[[2]] - plain[[2]]).max()
    assert whole.shape == plain.shape


def test_the_intensity_scale_of_a_source_hardly_matters(
    model: CoLaDiff, scan: dict[str, Any]
) -> None:
    plain = model.synthesise(**{**scan, "tissues": None}).mean
    dimmed = {
        name: values * 0.6 + 0.2 * (scan["mask"] > 0) for name, values in scan["contrasts"].items()
    }
    other = model.synthesise(**{**scan, "contrasts": dimmed, "tissues": None}).mean
    assert np.abs(other - plain).max() < 1e-3


def test_the_weights_of_the_contrasts_are_told(model: CoLaDiff, scan: dict[str, Any]) -> None:
    weights = model.synthesise(**scan).info["auto_weights"]
    assert set(weights) == {"T1w", "FLAIR"}
    assert all(0 < weight < 2 for weight in weights.values())


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_makes_an_image(model: CoLaDiff, scan: dict[str, Any], sampler: str) -> None:
    mean, std, info = model.synthesise(**scan, sampler=sampler, steps=3, samples=2)
    assert info["sampler"] == sampler
    assert np.isfinite(mean).all() and std is not None and np.isfinite(std).all()
    again = model.synthesise(**scan, sampler=sampler, steps=3, samples=2, batch_size=1).mean
    assert np.abs(again - mean).max() <= 1e-4


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    model: CoLaDiff, scan: dict[str, Any]
) -> None:
    first, again = model.synthesise(**scan, seed=1).mean, model.synthesise(**scan, seed=1).mean
    assert np.array_equal(first, again)
    for change in ({"seed": 2}, {"seed": 1, "participant": "02"}, {"seed": 1, "session": "b"}):
        assert not np.array_equal(first, model.synthesise(**scan, **change).mean)


def test_every_source_and_tissue_matters(model: CoLaDiff, scan: dict[str, Any]) -> None:
    whole = model.synthesise(**scan).mean
    for part, name in (("contrasts", "FLAIR"), ("tissues", "GM")):
        without = {**scan, part: {k: v for k, v in scan[part].items() if k != name}}
        assert not np.array_equal(model.synthesise(**without).mean, whole)
    assert model.synthesise(**{**scan, "tissues": None}).mean.shape == whole.shape


def test_what_lies_outside_the_mask_does_not_matter(model: CoLaDiff, scan: dict[str, Any]) -> None:
    dirty = {name: np.where(scan["mask"] > 0, v, 0.7) for name, v in scan["contrasts"].items()}
    clean = model.synthesise(**scan).mean
    assert np.array_equal(model.synthesise(**{**scan, "contrasts": dirty}).mean, clean)


def test_slices_without_brain_stay_empty(model: CoLaDiff, scan: dict[str, Any]) -> None:
    mask = scan["mask"].copy()
    mask[2] = 0
    mean = model.synthesise(**{**scan, "mask": mask}).mean
    assert not mean[2].any() and mean[1].any()
    nothing = model.synthesise(**{**scan, "mask": np.zeros_like(mask)}).mean
    assert not nothing.any()


def test_a_target_among_the_sources_is_refused(model: CoLaDiff, scan: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="its own sources"):
        model.synthesise(**{**scan, "target": "FLAIR"})


def test_tissues_of_the_target_are_refused(model: CoLaDiff, scan: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tissue maps come from the target"):
        model.synthesise(**scan, tissue_source="T2w")


def test_contrasts_that_the_model_does_not_know_are_left_out(
    model: CoLaDiff, scan: dict[str, Any]
) -> None:
    more = {**scan["contrasts"], "SWI": scan["contrasts"]["T1w"]}
    mean, _, info = model.synthesise(**{**scan, "contrasts": more})
    assert info["ignored"] == ["SWI"]
    assert np.array_equal(mean, model.synthesise(**scan).mean)


def test_what_the_model_cannot_do_is_refused(
    model: CoLaDiff, scan: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UnsuitableModelError, match="does not know SWI"):
        model.synthesise(**{**scan, "target": "SWI"})
    with pytest.raises(UnsuitableModelError, match="needs 1 or more"):
        model.synthesise(**{**scan, "contrasts": {}})
    demanding = CoLaDiff.load(write_nano_checkpoint(tmp_path / "m.safetensors", min_sources=3))
    with pytest.raises(UnsuitableModelError, match="needs 3 or more"):
        demanding.synthesise(**scan)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"contrasts": {"T1w": np.zeros((2, 224, 224))}}, "T1w has shape"),
        ({"contrasts": {"T1w": np.zeros((224, 224))}}, "T1w has 2 dimensions"),
        ({"contrasts": {"T1w": np.full((SLICES, 224, 224), 300.0)}}, "T1w has values"),
        ({"contrasts": {"T1w": np.full((SLICES, 224, 224), np.nan)}}, "T1w has values"),
        ({"tissues": {"BONE": np.zeros((SLICES, 224, 224))}}, "BONE"),
        ({"mask": np.ones((SLICES, 223, 224))}, "mask has shape"),
        ({"slice_ids": [1]}, "slice_ids"),
        ({"steps": 0}, "steps"),
        ({"samples": 0}, "samples"),
        ({"batch_size": 0}, "batch_size"),
        ({"sampler": "magic"}, "magic"),
    ],
)
def test_wrong_arguments_are_refused_by_name(
    model: CoLaDiff, scan: dict[str, Any], change: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        model.synthesise(**{**scan, **change})


class Hungry(torch.nn.Module):
    """A refinement that fits into memory with two slices or fewer."""

    def __init__(self, inner: torch.nn.Module, error: Exception) -> None:
        super().__init__()
        self.inner, self.error = inner, error

    def forward(self, image: torch.Tensor, conditions: Any) -> torch.Tensor:
        if len(image) > 2:
            raise self.error
        out: torch.Tensor = self.inner(image, conditions)
        return out


@pytest.fixture
def hungry(model: CoLaDiff, request: pytest.FixtureRequest) -> Iterator[CoLaDiff]:
    kept = model.network.refinement
    assert kept is not None
    model.network.refinement = Hungry(kept, request.param)  # type: ignore[assignment]
    yield model
    model.network.refinement = kept


@pytest.mark.parametrize(
    "hungry",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
    indirect=True,
    ids=["python", "cuda", "cpu"],
)
def test_out_of_memory_halves_the_batch(hungry: CoLaDiff, scan: dict[str, Any]) -> None:
    mean, _, info = hungry.synthesise(**scan, batch_size=8)
    assert info["batch_size"] <= 2
    assert np.abs(mean - hungry.synthesise(**scan, batch_size=1).mean).max() <= 1e-5


# --- the autoencoder alone -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def blurring() -> CoLaDiff:
    """A model with a learned latent that has not learned much, its statistics far from 0 and 1."""
    torch.manual_seed(0)
    configuration = replace(
        PRESETS["nano"], latent="kl", latent_channels=3, autoencoder_channels=(8, 8, 8)
    )
    network = CoLaDiffNetwork(configuration, [0.3, -0.2, 0.1], [2.0, 0.5, 1.5])
    return CoLaDiff(network, {"min_sources": 1, "defaults": {}}, torch.device("cpu"))


def test_a_lossless_latent_gives_every_image_back_inside_the_mask(
    model: CoLaDiff, scan: dict[str, Any]
) -> None:
    image, inside = scan["contrasts"]["T1w"], scan["mask"] > 0
    found = model.reconstruct(np.where(inside, image, 0.7), scan["mask"])
    assert found.shape == image.shape and found.dtype == np.float32
    assert not found[~inside].any()
    assert -10 * np.log10(np.mean((found - image)[inside] ** 2)) > 100
    assert np.array_equal(model.reconstruct(image), found)  # the mask of what is above 0


def test_a_reconstruction_is_what_the_autoencoder_makes_of_the_window_of_each_slice(
    blurring: CoLaDiff, scan: dict[str, Any]
) -> None:
    image, inside = scan["contrasts"]["T1w"], scan["mask"] > 0
    found = blurring.reconstruct(image, scan["mask"])
    windows = [((32, 192), (16, 208))] * SLICES
    windows[4] = ((16, 208), (0, 224))  # the brain of this slice is longer
    for row, ((top, bottom), (left, right)) in enumerate(windows):
        part = torch.from_numpy(image[row, top:bottom, left:right])[None, None] * 2 - 1
        autoencoder = blurring.network.autoencoder
        decoded = autoencoder.decode(autoencoder.encode(part))[0, 0]
        expected = np.zeros((224, 224), np.float32)
        expected[top:bottom, left:right] = ((decoded + 1) / 2).clamp(0, 1).numpy()
        assert np.abs(found[row] - expected * inside[row]).max() <= 1e-5
    error = (found - image)[inside]
    assert 0.05 < np.abs(error).mean() < 0.95
    one = blurring.reconstruct(image, scan["mask"], batch_size=1)
    assert np.abs(one - found).max() <= 1e-5


@pytest.mark.parametrize("hungry", [MemoryError()], indirect=True)
def test_a_reconstruction_has_no_refinement(hungry: CoLaDiff, scan: dict[str, Any]) -> None:
    assert hungry.reconstruct(scan["contrasts"]["T1w"], batch_size=8).any()


def test_a_reconstruction_fits_into_the_memory_there_is(
    model: CoLaDiff, scan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, decode = model.reconstruct(scan["contrasts"]["T1w"]), model.network.decode

    def decode_two(latents: torch.Tensor) -> torch.Tensor:
        if len(latents) > 2:
            raise MemoryError
        return decode(latents)

    monkeypatch.setattr(model.network, "decode", decode_two)
    assert np.array_equal(model.reconstruct(scan["contrasts"]["T1w"]), whole)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((np.zeros((224, 224)),), "2 dimensions"),
        ((np.full((1, 224, 224), 2.0),), "has values"),
        ((np.zeros((1, 222, 224)),), "multiples of 4"),
        ((np.zeros((1, 224, 224)), np.ones((2, 224, 224))), "has shape"),
        ((np.zeros((1, 224, 224)), None, 0), "batch_size"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused(
    model: CoLaDiff, arguments: tuple[Any, ...], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        model.reconstruct(*arguments)


def test_progress_counts_every_slice_once(model: CoLaDiff, scan: dict[str, Any]) -> None:
    seen: list[tuple[int, int]] = []
    model.synthesise(**scan, batch_size=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (SLICES, SLICES)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    for name in ("cuda", "cuda:1", "tpu", "cuda:x"):
        with pytest.raises(DeviceError, match=name):
            resolve_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="only 1"):
        resolve_device("cuda:1")
