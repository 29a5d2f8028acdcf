"""A larger receptive field: 5x5 and 7x7 convolutions, fused by attention (section 2.1, Fig. 1 B).

The fusion is attentional feature fusion with a multi-scale channel attention (Dai et al., WACV
2021), by the paper's formula; its public code returns twice the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AttentionalFusion(nn.Module):
    """Z = M X + (1 - M) Y with M = sigmoid(L(X + Y) + g(X + Y)).

    L(u) = PW2(ReLU(PW1(u))) looks at each position (PW: 1x1 convolutions with a bottleneck), g is
    the same on the mean over all positions. Where Dai et al. normalise over the batch, L has
    GroupNorm with one group: the slices of a volume are no independent draws, and one slice must
    not change another. g has none: what it sees is a single position, and normalising that over
    its channels would remove the level it is there to tell.

    Parameters
    ----------
    channels : int
        Channels of X and Y.
    reduction : int
        r: the bottleneck has channels / r.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        bottleneck = max(1, channels // reduction)
        self.local_attention = nn.Sequential(
            nn.Conv2d(channels, bottleneck, 1, bias=False),
            nn.GroupNorm(1, bottleneck),
            nn.ReLU(),
            nn.Conv2d(bottleneck, channels, 1, bias=False),
            nn.GroupNorm(1, channels),
        )
        self.global_attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, bottleneck, 1),
            nn.ReLU(),
            nn.Conv2d(bottleneck, channels, 1),
        )

    def attention(self, x: Tensor, y: Tensor) -> Tensor:
        """Return M, between 0 and 1, of the shape of ``x`` and ``y``."""
        u = x + y
        return torch.sigmoid(self.local_attention(u) + self.global_attention(u))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return Z, of the shape of ``x`` and ``y``, (batch, C, H, W)."""
        return y + self.attention(x, y) * (x - y)


class ReceptiveFieldFusion(nn.Module):
    """{5x5, 7x7} -> attentional fusion: (batch, before, H, W) -> (batch, after, H, W).

    Parameters
    ----------
    before, after : int
        Channels.
    depthwise : bool
        Let the large kernels look at one channel at a time and mix the channels by a 1x1
        convolution after them. In full, the two cost 8.2 times as much as a 3x3.
    """

    def __init__(self, before: int, after: int, depthwise: bool = False) -> None:
        super().__init__()
        self.small = _branch(before, after, 5, depthwise)
        self.large = _branch(before, after, 7, depthwise)
        self.fusion = AttentionalFusion(after)

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.fusion(self.small(x), self.large(x))
        return fused


def _branch(before: int, after: int, kernel: int, depthwise: bool) -> nn.Module:
    if not depthwise:
        return nn.Conv2d(before, after, kernel, padding=kernel // 2)
    return nn.Sequential(
        nn.Conv2d(before, before, kernel, padding=kernel // 2, groups=before),
        nn.Conv2d(before, after, 1),
    )
