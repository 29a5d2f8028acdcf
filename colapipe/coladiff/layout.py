"""How a network lies in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """Lay out the convolutions' weights as oneDNN and cuDNN like them, up to 2.5x faster."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def frozen(network: Network, device: torch.device) -> Network:
    """Return a network ready to be used: on its device, in its fastest layout, untrainable."""
    return channels_last(network.to(device)).eval().requires_grad_(False)
