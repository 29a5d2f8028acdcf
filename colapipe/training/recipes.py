"""What can be trained: for each kind of model its parts, stages, losses and checkpoint.

A recipe knows nothing of loops, files or processes; the loop knows nothing of models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colapipe.coladiff.autoencoder import KLAutoencoder, kl_divergence
from colapipe.coladiff.checkpoint import make_metadata
from colapipe.coladiff.conditions import Conditions
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.losses import epsilon_loss, hybrid_loss, ssim_loss
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.parametrisation import from_x0_eps, to_x0_eps
from colapipe.contrasts import CONTRASTS
from colapipe.training.batches import Batch, Preparation, choose_sources
from colapipe.training.store import SliceStore

AREA = 10_000.0
"""Pixels of brain in a slice, about: losses are sums over the brain divided by this, so that a
slice counts by its brain and a share of a batch by its slices, whatever the others are."""


SQUARED = 4.0
"""Weight of the squared error beside the absolute one, of images in [-1, 1]: about as much."""

FITTED = 2.0
"""Weight of the error after the best gain and offset, beside the error on the own scale."""

AT_T = 0.6
"""Part of the samples that are at T, where every sampler starts and a one-step sampler ends."""


class Objective(nn.Module):
    """One loss and the parameters that it trains, in a form that DistributedDataParallel takes."""

    def __init__(self, trained: nn.Module, loss: Callable[[Batch], Tensor]) -> None:
        super().__init__()
        self.trained = trained
        self._loss = loss

    def forward(self, batch: Batch) -> Tensor:
        return self._loss(batch)


class Recipe(ABC):
    """A model that is being trained.

    Attributes
    ----------
    kind : str
        In the checkpoint's description.
    network : nn.Module
        Everything that is trained and stored.
    preparation : Preparation
        What its batches look like.
    stages : tuple of str
        In the order in which they are trained.
    betas : tuple of float
        Of Adam.
    progress : float
        The part of the stage that is done, 0 to 1; the loop keeps it.
    """

    kind: str
    network: nn.Module
    preparation: Preparation
    stages: tuple[str, ...]
    betas: tuple[float, float] = (0.9, 0.99)
    progress: float = 0.0

    @abstractmethod
    def objectives(self, stage: str) -> dict[str, Objective]:
        """Return the losses of a stage, each of which gets an optimiser and a step in turn."""

    @abstractmethod
    def estimate(self, batch: Batch) -> Tensor:
        """Return the images (batch, 1, x, y), about [-1, 1], for the validation."""

    def start(self, stage: str, store: SliceStore) -> None:  # noqa: B027 - most need nothing
        """Find what a stage needs of the training slices."""

    def choose(
        self, known: list[str], target: str, drop: float, rng: np.random.Generator
    ) -> list[str]:
        """Return the sources of a sample; each other contrast is dropped with a probability."""
        return choose_sources(known, target, drop, rng)

    def found(self) -> dict[str, Any]:
        """Return what :meth:`start` found, as JSON knows it."""
        return {}

    def restore(self, found: dict[str, Any]) -> None:  # noqa: B027 - most found nothing
        """Put back what :meth:`found` returned."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a run to go on, as JSON knows it."""

    @abstractmethod
    def metadata(self, **entries: Any) -> dict[str, Any]:
        """Return the description of its checkpoint."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what its checkpoint stores."""
        return self.network.state_dict()


def image_error(image: Tensor, batch: Batch, squared: float = SQUARED) -> Tensor:
    """Return the mean absolute error in the brain plus ``squared`` times the squared one.

    Both images are in [-1, 1]. The absolute error keeps edges; the squared one is what PSNR counts.
    A target's intensity scale is its scanner's choice, and a network that is only held to it learns
    less of the anatomy: so the error after the best gain and offset counts, too.
    """
    own = _brain_error(image, batch, squared)
    return own + FITTED * _brain_error(fit_to_truth(image, batch), batch, squared)


