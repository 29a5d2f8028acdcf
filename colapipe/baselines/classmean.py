"""The mean intensity of each tissue class, mixed by the probabilities: contrast without texture.

The target's intensity at a voxel is sum_k S_k m_k: S_k the probability of tissue class k, from a
segmentation of a source; m_k the mean intensity of the class in the target, over the training
participants' voxels, each weighted by S_k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from colapipe.baselines.slicewise import SlicewiseModel, make_metadata
from colapipe.coladiff.arguments import FloatArray, Volume
from colapipe.coladiff.model import UnsuitableModelError
from colapipe.contrasts import TISSUES


class ClassMeanModel(SlicewiseModel):
    """Return, as the target, the mixture of its tissues' mean intensities.

    Where the probabilities do not add up to 1, as in a lesion that is no tissue, what is missing
    counts as 0.

    Parameters
    ----------
    means : Tensor, shape (M, 3)
        For each target the mean intensity of each of ``TISSUES``, in [0, 1]; 0 for a class that
        training never met, and NaN for a target that it never met.
    metadata, device
        See :class:`SlicewiseModel`.
    """

    kind = "class-mean"

    def __init__(self, means: Tensor, metadata: dict[str, Any], device: torch.device) -> None:
        super().__init__(metadata, device)
        if means.shape != (len(self.contrasts), len(TISSUES)):
            raise ValueError(f"'means' has shape {tuple(means.shape)}")
        self.means = means

    @classmethod
    def _from_tensors(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
    ) -> Self:
        return cls(tensors["means"], metadata, device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds."""
        return {"means": self.means}

    def _check(self, known: Sequence[str], target: str) -> None:
        if bool(self.means[self.contrasts.index(target)].isnan().any()):
            raise UnsuitableModelError(
                f"no training participant had {target} together with tissue maps of another "
                "contrast"
            )

    def _inputs(self, volume: Volume) -> dict[str, FloatArray]:
        if missing := [name for name in TISSUES if name not in volume.tissues]:
            raise UnsuitableModelError(
                f"{self.metadata['name']} ({self.kind}) needs maps of {', '.join(TISSUES)}; there "
                f"is none of {' and '.join(missing)}"
            )
        return {name: volume.tissues[name] for name in TISSUES}

    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        means = self.means[self.contrasts.index(target)].tolist()
        return torch.stack(
            [mean * images[name] for name, mean in zip(TISSUES, means, strict=True)]
        ).sum(dim=0)


class ClassMeanFit:
    """Find the mean intensities of the classes from one training participant after the other.

    Parameters
    ----------
    contrasts : sequence of str
        The best mask and tissue maps come first: those of a target are of the first other contrast
        that a participant has, never its own.
    """

    def __init__(self, contrasts: Sequence[str]) -> None:
        self.contrasts = tuple(contrasts)
        shape = (len(self.contrasts), len(TISSUES))
        self.total, self.weight = np.zeros(shape), np.zeros(shape)

    def add(
        self,
        images: Mapping[str, npt.ArrayLike],
        masks: Mapping[str, npt.ArrayLike],
        tissues: Mapping[str, npt.ArrayLike],
    ) -> None:
        """Add a participant, or a part of its slices.

        Parameters
        ----------
        images, masks
            See :meth:`CopyFit.add`.
        tissues : mapping of str to array_like, (slices, 3, height, width), in [0, 1]
            For each contrast the probabilities of ``TISSUES`` that were computed from it.
        """
        there = [name for name in self.contrasts if name in images]
        for row, target in enumerate(self.contrasts):
            source = next((name for name in there if name != target), None)
            if target not in there or source is None:
                continue
            inside = np.asarray(masks[source]) > 0
            truth = np.asarray(images[target], dtype=np.float64)[inside]
            maps = np.asarray(tissues[source])
            for k in range(len(TISSUES)):
                probability = maps[:, k][inside].astype(np.float64)
                self.total[row, k] += probability @ truth
                self.weight[row, k] += probability.sum()

    def model(
        self, *, name: str = "class means", device: str = "cpu", **description: Any
    ) -> ClassMeanModel:
        """Return the model; ``description`` goes to :func:`make_metadata`."""
        means = np.zeros(self.total.shape)
        np.divide(self.total, self.weight, out=means, where=self.weight > 0)
        means[~(self.weight > 0).any(axis=1)] = np.nan
        metadata = make_metadata("class-mean", self.contrasts, {}, name=name, **description)
        tensor = torch.from_numpy(means.astype(np.float32))
        return ClassMeanModel(tensor, metadata, torch.device(device))
