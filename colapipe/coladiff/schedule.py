"""The noise schedule, in float64 (Eq. 1 of the paper; beta linear from 1e-4 to 0.02, T = 1000)."""

from __future__ import annotations

import torch
from torch import Tensor


class Schedule:
    """abar_t for t = 0..T, with abar_0 = 1 (no noise) and t = 1 the least noise.

    Parameters
    ----------
    timesteps : int
        T.
    beta_start, beta_end : float
        beta_1 and beta_T; beta is linear in between.

    Attributes
    ----------
    abar : Tensor, shape (T + 1,), float64
        abar_t = prod_{i <= t} (1 - beta_i).
    """

    def __init__(
        self, timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> None:
        beta = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
        self.timesteps = timesteps
        self.abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0)])

    def add_noise(self, kappa_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return kappa_t = sqrt(abar_t) kappa_0 + sqrt(1 - abar_t) eps (Eq. 1).

        Parameters
        ----------
        kappa_0, eps : Tensor, shape (batch, z, h, w)
        t : Tensor, shape (batch,), int64 in 0..T
        """
        a, b = self.coefficients(t, kappa_0)
        return a * kappa_0 + b * eps

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(abar_t) and sqrt(1 - abar_t), shaped to multiply ``like`` (batch first)."""
        abar = self.abar[t.cpu()].reshape(-1, *([1] * (like.ndim - 1)))
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
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"steps must be between 1 and {self.timesteps}, not {steps}")
        return [round(self.timesteps * (steps - index) / steps) for index in range(steps)]
