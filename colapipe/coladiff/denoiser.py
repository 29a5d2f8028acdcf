"""The latent space network epsilon_theta(kappa_t, t, y): a U-Net over the latent grid (Fig. 1).

With ``latent_net="cola"`` the way down has residual blocks with kernels 1-3-1, the stem fuses two
receptive fields, and the way up attends to the conditions; ``plain`` is the U-Net of latent
diffusion. No layer looks across the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.coladiff.attention import attend
from colapipe.coladiff.conditions import Conditions
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.filtering import SimilarCooperativeFilter
from colapipe.coladiff.fusion import ReceptiveFieldFusion
from colapipe.coladiff.transformer import CrossAttention, to_map

GROUPS = 8


def time_features(t: Tensor, width: int) -> Tensor:
    """Return sinusoidal features of the times, shape (batch, width) (Ho et al., 2020)."""
    half = width // 2
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / half
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(FiLM(GN(conv(SiLU(GN x)))))), the last convolution starting at zero."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.norm_in = _norm(before)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * after)
        self.norm_out = _norm(after)
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


class BottleneckBlock(nn.Module):
    """The paper's residual block with kernels 1-3-1 (Fig. 1 C), half as wide in the middle.

    x + W3 SiLU FiLM(GN(W2 SiLU(GN(W1 SiLU(GN x))))), W3 starting at zero.
    """

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        middle = after // 2
        self.norm_1 = _norm(before)
        self.conv_1 = nn.Conv2d(before, middle, 1)
        self.norm_2 = _norm(middle)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * middle)
        self.norm_3 = _norm(middle)
        self.conv_3 = nn.Conv2d(middle, after, 1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        for parameter in self.conv_3.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = self.conv_2(F.silu(self.norm_2(h)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_3(F.silu(self.norm_3(h) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over all positions of a map, starting as the identity."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        q, k, v = (part.transpose(-1, -2) for part in qkv.unbind(1))
        mixed = attend(q, k, v).transpose(-1, -2)
        out: Tensor = x + self.out(mixed.reshape(batch, channels, height, width))
        return out


class Stage(nn.Module):
    """Residual blocks, each followed by attention where the resolution has it (``heads`` > 0)."""

    def __init__(
        self,
        before: int,
        after: int,
        blocks: int,
        embedding: int,
        heads: int,
        block: type[ResidualBlock] | type[BottleneckBlock] = ResidualBlock,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            block(before if index == 0 else after, after, embedding) for index in range(blocks)
        )
        self.attention = nn.ModuleList(
            Attention(after, heads) if heads else nn.Identity() for _ in range(blocks)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x, embedding))
        return x


class Rise(nn.Module):
    """Double a map's height and width, to the size of the skip connection where that is odd."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.transposed = (
            nn.ConvTranspose2d(channels, channels, 2, stride=2) if kind == "transposed" else None
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        height, width = skip.shape[-2:]
        if self.transposed is None:
            return F.interpolate(x, size=(height, width), mode="nearest")
        risen: Tensor = self.transposed(x)[..., :height, :width]
        return risen


class Denoiser(nn.Module):
    """U-Net from (kappa_t, t, y, flags) to the prediction.

    Parameters
    ----------
    configuration : Configuration
    condition_channels : int
        Channels of y.
    """

    def __init__(self, configuration: Configuration, condition_channels: int) -> None:
        super().__init__()
        c = configuration
        cola = c.latent_net == "cola"
        way_down = BottleneckBlock if cola else ResidualBlock
        self.time_width = c.embedding // 2 * 2
        self.time = nn.Linear(self.time_width, c.embedding)
        self.flags = nn.Linear(2 * len(c.contrasts), c.embedding)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(c.embedding, c.embedding), nn.SiLU())

        first, z = c.channels[0], c.latent_channels
        # The convolution over (kappa_t, y) is linear, so y's part of it is computed once a slice.
        self.enter = (
            nn.Conv2d(condition_channels, first, 3, padding=1, bias=False)
            if c.concatenates
            else None
        )
        self.stem: nn.Module = (
            ReceptiveFieldFusion(z, first) if cola else nn.Conv2d(z, first, 3, padding=1)
        )
        heads = [c.heads if attends else 0 for attends in c.attention]
        self.down, self.fields = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.filters = nn.ModuleList(), nn.ModuleList()
        before = first
        for width, attends in zip(c.channels[:-1], heads[:-1], strict=True):
            self.down.append(Stage(before, width, c.blocks, c.embedding, attends, way_down))
            self.fields.append(
                ReceptiveFieldFusion(width, width, depthwise=True)
                if cola and c.receptive_field == "down"
                else nn.Identity()
            )
            self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            if c.scf != "off":
                self.filters.append(
                    SimilarCooperativeFilter(
                        width,
                        mode=c.scf,
                        wavelet=c.scf_wavelet,
                        largest=c.scf_largest,
                        noise_aware=c.scf_noise_aware,
                    )
                )
            before = width
        self.middle = Stage(before, c.channels[-1], c.blocks, c.embedding, heads[-1])
        self.rise, self.up = nn.ModuleList(), nn.ModuleList()
        self.guides, self.cross = nn.ModuleList(), nn.ModuleList()
        before = c.channels[-1]
        for width, attends in zip(c.channels[-2::-1], heads[-2::-1], strict=True):
            self.rise.append(Rise(before, c.upsampling))
            self.up.append(Stage(before + width, width, c.blocks, c.embedding, attends))
            if c.attends_to_conditions:
                guide = nn.Conv2d(c.transformer_width, before, 1)
                for parameter in guide.parameters():
                    nn.init.zeros_(parameter)
                self.guides.append(guide)
                self.cross.append(
                    CrossAttention(width, c.transformer_width, attends)
                    if attends
                    else nn.Identity()
                )
            before = width
        self.norm = _norm(before)
        self.out = nn.Conv2d(before, z * (2 if c.variance == "learned" else 1), 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, kappa_t: Tensor, t: Tensor, conditions: Conditions, noise_level: Tensor
    ) -> Tensor:
        """Return the prediction, of the shape of kappa_t; with a learned variance, twice as deep.

        Parameters
        ----------
        kappa_t : Tensor, shape (batch, z, h, w)
        t : Tensor, shape (batch,)
            Times in (0, T].
        conditions : Conditions
        noise_level : Tensor, shape (batch,)
            sqrt(1 - abar_t).
        """
        features = time_features(t, self.time_width).to(conditions.flags)
        embedding = self.mix(self.time(features) + self.flags(conditions.flags))
        x = self.stem(kappa_t)
        if conditions.entry is not None:
            x = x + conditions.entry
        skips = []
        for stage, field, shrink in zip(self.down, self.fields, self.shrink, strict=True):
            x = field(stage(x, embedding))
            skips.append(x)
            x = shrink(x)
        x = self.middle(x, embedding)
        for level, (rise, stage) in enumerate(zip(self.rise, self.up, strict=True)):
            skip = skips.pop()
            if self.filters:
                skip = self.filters[-1 - level](skip, noise_level)
            x = rise(x, skip)
            height, width = skip.shape[-2:]
            if conditions.tokens is not None:
                x = x + self.guides[level](to_map(conditions.tokens, (height, width)))
            x = stage(torch.cat([x, skip], dim=1), embedding)
            if conditions.tokens is not None and isinstance(self.cross[level], CrossAttention):
                x = self.cross[level](x, conditions.tokens.tokens)
        prediction: Tensor = self.out(F.silu(self.norm(x)))
        return prediction
