"""A plain U-Net that regresses the target in pixel space: the baseline that is hard to beat.

Ronneberger, Fischer and Brox, MICCAI 2015, with GroupNorm and SiLU instead of BatchNorm and ReLU.
One network for any sources and any target: missing contrasts are 0, and the network is told by
feature-wise scale and shift (FiLM, Perez et al., AAAI 2018) what is there and what is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.baselines.slicewise import NetworkModel, stack_sources
from colapipe.coladiff.conditions import make_flags

GROUPS = 8


class ConvolutionBlock(nn.Module):
    """Two 3x3 convolutions, each followed by GroupNorm, FiLM and SiLU."""

    def __init__(self, channels_in: int, channels: int, flags: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(entering, channels, 3, padding=1) for entering in (channels_in, channels)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.film = nn.Linear(flags, 4 * channels)
        # Starts as the plain U-Net: scale 1, shift 0.
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, flags: Tensor) -> Tensor:
        films = self.film(flags)[:, :, None, None].chunk(4, dim=1)
        for index, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            scale, shift = films[2 * index : 2 * index + 2]
            x = F.silu(norm(convolution(x)) * (1 + scale) + shift)
        return x


class RegressionUNet(nn.Module):
    """From any contrasts to any other, at full resolution.

    Parameters
    ----------
    contrasts : int
        M, the number of slots.
    channels : sequence of int
        Widths, one per resolution, each a multiple of 8. With the default the network has 0.9
        million parameters.
    """

    def __init__(self, contrasts: int, channels: Sequence[int] = (24, 48, 96, 144)) -> None:
        super().__init__()
        widths = [int(width) for width in channels]
        if contrasts < 2 or not widths or any(width < 1 or width % GROUPS for width in widths):
            raise ValueError(
                f"{contrasts} contrasts and 'channels' {widths} make no U-Net; expected 2 "
                f"contrasts or more, and multiples of {GROUPS}"
            )
        levels = len(widths)
        self.multiple = 2 ** (levels - 1)
        flags = 2 * contrasts
        self.down = nn.ModuleList(
            ConvolutionBlock(entering, width, flags)
            for entering, width in zip([contrasts, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            ConvolutionBlock(widths[level + 1] + widths[level], widths[level], flags)
            for level in reversed(range(levels - 1))
        )
        self.leave = nn.Conv2d(widths[0], 1, 1)

    def forward(self, contrasts: Tensor, available: Tensor, target: Tensor) -> Tensor:
        """Return the target's image.

        Parameters
        ----------
        contrasts : Tensor, shape (batch, M, H, W)
            In [-1, 1], 0 where a contrast is not available. H and W: multiples of ``multiple``.
        available : Tensor, shape (batch, M), bool
        target : Tensor, shape (batch,), int64

        Returns
        -------
        Tensor, shape (batch, 1, H, W)
            About [-1, 1]; not clamped, so that a loss has a gradient everywhere.

        Raises
        ------
        ValueError
            If a target is among the available contrasts.
        """
        flags = make_flags(available, target).to(contrasts.dtype)
        x = contrasts
        skips: list[Tensor] = []
        for block in self.down:
            if skips:
                x = F.avg_pool2d(x, 2)
            x = block(x, flags)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1), flags)
        image: Tensor = self.leave(x)
        return image


class UNetModel(NetworkModel):
    """A trained :class:`RegressionUNet`; ``configuration`` holds ``channels``."""

    kind = "unet"
    build = RegressionUNet

    def __init__(
        self, network: RegressionUNet, metadata: dict[str, Any], device: torch.device
    ) -> None:
        super().__init__(network, metadata, device)
        self.multiple = network.multiple

    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        sources, available = stack_sources(images, self.contrasts)
        index = torch.full((len(sources),), self.contrasts.index(target), device=sources.device)
        image: Tensor = self.network(sources, available, index)
        return (image[:, 0] + 1) / 2
