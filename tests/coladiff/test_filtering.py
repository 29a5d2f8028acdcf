"""Similar cooperative filtering (Eq. 4): what is thresholded, what is matched, what is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from colapipe.coladiff.filtering import BlockMatching, SimilarCooperativeFilter, soft_threshold
from colapipe.coladiff.wavelets import Wavelet2D

WAVELETS = ("haar", "db2", "sym4")
SIZES = ((56, 56), (28, 28), (14, 14), (40, 48))


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(*args: object, **options: object) -> SimilarCooperativeFilter:
    torch.manual_seed(1)
    return SimilarCooperativeFilter(*args, **options)  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("mode", ["full", "dwt"])
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("size", SIZES)
def test_without_threshold_and_mixing_it_is_the_identity(
    size: tuple[int, int], wavelet: str, mode: str
) -> None:
    scf, f = seeded(4, mode, wavelet), features(2, 4, *size)
    assert float((scf(f) - f).abs().max()) > 1e-3
    scf.make_identity()
    assert float((scf(f) - f).abs().max()) <= 2e-6


@pytest.mark.parametrize("size", [(7, 7), (8, 7), (1, 1)])
def test_an_odd_size_passes_unchanged(size: tuple[int, int]) -> None:
    f = features(2, 4, *size)
    assert torch.equal(seeded(4)(f), f)


@pytest.mark.parametrize("mode", ["full", "dwt"])
@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_learns(size: tuple[int, int], mode: str) -> None:
    scf = seeded(6, mode)
    f = features(2, 6, *size).requires_grad_()
    (scf(f) * features(2, 6, *size, seed=3)).sum().backward()
    assert f.grad is not None
    assert bool(f.grad.isfinite().all())
    for name, parameter in scf.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_the_derivatives_of_block_matching_are_right() -> None:
    torch.manual_seed(0)
    matching = BlockMatching(3, bands=1, neighbours=4).double()
    u = features(2, 3, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: matching(u, 0), u)


@torch.no_grad()
def test_a_large_threshold_removes_h_and_v_and_keeps_a_and_d() -> None:
    scf, f = seeded(4, "dwt"), features(2, 4, 16, 24)
    scf.rho.fill_(1e6)
    wavelet = Wavelet2D("haar")
    approximation, details = wavelet.analyse(f, 2)
    filtered_approximation, filtered_details = wavelet.analyse(scf(f), 2)
    assert torch.allclose(filtered_approximation, approximation, atol=2e-6)
    for (_, _, d), (filtered_h, filtered_v, filtered_d) in zip(
        details, filtered_details, strict=True
    ):
        assert float(filtered_h.abs().max()) <= 2e-6
        assert float(filtered_v.abs().max()) <= 2e-6
        assert torch.allclose(filtered_d, d, atol=2e-6)


@torch.no_grad()
@pytest.mark.parametrize("band", ["H1", "V1", "H2", "V2"])
def test_each_band_and_channel_has_its_own_threshold(band: str) -> None:
    scf, f = seeded(3, "dwt"), features(1, 3, 16, 16)
    scf.make_identity()
    level = int(band[1])
    scf.rho[level - 1, "HV".index(band[0]), 1] = 1e6
    _, details = Wavelet2D("haar").analyse(scf(f), 2)
    energies = {
        f"{name}{2 - position}": values.square().sum(dim=(0, 2, 3))
        for position, bands in enumerate(details)
        for name, values in zip("HVD", bands, strict=True)
    }
    for name, energy in energies.items():
        silent = [channel for channel in range(3) if float(energy[channel]) < 1e-8]
        assert silent == ([1] if name == band else [])


def test_the_soft_threshold_shrinks_towards_zero() -> None:
    u = torch.tensor([-2.0, -0.5, 0.0, 0.3, 0.5, 3.0])
    assert soft_threshold(u, torch.tensor(0.5)).tolist() == [-1.5, 0.0, 0.0, 0.0, 0.0, 2.5]


@torch.no_grad()
def test_the_thresholds_start_small_and_follow_the_noise() -> None:
    plain, aware = seeded(2), seeded(2, noise_aware=True)
    assert torch.allclose(plain.thresholds(), torch.tensor(0.01815), atol=1e-5)
    level = torch.tensor([1.0, 0.5, 0.0])
    assert plain.thresholds(level).shape[0] == 1
    assert torch.allclose(
        aware.thresholds(level), plain.thresholds() * level.reshape(3, 1, 1, 1), atol=1e-7
    )
    f = features(3, 2, 8, 8)
    assert torch.allclose(aware(f, torch.ones(3)), plain(f), atol=1e-6)
    with pytest.raises(ValueError, match="noise level"):
        aware(f)


def by_definition(matching: BlockMatching, u: Tensor) -> Tensor:
    """Block matching of one map (C, h, w) as its docstring says it, position by position."""
    channels, height, width = u.shape
    projected = torch.einsum("dc,chw->dhw", matching.project.weight[:, :, 0, 0], u)
    padded = torch.zeros(len(projected), height + 2, width + 2, dtype=u.dtype)
    padded[:, 1:-1, 1:-1] = projected
    positions = [(y, x) for y in range(height) for x in range(width)]
    q = torch.stack([padded[:, y : y + 3, x : x + 3].flatten() for y, x in positions])
    values = torch.stack([u[:, y, x] for y, x in positions])
    tau, g = float(matching.log_tau[0].exp()), float(matching.g_logit[0].sigmoid())
    out = torch.empty_like(values)
    for i in range(len(positions)):
        d = (q[i] - q).square().sum(dim=1)
        nearest = d.argsort()[: matching.neighbours]
        assert i in nearest
        w = torch.softmax(-d[nearest] / (q.shape[1] * tau), dim=0)
        out[i] = (1 - g) * values[i] + g * (w[:, None] * values[nearest]).sum(dim=0)
    return out.T.reshape(channels, height, width)


@torch.no_grad()
def test_block_matching_is_what_its_definition_says() -> None:
    torch.manual_seed(0)
    matching = BlockMatching(3, bands=1, neighbours=5).double()
    matching.log_tau.fill_(-3.0)
    matching.g_logit.fill_(1.0)
    u = features(2, 3, 5, 6).double()
    expected = torch.stack([by_definition(matching, slice_) for slice_ in u])
    assert torch.allclose(matching(u, 0), expected, atol=1e-12)


@torch.no_grad()
def test_a_band_with_fewer_positions_than_neighbours_uses_them_all() -> None:
    torch.manual_seed(0)
    matching = BlockMatching(3, bands=1, neighbours=8)
    matching.log_tau.fill_(20.0)  # every weight is the same
    matching.g_logit.fill_(20.0)  # only the mean is left
    u = features(1, 3, 2, 3)
    assert torch.allclose(matching(u, 0), u.mean(dim=(2, 3), keepdim=True).expand_as(u), atol=1e-5)


@torch.no_grad()
def test_bands_larger_than_the_limit_are_not_matched() -> None:
    f = features(2, 4, 16, 24)
    wavelet = Wavelet2D("haar")

    def changed(largest: int) -> list[bool]:
        scf = seeded(4, largest=largest)
        scf.rho.fill_(-torch.inf)
        approximation, [(_, _, d2), (_, _, d1)] = wavelet.analyse(scf(f) - f, 2)
        return [float(band.abs().max()) > 1e-3 for band in (approximation, d2, d1)]

    assert changed(12) == [True, True, True]
    assert changed(11) == [True, True, False]
    assert changed(5) == [False, False, False]


@torch.no_grad()
@pytest.mark.parametrize("parameter", ["g_logit", "log_tau"])
@pytest.mark.parametrize(("band", "expected"), [(0, "A2"), (1, "D1"), (2, "D2")])
def test_each_matched_band_has_its_own_mixing_and_temperature(
    band: int, expected: str, parameter: str
) -> None:
    scf, f = seeded(4), features(2, 4, 16, 24)
    before = scf(f)
    assert scf.matching is not None
    getattr(scf.matching, parameter)[band] += 1.0
    approximation, [(_, _, d2), (_, _, d1)] = Wavelet2D("haar").analyse(scf(f) - before, 2)
    changed = [
        name
        for name, values in (("A2", approximation), ("D2", d2), ("D1", d1))
        if float(values.abs().max()) > 1e-4
    ]
    assert changed == [expected]


@torch.no_grad()
def test_shifting_round_shifts_the_result_alike() -> None:
    scf = seeded(4, padding="circular").double()
    f = features(1, 4, 16, 24).double()
    for shift in ((4, 0), (0, 8), (12, -4)):
        shifted = scf(f.roll(shift, dims=(2, 3)))
        assert torch.allclose(shifted, scf(f).roll(shift, dims=(2, 3)), atol=1e-10)
    # The edge of the default padding does not move with the map.
    zeros = seeded(4).double()
    assert not torch.allclose(zeros(f.roll(4, 2)), zeros(f).roll(4, 2), atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_no_slice_sees_another(layout: torch.memory_format) -> None:
    scf = seeded(6, noise_aware=True)
    f = features(3, 6, 24, 16).contiguous(memory_format=layout)
    noise_level = torch.tensor([0.1, 1.0, 0.5])
    together = scf(f, noise_level)
    alone = [scf(f[i : i + 1], noise_level[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["full", "dwt"])
def test_noise_on_a_constant_map_becomes_less(mode: str) -> None:
    constant = features(1, 8, 1, 1).expand(2, 8, 28, 28)
    noise = 0.3 * features(2, 8, 28, 28, seed=1)
    filtered = seeded(8, mode)(constant + noise)
    assert float((filtered - constant).square().mean()) < 0.95 * float(noise.square().mean())


@pytest.mark.parametrize("mode", ["full", "dwt"])
def test_it_runs_in_float32_under_autocast_and_returns_what_it_was_given(mode: str) -> None:
    scf = seeded(4, mode)
    f = features(2, 4, 28, 28).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = scf(f)
        kept = scf(f.float())
    assert out.dtype == torch.bfloat16
    assert kept.dtype == torch.float32
    assert torch.equal(kept, scf(f.float()))
    assert torch.equal(out, kept.bfloat16())
    out.float().sum().backward()
    assert f.grad is not None
    assert f.grad.dtype == torch.bfloat16


@torch.no_grad()
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_memory_layout_makes_no_difference(wavelet: str) -> None:
    scf, f = seeded(4, wavelet=wavelet), features(2, 4, 28, 24)
    last = f.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(scf(last), scf(f), atol=1e-5)
    if wavelet == "haar":
        assert scf(last).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"mode": "half"}, "mode"),
        ({"wavelet": "bior2.2"}, "orthogonal"),
        ({"levels": 0}, "level"),
        ({"neighbours": 0}, "neighbour"),
        ({"padding": "mirror"}, "padding"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        seeded(4, **options)
