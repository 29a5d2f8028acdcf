"""Samplers and the times they visit: DDIM, DDPM, FastDPM and DPM-Solver++."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from colapipe.coladiff.fastdpm import (
    step_quadratic_times,
    var_times,
    variances,
)
from colapipe.coladiff.parametrisation import to_x0_eps
from colapipe.coladiff.samplers import SAMPLERS, Predict, ddim, ddpm, dpm_solver_pp
from colapipe.coladiff.schedule import Schedule

T = 1000


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def at(t: float) -> torch.Tensor:
    """Return a time as a tensor that keeps the digits of a fractional one."""
    return torch.tensor([t], dtype=torch.float64)


def knows_the_noise(schedule: Schedule, eps: torch.Tensor) -> Predict:
    """Return a denoiser that predicts eps exactly, whatever it is shown."""

    def predict(kappa: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = schedule.coefficients(at(t), kappa)
        return to_x0_eps(eps.to(kappa), kappa, a, b, "epsilon")

    return predict


def guesses(schedule: Schedule) -> Predict:
    """Return a denoiser whose estimate of kappa_0 is wrong and depends smoothly on all it sees."""

    def predict(kappa: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = schedule.coefficients(at(t), kappa)
        return to_x0_eps(torch.tanh(kappa * (1 - t / 2000)), kappa, a, b, "x0")

    return predict


def knows_the_distribution(schedule: Schedule, mean: float, variance: float) -> Predict:
    """Return E[kappa_0 | kappa_t] and its eps, where kappa_0 is Gaussian."""

    def predict(kappa: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        abar = schedule.abar_at(t)
        gain = abar**0.5 * variance / (abar * variance + 1 - abar)
        kappa_0 = mean + gain * (kappa - abar**0.5 * mean)
        return kappa_0, (kappa - abar**0.5 * kappa_0) / (1 - abar) ** 0.5

    return predict


@pytest.mark.parametrize("steps", [1, 4, 10, 50, 1000])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-3)], ids=["f64", "f32"]
)
def test_ddim_with_the_true_noise_returns_to_the_start(
    schedule: Schedule, steps: int, dtype: torch.dtype, tolerance: float
) -> None:
    kappa_0, eps = normal(2, 4, 8, 8).to(dtype), normal(2, 4, 8, 8, seed=1).to(dtype)
    start = schedule.add_noise(kappa_0, eps, torch.tensor([T, T]))
    times = schedule.trailing_times(steps)
    end = ddim(knows_the_noise(schedule, eps), start, schedule, times)
    assert end.dtype == dtype
    assert float((end - kappa_0).abs().max()) <= tolerance


def test_a_ddim_step_is_equation_2(schedule: Schedule) -> None:
    kappa, seen = normal(1, 4, 8, 8), []
    predict = guesses(schedule)

    def watch(kappa_t: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(kappa_t)
        return predict(kappa_t, t)

    ddim(watch, kappa, schedule, [501, 500])
    abar, before = schedule.abar_at(501), schedule.abar_at(500)
    eps = predict(kappa, 501)[1]
    expected = before**0.5 * (kappa - (1 - abar) ** 0.5 * eps) / abar**0.5
    expected = expected + (1 - before) ** 0.5 * eps
    assert float((seen[1] - expected).abs().max()) <= 1e-13


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 4, 50])
def test_every_sampler_returns_the_truth_if_the_denoiser_knows_it(
    schedule: Schedule, name: str, steps: int
) -> None:
    sampler, kappa_0 = SAMPLERS[name], normal(1, 4, 8, 8)

    def predict(kappa: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = schedule.coefficients(at(t), kappa)
        return to_x0_eps(kappa_0, kappa, a, b, "x0")

    times = sampler.times(schedule, steps)
    draws = [normal(1, 4, 8, 8, seed=10 + step) for step in range(steps)]
    end = sampler.sample(
        predict, normal(1, 4, 8, 8, seed=1), schedule, times, draw=draws.__getitem__
    )
    assert torch.allclose(end, kappa_0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 999, 1000])
def test_every_grid_descends_within_the_schedule(schedule: Schedule, name: str, steps: int) -> None:
    times = list(SAMPLERS[name].times(schedule, steps))
    assert all(t > s for t, s in zip(times, [*times[1:], 0], strict=True))
    assert times[0] <= T and times[-1] >= 1
    assert len(times) == steps or name == "fastdpm-step"


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [0, 1001])
def test_every_grid_refuses_steps_that_it_does_not_have(
    schedule: Schedule, name: str, steps: int
) -> None:
    with pytest.raises(ValueError, match=f"not {steps}"):
        SAMPLERS[name].times(schedule, steps)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm-solver++", "fastdpm-step"])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_samplers_stay_finite_without_signal_at_the_end(
    without_signal: Schedule, name: str, steps: int
) -> None:
    sampler, kappa_0 = SAMPLERS[name], normal(1, 4, 8, 8)

    def predict(kappa: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = without_signal.coefficients(at(t), kappa)
        v = a * normal(1, 4, 8, 8, seed=1) - b * kappa_0
        return to_x0_eps(v, kappa, a, b, "v")

    times = sampler.times(without_signal, steps)
    start = normal(1, 4, 8, 8, seed=1)
    end = sampler.sample(predict, start, without_signal, times, draw=lambda step: start)
    assert bool(end.isfinite().all())
    if name in ("ddim", "dpm-solver++"):
        assert float((end - kappa_0).abs().max()) <= 1e-11


def test_one_step_returns_the_prediction_itself(schedule: Schedule) -> None:
    answer, start = normal(1, 4, 8, 8), normal(1, 4, 8, 8, seed=1)
    for sample in (ddim, ddpm, dpm_solver_pp):
        end = sample(lambda kappa, t: (answer, kappa), start, schedule, [T], lambda step: start)
        assert torch.equal(end, answer)


def test_a_deterministic_sampler_repeats_its_bits(schedule: Schedule) -> None:
    for name in ("ddim", "dpm-solver++", "fastdpm-step", "fastdpm-var"):
        sampler, start = SAMPLERS[name], normal(1, 4, 8, 8)
        times = sampler.times(schedule, 5)
        first, second = (
            sampler.sample(guesses(schedule), start.clone(), schedule, times) for _ in range(2)
        )
        assert torch.equal(first, second)


def test_stochastic_sampling_adds_the_posteriors_variance(schedule: Schedule) -> None:
    # With kappa_0 = 0 and eps = 0 predicted, what is left after a step is the noise alone.
    t, s = 500, 400
    zero = torch.zeros(1, 1, 300, 300, dtype=torch.float64)
    drawn = normal(1, 1, 300, 300)
    abar_t, abar_s = schedule.abar_at(t), schedule.abar_at(s)
    expected = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
    for sample, options in ((ddim, {"eta": 1.0}), (ddpm, {})):
        seen: list[torch.Tensor] = []

        def predict(
            kappa: torch.Tensor, time: float, seen: list[torch.Tensor] = seen
        ) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(kappa)
            return zero, zero

        sample(predict, zero, schedule, [t, s], draw=lambda step: drawn, **options)
        assert float(seen[1].var()) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("steps", [4, 1000])
def test_ddpm_is_ddim_with_eta_1(schedule: Schedule, steps: int) -> None:
    times = schedule.trailing_times(steps)

    def draw(step: int) -> torch.Tensor:
        return normal(1, 1, 4, 4, seed=100 + step)

    start, predict = normal(1, 1, 4, 4), guesses(schedule)
    ancestral = ddpm(predict, start, schedule, times, draw)
    general = ddim(predict, start, schedule, times, draw, eta=1.0)
    assert float((ancestral - general).abs().max()) <= 1e-10
    assert float((ancestral - ddim(predict, start, schedule, times)).abs().max()) > 0.1


def test_ddpm_samples_the_distribution_that_its_denoiser_knows(schedule: Schedule) -> None:
    mean, variance = 0.5, 0.3
    predict = knows_the_distribution(schedule, mean, variance)
    start = normal(1, 1, 100, 100)
    end = ddpm(
        predict, start, schedule, schedule.trailing_times(T), lambda s: normal(*start.shape, seed=s)
    )
    assert float(end.mean()) == pytest.approx(mean, abs=0.03)
    assert float(end.var()) == pytest.approx(variance, rel=0.06)


def test_dpm_solver_is_more_accurate_than_ddim_and_of_second_order(schedule: Schedule) -> None:
    # The exact flow of a Gaussian carries a point at the same distance from the mean in sigmas.
    mean, variance = 0.5, 0.3
    predict = knows_the_distribution(schedule, mean, variance)
    start = normal(1, 1, 8, 8)
    abar = schedule.abar_at(T)
    exact = (start - abar**0.5 * mean) / (abar * variance + 1 - abar) ** 0.5
    exact = mean + variance**0.5 * exact

    def error(sample: Callable[..., torch.Tensor], steps: int) -> float:
        end = sample(predict, start, schedule, schedule.trailing_times(steps))
        return float((end - exact).abs().max())

    assert error(dpm_solver_pp, 20) < 0.5 * error(ddim, 20)
    assert error(dpm_solver_pp, 50) < 0.25 * error(dpm_solver_pp, 20)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_times_that_do_not_descend_are_refused(schedule: Schedule, name: str) -> None:
    x = torch.zeros(1, 1, 2, 2)
    for times in ([500, 500], [400, 500], [500, 0]):
        with pytest.raises(ValueError, match="descend"):
            SAMPLERS[name].sample(lambda k, t: (k, k), x, schedule, times, lambda step: x)


def test_noise_without_a_source_is_refused(schedule: Schedule) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="noise"):
        ddim(lambda kappa, t: (kappa, kappa), x, schedule, [500], eta=0.5)
    with pytest.raises(ValueError, match="noise"):
        ddpm(lambda kappa, t: (kappa, kappa), x, schedule, [500])


def test_step_picks_the_times_of_fastdpm(schedule: Schedule) -> None:
    # Counted from 0, as Kong and Ping do.
    quadratic = [t - 1 for t in reversed(step_quadratic_times(schedule, 10))]
    assert quadratic == [0, 9, 39, 88, 158, 246, 355, 483, 632, 800]
    assert step_quadratic_times(schedule, 1) == [T]


def test_a_time_that_step_would_visit_twice_is_visited_once(schedule: Schedule) -> None:
    times = step_quadratic_times(schedule, 100)
    assert len(times) == len(set(times)) < 100 and times[-1] == 1


@pytest.mark.parametrize("spacing", ["linear", "quadratic"])
@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50, 1000])
def test_vars_chain_ends_as_the_schedule_does(schedule: Schedule, spacing: str, steps: int) -> None:
    eta = variances(schedule, steps, spacing)
    assert np.prod(1 - eta) == pytest.approx(float(schedule.abar[T]), rel=1e-6)
    if steps > 1:
        assert eta[0] == pytest.approx(1e-4) and bool((np.diff(eta) > 0).all()) and eta[-1] < 1
        roots = eta if spacing == "linear" else eta**0.5
        assert float(np.ptp(np.diff(roots))) <= 1e-12
    times = var_times(schedule, steps, spacing)
    assert times[0] == pytest.approx(T, abs=1e-6)
    levels = [schedule.abar_at(t) for t in reversed(times)]
    assert np.allclose(levels, np.cumprod(1 - eta), rtol=1e-9)


def test_var_visits_the_times_of_fastdpm(schedule: Schedule) -> None:
    times = [round(t - 1, 1) for t in reversed(var_times(schedule, 10))]
    assert times == [0, 101.8, 184.0, 268.6, 357.5, 452.1, 554.6, 668.6, 802.8, 999]


def test_var_refuses_what_it_cannot_do(schedule: Schedule, without_signal: Schedule) -> None:
    with pytest.raises(ValueError, match="cubic"):
        variances(schedule, 10, "cubic")
    with pytest.raises(ValueError, match="signal"):
        var_times(without_signal, 10)


def test_fastdpm_with_all_steps_is_ddim(schedule: Schedule) -> None:
    start, predict = normal(1, 1, 4, 4), guesses(schedule)
    fast = ddim(predict, start, schedule, var_times(schedule, T))
    full = ddim(predict, start, schedule, schedule.trailing_times(T))
    assert float((fast - full).abs().max()) <= 1e-9


def test_fastdpm_with_the_true_noise_returns_to_the_start(schedule: Schedule) -> None:
    kappa_0, eps = normal(1, 4, 8, 8), normal(1, 4, 8, 8, seed=1)
    for name in ("fastdpm-step", "fastdpm-var"):
        times = SAMPLERS[name].times(schedule, 10)
        start = schedule.add_noise(kappa_0, eps, at(times[0]))
        end = SAMPLERS[name].sample(knows_the_noise(schedule, eps), start, schedule, times)
        assert float((end - kappa_0).abs().max()) <= 1e-11


@pytest.mark.parametrize("steps", [1, 4, 10, 50])
@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm-solver++"])
def test_samplers_agree_with_diffusers_on_the_same_times(
    schedule: Schedule, name: str, steps: int
) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers, the other opinion, is absent")
    common = {"beta_start": 1e-4, "beta_end": 0.02, "prediction_type": "sample"}
    if name == "ddim":
        scheduler = diffusers.DDIMScheduler(
            **common, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
        )
    elif name == "ddpm":
        scheduler = diffusers.DDPMScheduler(
            **common, clip_sample=False, variance_type="fixed_small", timestep_spacing="trailing"
        )
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(
            **common,
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            timestep_spacing="trailing",
            final_sigmas_type="zero",
        )
    scheduler.set_timesteps(steps)
    times = schedule.trailing_times(steps)
    # Theirs count from 0.
    assert [int(t) + 1 for t in scheduler.timesteps] == times
    start = theirs = normal(1, 4, 8, 8)
    predict = guesses(schedule)
    noise = torch.Generator().manual_seed(5)
    options = {"generator": noise} if name == "ddpm" else {}
    for t in scheduler.timesteps:
        theirs = scheduler.step(predict(theirs, int(t) + 1)[0], t, theirs, **options).prev_sample
    again = torch.Generator().manual_seed(5)

    def draw(step: int) -> torch.Tensor:
        return torch.randn(start.shape, generator=again, dtype=start.dtype)

    ours = SAMPLERS[name].sample(predict, start, schedule, times, draw=draw)
    assert float((ours - theirs).abs().max()) <= 1e-5
