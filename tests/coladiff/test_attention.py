"""Attention is the same in both of its ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from colapipe.coladiff.attention import attend


def test_attention_in_bfloat16_is_that_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator) for n in (7, 11, 11))
    exact = F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(attend(q, k, v), exact)
    rough = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).abs().max()) < 0.03


def test_attention_in_bfloat16_passes_gradients() -> None:
    q, k, v = (torch.randn(1, 1, 5, 4).bfloat16().requires_grad_() for _ in range(3))
    attend(q, k, v).square().sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in (q, k, v))
