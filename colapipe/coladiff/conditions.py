"""y: what the denoiser is told about the participant (section 2 of the paper, Fig. 1 B and E).

The latents of the available contrasts and the encoded structural guidance lie side by side. Eqs.
7-10 weigh their channels, a transformer looks at all of them at once, and the result reaches the
denoiser by two doors: concatenated to kappa_t, and into its way up. A contrast that is missing is
zero after latent normalisation, and a vector says which are available and which is the target.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from colapipe.coladiff.configuration import TISSUE_CHANNELS, Configuration
from colapipe.coladiff.transformer import ConditionTransformer, Tokens
from colapipe.coladiff.weighting import AutoWeightAdaptation


class Conditions(NamedTuple):
    """What stays the same over the steps of a sampler, computed once per slice.

    Attributes
    ----------
    entry : Tensor, shape (batch, channels[0], h, w), or None
        What the concatenated conditions add to the features of kappa_t.
    tokens : Tokens or None
        What the way up attends to.
    image : Tensor, shape (batch, M * slab + 4, H, W)
        The conditions at full resolution: contrasts, 0 where missing; tissues in [0, 1]. Without
        structure the four are left out.
    flags : Tensor, shape (batch, 2*M)
        Availability bits, then the target as one-hot.
    gates : Tensor, shape (batch, M), or None
        The mean weight (Eq. 10) that each contrast was given; NaN where it is missing.
    """

    entry: Tensor | None
    tokens: Tokens | None
    image: Tensor
    flags: Tensor
    gates: Tensor | None


def make_flags(available: Tensor, target: Tensor) -> Tensor:
    """Return availability bits (batch, M) and the target's one-hot, side by side, as float.

    Parameters
    ----------
    available : Tensor, shape (batch, M), bool
    target : Tensor, shape (batch,), int64
        Index of the target among the M contrasts.

    Raises
    ------
    ValueError
        If a target is among the available contrasts: it would be its own source.
    """
    one_hot = nn.functional.one_hot(target, available.shape[1])
    if bool((available & one_hot.bool()).any()):
        raise ValueError("the target is among the available contrasts")
    return torch.cat([available.float(), one_hot.float()], dim=1)


class StructureEncoder(nn.Module):
    """E_s: maps (n, K, H, W) in [0, 1] to (n, z_s, H/f, W/f) by strided convolutions.

    The first maps are the tissues, the lesion the last of them; densities follow.
    """

    def __init__(self, maps: int, channels: int, downsampling: int) -> None:
        super().__init__()
        width = 2 * channels
        enter = nn.Conv2d(maps, width, 3, padding=1)
        nn.init.zeros_(enter.weight[:, len(TISSUE_CHANNELS) - 1])  # lesion: see Refinement
        layers: list[nn.Module] = [enter, nn.SiLU()]
        if downsampling > 1:
            # The first halving by averaging: convolutions at full resolution cost the most.
            layers = [nn.AvgPool2d(2), *layers]
        while (downsampling := downsampling // 2) > 1:
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        encoded: Tensor = self.layers(maps)
        return encoded


class ConditionNetwork(nn.Module):
    """From latents and structural guidance to y~ and its tokens.

    Parameters
    ----------
    configuration : Configuration
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        count = len(configuration.contrasts)
        self.count = count
        self.per_contrast = configuration.slab * configuration.latent_channels
        self.channels = count * self.per_contrast
        self.structure = None
        if configuration.structure:
            maps = len(TISSUE_CHANNELS) + (count if configuration.density == "voxel" else 0)
            self.structure = StructureEncoder(
                maps, configuration.structure_channels, configuration.downsampling
            )
            self.channels += configuration.structure_channels
        self.weighting = (
            AutoWeightAdaptation(self.channels, configuration.gate)
            if configuration.gate != "off"
            else None
        )
        self.transformer = (
            ConditionTransformer(
                self.channels,
                configuration.transformer_width,
                configuration.transformer_blocks,
                configuration.heads,
                grid=224 // configuration.downsampling // 4,
            )
            if configuration.attends_to_conditions
            else None
        )

    def forward(
        self, latents: Tensor, available: Tensor, maps: Tensor
    ) -> tuple[Tensor, Tokens | None, Tensor | None]:
        """Return y~, its tokens, and the contrasts' gates.

        Parameters
        ----------
        latents : Tensor, shape (batch, M, slab * z, h, w)
            Zero where a contrast is missing.
        available : Tensor, shape (batch, M), bool
        maps : Tensor, shape (batch, K, H, W)
            Tissues and densities.
        """
        y = latents.flatten(1, 2)
        if self.structure is not None:
            y = torch.cat([y, self.structure(maps).to(y.dtype)], dim=1)
        gates = None
        if self.weighting is not None:
            by_channel = self.weighting.gates(y)
            y = y * by_channel[:, :, None, None]
            of_contrasts = by_channel[:, : self.count * self.per_contrast]
            gates = of_contrasts.detach().reshape(len(y), self.count, -1).mean(dim=2)
            gates = gates.masked_fill(~available, torch.nan)
        return y, self.transformer(y) if self.transformer is not None else None, gates


class Refinement(nn.Module):
    """Give a decoded image the detail of its sources, at full resolution.

    A latent is coarser than the image it stands for; the available contrasts are not. A few
    convolutions over the decoded image, the contrasts and the tissues add a residual. Starts as
    the identity.
    """

    def __init__(self, conditions: int, flags: int, width: int, lesion: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1 + conditions, width, 3, padding=1)
        self.flags = nn.Linear(flags, width)
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
        )
        self.leave = nn.Conv2d(width, 1, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)
        if lesion:
            # The last condition. A model that was trained without lesions must not answer to one
            # by chance.
            nn.init.zeros_(self.enter.weight[:, -1])

    def forward(self, image: Tensor, conditions: Conditions) -> Tensor:
        features = self.enter(torch.cat([image, conditions.image], dim=1))
        features = features + self.flags(conditions.flags)[:, :, None, None]
        refined: Tensor = image + self.leave(self.layers(features))
        return refined
