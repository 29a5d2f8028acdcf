"""Voxel-wise quadratic regression: a method that does not beat it has not learned any anatomy.

The target's intensity at a voxel is a polynomial of degree 2 of the sources' intensities at that
voxel, one polynomial for each target and set of sources, fitted by least squares over all voxels
of the training participants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, combinations_with_replacement
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from colapipe.baselines.slicewise import SlicewiseModel, make_metadata
from colapipe.coladiff.model import UnsuitableModelError

Monomial = tuple[int, ...]
"""Indices of the contrasts that are multiplied: () is 1, (0,) is x0, (0, 2) is x0 x2."""


def monomials(count: int) -> list[Monomial]:
    """Return all monomials of degree 0, 1 and 2 of ``count`` variables.

    >>> monomials(2)
    [(), (0,), (1,), (0, 0), (0, 1), (1, 1)]
    """
    return [m for degree in range(3) for m in combinations_with_replacement(range(count), degree)]


class QuadraticModel(SlicewiseModel):
    """The fitted polynomials.

    Parameters
    ----------
    coefficients : Tensor, shape (tasks, monomials of all contrasts)
        One row per entry of ``metadata["configuration"]["tasks"]``, which is
        ``[target, [source, ...]]``; 0 for the monomials of other contrasts.
    metadata, device
        See :class:`SlicewiseModel`.
    """

    kind = "quadratic"

    def __init__(
        self, coefficients: Tensor, metadata: dict[str, Any], device: torch.device
    ) -> None:
        super().__init__(metadata, device)
        self.monomials = monomials(len(self.contrasts))
        tasks = metadata["configuration"]["tasks"]
        if coefficients.shape != (len(tasks), len(self.monomials)):
            raise ValueError(f"'coefficients' has shape {tuple(coefficients.shape)}")
        self.coefficients = coefficients
        self.rows = {
            (target, frozenset(sources)): row for row, (target, sources) in enumerate(tasks)
        }

    @classmethod
    def _from_tensors(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
    ) -> Self:
        return cls(tensors["coefficients"], metadata, device)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds."""
        return {"coefficients": self.coefficients}

    def _check(self, known: Sequence[str], target: str) -> None:
        if (target, frozenset(known)) not in self.rows:
            raise UnsuitableModelError(
                f"no training participant had {target} together with {' and '.join(known)}"
            )

    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        row = self.coefficients[self.rows[target, frozenset(images)]].tolist()
        total = torch.zeros_like(next(iter(images.values())))
        for monomial, coefficient in zip(self.monomials, row, strict=True):
            names = [self.contrasts[index] for index in monomial]
            if set(names) <= set(images):
                term = torch.full_like(total, coefficient)
                for name in names:
                    term = term * images[name]
                total += term
        return total


class QuadraticFit:
    """Fit the polynomials of all targets and sets of sources in one pass over the data.

    The matrix of the products of all monomials, summed over voxels, holds the normal equations
    of every task, because a target is a monomial, too. There is one matrix for each set of
    contrasts that some participants have, and for each contrast whose mask says where.

    Parameters
    ----------
    contrasts : sequence of str
        The best mask comes first: a task's voxels are those of the mask of its first source.
    """

    def __init__(self, contrasts: Sequence[str]) -> None:
        self.contrasts = tuple(contrasts)
        self.monomials = monomials(len(self.contrasts))
        self.products: dict[tuple[frozenset[str], str], npt.NDArray[np.float64]] = {}

    def add(self, images: Mapping[str, npt.ArrayLike], masks: Mapping[str, npt.ArrayLike]) -> None:
        """Add a participant, or a part of its slices; parameters as :meth:`CopyFit.add`."""
        there = [name for name in self.contrasts if name in images]
        arrays = {name: np.asarray(images[name]) for name in there}
        for name in there:
            inside = np.asarray(masks[name]) > 0
            size = len(self.monomials)
            total = self.products.setdefault((frozenset(there), name), np.zeros((size, size)))
            # A slice at a time: the powers of a whole brain would fill hundreds of megabytes.
            for row in np.flatnonzero(inside.any(axis=(1, 2))):
                here = inside[row]
                powers = self._powers({n: array[row][here] for n, array in arrays.items()})
                total += powers @ powers.T

    def _powers(self, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return all monomials at some voxels, 0 for those of contrasts that are not there."""
        powers = np.zeros((len(self.monomials), len(next(iter(values.values())))))
        for row, monomial in enumerate(self.monomials):
            names = [self.contrasts[index] for index in monomial]
            if set(names) <= set(values):
                powers[row] = 1
                for name in names:
                    powers[row] *= values[name]
        return powers

    def coefficients(self, target: str, sources: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """Return the polynomial of a task, 0 for the monomials of other contrasts.

        None if no participant had the target and all the sources.
        """
        best = next(name for name in self.contrasts if name in sources)
        needed = {target, *sources}
        found = [
            matrix
            for (there, mask), matrix in self.products.items()
            if mask == best and needed <= there
        ]
        if not found:
            return None
        total = sum(found[1:], start=found[0])
        indices = {self.contrasts.index(name) for name in sources}
        used = [row for row, monomial in enumerate(self.monomials) if set(monomial) <= indices]
        right = total[used, self.monomials.index((self.contrasts.index(target),))]
        # Scaled to a diagonal of 1, so that "nothing" means the same for every monomial.
        left = total[np.ix_(used, used)]
        scale = 1 / np.sqrt(np.maximum(np.diag(left), 1e-30))
        solution = np.linalg.lstsq(left * np.outer(scale, scale), right * scale, rcond=1e-12)[0]
        row = np.zeros(len(self.monomials))
        row[used] = solution * scale
        return row

    def model(
        self, *, name: str = "quadratic regression", device: str = "cpu", **description: Any
    ) -> QuadraticModel:
        """Return the model of all tasks; ``description`` goes to :func:`make_metadata`."""
        tasks: list[tuple[str, tuple[str, ...]]] = []
        rows = []
        for target in self.contrasts:
            others = [contrast for contrast in self.contrasts if contrast != target]
            subsets = chain.from_iterable(
                combinations(others, size) for size in range(1, len(others) + 1)
            )
            for sources in subsets:
                row = self.coefficients(target, sources)
                if row is not None:
                    tasks.append((target, sources))
                    rows.append(row)
        metadata = make_metadata(
            "quadratic",
            self.contrasts,
            {"tasks": [[target, list(sources)] for target, sources in tasks]},
            name=name,
            **description,
        )
        stacked = np.array(rows, dtype=np.float32).reshape(len(tasks), len(self.monomials))
        return QuadraticModel(torch.from_numpy(stacked), metadata, torch.device(device))
