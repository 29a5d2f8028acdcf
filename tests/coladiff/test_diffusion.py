"""Schedule, parametrisations and samplers: the equations, in float64."""

from __future__ import annotations

import pytest
import torch

from colapipe.coladiff.parametrisation import from_x0_eps, to_x0_eps
from colapipe.coladiff.samplers import ddim
from colapipe.coladiff.schedule import Schedule


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_schedule_is_the_papers(schedule: Schedule) -> None:
    assert schedule.abar.dtype == torch.float64
    assert len(schedule.abar) == 1001
    assert float(schedule.abar[0]) == 1.0
    assert float(schedule.abar[1]) == pytest.approx(1 - 1e-4, abs=1e-15)
    assert float(schedule.abar[1000]) == pytest.approx(4.0358e-5, rel=1e-4)
    assert bool((schedule.abar.diff() < 0).all())


def test_noise_is_added_as_equation_1_says(schedule: Schedule) -> None:
    kappa_0, eps = torch.full((2, 1, 200, 200), 3.0).double(), normal(2, 1, 200, 200)
    t = torch.tensor([100, 700])
    noisy = schedule.add_noise(kappa_0, eps, t)
    for row, time in enumerate(t):
        abar = float(schedule.abar[time])
        assert float(noisy[row].mean()) == pytest.approx(3 * abar**0.5, abs=0.02)
        assert float(noisy[row].var()) == pytest.approx(1 - abar, rel=0.03)


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


def test_an_unknown_parametrisation_is_refused() -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="score"):
        to_x0_eps(one, one, one, one, "score")
    with pytest.raises(ValueError, match="score"):
        from_x0_eps(one, one, one, one, "score")


@pytest.mark.parametrize("steps", [1, 4, 10, 50, 1000])
def test_ddim_with_the_true_noise_returns_to_the_start(schedule: Schedule, steps: int) -> None:
    kappa_0, eps = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    start = schedule.add_noise(kappa_0, eps, torch.tensor([1000, 1000]))

    def predict(kappa: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = schedule.coefficients(torch.tensor([t]), kappa)
        return to_x0_eps(eps, kappa, a, b, "epsilon")

    end = ddim(predict, start, schedule, schedule.trailing_times(steps))
    assert float((end - kappa_0).abs().max()) <= 1e-11


def test_times_descend_from_the_last_and_one_step_is_one_prediction(schedule: Schedule) -> None:
    assert schedule.trailing_times(4) == [1000, 750, 500, 250]
    assert schedule.trailing_times(1) == [1000]
    assert schedule.trailing_times(1000) == list(range(1000, 0, -1))
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=str(steps)):
            schedule.trailing_times(steps)


def test_one_step_returns_the_prediction_itself(schedule: Schedule) -> None:
    answer = normal(1, 4, 8, 8)
    end = ddim(lambda kappa, t: (answer, kappa), normal(1, 4, 8, 8, seed=1), schedule, [1000])
    assert torch.equal(end, answer)


def test_stochastic_sampling_adds_the_posteriors_variance(schedule: Schedule) -> None:
    # With kappa_0 = 0 and eps = 0 predicted, what is left after a step is the noise alone.
    t, s = 500, 400
    zero = torch.zeros(1, 1, 300, 300, dtype=torch.float64)
    drawn = normal(1, 1, 300, 300)
    seen: list[torch.Tensor] = []

    def predict(kappa: torch.Tensor, time: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(kappa)
        return zero, zero

    ddim(predict, zero, schedule, [t, s], draw=lambda step: drawn, eta=1.0)
    abar_t, abar_s = float(schedule.abar[t]), float(schedule.abar[s])
    expected = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
    assert float(seen[1].var()) == pytest.approx(expected, rel=0.02)


def test_ddim_refuses_what_it_cannot_do(schedule: Schedule) -> None:
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="descend"):
        ddim(lambda kappa, t: (kappa, kappa), x, schedule, [500, 500])
    with pytest.raises(ValueError, match="noise"):
        ddim(lambda kappa, t: (kappa, kappa), x, schedule, [500], eta=0.5)
