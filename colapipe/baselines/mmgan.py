"""MM-GAN: one generator that fills in all contrasts that are missing, at once.

Sharma and Hamarneh, "Missing MRI pulse sequence synthesis using multi-modal generative adversarial
network", IEEE Trans. Med. Imaging 39(4), 2020, on top of pix2pix (Isola et al., CVPR 2017) and the
least-squares loss (Mao et al., ICCV 2017). What it is made of:

- **Imputation.** The generator has a slot in and a slot out for each contrast; a missing one goes
  in as zeros.
- **Implicit conditioning.** The L1 loss looks at missing contrasts only; in what the discriminator
  is shown, available contrasts are overwritten with the truth; and the discriminator answers for
  each contrast apart, on patches, so that it can say which one was made.
- **Curriculum.** Training begins with one missing contrast, goes on to more, and ends with a random
  number.

Deviations: intensities are in [-1, 1] with a tanh at the end, as in pix2pix (the paper divides by
the mean); slices keep their size (the paper resizes to 256 x 256); and a participant may lack a
contrast altogether, which then counts neither as available nor as missing.

What follows from the published sizes: 54.4 million parameters are those of a U-Net of base 64 and
depth 8, and 2.8 million those of a PatchGAN of base 64. The weight of L1, the lengths of the
curriculum's stages, and that the discriminator sees the sources as well (as in pix2pix), were set
without the paper's full text at hand; all are parameters or one line.

Notation: ``available``, (batch, M), what the generator is shown; ``present``, what the participant
has; so ``present & ~available`` is what it must make.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.baselines.slicewise import NetworkModel, stack_sources

FIDELITY = 0.9
"""Weight of L1; the adversarial loss has the rest."""

LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
"""For Adam, of both networks."""

PAPER = {"base": 64, "depth": 8, "dropout": 0.5}
"""The published generator: 54.4 million parameters for four contrasts."""

SMALL = {"base": 32, "depth": 5, "dropout": 0.0}
"""What a CPU can train: a few million parameters, and a deepest map that fits every window."""


class Generator(nn.Module):
    """The U-Net of pix2pix, from M contrasts to M contrasts.

    Parameters
    ----------
    contrasts : int
        M.
    base : int
        Channels after the first halving; twice as many after each other one, up to eight times.
    depth : int
        Halvings of the grid.
    dropout : float
        In the three deepest blocks of the way up.
    """

    def __init__(self, contrasts: int, base: int = 64, depth: int = 8, dropout: float = 0.5):
        super().__init__()
        if contrasts < 2 or base < 1 or depth < 2 or not 0 <= dropout < 1:
            raise ValueError(
                f"contrasts {contrasts}, base {base}, depth {depth} and dropout {dropout} make no "
                "generator"
            )
        self.depth = depth
        widths = [base * min(2**level, 8) for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            entering = widths[level - 1] if level else contrasts
            layers: list[nn.Module] = [nn.Conv2d(entering, width, 4, stride=2, padding=1)]
            # Not at the ends: the input's own level counts, and one voxel has no variance.
            if 0 < level < depth - 1:
                layers.append(nn.InstanceNorm2d(width))
            self.down.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
        for level in reversed(range(1, depth)):
            entering = widths[level] * (1 if level == depth - 1 else 2)
            layers = [
                nn.ConvTranspose2d(entering, widths[level - 1], 4, stride=2, padding=1),
                nn.InstanceNorm2d(widths[level - 1]),
                nn.ReLU(),
            ]
            if dropout and level >= depth - 3:
                layers.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*layers))
        self.leave = nn.ConvTranspose2d(2 * widths[0], contrasts, 4, stride=2, padding=1)

    def forward(self, contrasts: Tensor) -> Tensor:
        """Return all contrasts.

        Parameters
        ----------
        contrasts : Tensor, shape (batch, M, H, W)
            In [-1, 1], 0 where a contrast is not available. Any H and W: a border is added where
            ``depth`` halvings need it, and taken away again.

        Returns
        -------
        Tensor, shape (batch, M, H, W), in [-1, 1]
            Those of available contrasts mean nothing.
        """
        height, width = contrasts.shape[-2:]
        below, right = (-height) % 2**self.depth, (-width) % 2**self.depth
        x = F.pad(contrasts, (0, right, 0, below), mode="replicate")
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = torch.cat([block(x), skips.pop()], dim=1)
        return torch.tanh(self.leave(x))[..., :height, :width]


class Discriminator(nn.Module):
    """The PatchGAN of pix2pix with a map of answers for each contrast.

    Parameters
    ----------
    contrasts : int
        M.
    base : int
        64 in the paper.
    """

    def __init__(self, contrasts: int, base: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        entering = 2 * contrasts
        for level in range(4):
            layers.append(nn.Conv2d(entering, base * 2**level, 4, stride=2, padding=1))
            if level:
                layers.append(nn.InstanceNorm2d(base * 2**level))
            layers.append(nn.LeakyReLU(0.2))
            entering = base * 2**level
        self.layers = nn.Sequential(
            *layers, nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(entering, contrasts, 4, padding=1)
        )

    def forward(self, sources: Tensor, images: Tensor) -> Tensor:
        """Say how real each contrast looks: 1 real, 0 made.

        Parameters
        ----------
        sources : Tensor, shape (batch, M, H, W)
            What the generator was shown.
        images : Tensor, shape (batch, M, H, W)
            All contrasts.

        Returns
        -------
        Tensor, shape (batch, M, H / 16, W / 16)
        """
        answers: Tensor = self.layers(torch.cat([sources, images], dim=1))
        return answers


def impute(synth: Tensor, truth: Tensor, available: Tensor, present: Tensor) -> Tensor:
    """Return ``synth`` with available contrasts overwritten by the truth, absent ones by 0.

    Parameters
    ----------
    synth, truth : Tensor, shape (batch, M, H, W)
    available, present : Tensor, shape (batch, M), bool
    """
    images = torch.where(available[:, :, None, None], truth, synth)
    return images * present[:, :, None, None]


def generator_loss(
    discriminator: Discriminator,
    sources: Tensor,
    synth: Tensor,
    truth: Tensor,
    available: Tensor,
    present: Tensor,
    mask: Tensor | None = None,
    fidelity: float = FIDELITY,
) -> Tensor:
    """Return ``fidelity * L1 + (1 - fidelity) * (D - 1)^2``, of missing contrasts alone.

    Parameters
    ----------
    discriminator : Discriminator
    sources : Tensor, shape (batch, M, H, W)
        What the generator was shown.
    synth : Tensor, same shape
        What it made of it.
    truth : Tensor, same shape
        All contrasts; anything where one is not present.
    available, present : Tensor, shape (batch, M), bool
    mask : Tensor, shape (batch, 1, H, W), optional
        Where L1 counts; everywhere without one, as in the paper.
    fidelity : float

    Raises
    ------
    ValueError
        If nothing is missing, or something is available that is not present.
    """
    missing = _missing(available, present)
    answers = discriminator(sources, impute(synth, truth, available, present))
    weight = missing[:, :, None, None].to(synth.dtype).expand_as(synth)
    if mask is not None:
        weight = weight * mask
    # An absent contrast's truth may be anything, so it must not even be multiplied by 0.
    error = torch.where(missing[:, :, None, None], synth - truth, 0.0).abs()
    l1 = (error * weight).sum() / weight.sum().clamp_min(1)
    adversarial = _mean((answers - 1).square(), missing)
    return fidelity * l1 + (1 - fidelity) * adversarial


def discriminator_loss(
    discriminator: Discriminator,
    sources: Tensor,
    synth: Tensor,
    truth: Tensor,
    available: Tensor,
    present: Tensor,
) -> Tensor:
    """Return half the squared errors of the discriminator on real and on imputed images.

    Real images are 1 for every contrast that is present. Imputed ones are 1 where the truth was
    put back and 0 where the generator made it. No gradient reaches the generator.

    Parameters and errors are those of :func:`generator_loss`.
    """
    _missing(available, present)
    everything = torch.ones_like(available)
    real = discriminator(sources, impute(truth, truth, everything, present))
    imputed = discriminator(sources, impute(synth.detach(), truth, available, present))
    wanted = available[:, :, None, None].to(imputed.dtype)
    real_loss = _mean((real - 1).square(), present)
    return 0.5 * (real_loss + _mean((imputed - wanted).square(), present))


def _missing(available: Tensor, present: Tensor) -> Tensor:
    if bool((available & ~present).any()):
        raise ValueError("a contrast is available that the participant does not have")
    missing = present & ~available
    if not bool(missing.any()):
        raise ValueError("no contrast is missing, so there is nothing to make")
    return missing


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean over the maps (batch, M, h, w) that ``chosen`` (batch, M) names."""
    weight = chosen[:, :, None, None].to(values.dtype).expand_as(values)
    return (values * weight).sum() / weight.sum()


def curriculum(iteration: int, total: int, rng: np.random.Generator, most: int = 3) -> int:
    """Return how many contrasts are missing in an iteration.

    The first half of the training is divided evenly: one missing contrast, then two, up to
    ``most``; in the second half the number is random. With four contrasts and 60 epochs these are
    ten epochs each, then thirty.

    Parameters
    ----------
    iteration, total : int
        Of the training, from 0.
    rng : Generator
    most : int
        One less than the number of contrasts.
    """
    stage = 2 * most * iteration // max(1, total)
    return stage + 1 if stage < most else int(rng.integers(1, most + 1))


class MMGANModel(NetworkModel):
    """A trained generator; the discriminator is not needed any more.

    ``configuration`` holds ``base``, ``depth`` and ``dropout``.
    """

    kind = "mmgan"
    build = Generator

    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        sources, _ = stack_sources(images, self.contrasts)
        made: Tensor = self.network(sources)
        return (made[:, self.contrasts.index(target)] + 1) / 2