def _brain_error(image: Tensor, batch: Batch, squared: float) -> Tensor:
    error = (image - batch.truth) * batch.mask
    total: Tensor = (error.abs() + squared * error.square()).sum() / (AREA * len(image))
    return total


def fit_to_truth(image: Tensor, batch: Batch) -> Tensor:
    """Return images after each slice's best gain and offset, through which no gradient flows."""
    count = batch.mask.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return (values * batch.mask).sum(dim=(1, 2, 3), keepdim=True) / count

    with torch.no_grad():
        shown, truth = image - mean(image), batch.truth - mean(batch.truth)
        gain = mean(shown * truth) / (mean(shown.square()) + 1e-4)
        gain = gain.clamp(0.25, 4.0)
        offset = mean(batch.truth) - gain * mean(image)
    fitted: Tensor = gain * image + offset
    return fitted


class CoLaDiffRecipe(Recipe):
    """The autoencoder, where it is a learned one, then the diffusion (section 2 of the paper).

    Parameters
    ----------
    configuration : Configuration
    """

    kind = "coladiff"

    def __init__(self, configuration: Configuration, squared: float = SQUARED) -> None:
        self.configuration, self.squared = configuration, squared
        self.model = CoLaDiffNetwork(configuration)
        self.network = self.model
        self.stages = (
            ("autoencoder", "diffusion") if configuration.latent == "kl" else ("diffusion",)
        )
        self.preparation = Preparation(
            configuration.contrasts,
            configuration.neighbours,
            configuration.intensity,
            configuration.structure and configuration.density == "voxel",
        )

    def objectives(self, stage: str) -> dict[str, Objective]:
        for name, parameter in self.model.named_parameters():
            of_autoencoder = name.startswith("autoencoder.")
            parameter.requires_grad_(of_autoencoder == (stage == "autoencoder"))
        if stage == "autoencoder":
            return {"autoencoder": Objective(self.model.autoencoder, self.autoencoder_loss)}
        return {"diffusion": Objective(self.model, self.diffusion_loss)}

    def start(self, stage: str, store: SliceStore) -> None:
        if stage == "diffusion":
            self.model.set_latent_statistics(*latent_statistics(self.model, store))

    def autoencoder_loss(self, batch: Batch) -> Tensor:
        """Return error + 0.2 (1 - SSIM) + 1e-6 KL of the reconstruction, all contrasts pooled."""
        autoencoder = self.model.autoencoder
        assert isinstance(autoencoder, KLAutoencoder)
        centre = batch.contrasts[:, :, batch.contrasts.shape[2] // 2]
        images = torch.cat([batch.truth, centre[batch.available][:, None]])
        mu, log_variance = autoencoder.distribution(images)
        noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(batch.seeds[0]))
        decoded = autoencoder.decode(mu + (0.5 * log_variance).exp() * noise.to(mu))
        error = decoded - images
        loss = (error.abs() + self.squared * error.square()).mean()
        structure = ssim_loss(decoded.float(), images.float(), data_range=2.0)
        return loss + 0.2 * structure + 1e-6 * kl_divergence(mu, log_variance)

    def diffusion_loss(self, batch: Batch) -> Tensor:
        """Return the loss at random times, one per sample.

        Epsilon: Eq. 3, and Eqs. 5 and 6 where the variance is learned. x0 and v: the error of the
        image that the estimate of kappa_0 gives, because the paper's weight, abar_t / (1 - abar_t)
        of the error of kappa_0, leaves the first steps of a short sampler untrained (4e-5 at T).
        For x0 more than half of the samples are at T; v, which must tell image from noise at every
        time, takes them evenly.
        """
        model, T = self.model, self.model.schedule.timesteps
        conditions = self._condition(batch)
        kappa_0 = model.encode(batch.truth)
        draws = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        times = torch.stack([torch.randint(1, T + 1, (), generator=draw) for draw in draws])
        if self.configuration.prediction == "x0":
            last = torch.stack([torch.rand((), generator=draw) for draw in draws]) < AT_T
            times = torch.where(last, T, times)
        t = times.to(kappa_0.device)
        eps = torch.stack([torch.randn(kappa_0.shape[1:], generator=draw) for draw in draws])
        eps = eps.to(kappa_0)
        kappa_t = model.schedule.add_noise(kappa_0, eps, t)
        a, b = model.schedule.coefficients(t, kappa_t)
        output, variance = model.denoise(kappa_t, t, conditions)
        estimate, eps_hat = to_x0_eps(output, kappa_t, a, b, self.configuration.prediction)
        if self.configuration.prediction == "epsilon":
            if variance is None:
                return epsilon_loss(eps, eps_hat)
            return hybrid_loss(eps, eps_hat, kappa_0, estimate, t, model.schedule, variance)
        decoded = model.decode(estimate)
        loss = image_error(model.refine(decoded, conditions), batch, self.squared)
        if self.configuration.prediction == "v":
            # Near t = 0 an error of v hardly shows in kappa_0, but all of it in eps, and so in
            # the next kappa of a sampler.
            v = from_x0_eps(kappa_0, eps, a, b, "v")
            return loss + 2 * (output - v).abs().mean()
        # The chain of a sampler runs through kappa_0, so that must be right before the refinement
        # too, and in the background as well: a background that was wrong at one step made the
        # brain too bright at the next.
        weight = 0.5 * batch.mask + 0.1 * (1 - batch.mask)
        chain: Tensor = ((decoded - batch.truth).abs() * weight).sum() / (AREA * len(t))
        return loss + chain

    def estimate(self, batch: Batch) -> Tensor:
        model, conditions = self.model, self._condition(batch)
        shape = model.encode(batch.truth).shape
        start = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(batch.truth)
        t = torch.full((shape[0],), model.schedule.timesteps, device=start.device)
        return model.finish(model.predict(start, t, conditions)[0], conditions)

    def _condition(self, batch: Batch) -> Conditions:
        return self.model.condition(
            batch.contrasts, batch.available, batch.tissues, batch.target, batch.densities
        )

    def found(self) -> dict[str, Any]:
        return {
            "latent_mean": [float(v) for v in self.model.latent_mean.flatten()],
            "latent_std": [float(v) for v in self.model.latent_std.flatten()],
        }

    def restore(self, found: dict[str, Any]) -> None:
        self.model.set_latent_statistics(found["latent_mean"], found["latent_std"])

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.configuration.to_dict(), "squared": self.squared}

    def metadata(self, **entries: Any) -> dict[str, Any]:
        return make_metadata(self.configuration, **self.found(), **entries)


