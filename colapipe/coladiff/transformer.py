"""The condition network: y through transformer blocks to tokens, and how the denoiser reads them.

N blocks of layer norm, global self-attention and a position-wise MLP (section 2.1, Fig. 1 D), as
in a vision transformer (Dosovitskiy et al., 2021). y does not depend on t, so the tokens of a
slice are computed once and serve all steps of a sampler. The denoiser takes them in by
cross-attention, as in latent diffusion (Rombach et al., 2022), or as a map.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.coladiff.attention import attend

GROUPS = 8


class Tokens(NamedTuple):
    """What the transformer makes of y.

    Attributes
    ----------
    tokens : Tensor, shape (batch, rows * columns, width)
        One per patch, row by row.
    rows, columns : int
        Patches along the height and the width of y.
    covered : tuple of float
        How much of the rows and columns y covers: less than 1 where the patch does not divide
        its size.
    """

    tokens: Tensor
    rows: int
    columns: int
    covered: tuple[float, float] = (1.0, 1.0)


def to_map(tokens: Tokens, size: tuple[int, int] | None = None) -> Tensor:
    """Return the tokens where their patches lie.

    Parameters
    ----------
    tokens : Tokens
    size : (int, int), optional
        Interpolate to this height and width, which stand for those of y: what reaches beyond y is
        cropped.

    Returns
    -------
    map : Tensor, shape (batch, width, rows, columns), or of height and width ``size``
    """
    batch, _, width = tokens.tokens.shape
    on_patches = tokens.tokens.mT.reshape(batch, width, tokens.rows, tokens.columns)
    if size is None:
        return on_patches
    padded = [
        max(wanted, round(wanted / part)) for wanted, part in zip(size, tokens.covered, strict=True)
    ]
    resized = F.interpolate(on_patches, padded, mode="bilinear", align_corners=False)
    return resized[..., : size[0], : size[1]]


class TransformerBlock(nn.Module):
    """Pre-norm: x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_attention(x)).chunk(3, dim=-1)
        x = x + self.out(_attend(q, k, v, self.heads))
        mixed: Tensor = x + self.mlp(self.norm_mlp(x))
        return mixed


class ConditionTransformer(nn.Module):
    """y (batch, channels, h, w) -> tokens.

    Parameters
    ----------
    channels : int
        Channels of y.
    width : int
        Of a token.
    blocks : int
        N, which the paper leaves open.
    heads : int
        Of the self-attention; divides ``width``.
    patch : int
        Side of a patch. A size that it does not divide is padded with zeros at the far end.
    grid : int
        Rows and columns of the table of positions: those of a whole slice. The model looks at
        windows round the centre of a slice, so a smaller map takes the centre of the table, which
        keeps each position what it was; a larger map interpolates the table.
    mlp_ratio : float
        Width of the hidden layer of the MLP, as a multiple of ``width``.

    Raises
    ------
    ValueError
        If ``heads`` does not divide ``width``.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: int,
        heads: int,
        patch: int = 4,
        grid: int = 14,
        mlp_ratio: float = 4,
    ) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.patch = patch
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, width, grid, grid))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, mlp_ratio) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, y: Tensor) -> Tokens:
        height, width = y.shape[-2:]
        y = F.pad(y, (0, -width % self.patch, 0, -height % self.patch))
        embedded = self.embed(y)
        rows, columns = embedded.shape[-2:]
        embedded = embedded + self._positions(rows, columns)
        x = embedded.flatten(2).mT
        for block in self.blocks:
            x = block(x)
        covered = (height / (rows * self.patch), width / (columns * self.patch))
        return Tokens(self.norm(x), rows, columns, covered)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the table for so many patches, shape (1, width, rows, columns)."""
        grid = self.positions.shape[-1]
        top, left = max(0, grid - rows) // 2, max(0, grid - columns) // 2
        table = self.positions[..., top : top + rows, left : left + columns]
        if table.shape[-2:] == (rows, columns):
            return table
        return F.interpolate(table, (rows, columns), mode="bilinear", align_corners=False)


class CrossAttention(nn.Module):
    """x + out(attention(GN x; tokens)): each position of a map asks the tokens.

    Starts as the identity.

    Parameters
    ----------
    channels : int
        Of the map.
    width : int
        Of the tokens.
    heads : int
        Divides ``channels``.

    Raises
    ------
    ValueError
        If ``heads`` does not divide ``channels``.
    """

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        _check_heads(channels, heads)
        self.heads = heads
        self.norm = nn.GroupNorm(math.gcd(GROUPS, channels), channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(width, 2 * channels)
        self.out = nn.Linear(channels, channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return the map.

        Parameters
        ----------
        x : Tensor, shape (batch, channels, H, W)
        tokens : Tensor, shape (batch, n, width)
        """
        q = self.query(self.norm(x).flatten(2).mT)
        k, v = self.key_value(tokens).chunk(2, dim=-1)
        mixed = self.out(_attend(q, k, v, self.heads))
        return x + mixed.mT.reshape(x.shape)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return the multi-head attention of q (batch, n, width) to k and v (batch, m, width)."""
    split = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return attend(*split).transpose(1, 2).flatten(2)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
