"""Auto-weight adaptation (Eq. 7 to 10): the range, the start and the meaning of the gates."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from colapipe.coladiff.weighting import AutoWeightAdaptation


def conditions(batch: int = 2, channels: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(batch, channels, 12, 10, generator=generator)
    return y * torch.rand(1, channels, 1, 1, generator=generator) * 3


def trained(
    channels: int = 5, gate: str = "sigmoid", strength: float = 1.0
) -> AutoWeightAdaptation:
    adaptation = AutoWeightAdaptation(channels, gate)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adaptation.parameters():
            parameter.copy_(strength * torch.randn(channels, generator=generator))
    return adaptation


@torch.no_grad()
@pytest.mark.parametrize(("gate", "start"), [("sigmoid", 1.5), ("tanh", 1.0)])
def test_every_gate_starts_alike(gate: str, start: float) -> None:
    adaptation, y = AutoWeightAdaptation(5, gate), conditions()
    gates = adaptation.gates(y)
    assert gates.shape == (2, 5)
    assert float((gates - start).abs().max()) <= 1e-6
    assert torch.equal(adaptation(y), y * gates[:, :, None, None])


@torch.no_grad()
@pytest.mark.parametrize(("gate", "low"), [("sigmoid", 1.0), ("tanh", 0.0)])
def test_gates_stay_in_their_range(gate: str, low: float) -> None:
    for strength in (1.0, 3.0):
        gates = trained(gate=gate, strength=strength).gates(conditions())
        assert low < float(gates.min()) < float(gates.max()) < 2
    extreme = trained(gate=gate, strength=1e4).gates(conditions())
    assert low <= float(extreme.min()) <= float(extreme.max()) <= 2


@torch.no_grad()
def test_only_the_relative_strength_of_the_channels_counts() -> None:
    adaptation, y = trained(), conditions()
    strong, stronger = adaptation.gates(100 * y), adaptation.gates(300 * y)
    assert strong.dtype == torch.float32
    assert float((stronger - strong).abs().max()) <= 2e-7
    # The constant under the root of Eq. 8 stays when the map becomes weaker, so that weak maps are
    # the same only to about the constant over their energy.
    for factor in (0.2, 100.0):
        assert float((adaptation.gates(factor * y) - adaptation.gates(y)).abs().max()) <= 2e-6
    # In float64 and with strong maps, neither rounding nor the constant is of any account.
    exact = trained().double()
    difference = exact.gates(300 * y.double()) - exact.gates(100 * y.double())
    assert float(difference.abs().max()) <= 2e-7


@torch.no_grad()
@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
def test_the_gates_are_those_of_the_equations(gate: str) -> None:
    y = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    adaptation = AutoWeightAdaptation(3, gate).double()
    mu, nu, o = [1.0, 2.0, -0.5], [0.5, -1.0, 2.0], [0.1, 0.0, -0.3]
    for parameter, values in zip(
        (adaptation.mu, adaptation.nu, adaptation.o), (mu, nu, o), strict=True
    ):
        parameter.copy_(torch.tensor(values))
    eps = 1e-5
    g = [mu[0] * math.sqrt(25 + eps), mu[1] * math.sqrt(1 + eps), mu[2] * math.sqrt(8 + eps)]
    norm = math.sqrt(sum(value**2 for value in g) + eps)
    expected = []
    for c in range(3):
        x = nu[c] * math.sqrt(3) * g[c] / norm + o[c]
        expected.append(1 + (1 / (1 + math.exp(-x)) if gate == "sigmoid" else math.tanh(x)))
    gates = adaptation.gates(y.reshape(1, 3, 1, 2))
    # The parameters were rounded to float32 on their way.
    assert gates[0].tolist() == pytest.approx(expected, abs=1e-7)
    weighted = adaptation(y.reshape(1, 3, 1, 2))
    assert torch.allclose(weighted, y.reshape(1, 3, 1, 2) * gates[:, :, None, None])


@pytest.mark.parametrize("gate", ["sigmoid", "tanh"])
@pytest.mark.parametrize("silent", [True, False])
def test_every_parameter_gets_a_finite_gradient_even_from_nothing(gate: str, silent: bool) -> None:
    adaptation = trained(gate=gate)
    y = (conditions() * (0.0 if silent else 1.0)).requires_grad_()
    (adaptation(y) * conditions(seed=2)).sum().backward()
    assert y.grad is not None
    assert bool(y.grad.isfinite().all())
    for parameter in adaptation.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())


@torch.no_grad()
def test_no_slice_sees_another() -> None:
    adaptation, y = trained(), conditions(3)
    alone = torch.cat([adaptation(y[i : i + 1]) for i in range(3)])
    assert torch.allclose(adaptation(y), alone, atol=1e-6)


@torch.no_grad()
def test_it_runs_under_autocast_and_in_any_layout() -> None:
    adaptation, y = trained(), conditions()
    with torch.autocast("cpu", torch.bfloat16):
        low = adaptation(y.bfloat16())
        assert adaptation.gates(y.bfloat16()).dtype == torch.float32
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), adaptation(y), rtol=0.02, atol=0.02)
    last = y.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(adaptation(last), adaptation(y), atol=1e-6)


@torch.no_grad()
def test_a_strong_map_in_half_precision_does_not_overflow() -> None:
    adaptation, y = trained(), 20 * conditions()
    half = y.half()
    assert float(half.float().square().sum(dim=(2, 3)).max()) > 65504
    assert torch.allclose(adaptation.gates(half), adaptation.gates(y), atol=1e-3)


def test_an_unknown_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="gate"):
        AutoWeightAdaptation(3, "relu")
