"""Receptive-field fusion: the fusion lies between its two inputs and has no memory of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from colapipe.coladiff.fusion import AttentionalFusion, ReceptiveFieldFusion


def pair(batch: int = 2, channels: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, batch, channels, 10, 12, generator=generator)
    return x, y


def build(before: int, after: int, depthwise: bool = False) -> ReceptiveFieldFusion:
    torch.manual_seed(0)
    return ReceptiveFieldFusion(before, after, depthwise)


@torch.no_grad()
def test_the_fusion_lies_between_its_inputs() -> None:
    torch.manual_seed(0)
    fusion, (x, y) = AttentionalFusion(8), pair()
    m = fusion.attention(x, y)
    assert m.shape == x.shape
    assert 0 < float(m.min()) < float(m.max()) < 1
    assert torch.allclose(fusion(x, y), m * x + (1 - m) * y, atol=1e-6)


@torch.no_grad()
def test_equal_inputs_are_their_own_fusion() -> None:
    torch.manual_seed(0)
    x, _ = pair()
    assert torch.equal(AttentionalFusion(8)(x, x), x)


@torch.no_grad()
def test_the_attention_is_local_and_global() -> None:
    torch.manual_seed(0)
    fusion, (x, y) = AttentionalFusion(8), pair()
    u = x + y
    mean = u.mean(dim=(2, 3), keepdim=True)
    local, at_large = fusion.local_attention, fusion.global_attention
    assert torch.allclose(at_large(u), at_large(mean), atol=1e-6)
    assert torch.allclose(
        fusion.attention(x, y), torch.sigmoid(local(u) + at_large(mean)), atol=1e-6
    )
    assert local(u).shape == u.shape


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_batch_of_one_can_be_trained(channels: int) -> None:
    torch.manual_seed(0)
    fusion, (x, y) = AttentionalFusion(channels).train(), pair(1, channels)
    (fusion(x, y) * y).sum().backward()
    for parameter in fusion.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_receptive_field_is_seven_by_seven_and_learns(depthwise: bool) -> None:
    block = build(3, 32, depthwise)
    x = torch.zeros(1, 3, 15, 15, requires_grad=True)
    # Without its attention, which sees the whole map: the sum of the two branches.
    (block.small(x) + block.large(x))[0, :, 7, 7].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)) > 0
    assert bool(seen[4:11, 4:11].all())
    assert int(seen.sum()) == 49
    block.zero_grad()
    out = block(torch.randn(2, 3, 15, 13))
    assert out.shape == (2, 32, 15, 13)
    out.square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_depthwise_kernels_have_a_fraction_of_the_weights() -> None:
    def count(block: nn.Module) -> int:
        return sum(parameter.numel() for parameter in block.parameters())

    assert count(build(32, 32, depthwise=True)) < 0.1 * count(build(32, 32))


@torch.no_grad()
@pytest.mark.parametrize("depthwise", [False, True])
def test_no_slice_sees_another(depthwise: bool) -> None:
    block, x = build(8, 8, depthwise), pair(3)[0]
    assert not [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
    alone = torch.cat([block(x[i : i + 1]) for i in range(3)])
    assert torch.allclose(block(x), alone, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("depthwise", [False, True])
def test_it_runs_under_autocast_and_in_any_layout(depthwise: bool) -> None:
    block, x = build(8, 8, depthwise), pair()[0]
    expected = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = block(x)
    assert torch.allclose(low.float(), expected, atol=0.05)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(block.to(memory_format=torch.channels_last)(last), expected, atol=1e-5)
