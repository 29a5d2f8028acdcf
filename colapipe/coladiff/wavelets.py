"""phi and its inverse of Eq. 4: the periodised orthonormal wavelet transform of a map.

Coefficients, their order and their names are PyWavelets': ``pywt.wavedec2`` and
``pywt.waverec2`` with ``mode="periodization"``. H is low-pass along the width and high-pass along
the height, so it answers to horizontal edges; V is the reverse; D is high-pass along both.
"""

from __future__ import annotations

from typing import Any

import pywt
import torch
from torch import Tensor, nn

Details = tuple[Tensor, Tensor, Tensor]
"""The (H, V, D) of one level."""

# PyWavelets calls the truncated Meyer wavelet (dmey) orthogonal, too; its transform errs by 2e-3.
TOLERANCE = 1e-9


def possible_levels(height: int, width: int, wanted: int) -> int:
    """Return how many levels a map of this size has, at most ``wanted``.

    A level halves both sizes; an odd size cannot be halved.

    >>> [possible_levels(size, size, wanted=2) for size in (56, 28, 14, 7)]
    [2, 2, 1, 0]
    """
    levels = 0
    while levels < wanted and height % 2 == 0 and width % 2 == 0 and min(height, width) > 0:
        height, width, levels = height // 2, width // 2, levels + 1
    return levels


