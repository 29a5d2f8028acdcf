"""Class-conditional densities: they integrate to one, and their map finds what is unusual."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from colapipe.coladiff.density import class_histograms, densities, density_map

BINS = 64


def volume(slices: int = 3, size: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Image, two soft tissues and a mask: a dark tissue at the left, a bright one at the right."""
    generator = torch.Generator().manual_seed(0)
    across = torch.linspace(0, 1, size).expand(slices, size, size)
    tissues = torch.stack([1 - across, across])
    noise = 0.05 * torch.randn(slices, size, size, generator=generator)
    image = (0.3 * (1 - across) + 0.7 * across + noise).clamp(0, 1)
    mask = torch.ones(slices, size, size)
    mask[:, :2] = 0
    return image, tissues, mask


def test_the_histogram_is_numpys_with_weights() -> None:
    image, tissues, mask = volume()
    image[0, 5, :3] = torch.tensor([0.0, 1.0, 0.999999])
    counts = class_histograms(image, tissues, mask, BINS)
    assert counts.shape == (2, BINS)
    assert counts.dtype == image.dtype
    inside = mask.numpy() > 0
    for k in range(2):
        expected, _ = np.histogram(
            image.numpy()[inside], BINS, (0, 1), weights=tissues[k].numpy()[inside]
        )
        np.testing.assert_allclose(counts[k].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_what_is_outside_the_mask_does_not_count() -> None:
    image, tissues, mask = volume()
    before = class_histograms(image, tissues, mask)
    image[:, :2] = 1.0
    assert torch.equal(class_histograms(image, tissues, mask), before)
    assert torch.equal(class_histograms(image, tissues, mask.bool()), before)
    assert not class_histograms(image, tissues, torch.zeros_like(mask)).any()


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 3.0])
def test_densities_integrate_to_one(smoothing: float) -> None:
    counts = class_histograms(*volume(), BINS)
    counts[0, 0] += 1000  # at the edge, too, nothing is lost
    p = densities(counts, smoothing)
    assert torch.allclose(p.mean(dim=-1), torch.ones(2), atol=1e-6)
    assert float(p.min()) >= 0


def test_smoothing_is_a_gaussian_of_so_many_bins() -> None:
    counts = torch.zeros(1, BINS, dtype=torch.float64)
    counts[0, 30] = 5
    assert torch.equal(densities(counts, 0.0), counts / 5 * BINS)
    centres = torch.arange(BINS, dtype=torch.float64)
    for sigma in (1.0, 2.0):
        p = densities(counts, sigma)[0] / BINS
        assert float((p * centres).sum()) == pytest.approx(30, abs=1e-9)
        spread = float((p * (centres - 30).square()).sum())
        assert spread == pytest.approx(sigma**2, rel=1e-6)


def test_smoothing_loses_no_count_at_the_edges() -> None:
    counts = torch.zeros(1, BINS, dtype=torch.float64)
    counts[0, [0, 30]] = 1
    p = densities(counts, 2.0)[0] / BINS
    assert float(p[:15].sum()) == pytest.approx(0.5, abs=1e-9)
    assert float(p[15:].sum()) == pytest.approx(0.5, abs=1e-9)


def test_an_empty_class_has_no_density() -> None:
    counts = class_histograms(*volume(), BINS)
    counts[1] = 0
    p = densities(counts)
    assert bool(p.isfinite().all())
    assert not p[1].any()
    image, tissues, _ = volume()
    tissues[0] = 0
    assert not density_map(image, tissues, p).any()


def by_definition(image: Tensor, tissues: Tensor, p: Tensor) -> np.ndarray:
    """The map of one volume by numpy's linear interpolation."""
    bins = p.shape[-1]
    centres = (np.arange(bins) + 0.5) / bins
    total = sum(
        s.numpy() * np.interp(image.numpy(), centres, row.numpy())
        for s, row in zip(tissues, p, strict=True)
    )
    return np.asarray(np.log1p(total) / math.log1p(bins))


@pytest.mark.parametrize("bins", [64, 16, 2, 1])
def test_the_map_is_the_mixture_at_each_voxel_between_the_centres_of_the_bins(bins: int) -> None:
    image, tissues, mask = (part.double() for part in volume())
    image[0, 0, :4] = torch.tensor([0.0, 1.0, 0.5 / bins, 1 - 0.5 / bins])
    p = densities(class_histograms(image, tissues, mask, bins))
    result = density_map(image, tissues, p)
    assert result.shape == image.shape
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    np.testing.assert_allclose(result.numpy(), by_definition(image, tissues, p), atol=1e-12)


def test_the_map_reaches_its_bounds_and_no_further() -> None:
    peak = densities(torch.nn.functional.one_hot(torch.tensor([10]), BINS).float(), 0.0)
    image = torch.tensor([[[10.5 / BINS, 0.9]]])
    tissues = torch.ones(1, 1, 1, 2)
    assert density_map(image, tissues, peak).flatten().tolist() == [1.0, 0.0]
    assert float(density_map(image, 1.5 * tissues, peak).max()) == 1.0


def test_an_unusual_voxel_stands_out() -> None:
    image, tissues, mask = volume()
    p = densities(class_histograms(image, tissues, mask, BINS))
    usual = density_map(image, tissues, p)
    image[1, 10, 1] = 0.95  # bright in the dark tissue
    assert float(density_map(image, tissues, p)[1, 10, 1]) < 0.5 * float(usual[1, 10, 1])


def test_a_batch_of_slices_takes_each_its_own_densities() -> None:
    image, tissues, mask = volume()
    p = densities(class_histograms(image, tissues, mask, BINS))
    whole = density_map(image, tissues, p)
    by_slice = tissues.transpose(0, 1)
    assert torch.equal(density_map(image, by_slice, p.expand(3, 2, BINS)), whole)
    other = torch.stack([p, p.flip(0), torch.zeros_like(p)])
    mixed = density_map(image, by_slice, other)
    assert torch.equal(mixed[0], whole[0])
    assert not torch.allclose(mixed[1], whole[1])
    assert not mixed[2].any()
    # Without a batch of densities the same slice is a map of two axes.
    assert torch.equal(density_map(image[0], tissues[:, 0], p), whole[0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    image, tissues, mask = volume()
    p = densities(class_histograms(image, tissues, mask, BINS))
    with pytest.raises(ValueError, match="shapes"):
        density_map(image, tissues.transpose(0, 1), p)
    with pytest.raises(ValueError, match="shapes"):
        density_map(image, tissues, p.expand(3, 2, BINS))


def test_a_negative_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match="smoothing"):
        densities(torch.ones(1, 4), -1.0)


def test_autocast_makes_no_difference() -> None:
    image, tissues, mask = volume()
    expected = density_map(image, tissues, densities(class_histograms(image, tissues, mask)))
    with torch.autocast("cpu", torch.bfloat16):
        result = density_map(image, tissues, densities(class_histograms(image, tissues, mask)))
    assert torch.equal(result, expected)
