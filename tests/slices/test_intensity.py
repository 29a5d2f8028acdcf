"""One normalisation for the app and for training."""

from __future__ import annotations

import numpy as np
import pytest

from colapipe.slices.intensity import normalise


@pytest.fixture
def scan() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    volume = rng.gamma(4.0, 50.0, (20, 22, 18)).astype(np.float32)
    mask = np.zeros(volume.shape, dtype=np.uint8)
    mask[3:17, 4:18, 2:16] = 1
    return volume, mask


def test_brain_percentiles_become_zero_and_one(scan):
    volume, mask = scan
    out, (low, high) = normalise(volume, mask)
    assert (low, high) == pytest.approx(np.percentile(volume[mask > 0], [0.1, 99.9]))
    middle = mask > 0
    middle &= (volume > low) & (volume < high)
    np.testing.assert_allclose(
        out[middle], (volume[middle] - low) / (high - low), rtol=0, atol=1e-6
    )
    assert out.dtype == np.float32
    assert out.min() == 0
    assert out.max() == 1


def test_background_is_exactly_zero_and_has_no_influence(scan):
    volume, mask = scan
    noisy = np.where(mask > 0, volume, 1e6)
    out, limits = normalise(noisy, mask)
    assert not out[mask == 0].any()
    expected, expected_limits = normalise(volume, mask)
    np.testing.assert_array_equal(out, expected)
    assert limits == expected_limits


def test_nan_in_the_background_is_blanked(scan):
    volume, mask = scan
    out, _ = normalise(np.where(mask > 0, volume, np.nan), mask)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(("gain", "offset"), [(0.01, 0.0), (7.0, -300.0), (1.0, 1000.0)])
def test_gain_and_offset_of_the_scanner_do_not_matter(scan, gain, offset):
    volume, mask = scan
    expected, _ = normalise(volume, mask)
    out, _ = normalise(gain * volume.astype(np.float64) + offset, mask)
    np.testing.assert_allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64, bool])
def test_any_number_type_is_taken(dtype):
    volume = np.arange(60).reshape(3, 4, 5).astype(dtype)
    out, _ = normalise(volume, np.ones(volume.shape, dtype=bool))
    assert out.dtype == np.float32
    assert out.max() == 1


def test_inputs_are_left_alone(scan):
    volume, mask = scan
    before = volume.copy()
    normalise(volume, mask)
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e8, -3.0])
def test_a_constant_brain_is_refused(value):
    with pytest.raises(ValueError, match="constant inside the brain mask"):
        normalise(np.full((4, 4, 4), value), np.ones((4, 4, 4)))


def test_a_brain_of_one_value_with_a_lone_outlier_is_refused():
    volume = np.full((20, 20, 20), 3.0)
    volume[0, 0, 0] = 900.0
    with pytest.raises(ValueError, match="constant inside the brain mask"):
        normalise(volume, np.ones(volume.shape))


def test_an_empty_mask_is_refused(scan):
    with pytest.raises(ValueError, match="mask is empty"):
        normalise(scan[0], np.zeros_like(scan[1]))


def test_nan_inside_the_brain_is_refused(scan):
    volume, mask = scan
    volume[10, 10, 10] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        normalise(volume, mask)


def test_grids_that_differ_are_refused(scan):
    with pytest.raises(ValueError, match="same grid"):
        normalise(scan[0], scan[1][1:])
