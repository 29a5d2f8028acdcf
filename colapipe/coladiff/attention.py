"""Scaled dot-product attention (Vaswani et al., 2017), in whichever of two ways is quicker."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v.

    Parameters
    ----------
    q : Tensor, shape (batch, heads, n, d)
    k, v : Tensor, shape (batch, heads, m, d)
    """
    if q.device.type == "cpu" and q.element_size() < 4:
        # PyTorch's kernel for CPUs takes four times as long in bfloat16 as three plain products
        # (4.6 against 1.1 ms forward and backward, batch 4, 4 heads, 120 tokens of 32).
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        return weights @ v
    return F.scaled_dot_product_attention(q, k, v)
