"""Schedule and parametrisations: the equations, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from colapipe.coladiff.parametrisation import from_x0_eps, split_variance, to_x0_eps
from colapipe.coladiff.schedule import Schedule, posterior


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_schedule_is_the_papers(schedule: Schedule) -> None:
    assert schedule.abar.dtype == schedule.beta.dtype == torch.float64
    assert len(schedule.abar) == len(schedule.beta) == 1001
    assert float(schedule.beta[0]) == 0.0
    assert float(schedule.beta[1]) == 1e-4 and float(schedule.beta[1000]) == 0.02
    assert float(schedule.abar[0]) == 1.0
    assert float(schedule.abar[1]) == pytest.approx(1 - 1e-4, abs=1e-15)
    assert float(schedule.abar[1000]) == pytest.approx(4.0358e-5, rel=1e-5)
    assert bool((schedule.abar.diff() < 0).all())


def test_noise_is_added_as_equation_1_says(schedule: Schedule) -> None:
    kappa_0, eps = torch.full((2, 1, 200, 200), 3.0).double(), normal(2, 1, 200, 200)
    t = torch.tensor([100, 700])
    noisy = schedule.add_noise(kappa_0, eps, t)
    for row, time in enumerate(t):
        abar = float(schedule.abar[time])
        assert float(noisy[row].mean()) == pytest.approx(3 * abar**0.5, abs=0.02)
        assert float(noisy[row].var()) == pytest.approx(1 - abar, rel=0.03)


def test_abar_at_whole_times_is_the_tables_and_between_them_its_logarithm_is_linear(
    schedule: Schedule,
) -> None:
    for t in (0, 1, 500, 1000):
        assert schedule.abar_at(t) == schedule.abar_at(float(t)) == float(schedule.abar[t])
    low, high = (math.log(schedule.abar[t]) for t in (700, 701))
    assert math.log(schedule.abar_at(700.25)) == pytest.approx(0.75 * low + 0.25 * high, abs=1e-14)


@pytest.mark.parametrize("t", [-0.5, 1000.5, float("nan")])
def test_a_time_off_the_schedule_is_refused(schedule: Schedule, t: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1000"):
        schedule.abar_at(t)
    with pytest.raises(ValueError, match=r"0\.\.1000"):
        schedule.coefficients(torch.tensor([500.0, t]), torch.zeros(2, 1, 2, 2))


def test_coefficients_follow_fractional_times_too(schedule: Schedule) -> None:
    like = torch.zeros(3, 4, 2, 2, dtype=torch.float32)
    a, b = schedule.coefficients(torch.tensor([0.0, 0.5, 900.0]), like)
    assert a.shape == b.shape == (3, 1, 1, 1) and a.dtype == b.dtype == torch.float32
    expected = [schedule.abar_at(t) ** 0.5 for t in (0.0, 0.5, 900.0)]
    assert a.flatten().tolist() == pytest.approx(expected, rel=1e-7)
    assert (a**2 + b**2).flatten().tolist() == pytest.approx([1.0] * 3, rel=1e-6)
    whole, _ = schedule.coefficients(torch.tensor([0, 1, 900]), like)
    assert torch.equal(whole[2], a[2])


def test_times_descend_from_the_last_and_one_step_is_one_prediction(schedule: Schedule) -> None:
    assert schedule.trailing_times(4) == [1000, 750, 500, 250]
    assert schedule.trailing_times(1) == [1000]
    assert schedule.trailing_times(1000) == list(range(1000, 0, -1))
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=str(steps)):
            schedule.trailing_times(steps)


def test_zero_terminal_snr_leaves_no_signal_at_the_end_and_keeps_the_first_time(
    schedule: Schedule, without_signal: Schedule
) -> None:
    assert float(without_signal.abar[1000]) == 0.0
    assert float(without_signal.abar[1]) == pytest.approx(float(schedule.abar[1]), abs=1e-15)
    assert bool((without_signal.abar.diff() < 0).all())
    assert torch.allclose(
        torch.cumprod(1 - without_signal.beta, 0), without_signal.abar, atol=1e-14
    )
    # sqrt(abar) is shifted and scaled as a whole (Lin et al., 2024).
    old, new = schedule.abar[1:].sqrt().diff(), without_signal.abar[1:].sqrt().diff()
    assert torch.allclose(new / old, (new / old)[0], rtol=1e-9)
    with pytest.raises(ValueError, match="two or more"):
        Schedule(1, zero_terminal_snr=True)


@pytest.mark.parametrize("prediction", ["x0", "v"])
def test_without_signal_the_prediction_is_still_worth_something(
    without_signal: Schedule, prediction: str
) -> None:
    kappa_0, eps = normal(1, 4, 8, 8), normal(1, 4, 8, 8, seed=1)
    t = torch.tensor([1000])
    kappa_t = without_signal.add_noise(kappa_0, eps, t)
    assert torch.equal(kappa_t, eps)
    a, b = without_signal.coefficients(t, kappa_0)
    output = from_x0_eps(kappa_0, eps, a, b, prediction)
    x0_hat, eps_hat = to_x0_eps(output, kappa_t, a, b, prediction)
    assert torch.equal(x0_hat, kappa_0) and torch.equal(eps_hat, eps)


def test_without_signal_epsilon_is_refused_where_it_says_nothing(without_signal: Schedule) -> None:
    x = normal(2, 4, 8, 8)
    a, b = without_signal.coefficients(torch.tensor([1000, 999]), x)
    to_x0_eps(x[1:], x[1:], a[1:], b[1:], "epsilon")
    with pytest.raises(ValueError, match="x0 or v"):
        to_x0_eps(x, x, a, b, "epsilon")


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("t", [1, 250, 1000])
def test_conversions_undo_each_other(schedule: Schedule, prediction: str, t: int) -> None:
    kappa_0, eps = normal(1, 4, 8, 8), normal(1, 4, 8, 8, seed=1)
    a, b = schedule.coefficients(torch.tensor([t]), kappa_0)
    kappa_t = a * kappa_0 + b * eps
    output = from_x0_eps(kappa_0, eps, a, b, prediction)
    x0_hat, eps_hat = to_x0_eps(output, kappa_t, a, b, prediction)
    assert float((x0_hat - kappa_0).abs().max()) <= 1e-10
    assert float((eps_hat - eps).abs().max()) <= 1e-10


def test_v_is_the_velocity_of_salimans_and_ho(schedule: Schedule) -> None:
    kappa_0, eps = normal(1, 1, 2, 2), normal(1, 1, 2, 2, seed=1)
    a, b = schedule.coefficients(torch.tensor([300]), kappa_0)
    # d kappa / d phi, where a = cos phi and b = sin phi.
    phi, step = torch.atan2(b, a), 1e-6
    ahead, behind = (torch.cos(phi + d) * kappa_0 + torch.sin(phi + d) * eps for d in (step, -step))
    v = from_x0_eps(kappa_0, eps, a, b, "v")
    assert torch.allclose(v, (ahead - behind) / (2 * step), atol=1e-8)


def test_an_unknown_parametrisation_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="score"):
        to_x0_eps(one, one, one, one, "score")
    with pytest.raises(ValueError, match="score"):
        from_x0_eps(one, one, one, one, "score")


def test_a_learned_variance_is_the_second_half_of_the_channels_and_stays_between() -> None:
    output = 100 * normal(2, 6, 3, 3)
    prediction, v = split_variance(output)
    assert torch.equal(prediction, output[:, :3]) and v.shape == prediction.shape
    assert 0 <= float(v.min()) < float(v.max()) <= 1
    assert float(split_variance(torch.zeros(1, 2, 1, 1))[1]) == 0.5
    with pytest.raises(ValueError, match="5 channels"):
        split_variance(output[:, :5])


@pytest.mark.parametrize(("t", "s"), [(2, 1), (501, 500), (1000, 250)])
def test_the_posterior_is_bayes_rule(schedule: Schedule, t: int, s: int) -> None:
    # q(kappa_s | kappa_t, kappa_0) of two Gaussians: precisions add, means weigh by precision.
    abar_t, abar_s = schedule.abar_at(t), schedule.abar_at(s)
    kappa_0, kappa_t = 0.7, -0.4
    alpha = abar_t / abar_s
    prior, likelihood = 1 / (1 - abar_s), alpha / (1 - alpha)
    mean = (prior * abar_s**0.5 * kappa_0 + likelihood * kappa_t / alpha**0.5) / (
        prior + likelihood
    )
    q = posterior(abar_t, abar_s)
    assert q.variance == pytest.approx(1 / (prior + likelihood), rel=1e-9)
    assert q.c_0 * kappa_0 + q.c_t * kappa_t == pytest.approx(mean, rel=1e-9)


def test_the_last_reverse_step_is_the_estimate_itself(without_signal: Schedule) -> None:
    assert posterior(without_signal.abar_at(1), 1.0) == (1.0, 0.0, 0.0)
    # And from a time without signal nothing of kappa_t is kept.
    q = posterior(0.0, without_signal.abar_at(999))
    assert q.c_t == 0.0 and q.c_0 == without_signal.abar_at(999) ** 0.5
    assert q.variance == pytest.approx(1 - without_signal.abar_at(999))
