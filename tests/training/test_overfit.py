"""Four slices are learned by heart: every part of the model can learn (acceptance check 10)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from colapipe.coladiff.autoencoder import KLAutoencoder
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.presets import PRESETS
from colapipe.coladiff.samplers import SAMPLERS
from colapipe.training.batches import Batch
from colapipe.training.recipes import CoLaDiffRecipe

SIZE = 64
SMALL = replace(
    PRESETS["tiny"],
    contrasts=("T1w", "T2w"),
    neighbours=0,
    intensity="range",
    latent="kl",
    latent_channels=4,
    channels=(64, 96, 128),
    attention=(False, True, True),
    transformer_width=32,
    embedding=64,
    refinement=0,
)


def four_slices() -> Batch:
    """Return heads with ventricles and two tissues; T2w is the inverse of T1w."""
    rng = np.random.default_rng(0)
    x, y = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    t1w, t2w = [], []
    for number in range(4):
        brain = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
        ventricle = (x / 0.2) ** 2 + ((y - 0.1 * number) / 0.4) ** 2 < 1
        texture = ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), 4)
        white = np.where(texture > 0, 0.8, 0.5)
        image = np.where(ventricle, 0.1, white)
        pair = (image * brain, np.where(brain, 1 - image, 0))
        # As smooth as a scan is at 1 mm, compared with its 224 x 224 voxels.
        for stack, of_contrast in zip((t1w, t2w), pair, strict=True):
            stack.append(ndimage.gaussian_filter(of_contrast, 1.0) * 2 - 1)
    mask = torch.from_numpy(np.stack([(x / 0.8) ** 2 + (y / 0.9) ** 2 < 1] * 4)).float()[:, None]
    sources = torch.from_numpy(np.stack(t1w)).float()
    truth = torch.from_numpy(np.stack(t2w)).float()[:, None]
    contrasts = torch.stack([sources, torch.zeros_like(sources)], dim=1)[:, :, None]
    return Batch(
        truth=truth,
        contrasts=contrasts,
        available=torch.tensor([[True, False]] * 4),
        tissues=torch.zeros(4, 4, SIZE, SIZE),
        target=torch.ones(4, dtype=torch.int64),
        mask=mask,
        densities=torch.zeros(4, 2, 4, 64),
        others=torch.cat([sources[:, None], truth], dim=1),
        known=torch.ones(4, 2, dtype=torch.bool),
        seeds=(0, 1, 2, 3),
    )


def train(
    recipe: CoLaDiffRecipe, stage: str, batch: Batch, iterations: int, rate: float = 2e-3
) -> float:
    (objective,) = recipe.objectives(stage).values()
    trained = [p for p in objective.trained.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=0.0)  # set at each iteration
    losses = []
    for iteration in range(iterations):
        seeds = tuple(4 * iteration + place for place in range(4))
        for group in optimiser.param_groups:
            fall = 0.5 * (1 + np.cos(np.pi * iteration / iterations))
            group["lr"] = rate * min(1, (iteration + 1) / 20) * fall
        loss = objective(replace(batch, seeds=seeds))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-20:]))


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the PSNR inside the brain."""
    inside = four_slices().mask > 0
    return float(-10 * torch.log10(((image - truth) / 2)[inside].square().mean()))


@torch.no_grad()
def sampled(recipe: CoLaDiffRecipe, batch: Batch, steps: int) -> float:
    model = recipe.model
    conditions = model.condition(
        batch.contrasts, batch.available, batch.tissues, batch.target, batch.densities
    )
    start = torch.randn(model.encode(batch.truth).shape, generator=torch.Generator().manual_seed(9))
    ddim = SAMPLERS["ddim"]
    kappa_0 = ddim.sample(
        lambda kappa, t: model.predict(kappa, torch.full((4,), t), conditions),
        start,
        model.schedule,
        ddim.times(model.schedule, steps),
    )
    return psnr(model.finish(kappa_0, conditions), batch.truth)


@pytest.fixture(scope="module")
def autoencoder() -> tuple[KLAutoencoder, float]:
    torch.manual_seed(0)
    recipe, batch = CoLaDiffRecipe(SMALL), four_slices()
    train(recipe, "autoencoder", batch, 160)
    model = recipe.model.autoencoder
    assert isinstance(model, KLAutoencoder)
    with torch.no_grad():
        ceiling = psnr(model.decode(model.encode(batch.truth)), batch.truth)
    return model, ceiling


def with_autoencoder(configuration: Configuration, trained: KLAutoencoder) -> CoLaDiffRecipe:
    torch.manual_seed(0)
    recipe, batch = CoLaDiffRecipe(configuration), four_slices()
    recipe.model.autoencoder.load_state_dict(trained.state_dict())
    with torch.no_grad():
        latent = recipe.model.autoencoder.encode(batch.truth)
    recipe.model.set_latent_statistics(
        latent.mean(dim=(0, 2, 3)).tolist(), latent.std(dim=(0, 2, 3)).tolist()
    )
    return recipe


@pytest.mark.slow
def test_the_autoencoder_learns_four_slices(autoencoder: tuple[KLAutoencoder, float]) -> None:
    assert autoencoder[1] >= 30


# The specification's prototypes: x0 in 150 iterations, v in 300. Here the autoencoder reaches
# 31.8 dB, and with 1 and 4 steps x0 33.0 and 33.0 dB (31.4 and 31.4 in 150), v 31.8 and 31.4 dB
# (30.1 and 29.6 in 300: too little).
@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction", "iterations", "rate"), [("x0", 200, 4e-3), ("v", 600, 2e-3)]
)
def test_few_steps_reach_the_autoencoders_ceiling(
    prediction: str, iterations: int, rate: float, autoencoder: tuple[KLAutoencoder, float]
) -> None:
    trained, ceiling = autoencoder
    recipe, batch = with_autoencoder(replace(SMALL, prediction=prediction), trained), four_slices()
    train(recipe, "diffusion", batch, iterations, rate)
    for steps in (1, 4):
        assert sampled(recipe, batch, steps) >= max(30, ceiling - 1)


@pytest.mark.slow
def test_the_loss_of_the_published_prediction_falls(
    autoencoder: tuple[KLAutoencoder, float],
) -> None:
    configuration = replace(SMALL, prediction="epsilon")
    recipe = with_autoencoder(configuration, autoencoder[0])
    # 0.03 in the specification's prototype, 0.026 here.
    assert train(recipe, "diffusion", four_slices(), 600) < 0.05
