"""The condition network: tokens, their positions, and cross-attention to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from colapipe.coladiff.transformer import ConditionTransformer, CrossAttention, Tokens, to_map


def build(
    channels: int = 5, blocks: int = 2, patch: int = 4, grid: int = 6
) -> ConditionTransformer:
    torch.manual_seed(0)
    return ConditionTransformer(channels, 32, blocks, heads=4, patch=patch, grid=grid)


def conditions(height: int, width: int, batch: int = 2, channels: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, channels, height, width, generator=generator)


def only_positions(transformer: ConditionTransformer) -> ConditionTransformer:
    """Let the tokens be their rows of the table, normalised: no content, no blocks."""
    with torch.no_grad():
        transformer.embed.weight.zero_()
        assert transformer.embed.bias is not None
        transformer.embed.bias.zero_()
    return transformer


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((24, 24), 6, 6), ((16, 20), 4, 5), ((32, 24), 8, 6), ((10, 13), 3, 4), ((3, 3), 1, 1)],
)
def test_there_is_a_token_for_each_patch(size: tuple[int, int], rows: int, columns: int) -> None:
    tokens = build()(conditions(*size))
    assert (tokens.rows, tokens.columns) == (rows, columns)
    assert tokens.tokens.shape == (2, rows * columns, 32)
    assert to_map(tokens).shape == (2, 32, rows, columns)
    assert to_map(tokens, size).shape == (2, 32, *size)


def test_the_map_has_the_tokens_row_by_row() -> None:
    tokens = Tokens(torch.arange(6.0).reshape(1, 6, 1), rows=2, columns=3)
    assert to_map(tokens)[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


@torch.no_grad()
def test_without_blocks_a_token_sees_its_patch_only() -> None:
    transformer, y = build(blocks=0), conditions(16, 16)
    before = to_map(transformer(y))
    y[:, :, 4:8, 8:12] += 1  # row 1, column 2
    changed = (to_map(transformer(y)) - before).abs().amax(dim=(0, 1)) > 0
    assert changed.nonzero().tolist() == [[1, 2]]


@torch.no_grad()
def test_with_blocks_every_token_sees_every_patch() -> None:
    transformer, y = build(), conditions(16, 16)
    before = transformer(y).tokens
    y[:, :, 4:8, 8:12] += 1
    assert float((transformer(y).tokens - before).abs().amax(dim=(0, 2)).min()) > 0


@torch.no_grad()
def test_a_window_keeps_the_positions_of_the_whole_slice() -> None:
    transformer = only_positions(build(blocks=0))
    whole = to_map(transformer(torch.zeros(1, 5, 24, 24)))
    window = to_map(transformer(torch.zeros(1, 5, 16, 24)))
    assert torch.equal(window, whole[:, :, 1:5])
    window = to_map(transformer(torch.zeros(1, 5, 8, 16)))
    assert torch.equal(window, whole[:, :, 2:4, 1:5])
    # One patch fewer has no centre: the far end is left out.
    assert torch.equal(to_map(transformer(torch.zeros(1, 5, 20, 24))), whole[:, :, 0:5])


@torch.no_grad()
def test_a_larger_map_interpolates_the_positions() -> None:
    transformer = build(blocks=0)
    # Half of the channels fall along the rows and half rise.
    ramp = torch.linspace(-1, 1, 6)[:, None].expand(6, 6)
    sign = torch.ones(32).index_fill(0, torch.arange(16), -1.0)
    transformer.positions.copy_(sign[None, :, None, None] * (ramp + 1.5))
    transformer.norm = torch.nn.Identity()  # type: ignore[assignment]  # the table as it is
    positions = to_map(only_positions(transformer)(torch.zeros(1, 5, 48, 20)))[0]
    assert positions.shape == (32, 12, 5)
    rising = positions[-1]
    assert bool((rising.diff(dim=0) >= 0).all())
    assert torch.allclose(rising[[0, -1], 0], torch.tensor([0.5, 2.5]))
    assert torch.allclose(rising, rising[:, :1])
    assert torch.allclose(positions[0], -rising)


@torch.no_grad()
def test_what_the_patch_does_not_divide_is_padded_at_the_far_end_and_cropped() -> None:
    transformer, y = build(), conditions(10, 13)
    padded = torch.nn.functional.pad(y, (0, 3, 0, 2))
    odd, even = transformer(y), transformer(padded)
    assert torch.allclose(odd.tokens, even.tokens, atol=1e-6)
    assert torch.allclose(to_map(odd, (10, 13)), to_map(even, (12, 16))[..., :10, :13], atol=1e-6)
    # A stage of half the size sees the same places.
    assert torch.allclose(to_map(odd, (5, 6)), to_map(even, (6, 7))[..., :5, :6], atol=1e-6)


def test_resizing_keeps_a_constant_map_and_its_place() -> None:
    values = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, 4).reshape(1, 16, 1)
    resized = to_map(Tokens(values, 4, 4), (16, 16))[0, 0]
    assert bool((resized[:, :6] == 0).all())
    assert bool((resized[:, 10:] == 1).all())


@pytest.mark.parametrize("size", [(24, 24), (16, 20), (32, 28), (10, 13)])
def test_every_parameter_of_the_transformer_learns(size: tuple[int, int]) -> None:
    transformer = build()
    tokens = transformer(conditions(*size)).tokens
    (tokens * torch.randn(tokens.shape)).sum().backward()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def cross(zero: bool = False) -> CrossAttention:
    torch.manual_seed(0)
    attention = CrossAttention(16, 32, heads=2)
    if not zero:
        torch.nn.init.normal_(attention.out.weight, std=0.1)
    return attention


def attended() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 16, 6, 7, generator=generator),
        torch.randn(2, 12, 32, generator=generator),
    )


def test_cross_attention_starts_as_the_identity_and_learns() -> None:
    attention, (x, tokens) = cross(zero=True), attended()
    assert torch.equal(attention(x, tokens), x)
    attention, x, tokens = cross(), x.requires_grad_(), tokens.requires_grad_()
    attention(x, tokens).square().sum().backward()
    for name, parameter in [*attention.named_parameters(), ("x", x), ("tokens", tokens)]:
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


@torch.no_grad()
def test_cross_attention_is_the_textbooks() -> None:
    attention, (x, tokens) = cross(), attended()
    rows = attention.norm(x).permute(0, 2, 3, 1).reshape(2, 42, 16)
    q = attention.query(rows)
    k, v = attention.key_value(tokens).split(16, dim=-1)
    mixed = []
    for head in (slice(0, 8), slice(8, 16)):
        weights = torch.softmax(q[..., head] @ k[..., head].mT / 8**0.5, dim=-1)
        mixed.append(weights @ v[..., head])
    expected = attention.out(torch.cat(mixed, dim=-1)).reshape(2, 6, 7, 16).permute(0, 3, 1, 2)
    assert torch.allclose(attention(x, tokens), x + expected, atol=1e-5)


@torch.no_grad()
def test_the_order_of_the_tokens_does_not_matter_to_cross_attention() -> None:
    attention, (x, tokens) = cross(), attended()
    assert torch.allclose(attention(x, tokens.flip(1)), attention(x, tokens), atol=1e-5)


@torch.no_grad()
def test_no_slice_sees_another() -> None:
    transformer, attention = build(), cross()
    y, (x, _) = conditions(16, 20), attended()
    together = attention(x, transformer(y).tokens)
    alone = [attention(x[i : i + 1], transformer(y[i : i + 1]).tokens) for i in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


@torch.no_grad()
def test_both_run_under_autocast_and_in_any_layout() -> None:
    transformer, attention = build(), cross()
    y, (x, _) = conditions(16, 20), attended()
    tokens = transformer(y).tokens
    expected = attention(x, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        low_tokens = transformer(y).tokens
        low = attention(x.bfloat16(), low_tokens)
    assert torch.allclose(low_tokens.float(), tokens, atol=0.1)
    assert torch.allclose(low.float(), expected, atol=0.1)
    layout = torch.channels_last
    transformer, attention = (
        transformer.to(memory_format=layout),
        attention.to(memory_format=layout),
    )
    last_tokens = transformer(y.contiguous(memory_format=layout)).tokens
    last = attention(x.contiguous(memory_format=layout), last_tokens)
    assert torch.allclose(last_tokens, tokens, atol=1e-5)
    assert torch.allclose(last, expected, atol=1e-5)
    assert last.is_contiguous(memory_format=layout)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads"):
        ConditionTransformer(4, 32, 1, heads=5)
    with pytest.raises(ValueError, match="3 heads"):
        CrossAttention(16, 32, heads=3)
