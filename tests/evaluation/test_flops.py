"""What the presets cost is pinned, so that a change of it is a decision (acceptance check 20)."""

from __future__ import annotations

import pytest
import torch

from colapipe.coladiff import CoLaDiff
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.presets import PRESETS
from colapipe.evaluation.flops import count_flops


@pytest.mark.parametrize(
    ("preset", "once", "step"), [("tiny", 1.874e9, 2.539e9), ("ldm", 1.601e9, 2.629e9)]
)
def test_the_operations_of_a_slice_and_of_a_step_are_pinned(
    preset: str, once: float, step: float
) -> None:
    configuration = PRESETS[preset]
    z = configuration.latent_channels
    network = CoLaDiffNetwork(configuration, [0.0] * z, [1.0] * z)
    defaults = {"sampler": "ddim", "steps": 1, "samples": 1, "sampled_steps": 1}
    metadata = {"kind": "coladiff", "min_sources": 1, "defaults": defaults}
    flops = count_flops(CoLaDiff(network, metadata, torch.device("cpu")))
    assert flops.once == pytest.approx(once, rel=1e-3)
    assert flops.step == pytest.approx(step, rel=1e-3)
