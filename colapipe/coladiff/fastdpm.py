"""Which times a short sampler visits, after Kong and Ping (2021), "FastDPM".

The paper's reference for fast sampling. Nothing is trained for it: STEP picks some of the T times,
VAR picks variances for a shorter chain and finds the times that have its noise levels. Times here
count from 1, theirs from 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from colapipe.coladiff.schedule import Schedule

FloatArray = npt.NDArray[np.float64]


def step_quadratic_times(schedule: Schedule, steps: int) -> list[int]:
    """Return STEP's quadratic times, descending: tau_i = floor(0.8 T (i / (S - 1))^2), from 0.

    The grid is dense where there is little noise and starts at 0.8 T, not at T. Of many steps the
    lowest fall together; a time is visited once, so that there may be fewer than ``steps``. A
    single step is at T, where the start is noise.

    Raises
    ------
    ValueError
        If ``steps`` is not in 1..T.
    """
    schedule.check_steps(steps)
    T, S = schedule.timesteps, steps
    if S == 1:
        return [T]
    # In integers: the square of a rounded root may fall short of the next whole number.
    tau = [4 * T * i**2 // (5 * (S - 1) ** 2) for i in range(S)]
    return sorted({t + 1 for t in tau}, reverse=True)


def variances(schedule: Schedule, steps: int, spacing: str = "linear") -> FloatArray:
    """Return VAR's variances eta_1..eta_S of a chain that ends as the schedule does.

    eta_1 = beta_1, and eta rises to where prod (1 - eta_i) = abar_T. A chain of one step has
    eta_1 = 1 - abar_T.

    Parameters
    ----------
    schedule : Schedule
    steps : int
        S.
    spacing : {"linear", "quadratic"}
        Whether eta or its square root is linear in i.

    Returns
    -------
    ndarray, shape (S,), float64

    Raises
    ------
    ValueError
        If ``steps`` is not in 1..T, the spacing is another word, or the schedule ends without
        signal: no chain of variances below 1 does.
    """
    schedule.check_steps(steps)
    powers = {"linear": 1, "quadratic": 2}
    if spacing not in powers:
        raise ValueError(f"unknown spacing {spacing!r}; known are {sorted(powers)}")
    if schedule.zero_terminal_snr:
        raise ValueError("FastDPM's variances need a schedule that ends with some signal left")
    power = powers[spacing]
    end = float(schedule.abar[-1])
    if steps == 1:
        return np.array([1 - end])

    def chain(last: float) -> FloatArray:
        first = float(schedule.beta[1]) ** (1 / power)
        return np.linspace(first, last ** (1 / power), steps) ** power

    # prod (1 - eta) falls as the last variance rises: bisect until the float64 numbers run out.
    low, high = float(schedule.beta[1]), 1.0
    while low < (middle := (low + high) / 2) < high:
        if np.prod(1 - chain(middle)) > end:
            low = middle
        else:
            high = middle
    return chain(low)


def var_times(schedule: Schedule, steps: int, spacing: str = "linear") -> list[float]:
    """Return VAR's times, descending and fractional: abar there is prod_{j <= i} (1 - eta_j).

    Kong and Ping invert abar by a formula with Gamma functions; here log abar is linear between
    the integers, as :meth:`Schedule.abar_at` has it, so that the chain's noise levels are met
    exactly.

    Raises
    ------
    ValueError
        As :func:`variances`.
    """
    log_gamma_bar = np.cumsum(np.log1p(-variances(schedule, steps, spacing)))
    # -log abar rises from 0 at t = 0, as the interpolation wants it.
    levels = -np.log(schedule.abar.numpy())
    times = np.interp(-log_gamma_bar, levels, np.arange(schedule.timesteps + 1))
    return [float(t) for t in times[::-1]]
