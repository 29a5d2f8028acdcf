"""What the denoiser predicts, and how one prediction is turned into another.

With a = sqrt(abar_t) and b = sqrt(1 - abar_t), kappa_t = a kappa_0 + b eps, and
v = a eps - b kappa_0 (Salimans and Ho, 2022). The paper predicts eps (Eq. 3). At t = T the
linear schedule leaves a = 0.0064, so an error of eps is multiplied by 157 in kappa_0: x0 and v
are what few steps need.
"""

from __future__ import annotations

from torch import Tensor


def to_x0_eps(
    output: Tensor, kappa_t: Tensor, a: Tensor, b: Tensor, prediction: str
) -> tuple[Tensor, Tensor]:
    """Return the estimates of kappa_0 and eps that a denoiser's output means.

    Parameters
    ----------
    output, kappa_t : Tensor, shape (batch, z, h, w)
    a, b : Tensor
        sqrt(abar_t) and sqrt(1 - abar_t), broadcastable to ``kappa_t``; b must not be 0.
    prediction : {"epsilon", "x0", "v"}
        What ``output`` is.

    Raises
    ------
    ValueError
        If ``prediction`` is not one of the three.
    """
    if prediction == "epsilon":
        return (kappa_t - b * output) / a, output
    if prediction == "x0":
        return output, (kappa_t - a * output) / b
    if prediction == "v":
        return a * kappa_t - b * output, b * kappa_t + a * output
    raise ValueError(f"unknown prediction {prediction!r}")


def from_x0_eps(kappa_0: Tensor, eps: Tensor, a: Tensor, b: Tensor, prediction: str) -> Tensor:
    """Return what the denoiser should put out for the true ``kappa_0`` and ``eps``.

    Raises
    ------
    ValueError
        If ``prediction`` is not one of the three.
    """
    if prediction == "epsilon":
        return eps
    if prediction == "x0":
        return kappa_0
    if prediction == "v":
        return a * eps - b * kappa_0
    raise ValueError(f"unknown prediction {prediction!r}")
