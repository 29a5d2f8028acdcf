"""How close a synthesised image is to the true one, in numpy.

Notation: ``s`` the synthesised and ``t`` the true image, both in [0, 1]; ``B`` a region, in most
cases the brain; ``N`` its number of voxels. The data range is 1 throughout. All sums are float64.

The **primary** figures are taken inside the brain. The **paper-like** ones are what most papers
report, CoLa-Diff's among them as far as can be told: whole slices, background included, one value
per slice. An empty background that both images share raises PSNR by ``10 log10(1 / brain
fraction)``, about 3.5 dB, so the two kinds must not be compared with each other.

Volumes are (X, Y, Z) with axial slices along the last axis; the background of both images must be
blank (0), because structural similarity looks a few pixels beyond the brain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

K1, K2 = 0.01, 0.03
"""Constants of SSIM (Wang et al., IEEE Trans. Image Process. 13(4), 2004, Eq. 13), for range 1."""

_GAUSSIAN_SIGMA = 1.5
_GAUSSIAN_RADIUS = 5  # an 11 x 11 window
_UNIFORM_SIZE = 7

FloatArray = npt.NDArray[np.float64]


def _inside(
    synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return the voxels of a region in float64, after checking that the shapes agree."""
    s, t = np.asarray(synth, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if s.shape != t.shape or (mask is not None and np.shape(mask) != t.shape):
        shapes = [s.shape, t.shape] + ([] if mask is None else [np.shape(mask)])
        raise ValueError(f"images and mask are not on the same grid: {shapes}")
    region = np.ones(t.shape, dtype=bool) if mask is None else np.asarray(mask) != 0
    return s[region], t[region]


def mae(synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Return the mean absolute error, ``sum_B |s - t| / N``.

    Parameters
    ----------
    synth, truth : array_like, same shape, in [0, 1]
    mask : array_like, same shape, optional
        The region; everything without one.

    Returns
    -------
    float
        0 for identical images; NaN in an empty region.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    s, t = _inside(synth, truth, mask)
    return float(np.abs(s - t).mean()) if t.size else float("nan")


def psnr(synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Return the peak signal-to-noise ratio in dB, ``10 log10(1 / (sum_B (s - t)^2 / N))``.

    Parameters and errors are those of :func:`mae`.

    Returns
    -------
    float
        Infinity for identical images; NaN in an empty region.
    """
    s, t = _inside(synth, truth, mask)
    if t.size == 0:
        return float("nan")
    mse = float(np.mean((s - t) ** 2))
    return float(-10 * np.log10(mse)) if mse > 0 else float("inf")


def nmse(synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Return the normalised mean squared error, ``sum_B (s - t)^2 / sum_B t^2``.

    Parameters and errors are those of :func:`mae`.

    Returns
    -------
    float
        0 for identical images; NaN in an empty region or where the true image is all 0.
    """
    s, t = _inside(synth, truth, mask)
    energy = float(np.sum(t**2))
    return float(np.sum((s - t) ** 2)) / energy if energy > 0 else float("nan")


def fit_gain_offset(
    synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Return the gain ``a`` and offset ``b`` that minimise ``sum_B (a s + b - t)^2``.

    A scan's intensity scale is the scanner's choice and cannot be known from other contrasts.
    "Fitted" figures, taken after this correction, judge the image apart from its scale.

    Parameters and errors are those of :func:`mae`.

    Returns
    -------
    gain, offset : float
        Gain 0 and the mean of the true image where the synthesised one is constant; (1, 0) in an
        empty region.
    """
    s, t = _inside(synth, truth, mask)
    if t.size == 0:
        return 1.0, 0.0
    centred = s - s.mean()
    variance = float(np.mean(centred**2))
    # Rounding noise around a constant is no contrast to fit a gain to.
    gain = float(np.mean(centred * (t - t.mean()))) / variance if variance > 1e-14 else 0.0
    return gain, float(t.mean() - gain * s.mean())


def apply_gain_offset(
    synth: npt.ArrayLike, gain: float, offset: float, mask: npt.ArrayLike
) -> FloatArray:
    """Return ``a s + b`` inside the mask and 0 outside; nothing is clipped.

    Parameters
    ----------
    synth : array_like
    gain, offset : float
        From :func:`fit_gain_offset`.
    mask : array_like, same shape
        The brain.
    """
    scaled = gain * np.asarray(synth, dtype=np.float64) + offset
    return np.where(np.asarray(mask) != 0, scaled, 0.0)


def ssim_map(synth: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Return the structural similarity of every pixel, in axial slices.

    Wang et al., IEEE Trans. Image Process. 13(4), 2004, Eq. 13, with their 11 x 11 Gaussian
    window of sigma 1.5 and population (co)variances::

        SSIM = (2 mu_s mu_t + C1) (2 sigma_st + C2)
               / ((mu_s^2 + mu_t^2 + C1) (sigma_s^2 + sigma_t^2 + C2)),   C = (K x range)^2

    It is scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1, full=True)`` of each slice.

    Parameters
    ----------
    synth, truth : array_like, (X, Y) or (X, Y, Z), in [0, 1]

    Returns
    -------
    ndarray, same shape, float64 in [-1, 1]
    """
    return _similarity(synth, truth, _gaussian_mean, 1.0)


def ssim(synth: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike) -> float:
    """Return the mean of :func:`ssim_map` over the voxels of the mask.

    Parameters
    ----------
    synth, truth : array_like, (X, Y, Z), in [0, 1], background 0
    mask : array_like, same shape
        The brain.

    Returns
    -------
    float
        1 for identical images; NaN in an empty mask.
    """
    _inside(synth, truth, mask)
    region = np.asarray(mask) != 0
    return float(ssim_map(synth, truth)[region].mean()) if region.any() else float("nan")


def paper_psnr(synth: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Return the PSNR of each whole axial slice, background included, data range 1.

    scikit-image's ``peak_signal_noise_ratio(truth, synth, data_range=1)`` of each slice.

    Parameters
    ----------
    synth, truth : array_like, (X, Y, Z), in [0, 1]

    Returns
    -------
    ndarray, (Z,), float64
        In dB; infinity for identical slices.
    """
    s, t = np.asarray(synth, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    return np.array([psnr(s[..., z], t[..., z]) for z in range(t.shape[-1])])


def paper_ssim(synth: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Return the SSIM of each whole axial slice, background included, data range 1.

    scikit-image's ``structural_similarity(truth, synth, data_range=1)`` of each slice: a uniform
    7 x 7 window, sample (co)variances, and the mean without a border of 3 pixels.

    Parameters
    ----------
    synth, truth : array_like, (X, Y, Z), in [0, 1]; X and Y at least 7

    Returns
    -------
    ndarray, (Z,), float64
        1 for identical slices.
    """
    window = _UNIFORM_SIZE**2
    similarity = _similarity(synth, truth, _uniform_mean, window / (window - 1))
    border = _UNIFORM_SIZE // 2
    inner = similarity[border:-border, border:-border]
    return np.asarray(inner.mean(axis=(0, 1)))


def _gaussian_mean(image: FloatArray) -> FloatArray:
    """Return the local mean of a slice under the 11 x 11 Gaussian window."""
    return np.asarray(ndimage.gaussian_filter(image, _GAUSSIAN_SIGMA, radius=_GAUSSIAN_RADIUS))


def _uniform_mean(image: FloatArray) -> FloatArray:
    """Return the local mean of a slice under the uniform 7 x 7 window."""
    return np.asarray(ndimage.uniform_filter(image, _UNIFORM_SIZE))


def _similarity(
    synth: npt.ArrayLike,
    truth: npt.ArrayLike,
    mean: Callable[[FloatArray], FloatArray],
    covariance_factor: float,
) -> FloatArray:
    """Return the map of SSIM for one kind of local mean, slice by slice to spare memory."""
    s, t = np.asarray(synth, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if s.shape != t.shape:
        raise ValueError(f"images are not on the same grid: {[s.shape, t.shape]}")
    if t.ndim == 3:
        similarity = np.empty(t.shape)
        for z in range(t.shape[2]):
            similarity[..., z] = _similarity(s[..., z], t[..., z], mean, covariance_factor)
        return similarity
    mu_s, mu_t = mean(s), mean(t)
    sigma_ss = covariance_factor * (mean(s * s) - mu_s * mu_s)
    sigma_tt = covariance_factor * (mean(t * t) - mu_t * mu_t)
    sigma_st = covariance_factor * (mean(s * t) - mu_s * mu_t)
    c1, c2 = K1**2, K2**2
    luminance = (2 * mu_s * mu_t + c1) / (mu_s**2 + mu_t**2 + c1)
    structure = (2 * sigma_st + c2) / (sigma_ss + sigma_tt + c2)
    return np.asarray(luminance * structure)
