"""What training minimises, on tensors; nothing here knows a network.

The diffusion's losses (Eqs. 3, 5 and 6 of the paper), and the structural similarity of images.
A norm is the mean over a latent's elements, so that no weight depends on its size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from colapipe.coladiff.schedule import Schedule, per_image, posterior


def epsilon_loss(eps: Tensor, eps_hat: Tensor) -> Tensor:
    """Return L_E = E |eps - eps_theta|^2 (Eq. 3), the L_simple of Ho et al. (2020)."""
    return F.mse_loss(eps_hat, eps)


def log_variance(t: Tensor, schedule: Schedule, like: Tensor, v: Tensor | None = None) -> Tensor:
    """Return log sigma_t^2 of the reverse step p_theta(kappa_{t-1} | kappa_t).

    Fixed, it is log beta~_t. Learned, it is v log beta_t + (1 - v) log beta~_t (Nichol and
    Dhariwal, 2021, Eq. 15). As beta~_1 is 0, beta~_2 stands in for it (ibid.).

    Parameters
    ----------
    t : Tensor, shape (batch,), int64 in 1..T
    schedule : Schedule
        Of two times or more.
    like : Tensor, (batch, ...)
        Gives type and device, and the dimensions that the result multiplies.
    v : Tensor, in [0, 1], optional
        Of the shape of ``like``.

    Returns
    -------
    Tensor
        Of a shape that multiplies ``like``.
    """
    t = t.cpu()
    clipped = t.clamp(min=2)
    fixed = posterior(schedule.abar[clipped], schedule.abar[clipped - 1]).variance.log()
    small = per_image(fixed, like).to(like)
    if v is None:
        return small
    large = per_image(schedule.beta[t].log(), like).to(like)
    return v * large + (1 - v) * small


def kl_terms(
    kappa_0: Tensor,
    kappa_0_hat: Tensor,
    t: Tensor,
    schedule: Schedule,
    v: Tensor | None = None,
) -> Tensor:
    """Return the term of Eq. 6 that belongs to each image's time, element by element, in nats.

    For t = 2..T that is KL(q(kappa_{t-1} | kappa_t, kappa_0) || p_theta(kappa_{t-1} | kappa_t)),
    between two Gaussians. With the fixed variance it is w_t |eps - eps_theta|^2, where w_t =
    beta_t^2 / (2 beta~_t alpha_t (1 - abar_t)): 0.6 at t = 2 and about 0.01 from t = 100, so
    that Eq. 6 adds little to Eq. 3 unless the variance is learned.

    The paper's sum starts at t = 1, where q is a point and the divergence infinite. There the term
    is -log p_theta(kappa_0 | kappa_1) instead (Ho et al., 2020, Eq. 5), of a density, so that it
    may be negative.

    Parameters
    ----------
    kappa_0, kappa_0_hat : Tensor, shape (batch, z, h, w)
        The truth, and its estimate from kappa_t and t. kappa_t itself is in both means alike and
        drops out.
    t : Tensor, shape (batch,), int64 in 1..T
    schedule : Schedule
        Of two times or more.
    v : Tensor, shape (batch, z, h, w), in [0, 1], optional
        Of the learned variance, as in :func:`log_variance`; the fixed one if left out.

    Returns
    -------
    Tensor, shape (batch, z, h, w)
    """
    now = t.cpu()
    c_0 = posterior(schedule.abar[now], schedule.abar[now - 1]).c_0
    apart = per_image(c_0, kappa_0).to(kappa_0) * (kappa_0 - kappa_0_hat)  # mu~ - mu_theta
    log = log_variance(t, schedule, kappa_0, v)
    distance = apart.square() * (-log).exp()
    shrink = log_variance(t, schedule, kappa_0) - log  # log (beta~ / sigma^2)
    divergence = 0.5 * (torch.expm1(shrink) - shrink + distance)
    likelihood = 0.5 * (math.log(2 * math.pi) + log + distance)
    return torch.where(per_image(t == 1, kappa_0).to(kappa_0.device), likelihood, divergence)


def kl_loss(
    kappa_0: Tensor,
    kappa_0_hat: Tensor,
    t: Tensor,
    schedule: Schedule,
    v: Tensor | None = None,
) -> Tensor:
    """Return L_KL, the sum of Eq. 6 over all times, estimated from one time per image.

    The estimate is unbiased if each ``t`` was drawn uniformly from 1..T. Parameters as in
    :func:`kl_terms`.
    """
    return schedule.timesteps * kl_terms(kappa_0, kappa_0_hat, t, schedule, v).mean()


def hybrid_loss(
    eps: Tensor,
    eps_hat: Tensor,
    kappa_0: Tensor,
    kappa_0_hat: Tensor,
    t: Tensor,
    schedule: Schedule,
    v: Tensor | None = None,
    kl_weight: float = 1e-3,
) -> Tensor:
    """Return L_MCL = L_E + kl_weight L_KL (Eq. 5, where the weight is 1).

    With a learned variance L_KL trains the variance alone and L_E the mean (Nichol and Dhariwal,
    2021, section 3.1, whose weight is the default); with the fixed one both train the mean.

    Parameters
    ----------
    eps, eps_hat : Tensor, shape (batch, z, h, w)
    kappa_0, kappa_0_hat, t, schedule, v
        As in :func:`kl_terms`.
    kl_weight : float
        0 leaves L_E alone.
    """
    loss = epsilon_loss(eps, eps_hat)
    if kl_weight == 0:
        return loss
    estimate = kappa_0_hat if v is None else kappa_0_hat.detach()
    return loss + kl_weight * kl_loss(kappa_0, estimate, t, schedule, v)


def ssim_loss(a: Tensor, b: Tensor, mask: Tensor | None = None, data_range: float = 2.0) -> Tensor:
    """Return 1 - SSIM (Wang et al., 2004), of a Gaussian window of 11 x 11 with sigma 1.5.

    The mean is over the positions whose window lies inside the image, as scikit-image has it with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``; of these over the ones in
    the mask, if there is one.

    Parameters
    ----------
    a, b : Tensor, shape (batch, channels, H, W), H and W at least 11
        Computed in float32 or better also where the layers run in a lower precision.
    mask : Tensor, shape broadcastable to ``a``, 0 or 1, optional
    data_range : float
        Of the images: 2 for [-1, 1].

    Returns
    -------
    Tensor
        One number in [0, 2]; 1 where the mask is empty.
    """
    radius, sigma = 5, 1.5
    dtype = torch.promote_types(a.dtype, torch.float32)
    channels = a.shape[1]
    x = torch.arange(-radius, radius + 1, device=a.device, dtype=dtype)
    g = torch.exp(-0.5 * (x / sigma) ** 2)
    g = (g / g.sum()).expand(channels, 1, 1, -1)

    def blur(image: Tensor) -> Tensor:
        rows = F.conv2d(image, g, groups=channels)
        return F.conv2d(rows, g.transpose(2, 3), groups=channels)

    # E[x^2] - E[x]^2 needs the digits that autocast would drop.
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.to(dtype), b.to(dtype)
        mu_a, mu_b = blur(a), blur(b)
        variances = blur(a * a) - mu_a**2 + blur(b * b) - mu_b**2
        covariance = blur(a * b) - mu_a * mu_b
        C_1, C_2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        ssim = (2 * mu_a * mu_b + C_1) / (mu_a**2 + mu_b**2 + C_1)
        ssim = ssim * (2 * covariance + C_2) / (variances + C_2)
        if mask is None:
            return 1 - ssim.mean()
        inside = mask.expand_as(a)[..., radius:-radius, radius:-radius].to(ssim)
        return 1 - (ssim * inside).sum() / inside.sum().clamp_min(1)
