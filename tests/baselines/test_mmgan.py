"""MM-GAN: what is missing, and only that, is made, judged and learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from colapipe.baselines.load import load_model
from colapipe.baselines.mmgan import (
    PAPER,
    SMALL,
    Discriminator,
    Generator,
    MMGANModel,
    curriculum,
    discriminator_loss,
    generator_loss,
    impute,
)
from colapipe.baselines.slicewise import make_metadata
from colapipe.coladiff.checkpoint import save_checkpoint

Slices = dict[str, npt.NDArray[np.float32]]

NAMES = ("T1w", "T2w", "T1ce", "FLAIR")
TINY = {"base": 4, "depth": 3, "dropout": 0.0}

PRESENT = torch.tensor([[True, True, True, True], [True, True, True, False]])
AVAILABLE = torch.tensor([[True, False, True, False], [False, True, False, False]])


class Oracle(Discriminator):
    """A discriminator whose answers are given."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__(4, 4)
        self.answers = answers

    def forward(self, sources: Tensor, images: Tensor) -> Tensor:
        return self.answers


@pytest.fixture
def truth() -> Tensor:
    return torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def sources(truth: Tensor) -> Tensor:
    return truth * AVAILABLE[:, :, None, None]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_networks_have_the_published_sizes() -> None:
    with torch.device("meta"):
        assert parameters(Generator(4, **PAPER)) == pytest.approx(54.4e6, rel=1e-3)
        assert parameters(Discriminator(4)) == pytest.approx(2.8e6, rel=1e-2)
        assert 1e6 < parameters(Generator(4, **SMALL)) < 5e6


@pytest.mark.parametrize("size", [(32, 32), (20, 28), (8, 40)])
def test_slices_of_any_size_come_back_in_their_size(size: tuple[int, int]) -> None:
    made = Generator(4, **TINY)(torch.zeros(2, 4, *size))
    assert made.shape == (2, 4, *size)
    assert float(made.detach().abs().max()) <= 1


def test_the_discriminator_answers_for_each_contrast_on_patches(truth: Tensor) -> None:
    discriminator = Discriminator(4, 4)
    answers = discriminator(truth, truth)
    assert answers.shape == (2, 4, 2, 2)


def test_available_contrasts_are_overwritten_with_the_truth(truth: Tensor) -> None:
    synth = torch.full_like(truth, 0.5)
    images = impute(synth, truth, AVAILABLE, PRESENT)
    for row in range(2):
        for index in range(4):
            if AVAILABLE[row, index]:
                assert torch.equal(images[row, index], truth[row, index])
            elif PRESENT[row, index]:
                assert torch.equal(images[row, index], synth[row, index])
            else:
                assert not images[row, index].any()


def test_the_generator_is_judged_by_what_is_missing_alone(truth: Tensor, sources: Tensor) -> None:
    oracle = Oracle(torch.ones(2, 4, 2, 2))
    synth = truth.clone().requires_grad_()
    truth = truth.clone()
    truth[1, 3] = float("nan")  # nobody knows this one

    def loss(made: Tensor, **more: Tensor) -> Tensor:
        return generator_loss(oracle, sources, made, truth, AVAILABLE, PRESENT, **more)

    changed = synth + 0.25
    assert float(loss(changed).detach()) == pytest.approx(0.9 * 0.25, abs=1e-6)
    gradient = torch.autograd.grad(loss(changed), synth)[0]
    missing = PRESENT & ~AVAILABLE
    assert torch.equal(gradient.abs().sum(dim=(2, 3)) > 0, missing)
    # Outside of the mask L1 does not count.
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    made = synth + 0.25 * (1 - mask)
    assert float(loss(made, mask=mask).detach()) == pytest.approx(0, abs=1e-6)


def test_the_adversarial_loss_wants_missing_contrasts_to_look_real(
    truth: Tensor, sources: Tensor
) -> None:
    answers = torch.full((2, 4, 2, 2), 7.0)
    answers[PRESENT & ~AVAILABLE] = 0.5
    loss = generator_loss(Oracle(answers), sources, truth, truth, AVAILABLE, PRESENT)
    assert float(loss) == pytest.approx(0.1 * 0.5**2, abs=1e-6)


def test_the_discriminator_wants_the_truth_real_and_the_made_false(
    truth: Tensor, sources: Tensor
) -> None:
    answers = torch.full((2, 4, 2, 2), 0.75)
    answers[1, 3] = 99.0  # the contrast that the participant does not have
    loss = discriminator_loss(Oracle(answers), sources, truth, truth, AVAILABLE, PRESENT)
    real = 0.25**2
    imputed = (3 * 0.25**2 + 4 * 0.75**2) / 7  # three are put back, four are made
    assert float(loss) == pytest.approx(0.5 * (real + imputed), rel=1e-5)


def test_the_losses_reach_the_network_that_they_train(truth: Tensor, sources: Tensor) -> None:
    generator, discriminator = Generator(4, **TINY), Discriminator(4, 4)
    synth = generator(sources)
    discriminator_loss(discriminator, sources, synth, truth, AVAILABLE, PRESENT).backward()
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    generator_loss(discriminator, sources, synth, truth, AVAILABLE, PRESENT).backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.isfinite().all())
        for parameter in generator.parameters()
    )


def test_nothing_missing_and_impossible_availability_are_refused(
    truth: Tensor, sources: Tensor
) -> None:
    discriminator = Discriminator(4, 4)
    with pytest.raises(ValueError, match="no contrast is missing"):
        generator_loss(discriminator, sources, truth, truth, PRESENT, PRESENT)
    with pytest.raises(ValueError, match="does not have"):
        discriminator_loss(discriminator, sources, truth, truth, torch.ones_like(PRESENT), PRESENT)


def test_the_curriculum_grows_and_ends_with_everything() -> None:
    rng = np.random.default_rng(0)
    counts = [curriculum(iteration, 600, rng, most=3) for iteration in range(600)]
    assert counts[:100] == [1] * 100
    assert counts[100:200] == [2] * 100
    assert counts[200:300] == [3] * 100
    assert set(counts[300:]) == {1, 2, 3}
    assert {curriculum(i, 10, rng, most=1) for i in range(10)} == {1}


def test_it_synthesises_through_the_common_interface(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(4, **TINY)
    about = {"name": "g", "training_data": "none", "licence": "none"}
    metadata = make_metadata("mmgan", NAMES, TINY, **about)
    path = tmp_path / "mmgan.safetensors"
    save_checkpoint(path, generator.state_dict(), metadata)
    model = load_model(path)
    assert isinstance(model, MMGANModel)
    inside = np.zeros((2, 64, 64), dtype=bool)
    inside[:, 10:50, 12:52] = True
    rng = np.random.default_rng(0)
    given = {name: (rng.random(inside.shape) * inside).astype(np.float32) for name in NAMES[:2]}
    result = model.synthesise(given, "FLAIR", mask=inside)
    shown = torch.zeros(2, 4, 64, 64)
    for index, name in enumerate(NAMES[:2]):
        shown[:, index] = torch.from_numpy(given[name]) * 2 - 1
    with torch.no_grad():
        expected = (generator.eval()(shown)[:, 3].numpy() + 1) / 2 * inside
    assert np.abs(result.mean - expected).max() < 1e-5
