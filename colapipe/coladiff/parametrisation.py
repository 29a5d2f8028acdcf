"""What the denoiser predicts, and how one prediction is turned into another.

With a = sqrt(abar_t) and b = sqrt(1 - abar_t), kappa_t = a kappa_0 + b eps, and
v = a eps - b kappa_0 (Salimans and Ho, 2022). The paper predicts eps (Eq. 3). At t = T the
linear schedule leaves a = 0.0064, so an error of eps is multiplied by 157 in kappa_0: x0 and v
are what few steps need.

A denoiser that learns the variance of the reverse step, too, puts out twice as many channels.
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
        If ``prediction`` is not one of the three, or it is epsilon where a = 0: the noise says
        nothing of kappa_0 where there is nothing else.
    """
    if prediction == "epsilon":
        if not bool(a.all()):
            raise ValueError(
                "a denoiser that predicts epsilon cannot be used where abar = 0: choose x0 or v, "
                "or a schedule without zero terminal SNR"
            )
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


def split_variance(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prediction and the variance's v of a denoiser that learns both.

    Parameters
    ----------
    output : Tensor, shape (batch, 2 z, h, w)

    Returns
    -------
    prediction : Tensor, shape (batch, z, h, w)
    v : Tensor, shape (batch, z, h, w), in (0, 1)
        Where between beta~_t and beta_t the variance lies, on a scale of logarithms (Nichol and
        Dhariwal, 2021, Eq. 15). They leave v without bounds; here a sigmoid keeps it inside.

    Raises
    ------
    ValueError
        If the channels cannot be halved.
    """
    if output.shape[1] % 2:
        raise ValueError(f"{output.shape[1]} channels are not a prediction and a variance")
    prediction, raw = output.chunk(2, dim=1)
    return prediction, raw.sigmoid()