class Wavelet2D(nn.Module):
    """Periodised orthonormal 2-D wavelet transform of each channel, and its inverse.

    Runs in float32, or in float64 if the map is; in a lower precision, as under autocast, the
    inverse would no longer give back the map.

    Parameters
    ----------
    wavelet : str
        PyWavelets' name of an orthogonal wavelet: ``haar``, ``db2``, ``db4``, ``sym4``, ...

    Raises
    ------
    ValueError
        If there is no such wavelet, or it is not orthogonal: the inverse of a biorthogonal one has
        other filters.
    """

    low: Tensor
    high: Tensor

    def __init__(self, wavelet: str = "haar") -> None:
        super().__init__()
        try:
            filters = pywt.Wavelet(wavelet)
        except ValueError as err:
            raise ValueError(f"{wavelet!r} is no discrete wavelet of PyWavelets") from err
        # float64 by name: torch makes float32 of a list of Python floats.
        low = torch.tensor(filters.dec_lo, dtype=torch.float64)
        high = torch.tensor(filters.dec_hi, dtype=torch.float64)
        if not _orthonormal(low, high):
            raise ValueError(f"the wavelet {wavelet!r} is not orthogonal; choose haar, db* or sym*")
        self.name = wavelet
        # Reproducible from the name, so not part of a checkpoint.
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def analyse(self, x: Tensor, levels: int) -> tuple[Tensor, list[Details]]:
        """Return A_J and the (H_j, V_j, D_j) for j = J ... 1, the coarsest first.

        Parameters
        ----------
        x : Tensor, shape (batch, C, H, W)
        levels : int
            J. A_J has shape (batch, C, H / 2^J, W / 2^J).

        Raises
        ------
        ValueError
            If a size cannot be halved so often.
        """
        height, width = x.shape[-2:]
        if possible_levels(height, width, levels) < levels:
            raise ValueError(f"a map of {height}x{width} cannot be halved {levels} times")
        details: list[Details] = []
        with torch.autocast(x.device.type, enabled=False):
            approximation = _at_least_float32(x)
            for _ in range(levels):
                approximation, *level = self._split(approximation)
                details.insert(0, (level[0], level[1], level[2]))
        return approximation, details

    def synthesise(self, approximation: Tensor, details: list[Details]) -> Tensor:
        """Return the map (batch, C, H, W) whose analysis these bands are."""
        with torch.autocast(approximation.device.type, enabled=False):
            x = _at_least_float32(approximation)
            for horizontal, vertical, diagonal in details:
                x = self._join(
                    x, horizontal.to(x.dtype), vertical.to(x.dtype), diagonal.to(x.dtype)
                )
        return x

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if len(self.low) == 2:  # of length two there is the Haar wavelet alone
            return _HaarSplit.apply(x)
        rows, columns = (self._matrix(size, x) for size in x.shape[-2:])
        top, bottom = (rows @ x @ columns.T).chunk(2, dim=-2)
        (a, v), (h, d) = top.chunk(2, dim=-1), bottom.chunk(2, dim=-1)
        return a, h, v, d

    def _join(self, a: Tensor, h: Tensor, v: Tensor, d: Tensor) -> Tensor:
        if len(self.low) == 2:
            joined: Tensor = _HaarJoin.apply(a, h, v, d)
            return joined
        bands = torch.cat([torch.cat([a, v], dim=-1), torch.cat([h, d], dim=-1)], dim=-2)
        rows, columns = (self._matrix(size, a) for size in bands.shape[-2:])
        return rows.T @ bands @ columns  # orthonormal: the transpose is the inverse

    def _matrix(self, size: int, like: Tensor) -> Tensor:
        """Return the transform of one axis, (size, size): low-pass rows, then high-pass rows.

        Row k holds the filter h at the positions of pywt's periodised convolution,
        c_k = sum_j h_j x_(2k + L/2 - j mod size). A filter longer than the axis goes round it.
        """
        length = len(self.low)
        k = torch.arange(size // 2, device=like.device)[:, None]
        j = torch.arange(length, device=like.device)
        columns = (2 * k + length // 2 - j) % size
        halves = [
            torch.zeros(size // 2, size, dtype=h.dtype, device=like.device).scatter_add(
                1, columns, h.to(like.device).expand(size // 2, length)
            )
            for h in (self.low, self.high)
        ]
        return torch.cat(halves).to(like.dtype)


class _HaarSplit(torch.autograd.Function):
    """Haar analysis by slicing: of each 2x2 block [[p, q], [r, s]], the A, H, V and D.

    The derivative of an orthonormal transform is the transform itself, so its backward pass is
    the inverse transform. Said so, it takes half the time of what autograd makes of the slices.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        top, bottom = x[..., 0::2, :], x[..., 1::2, :]
        low, high = top + bottom, top - bottom
        low, high = low.mul_(0.5), high.mul_(0.5)
        p, q, r, s = low[..., 0::2], low[..., 1::2], high[..., 0::2], high[..., 1::2]
        return p + q, r + s, p - q, r - s

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        joined: Tensor = _HaarJoin.apply(*gradients)
        return joined


class _HaarJoin(torch.autograd.Function):
    """Haar synthesis, the inverse and the transpose of :class:`_HaarSplit`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, h: Tensor, v: Tensor, d: Tensor) -> Tensor:
        batch, channels, height, width = a.shape
        last = a.is_contiguous(memory_format=torch.channels_last) and not a.is_contiguous()
        x = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=a.dtype,
            device=a.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )
        top, bottom = a + h, a - h
        top_difference, bottom_difference = v + d, v - d
        torch.add(top, top_difference, out=x[..., 0::2, 0::2])
        torch.sub(top, top_difference, out=x[..., 0::2, 1::2])
        torch.add(bottom, bottom_difference, out=x[..., 1::2, 0::2])
        torch.sub(bottom, bottom_difference, out=x[..., 1::2, 1::2])
        return x.mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bands: tuple[Tensor, Tensor, Tensor, Tensor] = _HaarSplit.apply(*gradients)
        return bands


def _orthonormal(low: Tensor, high: Tensor) -> bool:
    """Return whether the filters and their shifts by two are orthonormal."""
    length = len(low)
    shifted = [
        torch.nn.functional.pad(h, (shift, length - shift))
        for h in (low, high)
        for shift in range(0, length, 2)
    ]
    rows = torch.stack(shifted)
    return torch.allclose(rows @ rows.T, torch.eye(len(rows), dtype=rows.dtype), 0.0, TOLERANCE)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
