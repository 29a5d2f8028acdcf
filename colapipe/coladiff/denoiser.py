"""The latent space network epsilon_theta(kappa_t, t, y): a U-Net over the latent grid.

The plain version: two 3x3 convolutions per residual block, FiLM by the embedding, the conditions
concatenated to kappa_t. No layer looks across the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8


def time_features(t: Tensor, width: int) -> Tensor:
    """Return sinusoidal features of the times, shape (batch, width) (Ho et al., 2020)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(FiLM(GN(conv(SiLU(GN x)))))), the last convolution starting at zero."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(GROUPS, before)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * after)
        self.norm_out = nn.GroupNorm(GROUPS, after)
        self.conv_out = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        for parameter in self.conv_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over all positions of a map, starting as the identity."""

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        q, k, v = (part.transpose(-1, -2) for part in qkv.unbind(1))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        out: Tensor = x + self.out(mixed.reshape(batch, channels, height, width))
        return out


class Stage(nn.Module):
    """Residual blocks, each followed by attention where the resolution has it."""

    def __init__(
        self, before: int, after: int, blocks: int, embedding: int, attention: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(before if index == 0 else after, after, embedding)
            for index in range(blocks)
        )
        self.attention = nn.ModuleList(
            Attention(after) if attention else nn.Identity() for _ in range(blocks)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x, embedding))
        return x


class Denoiser(nn.Module):
    """U-Net from (kappa_t, y, t, flags) to the prediction, of the shape of kappa_t.

    Parameters
    ----------
    latent_channels : int
        z.
    condition_channels : int
        Channels of y.
    flag_count : int
        Length of the vector of availability and target.
    channels, blocks, attention, embedding
        As in :class:`~colapipe.coladiff.configuration.Configuration`.
    """

    def __init__(
        self,
        latent_channels: int,
        condition_channels: int,
        flag_count: int,
        channels: tuple[int, ...],
        blocks: int,
        attention: tuple[bool, ...],
        embedding: int,
    ) -> None:
        super().__init__()
        self.time_width = embedding // 2 * 2
        self.time = nn.Linear(self.time_width, embedding)
        self.flags = nn.Linear(flag_count, embedding)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())

        self.stem = nn.Conv2d(latent_channels + condition_channels, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        before = channels[0]
        for width, attend in zip(channels[:-1], attention[:-1], strict=True):
            self.down.append(Stage(before, width, blocks, embedding, attend))
            self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            before = width
        self.middle = Stage(before, channels[-1], blocks, embedding, attention[-1])
        self.up = nn.ModuleList()
        before = channels[-1]
        for width, attend in zip(channels[-2::-1], attention[-2::-1], strict=True):
            self.up.append(Stage(before + width, width, blocks, embedding, attend))
            before = width
        self.norm = nn.GroupNorm(GROUPS, before)
        self.out = nn.Conv2d(before, latent_channels, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, kappa_t: Tensor, t: Tensor, y: Tensor, flags: Tensor) -> Tensor:
        """Return the prediction.

        Parameters
        ----------
        kappa_t : Tensor, shape (batch, z, h, w)
        t : Tensor, shape (batch,)
            Integer times 1..T.
        y : Tensor, shape (batch, condition_channels, h, w)
        flags : Tensor, shape (batch, flag_count)
        """
        embedding = self.mix(self.time(time_features(t, self.time_width)) + self.flags(flags))
        x = self.stem(torch.cat([kappa_t, y], dim=1))
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            x = stage(x, embedding)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x, embedding)
        for stage in self.up:
            skip = skips.pop()
            # To the size of the skip rather than by two, so that odd sizes work too.
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = stage(torch.cat([x, skip], dim=1), embedding)
        prediction: Tensor = self.out(F.silu(self.norm(x)))
        return prediction
