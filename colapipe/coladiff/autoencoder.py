"""E and D of the paper's Fig. 1: from a slice to its latent and back.

The paper gives neither f, z nor losses. Two latents share one interface, ``encode(image)`` and
``decode(latent)``: the learned KL autoencoder of latent diffusion (Rombach et al., 2022), whose
blur is a ceiling for every result, and orthonormal Haar wavelets, which lose nothing and need
no training.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.coladiff.configuration import Configuration


def haar_matrix(size: int) -> Tensor:
    """Return the orthonormal Haar matrix of a power of two, shape (size, size), float64."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < size:
        half = matrix.shape[0]
        average = torch.kron(matrix, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        detail = torch.kron(
            torch.eye(half, dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
        )
        matrix = torch.cat([average, detail]) / math.sqrt(2)
    return matrix


class HaarAutoencoder(nn.Module):
    """Orthonormal Haar wavelets of f x f blocks: (n, 1, H, W) <-> (n, f*f, H/f, W/f), lossless."""

    basis: Tensor

    def __init__(self, downsampling: int) -> None:
        super().__init__()
        one_axis = haar_matrix(downsampling)
        self.downsampling = downsampling
        basis = torch.kron(one_axis, one_axis).float()
        self.register_buffer("basis", basis, persistent=False)

    def encode(self, image: Tensor) -> Tensor:
        """Return the wavelet coefficients, the mean of the block first."""
        blocks = F.pixel_unshuffle(image, self.downsampling)
        return self._transform(blocks, self.basis)

    def decode(self, latent: Tensor) -> Tensor:
        """Undo :meth:`encode`: the basis is orthonormal, so its transpose is its inverse."""
        blocks = self._transform(latent, self.basis.T)
        return F.pixel_shuffle(blocks, self.downsampling)

    @staticmethod
    def _transform(blocks: Tensor, basis: Tensor) -> Tensor:
        with torch.autocast(blocks.device.type, enabled=False):  # or it would lose something
            return F.conv2d(blocks.to(basis.dtype), basis[:, :, None, None])


class _Block(nn.Module):
    """x + conv(SiLU(GN(conv(SiLU(GN x))))), the last convolution starting at zero."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(math.gcd(8, before), before),
            nn.SiLU(),
            nn.Conv2d(before, after, 3, padding=1),
            nn.GroupNorm(math.gcd(8, after), after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.layers(x)
        return out


def _blocks(before: int, after: int, count: int) -> nn.Sequential:
    return nn.Sequential(
        *(_Block(before if index == 0 else after, after) for index in range(count))
    )


class KLAutoencoder(nn.Module):
    """A small convolutional KL autoencoder, one for all contrasts, without attention.

    (n, 1, H, W) in [-1, 1] <-> (n, z, H/f, W/f). The latent of an image is the mean mu, never a
    sample: a sample's noise would be a floor under every error.
    """

    def __init__(self, channels: tuple[int, ...], latent_channels: int, blocks: int = 1) -> None:
        super().__init__()
        down: list[nn.Module] = [
            nn.Conv2d(1, channels[0], 3, padding=1),
            _blocks(channels[0], channels[0], blocks),
        ]
        for before, after in pairwise(channels):
            down += [nn.Conv2d(before, before, 3, stride=2, padding=1)]
            down += [_blocks(before, after, blocks)]
        leave = nn.Conv2d(channels[-1], 2 * latent_channels, 1)
        # sigma starts at 0.05: at 1 its noise would hide the latent for thousands of iterations.
        nn.init.zeros_(leave.weight[latent_channels:])
        assert leave.bias is not None
        nn.init.constant_(leave.bias[latent_channels:], -6.0)
        self.encoder = nn.Sequential(*down, leave)
        up: list[nn.Module] = [nn.Conv2d(latent_channels, channels[-1], 1)]
        for before, after in pairwise(channels[::-1]):
            up += [_blocks(before, before, blocks), nn.Upsample(scale_factor=2, mode="nearest")]
            up += [nn.Conv2d(before, after, 3, padding=1)]
        self.decoder = nn.Sequential(
            *up,
            _blocks(channels[0], channels[0], blocks),
            nn.Conv2d(channels[0], 1, 3, padding=1),
        )

    def distribution(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log sigma^2 of q(latent | image)."""
        mu, log_variance = self.encoder(image).chunk(2, dim=1)
        return mu, log_variance.clamp(-30.0, 20.0)

    def encode(self, image: Tensor) -> Tensor:
        """Return mu."""
        return self.distribution(image)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """Return the image of a latent."""
        image: Tensor = self.decoder(latent)
        return image


def kl_divergence(mu: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mu, sigma^2) || N(0, 1)), the mean over all elements."""
    return 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).mean()


def build_autoencoder(configuration: Configuration) -> HaarAutoencoder | KLAutoencoder:
    """Return the latent that the configuration names."""
    if configuration.latent == "haar":
        return HaarAutoencoder(configuration.downsampling)
    return KLAutoencoder(
        configuration.autoencoder_channels,
        configuration.latent_channels,
        configuration.autoencoder_blocks,
    )
