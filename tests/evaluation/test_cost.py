"""Time and memory of a piece of work, whatever ran before it."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from colapipe.evaluation.cost import Cost


def test_elapsed_and_cpu_time_are_told_apart() -> None:
    with Cost() as waiting:
        time.sleep(0.05)
    started = time.process_time()
    with Cost() as working:
        while time.process_time() - started < 0.05:
            pass
    assert waiting.seconds >= 0.05 > waiting.cpu_seconds
    assert working.cpu_seconds >= 0.04


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the system cannot forget a peak"
)
def test_the_peak_is_that_of_the_work_and_not_of_what_was_before() -> None:
    with Cost() as large:
        np.ones(40_000_000)
    with Cost() as small:
        np.ones(1_000)
    assert large.peak_bytes > small.peak_bytes + 250e6
    assert small.peak_bytes > 1e6
