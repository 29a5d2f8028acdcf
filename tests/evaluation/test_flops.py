"""What the presets cost is pinned, so that a change of it is a decision (acceptance check 20)."""

from __future__ import annotations

import pytest
import torch

from colapipe.coladiff import CoLaDiff
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.presets import PRESETS
from colapipe.evaluation.flops import count_flops


@pytest.mark.parametrize(
    ("preset", "once", "step"),
    [
        ("tiny", 1_735_418_176, 2_465_336_448),
        ("ldm", 1_600_815_424, 2_629_249_536),
        ("nano", 261_397_584, 114_956_416),
        pytest.param("paper", 275_702_800_384, 32_417_428_096, marks=pytest.mark.slow),
    ],
)
def test_the_operations_of_a_slice_and_of_a_step_are_pinned(
    preset: str, once: int, step: int
) -> None:
    configuration = PRESETS[preset]
    z = configuration.latent_channels
    network = CoLaDiffNetwork(configuration, [0.0] * z, [1.0] * z)
    defaults = {"sampler": "ddim", "steps": 1, "samples": 1, "sampled_steps": 1}
    metadata = {"kind": "coladiff", "min_sources": 1, "defaults": defaults}
    flops = count_flops(CoLaDiff(network, metadata, torch.device("cpu")))
    assert flops == (once, step)