@torch.no_grad()
def latent_statistics(
    network: CoLaDiffNetwork, store: SliceStore, slices: int = 400
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each latent channel over training slices."""
    total = torch.zeros(2, network.configuration.latent_channels, dtype=torch.float64)
    count = 0
    for position in np.linspace(0, len(store) - 1, min(slices, len(store))).astype(int):
        images = [
            store.image(int(position), contrast)
            for contrast in network.configuration.contrasts
            if contrast in store.available(int(position))
        ]
        stacked = torch.from_numpy(np.stack(images))[:, None].float() / 255 * 2 - 1
        # Where the networks look: without most of the background.
        stacked = stacked[..., 32:-32, 16:-16].to(network.latent_mean)
        latent = network.autoencoder.encode(stacked).double().cpu()
        total[0] += latent.sum(dim=(0, 2, 3))
        total[1] += latent.square().sum(dim=(0, 2, 3))
        count += latent[:, 0].numel()
    mean = total[0] / count
    std = (total[1] / count - mean.square()).clamp_min(1e-8).sqrt()
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]


def known_contrasts(store: SliceStore) -> tuple[str, ...]:
    """Return the contrasts that any participant of a store has, in the order of the app."""
    there = {contrast for entry in store.entries.values() for contrast in entry["contrasts"]}
    return tuple(contrast for contrast in CONTRASTS if contrast in there)
