"""y: what the denoiser is told about the participant (section 2 of the paper, Fig. 1 B and E).

The plain version: the latents of the available contrasts and the encoded tissue maps, side by
side. A contrast that is missing is zero after latent normalisation, and a vector says which are
available and which is the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Conditions(NamedTuple):
    """What stays the same over the steps of a sampler, computed once per slice.

    Attributes
    ----------
    latent : Tensor, shape (batch, M*z + z_s, h, w)
        The available contrasts and the tissues on the grid of the latent.
    image : Tensor, shape (batch, M + 4, H, W)
        The same at full resolution: contrasts in [-1, 1], 0 where missing; tissues in [0, 1].
    flags : Tensor, shape (batch, 2*M)
        Availability bits, then the target as one-hot.
    """

    latent: Tensor
    image: Tensor
    flags: Tensor


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
    """E_s: tissue maps (n, 4, H, W) in [0, 1] to (n, z_s, H/f, W/f) by strided convolutions."""

    def __init__(self, maps: int, channels: int, downsampling: int) -> None:
        super().__init__()
        width = 2 * channels
        enter = nn.Conv2d(maps, width, 3, padding=1)
        nn.init.zeros_(enter.weight[:, -1])  # lesion: see Refinement
        layers: list[nn.Module] = [enter, nn.SiLU()]
        if downsampling > 1:
            # The first halving by averaging: convolutions at full resolution cost the most.
            layers = [nn.AvgPool2d(2), *layers]
        while (downsampling := downsampling // 2) > 1:
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 1))

    def forward(self, tissues: Tensor) -> Tensor:
        encoded: Tensor = self.layers(tissues)
        return encoded


class Refinement(nn.Module):
    """Give a decoded image the detail of its sources, at full resolution.

    A latent is coarser than the image it stands for; the available contrasts are not. A few
    convolutions over the decoded image, the contrasts and the tissues add a residual. Starts as
    the identity.
    """

    def __init__(self, conditions: int, flags: int, width: int) -> None:
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
        # The last condition is the lesion map. A model that was trained without lesions must not
        # answer to one by chance.
        nn.init.zeros_(self.enter.weight[:, -1])

    def forward(self, image: Tensor, conditions: Conditions) -> Tensor:
        features = self.enter(torch.cat([image, conditions.image], dim=1))
        features = features + self.flags(conditions.flags)[:, :, None, None]
        refined: Tensor = image + self.leave(self.layers(features))
        return refined


def stack_contrasts(images: dict[str, Tensor], contrasts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Put source images into the model's slots.

    Parameters
    ----------
    images : dict of Tensor, shape (batch, H, W)
        In [0, 1].
    contrasts : sequence of str
        The model's contrasts.

    Returns
    -------
    stacked : Tensor, shape (batch, M, H, W)
        In [-1, 1]; 0 for a contrast that is missing.
    available : Tensor, shape (batch, M), bool
    """
    first = next(iter(images.values()))
    slots = [
        images[name] * 2 - 1 if name in images else torch.zeros_like(first) for name in contrasts
    ]
    bits = torch.tensor([name in images for name in contrasts], device=first.device)
    return torch.stack(slots, dim=1), bits.expand(first.shape[0], -1)
