"""Samplers, all with one signature: ``sampler(predict, kappa, schedule, times, draw=None, ...)``.

``predict(kappa_t, t)`` returns the estimates of kappa_0 and eps at the integer time ``t``.
``kappa`` is the start, pure noise of shape (batch, z, h, w). ``times`` are the integer times to
visit, descending; the sampler ends at time 0. ``draw(step)`` gives fresh noise of the latent's
shape for stochastic samplers: the caller owns the randomness, so that a slice's result does not
depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from colapipe.coladiff.schedule import Schedule

Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Draw = Callable[[int], Tensor]


def ddim(
    predict: Predict,
    kappa: Tensor,
    schedule: Schedule,
    times: Sequence[int],
    draw: Draw | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al., 2021; Eq. 2 of the paper with eta = 0, and abar_0 = 1).

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
    if any(t <= s for t, s in zip(times, [*times[1:], 0], strict=True)):
        raise ValueError("times must descend and stay above 0")
    if eta > 0 and draw is None:
        raise ValueError("eta > 0 needs a source of noise")
    for step, (t, s) in enumerate(zip(times, [*times[1:], 0], strict=True)):
        abar_t, abar_s = float(schedule.abar[t]), float(schedule.abar[s])
        kappa_0, eps = predict(kappa, t)
        sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)) ** 0.5
        kappa = abar_s**0.5 * kappa_0 + max(1 - abar_s - sigma**2, 0.0) ** 0.5 * eps
        if sigma > 0 and draw is not None:
            kappa = kappa + sigma * draw(step)
    return kappa


SAMPLERS: dict[str, Callable[..., Tensor]] = {"ddim": ddim}
