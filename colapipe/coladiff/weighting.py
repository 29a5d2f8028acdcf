"""W of Fig. 1: auto-weight adaptation of the conditions (Eq. 7 to 10).

Each channel of y is scaled by a gate that depends on how strong the channel is beside the others.
This is the gated channel transformation (Yang et al., CVPR 2020; its alpha, gamma and beta are mu,
nu and o here) with a sigmoid in place of tanh. The sigmoid lets a gate be between 1 and 2 only: a
channel can be favoured, but not suppressed. With tanh, it can.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GATES = ("sigmoid", "tanh")
# The small constant of Eq. 8 and 9, without a value in the paper; this is that of its code.
VARPI = 1e-5


class AutoWeightAdaptation(nn.Module):
    """y -> y~ = F(y | mu, nu, o) of Eq. 7.

    In the paper S is both the number of channels in Eq. 9 and the sigmoid in Eq. 10. The authors
    of the gated channel transformation advise against weight decay on o.

    Parameters
    ----------
    channels : int
        Channels of y.
    gate : {"sigmoid", "tanh"}
        ``sigmoid``: the paper's; every gate starts at 1.5. ``tanh``: starts as the identity, and
        gates go from 0 to 2.

    Raises
    ------
    ValueError
        If the gate is unknown.
    """

    def __init__(self, channels: int, gate: str = "sigmoid") -> None:
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"unknown gate {gate!r}; known are {list(GATES)}")
        self.gate = gate
        self.mu = nn.Parameter(torch.ones(channels))
        self.nu = nn.Parameter(torch.zeros(channels))
        self.o = nn.Parameter(torch.zeros(channels))

    def gates(self, y: Tensor) -> Tensor:
        """Return what each channel is multiplied by.

        Parameters
        ----------
        y : Tensor, shape (batch, C, h, w)

        Returns
        -------
        gates : Tensor, shape (batch, C)
            From 1 to 2 (``sigmoid``) or from 0 to 2 (``tanh``). In float32 or better: sums of
            squares over a map leave the range of half precision. The same for y and any multiple
            of it, so that a gate tells which conditions were favoured.
        """
        with torch.autocast(y.device.type, enabled=False):
            squares = y.to(torch.promote_types(y.dtype, torch.float32)).square()
            g = self.mu * (squares.sum(dim=(2, 3)) + VARPI).sqrt()  # Eq. 8
            scale = g.shape[1] ** 0.5  # sqrt(S)
            g_hat = scale * g / (g.square().sum(dim=1, keepdim=True) + VARPI).sqrt()  # Eq. 9
            activation = torch.sigmoid if self.gate == "sigmoid" else torch.tanh
            return 1 + activation(self.nu * g_hat + self.o)

    def forward(self, y: Tensor) -> Tensor:
        """Return y~, of the shape and precision of ``y`` (Eq. 10)."""
        return y * self.gates(y)[:, :, None, None].to(y.dtype)
