"""One seed per image that is drawn, so that no result depends on batch, order or process."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor


def image_seed(
    seed: int,
    participant: str,
    session: str | None,
    target: str,
    slice_id: int,
    sample: int,
    step: int = 0,
) -> int:
    """Return the seed of one sample of one slice, in 0..2^63 - 1, from SHA-256.

    Parameters
    ----------
    seed : int
        Of the dataset.
    participant : str
    session : str or None
    target : str
    slice_id, sample : int
    step : int
        0 for the start; from 1 for the fresh noise of stochastic samplers.
    """
    key = json.dumps([seed, participant, session, target, slice_id, sample, *([step] * (step > 0))])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Return standard normal noise, float32 on the CPU: the same for every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
