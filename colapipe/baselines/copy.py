"""Copy the most similar contrast: what a model must beat to be of any use.

Which source copies best is found on training data, per target, and stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from colapipe.baselines.slicewise import SlicewiseModel, make_metadata
from colapipe.coladiff.model import UnsuitableModelError


class CopyModel(SlicewiseModel):
    """Return, as the target, the available source that was most like it in training.

    Parameters
    ----------
    likeness : Tensor, shape (M, M)
        Entry [target, source]: the mean PSNR in dB of training participants whose source was
        taken for the target, inside the brain; NaN where nobody had both.
    metadata, device
        See :class:`SlicewiseModel`.
    """

    kind = "copy"

    def __init__(self, likeness: Tensor, metadata: dict[str, Any], device: torch.device) -> None:
        super().__init__(metadata, device)
        if likeness.shape != (len(self.contrasts), len(self.contrasts)):
            raise ValueError(f"'likeness' has shape {tuple(likeness.shape)}")
        self.likeness = likeness

    @classmethod
    def _from_tensors(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
    ) -> Self:
        return cls(tensors["likeness"], metadata, device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds."""
        return {"likeness": self.likeness}

    def best_source(self, sources: Sequence[str], target: str) -> str | None:
        """Return the source to copy, or None where training had none of them with the target."""
        row = self.likeness[self.contrasts.index(target)]
        score = {source: float(row[self.contrasts.index(source)]) for source in sources}
        seen = [source for source in sources if not np.isnan(score[source])]
        return max(seen, key=score.__getitem__, default=None)

    def _check(self, known: Sequence[str], target: str) -> None:
        if self.best_source(known, target) is None:
            raise UnsuitableModelError(
                f"no training participant had {target} together with {' or '.join(known)}"
            )

    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        best = self.best_source(list(images), target)
        assert best is not None  # _check has been asked
        return images[best]


class CopyFit:
    """Find the likeness of contrasts from one training participant after the other.

    Parameters
    ----------
    contrasts : sequence of str
    """

    def __init__(self, contrasts: Sequence[str]) -> None:
        self.contrasts = tuple(contrasts)
        shape = (len(self.contrasts), len(self.contrasts))
        self.total, self.count = np.zeros(shape), np.zeros(shape, dtype=np.int64)

    def add(self, images: Mapping[str, npt.ArrayLike], masks: Mapping[str, npt.ArrayLike]) -> None:
        """Add a participant.

        Parameters
        ----------
        images : mapping of str to array_like, (slices, height, width), in [0, 1]
            Contrasts that are not among those of the fit are passed over.
        masks : mapping of str to array_like, the same shape
            For each contrast the brain mask that was computed from it.
        """
        there = [name for name in self.contrasts if name in images]
        for source in there:
            inside = np.asarray(masks[source]) > 0
            if not inside.any():
                continue
            copied = np.asarray(images[source], dtype=np.float64)[inside]
            for target in there:
                if target == source:
                    continue
                truth = np.asarray(images[target], dtype=np.float64)[inside]
                mse = max(float(np.mean((copied - truth) ** 2)), 1e-10)
                entry = self.contrasts.index(target), self.contrasts.index(source)
                self.total[entry] += -10 * np.log10(mse)
                self.count[entry] += 1

    def model(self, *, name: str = "copy", device: str = "cpu", **description: Any) -> CopyModel:
        """Return the model; ``description`` goes to :func:`make_metadata`."""
        likeness = np.full(self.total.shape, np.nan)
        np.divide(self.total, self.count, out=likeness, where=self.count > 0)
        metadata = make_metadata("copy", self.contrasts, {}, name=name, **description)
        tensor = torch.from_numpy(likeness.astype(np.float32))
        return CopyModel(tensor, metadata, torch.device(device))
