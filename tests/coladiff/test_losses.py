"""Losses: Eqs. 3, 5 and 6 against their closed forms and Monte Carlo; SSIM against scikit-image."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from colapipe.coladiff.losses import (
    epsilon_loss,
    hybrid_loss,
    kl_loss,
    kl_terms,
    log_variance,
    ssim_loss,
)
from colapipe.coladiff.parametrisation import to_x0_eps
from colapipe.coladiff.schedule import Schedule, posterior


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Case(NamedTuple):
    """Latents at given times, and what a denoiser that is somewhat wrong makes of them."""

    eps: torch.Tensor
    eps_hat: torch.Tensor
    kappa_0: torch.Tensor
    kappa_0_hat: torch.Tensor
    t: torch.Tensor


def make_case(schedule: Schedule, times: list[int], error: float = 0.1, size: int = 8) -> Case:
    shape = (len(times), 2, size, size)
    kappa_0, eps = normal(*shape), normal(*shape, seed=1)
    t = torch.tensor(times)
    eps_hat = eps + error * normal(*shape, seed=2)
    a, b = schedule.coefficients(t, kappa_0)
    kappa_t = schedule.add_noise(kappa_0, eps, t)
    return Case(eps, eps_hat, kappa_0, to_x0_eps(eps_hat, kappa_t, a, b, "epsilon")[0], t)


def test_the_epsilon_loss_is_the_mean_square(schedule: Schedule) -> None:
    case = make_case(schedule, [10, 900])
    expected = ((case.eps - case.eps_hat) ** 2).mean()
    assert float(epsilon_loss(case.eps, case.eps_hat)) == pytest.approx(float(expected), rel=1e-14)
    assert float(epsilon_loss(case.eps, case.eps)) == 0.0


def test_with_the_fixed_variance_the_divergence_is_a_weight_on_the_epsilon_loss(
    schedule: Schedule,
) -> None:
    times = [2, 3, 11, 101, 501, 1000]
    case = make_case(schedule, times)
    terms = kl_terms(case.kappa_0, case.kappa_0_hat, case.t, schedule)
    beta, abar, before = schedule.beta[case.t], schedule.abar[case.t], schedule.abar[case.t - 1]
    variance = beta * (1 - before) / (1 - abar)
    w = beta**2 / (2 * variance * (1 - beta) * (1 - abar))
    expected = w[:, None, None, None] * (case.eps - case.eps_hat) ** 2
    assert torch.allclose(terms.sum((1, 2, 3)), expected.sum((1, 2, 3)), rtol=1e-12, atol=0)
    assert [round(float(x), 4) for x in w] == [0.5997, 0.318, 0.079, 0.0102, 0.0055, 0.0102]


@pytest.mark.parametrize("t", [2, 11, 501, 1000])
@pytest.mark.parametrize("v", [None, 0.0, 0.3, 1.0])
def test_the_divergence_is_the_mean_of_the_log_ratio(
    schedule: Schedule, t: int, v: float | None
) -> None:
    draws = 200_000
    time = torch.tensor([t])
    kappa_0, kappa_0_hat, kappa_t = (torch.full((1, 1, 1, 1), x).double() for x in (0.6, 0.4, 1.1))
    variance = None if v is None else torch.full_like(kappa_0, v)
    closed = float(kl_terms(kappa_0, kappa_0_hat, time, schedule, variance))
    q = posterior(schedule.abar_at(t), schedule.abar_at(t - 1))
    mean = q.c_0 * kappa_0 + q.c_t * kappa_t
    mean_hat = q.c_0 * kappa_0_hat + q.c_t * kappa_t
    log_sigma2 = float(log_variance(time, schedule, kappa_0, variance))
    true = torch.distributions.Normal(mean, q.variance**0.5)
    model = torch.distributions.Normal(mean_hat, math.exp(log_sigma2 / 2))
    kappa_s = mean + q.variance**0.5 * normal(1, 1, 1, draws, seed=t)
    ratio = true.log_prob(kappa_s) - model.log_prob(kappa_s)
    standard_error = float(ratio.std()) / draws**0.5
    assert abs(float(ratio.mean()) - closed) <= 4 * standard_error + 1e-12


def test_the_learned_variance_lies_between_the_posteriors_and_beta(schedule: Schedule) -> None:
    t = torch.tensor([1, 2, 700])
    like = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    small, middle, large = (
        log_variance(t, schedule, like, torch.full_like(like, v)).flatten() for v in (0.0, 0.5, 1.0)
    )
    expected = [posterior(schedule.abar_at(s), schedule.abar_at(s - 1)).variance for s in (2, 700)]
    assert small.exp().tolist() == pytest.approx([expected[0], *expected], rel=1e-12)
    assert large.exp().tolist() == pytest.approx(schedule.beta[t].tolist(), rel=1e-12)
    assert torch.allclose(middle, (small + large) / 2)
    assert torch.equal(log_variance(t, schedule, like).flatten(), small)


def test_the_divergence_is_positive_and_zero_for_a_perfect_denoiser(schedule: Schedule) -> None:
    times = [2, 3, 50, 400, 1000]
    wrong, perfect = make_case(schedule, times), make_case(schedule, times, error=0.0)
    v = torch.rand(wrong.kappa_0.shape, generator=torch.Generator().manual_seed(3)).double()
    for dtype in (torch.float64, torch.float32):
        learned = kl_terms(
            wrong.kappa_0.to(dtype), wrong.kappa_0_hat.to(dtype), wrong.t, schedule, v.to(dtype)
        )
        assert learned.dtype == dtype and float(learned.min()) >= 0
        truth = perfect.kappa_0.to(dtype)
        assert float(kl_terms(truth, truth, perfect.t, schedule, v.to(dtype)).min()) >= 0
    assert float(kl_terms(wrong.kappa_0, wrong.kappa_0_hat, wrong.t, schedule).min()) >= 0
    zero = kl_terms(perfect.kappa_0, perfect.kappa_0_hat, perfect.t, schedule)
    assert float(zero.abs().max()) <= 1e-24
    exact = kl_terms(perfect.kappa_0, perfect.kappa_0, perfect.t, schedule)
    assert torch.equal(exact, torch.zeros_like(exact))


def test_at_the_first_time_the_term_is_a_log_likelihood(schedule: Schedule) -> None:
    case = make_case(schedule, [1])
    terms = kl_terms(case.kappa_0, case.kappa_0_hat, case.t, schedule)
    clipped = posterior(schedule.abar_at(2), schedule.abar_at(1)).variance
    model = torch.distributions.Normal(case.kappa_0_hat, clipped**0.5)
    assert torch.allclose(terms, -model.log_prob(case.kappa_0), rtol=1e-10)
    assert bool(terms.isfinite().all())


def test_the_loss_estimates_the_sum_over_all_times(schedule: Schedule) -> None:
    short = Schedule(20)
    case = make_case(short, list(range(1, 21)))
    whole = kl_terms(case.kappa_0, case.kappa_0_hat, case.t, short).mean((1, 2, 3)).sum()
    # Each time once is what uniform draws are on average.
    estimate = kl_loss(case.kappa_0, case.kappa_0_hat, case.t, short)
    assert float(estimate) == pytest.approx(float(whole), rel=1e-12)


def test_the_learned_variance_is_trained_by_the_divergence_and_the_mean_is_not(
    schedule: Schedule,
) -> None:
    case = make_case(schedule, [1, 2, 600])
    eps_hat = case.eps_hat.clone().requires_grad_()
    estimate = case.kappa_0_hat.clone().requires_grad_()
    v = torch.full_like(case.kappa_0, 0.5).requires_grad_()
    loss = hybrid_loss(case.eps, eps_hat, case.kappa_0, estimate, case.t, schedule, v)
    divergence = kl_loss(case.kappa_0, estimate, case.t, schedule, v)
    expected = epsilon_loss(case.eps, eps_hat) + divergence / 1000
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    loss.backward()
    assert estimate.grad is None
    assert v.grad is not None and bool(v.grad.isfinite().all()) and bool((v.grad != 0).all())
    simple = torch.autograd.grad(epsilon_loss(case.eps, eps_hat), eps_hat)[0]
    assert eps_hat.grad is not None and torch.equal(eps_hat.grad, simple)


def test_the_hybrid_loss_is_equation_5(schedule: Schedule) -> None:
    case = make_case(schedule, [2, 300, 1000])
    estimate = case.kappa_0_hat.clone().requires_grad_()
    simple = float(epsilon_loss(case.eps, case.eps_hat))
    divergence = float(kl_loss(case.kappa_0, case.kappa_0_hat, case.t, schedule))
    loss = hybrid_loss(
        case.eps, case.eps_hat, case.kappa_0, estimate, case.t, schedule, kl_weight=1.0
    )
    assert float(loss.detach()) == pytest.approx(simple + divergence, rel=1e-12)
    # With the fixed variance there is nothing but the mean to train.
    loss.backward()
    assert estimate.grad is not None and bool((estimate.grad != 0).all())
    alone = hybrid_loss(
        case.eps, case.eps_hat, case.kappa_0, estimate, case.t, schedule, kl_weight=0.0
    )
    assert float(alone) == simple


def test_the_divergence_is_finite_without_signal_at_the_end() -> None:
    schedule = Schedule(zero_terminal_snr=True)
    kappa_0, estimate = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    t = torch.tensor([1, 999, 1000])
    for v in (None, torch.full_like(kappa_0, 0.5)):
        assert bool(kl_terms(kappa_0, estimate, t, schedule, v).isfinite().all())


def images(channels: int = 2, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Return two batches of smooth images in [-1, 1] that differ by some noise."""
    rows, columns = torch.arange(40)[:, None], torch.arange(31)[None]
    clean = torch.stack([torch.sin(rows / (3 + k)) * torch.cos(columns / 5) for k in range(2)])
    clean = clean[:, None].repeat(1, channels, 1, 1).double()
    return clean.to(dtype), (clean + 0.2 * normal(*clean.shape)).clamp(-1, 1).to(dtype)


