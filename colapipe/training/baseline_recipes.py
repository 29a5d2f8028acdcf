"""Recipes of the baselines that are trained: a regression U-Net and MM-GAN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from colapipe.baselines import mmgan
from colapipe.baselines.slicewise import make_metadata
from colapipe.baselines.unet import RegressionUNet
from colapipe.training.batches import Batch, Preparation
from colapipe.training.recipes import Objective, Recipe, image_error

MMGAN_SIZE: dict[str, Any] = dict(mmgan.SMALL)


class UNetRecipe(Recipe):
    """A plain U-Net in pixel space, trained on the same loss as CoLa-Diff's image.

    Parameters
    ----------
    contrasts : tuple of str
    """

    kind = "unet"
    stages = ("regression",)

    def __init__(self, contrasts: tuple[str, ...]) -> None:
        self.model = RegressionUNet(len(contrasts))
        self.network = self.model
        self.preparation = Preparation(contrasts)

    def objectives(self, stage: str) -> dict[str, Objective]:
        return {"regression": Objective(self.model, self._loss)}

    def _loss(self, batch: Batch) -> Tensor:
        return image_error(self.estimate(batch), batch)

    def estimate(self, batch: Batch) -> Tensor:
        image: Tensor = self.model(batch.contrasts[:, :, 0], batch.available, batch.target)
        return image

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "contrasts": list(self.preparation.contrasts)}

    def metadata(self, **entries: Any) -> dict[str, Any]:
        return make_metadata(self.kind, self.preparation.contrasts, {}, **entries)


class MMGANRecipe(Recipe):
    """MM-GAN at a size that a CPU can train (:data:`colapipe.baselines.mmgan.SMALL`).

    Parameters
    ----------
    contrasts : tuple of str
    """

    kind = "mmgan"
    stages = ("adversarial",)
    betas = mmgan.BETAS

    def __init__(self, contrasts: tuple[str, ...]) -> None:
        self.model = mmgan.Generator(len(contrasts), **MMGAN_SIZE)
        self.discriminator = mmgan.Discriminator(len(contrasts))
        self.network = nn.ModuleDict({"generator": self.model, "discriminator": self.discriminator})
        self.preparation = Preparation(contrasts)

    def choose(
        self, known: list[str], target: str, drop: float, rng: np.random.Generator
    ) -> list[str]:
        """Leave out as many contrasts as the curriculum says, the target among them."""
        most = max(1, len(known) - 1)
        missing = mmgan.curriculum(round(1e6 * self.progress), 1_000_000, rng, most)
        others = [contrast for contrast in known if contrast != target]
        kept = rng.permutation(others)[: max(1, len(others) - (missing - 1))]
        return [contrast for contrast in others if contrast in kept]

    def objectives(self, stage: str) -> dict[str, Objective]:
        return {
            "discriminator": Objective(self.discriminator, self._discriminator_loss),
            "generator": Objective(self.model, self._generator_loss),
        }

    def _discriminator_loss(self, batch: Batch) -> Tensor:
        sources = batch.contrasts[:, :, 0]
        with torch.no_grad():
            synth = self.model(sources)
        return mmgan.discriminator_loss(
            self.discriminator, sources, synth, batch.others, batch.available, batch.known
        )

    def _generator_loss(self, batch: Batch) -> Tensor:
        sources = batch.contrasts[:, :, 0]
        return mmgan.generator_loss(
            self.discriminator,
            sources,
            self.model(sources),
            batch.others,
            batch.available,
            batch.known,
            batch.mask,
        )

    def estimate(self, batch: Batch) -> Tensor:
        made = self.model(batch.contrasts[:, :, 0])
        rows = torch.arange(len(made), device=made.device)
        image: Tensor = made[rows, batch.target][:, None]
        return image

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "contrasts": list(self.preparation.contrasts), **MMGAN_SIZE}

    def metadata(self, **entries: Any) -> dict[str, Any]:
        return make_metadata(self.kind, self.preparation.contrasts, MMGAN_SIZE, **entries)

    def tensors(self) -> dict[str, Tensor]:
        return self.model.state_dict()
