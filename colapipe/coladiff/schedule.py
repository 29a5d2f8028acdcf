"""The noise schedule, in float64 (Eq. 1 of the paper; beta linear from 1e-4 to 0.02, T = 1000)."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


class Schedule:
    """abar_t for t = 0..T, with abar_0 = 1 (no noise) and t = 1 the least noise.

    Between the integers log abar is linear, for samplers that visit fractional times.

    Parameters
    ----------
    timesteps : int
        T.
    beta_start, beta_end : float
        beta_1 and beta_T; beta is linear in between.
    zero_terminal_snr : bool
        Shift and scale sqrt(abar) so that abar_T = 0 and abar_1 stays (Lin et al., 2024,
        Algorithm 1): at T nothing is left of kappa_0, as in the noise that samplers start from.
        A denoiser that predicts epsilon says nothing of kappa_0 there and cannot be used. The
        logarithm's line makes abar 0 at every fractional time above T - 1, too.

    Attributes
    ----------
    timesteps : int
    zero_terminal_snr : bool
    beta : Tensor, shape (T + 1,), float64
        The variances beta_1..beta_T, after beta_0 = 0.
    abar : Tensor, shape (T + 1,), float64
        abar_t = prod_{i <= t} (1 - beta_i).

    Raises
    ------
    ValueError
        If a schedule of a single time is to end without signal.
    """

    def __init__(
        self,
        timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        *,
        zero_terminal_snr: bool = False,
    ) -> None:
        if zero_terminal_snr and timesteps < 2:
            raise ValueError("a schedule that ends without signal needs two or more timesteps")
        self.timesteps, self.zero_terminal_snr = timesteps, zero_terminal_snr
        beta = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
        abar = torch.cumprod(1 - beta, dim=0)
        if zero_terminal_snr:
            root = abar.sqrt()
            abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
            beta = 1 - abar / torch.cat([torch.ones_like(abar[:1]), abar[:-1]])
        self.beta = torch.cat([torch.zeros(1, dtype=torch.float64), beta])
        self.abar = torch.cat([torch.ones(1, dtype=torch.float64), abar])

    def abar_at(self, t: float) -> float:
        """Return abar_t at a time that may be fractional.

        Raises
        ------
        ValueError
            If ``t`` is not in 0..T.
        """
        return float(self._abar(torch.tensor(t, dtype=torch.float64)))

    def add_noise(self, kappa_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return kappa_t = sqrt(abar_t) kappa_0 + sqrt(1 - abar_t) eps (Eq. 1).

        Parameters
        ----------
        kappa_0, eps : Tensor, shape (batch, z, h, w)
        t : Tensor, shape (batch,)
            In 0..T, of an integer type or fractional.

        Raises
        ------
        ValueError
            If a time is not in 0..T.
        """
        a, b = self.coefficients(t, kappa_0)
        return a * kappa_0 + b * eps

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(abar_t) and sqrt(1 - abar_t), shaped to multiply ``like`` (batch first).

        Raises
        ------
        ValueError
            If a time is not in 0..T.
        """
        abar = per_image(self._abar(t), like)
        return abar.sqrt().to(like), (1 - abar).sqrt().to(like)

    def trailing_times(self, steps: int) -> list[int]:
        """Return ``steps`` times from T downwards, evenly spaced, without the 0 that ends them.

        Sampling starts at T, where the latent is noise: a grid that starts below T would start
        from a noise level that the start does not have.

        Raises
        ------
        ValueError
            If ``steps`` is not in 1..T.
        """
        self.check_steps(steps)
        return [round(self.timesteps * (steps - index) / steps) for index in range(steps)]

    def check_steps(self, steps: int) -> None:
        """Refuse a number of steps that no grid of times has.

        Raises
        ------
        ValueError
            If ``steps`` is not in 1..T.
        """
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"steps must be between 1 and {self.timesteps}, not {steps}")

    def _abar(self, t: Tensor) -> Tensor:
        """Return abar at integer or fractional times: float64, on the CPU, of the shape of t."""
        t = t.detach().cpu().double()
        # Not "t < 0 or t > T": NaN must not pass.
        if not bool(((t >= 0) & (t <= self.timesteps)).all()):
            raise ValueError(f"times must be in 0..{self.timesteps}")
        below, above = t.floor().long(), t.ceil().long()
        start, end = self.abar[below], self.abar[above]
        # exp((1 - w) log start + w log end); at an integer the table's own number.
        return torch.where(below == above, start, start * (end / start) ** (t - below))


class Posterior(NamedTuple, Generic[Number]):
    """q(kappa_s | kappa_t, kappa_0) = N(c_0 kappa_0 + c_t kappa_t, variance), for s < t.

    Attributes
    ----------
    c_0, c_t : float or Tensor
        Coefficients of the mean mu~.
    variance : float or Tensor
        beta~: 0 where s = 0.
    """

    c_0: Number
    c_t: Number
    variance: Number


def posterior(abar_t: Number, abar_s: Number) -> Posterior[Number]:
    """Return the true reverse step from t to s < t, given kappa_0 (Ho et al., 2020, Eqs. 6, 7).

    With s = t - 1 it is the q of Eq. 6 of the paper; a wider step is one step of the schedule
    that has only the times t and s. Finite where abar_t = 0.

    Parameters
    ----------
    abar_t, abar_s : float or Tensor
        With abar_t < abar_s.
    """
    alpha = abar_t / abar_s
    beta = 1 - alpha
    return Posterior(
        c_0=abar_s**0.5 * beta / (1 - abar_t),
        c_t=alpha**0.5 * (1 - abar_s) / (1 - abar_t),
        variance=beta * (1 - abar_s) / (1 - abar_t),
    )


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per image, shape (batch,), shaped to multiply ``like`` (batch first)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))