def maps_of_scikit_image(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return scikit-image's SSIM where the window lies inside the image."""
    maps = [
        structural_similarity(
            x.double().numpy(),
            y.double().numpy(),
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        for x, y in zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
    ]
    return torch.from_numpy(np.stack(maps)).reshape(a.shape)[..., 5:-5, 5:-5]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_ssim_is_scikit_images(dtype: torch.dtype, tolerance: float) -> None:
    a, b = images(dtype=dtype)
    expected = maps_of_scikit_image(a, b)
    loss = ssim_loss(a, b)
    assert loss.dtype == dtype
    assert 1 - float(loss) == pytest.approx(float(expected.mean()), abs=tolerance)
    mask = normal(2, 1, 40, 31, seed=4) > 0
    inside = mask.expand_as(a)[..., 5:-5, 5:-5]
    masked = ssim_loss(a, b, mask)
    assert 1 - float(masked) == pytest.approx(float(expected[inside].mean()), abs=tolerance)


def test_ssim_of_an_image_with_itself_is_1_whatever_the_range() -> None:
    a, b = images()
    assert float(ssim_loss(a, a)) == pytest.approx(0.0, abs=1e-12)
    assert float(ssim_loss(a, b)) > 0.01
    assert float(ssim_loss(50 * a, 50 * b, data_range=100.0)) == pytest.approx(
        float(ssim_loss(a, b)), rel=1e-12
    )


def test_ssim_in_a_mask_does_not_see_what_is_far_outside() -> None:
    a, b = images(channels=1)
    mask = torch.zeros(2, 1, 40, 31)
    mask[:, :, :20] = 1
    spoilt = b.clone()
    spoilt[:, :, 26:] = 0
    assert float(ssim_loss(a, spoilt, mask)) == float(ssim_loss(a, b, mask))
    assert float(ssim_loss(a, spoilt)) != float(ssim_loss(a, b))
    everywhere = ssim_loss(a, b, torch.ones(1))
    assert float(everywhere) == pytest.approx(float(ssim_loss(a, b)), rel=1e-12)
    assert float(ssim_loss(a, b, torch.zeros_like(mask))) == 1.0


def test_ssim_has_the_gradient_of_its_differences() -> None:
    a, b = (image[:1, :1, :13, :14] for image in images())
    mask = (normal(1, 1, 13, 14) > 0).double()
    assert torch.autograd.gradcheck(
        lambda x: ssim_loss(x, b, mask), (a.clone().requires_grad_(),), atol=1e-6
    )


def test_ssim_keeps_its_digits_where_layers_run_in_a_lower_precision() -> None:
    a, b = images(dtype=torch.float32)
    expected = float(ssim_loss(a, b))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(ssim_loss(a, b)) == expected
