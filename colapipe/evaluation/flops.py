"""How many floating point operations a model needs for a slice, counted while it runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from colapipe.baselines.slicewise import Synthesiser
from colapipe.slices import CROP_SIZE

_STEPS = (2, 3)


class Flops(NamedTuple):
    """Operations for one slice of 224 x 224; a multiply-add counts as two.

    Attributes
    ----------
    once : int
        Whatever does not depend on the steps: encoding, conditions, decoding.
    step : int
        Each step of the sampler; 0 for models without any.
    """

    once: int
    step: int


def count_flops(model: Synthesiser) -> Flops:
    """Return what one slice costs, from all other contrasts to the last one.

    Convolutions, matrix products and attention are counted, as
    :class:`torch.utils.flop_counter.FlopCounterMode` does; what works voxel by voxel is not.
    """
    if model.metadata["kind"] != "coladiff":
        return Flops(_count(model, 1), 0)
    few, more = (_count(model, steps) for steps in _STEPS)
    step = (more - few) // (_STEPS[1] - _STEPS[0])
    return Flops(few - _STEPS[0] * step, step)


def _count(model: Synthesiser, steps: int) -> int:
    *sources, target = model.contrasts
    image = np.full((1, CROP_SIZE, CROP_SIZE), 0.5, dtype=np.float32)
    with FlopCounterMode(display=False) as counter:
        model.synthesise(dict.fromkeys(sources, image), target, steps, 1)
    return int(counter.get_total_flops())
