"""The regression U-Net: any sources to any target, through the interface that all models share."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from colapipe.baselines.load import load_model
from colapipe.baselines.slicewise import make_metadata
from colapipe.baselines.unet import RegressionUNet, UNetModel
from colapipe.coladiff.checkpoint import CheckpointError, save_checkpoint
from colapipe.coladiff.model import CoLaDiff, UnsuitableModelError
from colapipe.coladiff.presets import write_nano_checkpoint

Slices = dict[str, npt.NDArray[np.float32]]
Mask = npt.NDArray[np.bool_]

NAMES = ("T1w", "T2w", "T1ce", "FLAIR")
CHANNELS = [8, 16]


def metadata(**extra: object) -> dict[str, object]:
    return make_metadata(
        "unet",
        NAMES,
        {"channels": CHANNELS},
        name="u",
        training_data="none",
        licence="none",
        **extra,  # type: ignore[arg-type]
    )


@pytest.fixture
def network() -> RegressionUNet:
    torch.manual_seed(0)
    network = RegressionUNet(len(NAMES), CHANNELS)
    # What starts at zero would hide which target is asked for.
    for block in [*network.down, *network.up]:
        torch.nn.init.normal_(block.film.weight, std=0.5)
    return network


@pytest.fixture
def model(network: RegressionUNet) -> UNetModel:
    return UNetModel(network, metadata(), torch.device("cpu"))


def test_the_default_network_has_the_size_that_it_is_compared_at() -> None:
    count = sum(parameter.numel() for parameter in RegressionUNet(5).parameters())
    assert 0.85e6 < count < 0.95e6


def test_every_set_of_sources_leads_to_every_target(
    model: UNetModel, sources: Slices, mask: Mask
) -> None:
    results = []
    for target in NAMES:
        others = [name for name in NAMES if name != target]
        for size in (1, 2, 3):
            for chosen in combinations(others, size):
                given = {name: sources[name] for name in chosen}
                results.append(model.synthesise(given, target, mask=mask).mean)
    assert len(results) == 4 * 7
    assert all(result.shape == mask.shape and result[mask].std() > 0 for result in results)
    for one, other in combinations(results, 2):
        assert not np.array_equal(one, other)


def test_a_missing_contrast_is_not_looked_at(network: RegressionUNet) -> None:
    x = torch.randn(2, 4, 16, 16)
    x[:, 1] = 0
    available = torch.tensor([[True, False, True, False]] * 2)
    target = torch.tensor([3, 3])
    x[:, 3] = 0
    with torch.no_grad():
        assert network(x, available, target).shape == (2, 1, 16, 16)
        # A contrast that is there with the value 0 is not the same as one that is missing.
        other = network(x, torch.tensor([[True, True, True, False]] * 2), target)
        assert not torch.equal(network(x, available, target), other)
    with pytest.raises(ValueError, match="target is among"):
        network(x, available, torch.tensor([0, 3]))


def test_it_learns_an_inverse(network: RegressionUNet) -> None:
    torch.manual_seed(1)
    images = torch.nn.functional.avg_pool2d(torch.randn(8, 4, 34, 34), 3, 1).clamp(-1, 1)
    images[:, 1] = -images[:, 0]
    available = torch.tensor([[True, False, False, False]]).expand(8, -1)
    target = torch.ones(8, dtype=torch.int64)
    shown = images * available[:, :, None, None]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (network(shown, available, target)[:, 0] - images[:, 1]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_a_slice_depends_on_no_other_slice_and_on_no_batch(
    model: UNetModel, sources: Slices, mask: Mask
) -> None:
    given = {name: sources[name] for name in ("T1w", "FLAIR")}
    whole = model.synthesise(given, "T2w", mask=mask, batch_size=8).mean
    single = model.synthesise(given, "T2w", mask=mask, batch_size=1).mean
    assert np.abs(whole - single).max() <= 1e-5
    some = model.synthesise(given, "T2w", mask=mask, slice_ids=[7, 8, 9, 10], rows=[2])
    assert np.abs(some.mean[2] - whole[2]).max() <= 1e-5 and not some.mean[:2].any()
    assert some.info["slices"] == [9]
    one = {name: values[1:2] for name, values in given.items()}
    assert np.abs(model.synthesise(one, "T2w", mask=mask[1:2]).mean - whole[1:2]).max() <= 1e-5


def test_the_background_is_blank_and_the_range_kept(
    model: UNetModel, sources: Slices, mask: Mask
) -> None:
    calls: list[tuple[int, int]] = []
    result = model.synthesise(
        {"T1w": sources["T1w"]},
        "T2w",
        mask=mask,
        tissues={"CSF": sources["T1w"]},
        tissue_source="T1w",
        progress=lambda done, total: calls.append((done, total)),
    )
    assert not result.mean[~mask].any()
    assert result.mean.min() >= 0 and result.mean.max() <= 1
    assert calls == [(3, 3)]  # the slice without brain is not worked on
    assert result.info["contrasts"] == ["T1w"] and result.info["slices"] == [0, 1, 2, 3]
    assert result.std is None


def test_unknown_sources_are_left_out_and_named(
    model: UNetModel, sources: Slices, mask: Mask
) -> None:
    given = {"T1w": sources["T1w"]}
    alone = model.synthesise(given, "T2w", mask=mask)
    more = model.synthesise({**given, "PDw": sources["T2w"]}, "T2w", mask=mask)
    assert np.array_equal(alone.mean, more.mean)
    assert more.info["ignored"] == ["PDw"]


def test_what_cannot_be_done_is_refused(model: UNetModel, sources: Slices, mask: Mask) -> None:
    given = {"T1w": sources["T1w"]}
    with pytest.raises(ValueError, match="among its own sources"):
        model.synthesise(sources, "T2w", mask=mask)
    with pytest.raises(ValueError, match="tissue maps come from the target"):
        model.synthesise(given, "T2w", mask=mask, tissue_source="T2w")
    with pytest.raises(UnsuitableModelError, match="does not know PDw"):
        model.synthesise(given, "PDw", mask=mask)
    with pytest.raises(UnsuitableModelError, match="no 8 samples"):
        model.synthesise(given, "T2w", mask=mask, samples=8)
    with pytest.raises(UnsuitableModelError, match="needs 1 or more"):
        model.synthesise({"PDw": sources["T1w"]}, "T2w", mask=mask)
    with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
        model.synthesise({"T1w": 200 * sources["T1w"]}, "T2w", mask=mask)
    with pytest.raises(ValueError, match="has shape"):
        model.synthesise({"T1w": sources["T1w"][:2]}, "T2w", mask=mask)
    with pytest.raises(ValueError, match="multiples of 2"):
        model.synthesise({"T1w": sources["T1w"][:, :-1]}, "T2w", mask=mask[:, :-1])
    with pytest.raises(ValueError, match="BONE"):
        model.synthesise(given, "T2w", mask=mask, tissues={"BONE": sources["T1w"]})
    assert model.synthesise(given, "T2w", mask=mask, samples=1, steps=50).std is None


@pytest.mark.parametrize(
    "change",
    [
        {"target": "T1w"},
        {"tissue_source": "T2w"},
        {"target": "SWI"},
        {"contrasts": {}},
        {"contrasts": {"T1w": np.ones((64, 64))}},
        {"contrasts": {"T1w": np.ones((2, 64, 64))}},
        {"contrasts": {"T1w": np.full((4, 64, 64), np.nan)}},
        {"tissues": {"BONE": np.ones((4, 64, 64))}},
        {"slice_ids": [3]},
        {"batch_size": 0},
    ],
    ids=lambda change: "-".join(change),
)
def test_it_refuses_what_a_coladiff_refuses(
    model: UNetModel, sources: Slices, mask: Mask, tmp_path: Path, change: dict[str, Any]
) -> None:
    right = {"contrasts": {"T1w": sources["T1w"]}, "target": "T2w", "mask": mask}
    coladiff = CoLaDiff.load(write_nano_checkpoint(tmp_path / "nano.safetensors", NAMES))
    errors = []
    for either in (model, coladiff):
        with pytest.raises(ValueError) as error:
            either.synthesise(**{**right, **change})
        errors.append((type(error.value), str(error.value).removeprefix("samples and ")))
    assert errors[0] == errors[1]


def test_it_comes_back_from_its_checkpoint(
    network: RegressionUNet, model: UNetModel, sources: Slices, mask: Mask, tmp_path: Path
) -> None:
    path = tmp_path / "unet.safetensors"
    save_checkpoint(path, network.state_dict(), metadata())
    loaded = load_model(path)
    assert isinstance(loaded, UNetModel)
    assert loaded.contrasts == NAMES and loaded.metadata["kind"] == "unet"
    given = {name: sources[name] for name in ("T1w", "FLAIR")}
    before, after = (m.synthesise(given, "T2w", mask=mask).mean for m in (model, loaded))
    assert np.array_equal(before, after)


def test_a_checkpoint_that_does_not_fit_its_configuration_is_refused(
    network: RegressionUNet, tmp_path: Path
) -> None:
    path = tmp_path / "unet.safetensors"
    for configuration in ({"channels": [8]}, {"channels": [7]}, {"width": 3}):
        content = {**metadata(), "configuration": configuration}
        save_checkpoint(path, network.state_dict(), content)
        with pytest.raises(CheckpointError, match="do not fit its configuration") as error:
            load_model(path)
        assert str(path) in str(error.value)
    save_checkpoint(path, network.state_dict(), {**metadata(), "kind": "oracle"})
    with pytest.raises(CheckpointError, match="expected 'kind'"):
        load_model(path)
