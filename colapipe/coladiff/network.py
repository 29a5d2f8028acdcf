"""All trained parts of a CoLa-Diff in one module: what training trains, a checkpoint stores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from colapipe.coladiff.autoencoder import build_autoencoder
from colapipe.coladiff.conditions import ConditionNetwork, Conditions, Refinement, make_flags
from colapipe.coladiff.configuration import TISSUE_CHANNELS, Configuration
from colapipe.coladiff.denoiser import Denoiser
from colapipe.coladiff.density import density_map
from colapipe.coladiff.intensity import BOUNDS
from colapipe.coladiff.parametrisation import split_variance, to_x0_eps
from colapipe.coladiff.schedule import Schedule


class CoLaDiffNetwork(nn.Module):
    """Autoencoder, condition encoder, denoiser and refinement, built from a configuration.

    Parameters
    ----------
    configuration : Configuration
    latent_mean, latent_std : sequence of float, length z
        Statistics of the latents of the training set: kappa_0 = (E(x) - mean) / std.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        configuration: Configuration,
        latent_mean: Sequence[float] | None = None,
        latent_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        count, z = len(configuration.contrasts), configuration.latent_channels
        self.configuration = configuration
        self.schedule = Schedule(
            configuration.timesteps,
            configuration.beta_start,
            configuration.beta_end,
            zero_terminal_snr=configuration.zero_terminal_snr,
        )
        self.bound = BOUNDS[configuration.intensity]
        self.autoencoder = build_autoencoder(configuration)
        self.conditions = ConditionNetwork(configuration)
        self.denoiser = Denoiser(configuration, self.conditions.channels)
        tissues = len(TISSUE_CHANNELS) if configuration.structure else 0
        self.refinement = (
            Refinement(
                count * configuration.slab + tissues,
                2 * count,
                configuration.refinement,
                lesion=configuration.structure,
            )
            if configuration.refinement
            else None
        )
        # In the metadata of a checkpoint, not among its tensors: a person should see them.
        self.register_buffer("latent_mean", torch.zeros(1, z, 1, 1), persistent=False)
        self.register_buffer("latent_std", torch.ones(1, z, 1, 1), persistent=False)
        if latent_mean is not None and latent_std is not None:
            self.set_latent_statistics(latent_mean, latent_std)

    def set_latent_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the mean and standard deviation of each latent channel."""
        self.latent_mean.copy_(torch.tensor(mean).reshape(1, -1, 1, 1))
        self.latent_std.copy_(torch.tensor(std).reshape(1, -1, 1, 1))

    def encode(self, image: Tensor) -> Tensor:
        """Return kappa_0 of images (batch, 1, H, W) in [-1, 1]."""
        return (self.autoencoder.encode(image) - self.latent_mean) / self.latent_std

    def decode(self, kappa_0: Tensor) -> Tensor:
        """Return the images, about [-1, 1], of latents; without the conditions."""
        return self.autoencoder.decode(kappa_0 * self.latent_std + self.latent_mean)

    def condition(
        self,
        contrasts: Tensor,
        available: Tensor,
        tissues: Tensor,
        target: Tensor,
        densities: Tensor | None = None,
    ) -> Conditions:
        """Encode what is known of a batch of slices.

        Parameters
        ----------
        contrasts : Tensor, shape (batch, M, slab, H, W)
            Sources in [-bound, bound] (:func:`~colapipe.coladiff.intensity.put_to_scale`), the
            slice itself in the middle of its neighbours; 0 in slots that are not available.
        available : Tensor, shape (batch, M), bool
        tissues : Tensor, shape (batch, 4, H, W)
            In [0, 1]; CSF, GM, WM, lesion.
        target : Tensor, shape (batch,), int64
        densities : Tensor, shape (batch, M, 4, bins), optional
            Class-conditional densities of each source's intensities over its volume; needed where
            the configuration has them.

        Raises
        ------
        ValueError
            If a target is among the available contrasts, or densities are missing.
        """
        configuration = self.configuration
        flags = make_flags(available, target).to(contrasts.dtype)
        batch, count, slab, height, width = contrasts.shape
        latents = self.encode(contrasts.reshape(-1, 1, height, width))
        latents = latents.reshape(batch, count, -1, *latents.shape[-2:])
        latents = latents * available[:, :, None, None, None]
        maps = tissues
        if configuration.structure and configuration.density == "voxel":
            if densities is None:
                raise ValueError("this model needs class-conditional densities")
            unit = (contrasts[:, :, slab // 2] / self.bound + 1) / 2
            each = tissues[:, None].expand(-1, count, -1, -1, -1)
            shown = torch.zeros_like(unit)
            shown[available] = density_map(
                unit[available], each[available], densities.to(unit.dtype)[available]
            )
            maps = torch.cat([tissues, shown], dim=1)
        y, tokens, gates = self.conditions(latents, available, maps)
        entry = self.denoiser.enter(y) if self.denoiser.enter is not None else None
        image = contrasts.flatten(1, 2)
        if configuration.structure:
            image = torch.cat([image, tissues], dim=1)
        return Conditions(entry, tokens, image, flags, gates)

    def predict(self, kappa_t: Tensor, t: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Return the estimates of kappa_0 and eps at times ``t`` (batch,)."""
        a, b = self.schedule.coefficients(t, kappa_t)
        output = self.denoise(kappa_t, t, conditions)[0]
        return to_x0_eps(output, kappa_t, a, b, self.configuration.prediction)

    def denoise(
        self, kappa_t: Tensor, t: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor | None]:
        """Return the prediction, and v of a learned variance (Eq. 6), each like kappa_t."""
        _, b = self.schedule.coefficients(t, kappa_t)
        output = self.denoiser(kappa_t, t, conditions, b.flatten())
        # Schedule and latent keep their precision where the layers run in a lower one.
        output = output.to(kappa_t.dtype)
        if self.configuration.variance == "fixed":
            return output, None
        return split_variance(output)

    def finish(self, kappa_0: Tensor, conditions: Conditions) -> Tensor:
        """Decode latents and give them the detail of the sources; images about [-1, 1]."""
        return self.refine(self.decode(kappa_0), conditions)

    def refine(self, image: Tensor, conditions: Conditions) -> Tensor:
        """Give decoded images the detail of the sources, where the configuration has it."""
        if self.refinement is None:
            return image
        refined: Tensor = self.refinement(image, conditions)
        return refined
