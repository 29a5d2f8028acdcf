"""Resampling between grids with parallel axes, one axis at a time, by sparse weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import interpolate, sparse

FloatArray = npt.NDArray[np.float32]
Shape = tuple[int, int, int]


def resample(
    data: npt.NDArray[Any],
    spacing_in: npt.NDArray[np.float64],
    spacing_out: npt.NDArray[np.float64],
    shape_out: Shape,
    order: int,
) -> npt.NDArray[Any]:
    """Resample between two grids with parallel axes and a common centre, one axis at a time."""
    if order not in (0, 1, 3):
        raise ValueError(f"order is {order}; expected 0, 1 or 3")
    weights = _spline_weights if order == 3 else _linear_weights
    out = data
    changed = False
    # Axes that get coarser first: fewer voxels are left for the others.
    for axis in np.argsort(-spacing_out / spacing_in, kind="stable"):
        ratio = float(spacing_out[axis] / spacing_in[axis])
        if out.shape[axis] == shape_out[axis] and abs(ratio - 1) < 1e-6:
            continue
        changed = True
        edges = (data.shape[axis] - shape_out[axis] * ratio) / 2 + ratio * np.arange(
            shape_out[axis] + 1
        )
        if order == 0:
            out = np.take(out, _nearest_cells(data.shape[axis], edges), axis=axis)
        else:
            out = _apply_along(weights(data.shape[axis], edges), out, int(axis))
    if changed and order == 3:
        out = np.clip(out, data.min(), data.max())
    return np.ascontiguousarray(out)


def _apply_along(weights: sparse.csr_array, data: FloatArray, axis: int) -> FloatArray:
    """Multiply every line of an array along one axis by a matrix (outputs, inputs)."""
    moved = np.moveaxis(data, axis, 0)
    # A sparse product adds in one fixed order: the result does not depend on threads.
    product = weights @ moved.reshape(moved.shape[0], -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


# The functions below build the weights of one axis. Input cell i covers [i, i + 1] and has its
# centre at i + 0.5; output cell j covers [edges[j], edges[j + 1]].


def _nearest_cells(count: int, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the input cell in which each output cell has its centre."""
    centres = (edges[:-1] + edges[1:]) / 2
    return np.clip(np.floor(centres), 0, count - 1).astype(np.intp)


def _linear_weights(count: int, edges: npt.NDArray[np.float64]) -> sparse.csr_array:
    """Return weights that average over coarser cells and interpolate linearly to finer ones."""
    if edges[1] - edges[0] > 1:
        # The integral of a piecewise constant function is linear between the cells' edges.
        knots, integral = _integral_at_edges(count)
        return _mean_weights(interpolate.make_interp_spline(knots, integral, k=1), count, edges)
    cells = np.eye(count)
    centres = (edges[:-1] + edges[1:]) / 2
    lower = np.clip(np.floor(centres - 0.5), 0, max(count - 2, 0)).astype(np.intp)
    upper = np.minimum(lower + 1, count - 1)
    part = np.clip(centres - 0.5 - lower, 0, 1)[:, None]
    return _normalised((1 - part) * cells[lower] + part * cells[upper])


def _spline_weights(count: int, edges: npt.NDArray[np.float64]) -> sparse.csr_array:
    """Return the weights of a histospline averaged over the output cells.

    The integral of the image is known at the cells' edges. A cubic spline through it has a
    derivative, a smooth quadratic spline, whose mean over each input cell is that cell's value
    (Boneva, Kendall and Stefanov, J. R. Stat. Soc. B 33, 1971: "histospline").
    """
    knots, integral = _integral_at_edges(count)
    # "natural": the image is flat at both ends of the field of view.
    spline = interpolate.CubicSpline(knots, integral, bc_type="natural")
    return _mean_weights(spline, count, edges)


def _integral_at_edges(
    count: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the cells' edges, and there the integral of an image of one bright cell, for each."""
    integral = np.vstack([np.zeros(count), np.cumsum(np.eye(count), axis=0)])
    return np.arange(count + 1, dtype=np.float64), integral


def _mean_weights(integral: Any, count: int, edges: npt.NDArray[np.float64]) -> sparse.csr_array:
    """Return the mean over each output cell, or over that part of it where there is an image."""
    return _normalised(np.diff(integral(np.clip(edges, 0, count)), axis=0))


def _normalised(weights: npt.NDArray[np.float64]) -> sparse.csr_array:
    """Drop weights that do not matter and make each row sum to 1."""
    kept = np.where(np.abs(weights) > 1e-7, weights, 0.0)
    return sparse.csr_array((kept / kept.sum(axis=1, keepdims=True)).astype(np.float32))
