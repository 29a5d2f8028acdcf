"""Samplers, all with one signature: ``sample(predict, kappa, schedule, times, draw=None)``.

``predict(kappa_t, t)`` returns the estimates of kappa_0 and eps at the time ``t``, which may be
fractional. ``kappa`` is the start, pure noise of shape (batch, z, h, w). ``times`` are the times to
visit, descending; the sampler ends at time 0, where abar = 1. ``draw(step)`` gives fresh noise of
the latent's shape for stochastic samplers: the caller owns the randomness, so that a slice's result
does not depend on its batch.

``SAMPLERS`` pairs each sampler with the grid of times that its authors, or the paper, use with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from colapipe.coladiff.fastdpm import step_quadratic_times, var_times
from colapipe.coladiff.schedule import Schedule, posterior

Predict = Callable[[Tensor, float], tuple[Tensor, Tensor]]
Draw = Callable[[int], Tensor]


def ddim(
    predict: Predict,
    kappa: Tensor,
    schedule: Schedule,
    times: Sequence[float],
    draw: Draw | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al., 2021, Eq. 12; Eq. 2 of the paper with eta = 0).

    On the times of :mod:`~colapipe.coladiff.fastdpm` it is FastDPM, whose kappa is ``eta``.

    Parameters
    ----------
    eta : float
        0 is deterministic; 1 is ancestral sampling and needs ``draw``.

    Returns
    -------
    Tensor
        The estimate of kappa_0, of the shape and type of ``kappa``.

    Raises
    ------
    ValueError
        If ``times`` does not descend within 1..T, or eta > 0 and there is no ``draw``.
    """
    if eta > 0 and draw is None:
        raise ValueError("eta > 0 needs a source of noise")
    for step, (t, s) in enumerate(_steps(times)):
        abar_t, abar_s = schedule.abar_at(t), schedule.abar_at(s)
        kappa_0, eps = predict(kappa, t)
        sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
        kappa = abar_s**0.5 * kappa_0 + max(1 - abar_s - sigma**2, 0.0) ** 0.5 * eps
        if sigma > 0 and draw is not None:
            kappa = kappa + sigma * draw(step)
    return kappa


def ddpm(
    predict: Predict,
    kappa: Tensor,
    schedule: Schedule,
    times: Sequence[float],
    draw: Draw | None = None,
) -> Tensor:
    """Ancestral sampling with the posterior's variance (Ho et al., 2020, Algorithm 2; Eq. 6).

    Returns
    -------
    Tensor
        A sample of kappa_0, of the shape and type of ``kappa``.

    Raises
    ------
    ValueError
        If ``times`` does not descend within 1..T, or there is no ``draw``.
    """
    if draw is None:
        raise ValueError("ancestral sampling needs a source of noise")
    for step, (t, s) in enumerate(_steps(times)):
        kappa_0, _ = predict(kappa, t)
        q = posterior(schedule.abar_at(t), schedule.abar_at(s))
        kappa = q.c_0 * kappa_0 + q.c_t * kappa
        if q.variance > 0:
            kappa = kappa + q.variance**0.5 * draw(step)
    return kappa


def dpm_solver_pp(
    predict: Predict,
    kappa: Tensor,
    schedule: Schedule,
    times: Sequence[float],
    draw: Draw | None = None,
) -> Tensor:
    """DPM-Solver++(2M), data prediction, first order at the last step (Lu et al., 2022, Alg. 2).

    Deterministic. The first step is of first order too, having no step before it.

    Returns
    -------
    Tensor
        The estimate of kappa_0, of the shape and type of ``kappa``.

    Raises
    ------
    ValueError
        If ``times`` does not descend within 1..T.
    """
    before: Tensor | None = None  # x_theta of the step before, and the length h of that step
    h_before = 0.0
    for t, s in _steps(times):
        abar_t, abar_s = schedule.abar_at(t), schedule.abar_at(s)
        alpha_t, alpha_s = abar_t**0.5, abar_s**0.5
        sigma_t, sigma_s = (1 - abar_t) ** 0.5, (1 - abar_s) ** 0.5
        x, _ = predict(kappa, t)
        # lambda = log(alpha / sigma) is -inf without signal and +inf without noise, and so h is
        # inf at either end; e^-h is not made from h, to be exact there.
        e_h = (alpha_t * sigma_s) / (alpha_s * sigma_t)
        h = -math.log(e_h) if e_h > 0 else math.inf
        d = x
        if before is not None and math.isfinite(h) and math.isfinite(h_before):
            r = h_before / h
            d = (1 + 1 / (2 * r)) * x - 1 / (2 * r) * before
        kappa = sigma_s / sigma_t * kappa + alpha_s * (1 - e_h) * d
        before, h_before = x, h
    return kappa


class Sampler(NamedTuple):
    """A sampler and the times that it visits.

    Attributes
    ----------
    times : callable
        Of the schedule and the number of steps; descending, above 0. Raises ValueError for a
        number of steps that is not in 1..T.
    sample : callable
        ``sample(predict, kappa, schedule, times, draw=None)``.
    """

    times: Callable[[Schedule, int], Sequence[float]]
    sample: Callable[..., Tensor]


SAMPLERS: dict[str, Sampler] = {
    "ddim": Sampler(Schedule.trailing_times, ddim),
    "ddpm": Sampler(Schedule.trailing_times, ddpm),
    "dpm-solver++": Sampler(Schedule.trailing_times, dpm_solver_pp),
    "fastdpm-step": Sampler(step_quadratic_times, ddim),
    "fastdpm-var": Sampler(var_times, ddim),
}


def _steps(times: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Return the pairs (t, s) of each step, the last one to s = 0.

    Raises
    ------
    ValueError
        If the times do not descend, or reach 0.
    """
    pairs = list(zip(times, [*times[1:], 0], strict=True))
    if any(t <= s for t, s in pairs):
        raise ValueError("times must descend and stay above 0")
    return iter(pairs)
