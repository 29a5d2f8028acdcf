"""The published noise schedule, and the one that ends without signal."""

from __future__ import annotations

import pytest

from colapipe.coladiff.schedule import Schedule


@pytest.fixture(scope="session")
def schedule() -> Schedule:
    return Schedule()


@pytest.fixture(scope="session")
def without_signal() -> Schedule:
    return Schedule(zero_terminal_snr=True)
