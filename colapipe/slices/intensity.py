"""From scanner units to the model's [0, 1]: the one normalisation of the app and of training.

Nothing else in colapipe scales intensities for the model. A model is only as good as the match
between what it was trained on and what it is given, so both call :func:`normalise`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PERCENTILES = (0.1, 99.9)
"""Percentiles of the brain's intensities that become 0 and 1."""


def normalise(
    volume: npt.ArrayLike, mask: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], tuple[float, float]]:
    """Map the brain's 0.1 and 99.9 percentiles to 0 and 1, clip, and blank the background.

    ``out = clip((volume - low) / (high - low), 0, 1)`` inside the mask, 0 outside. This is the
    one normalisation of the app and of training. The result does not change when the scan is
    multiplied by a positive gain or shifted by an offset, and voxels outside the mask have no
    influence on it.

    Parameters
    ----------
    volume : array_like, any shape
        Intensities in arbitrary units.
    mask : array_like, same shape
        The brain: every voxel that is not zero.

    Returns
    -------
    normalised : ndarray, same shape, float32 in [0, 1]
        Exactly 0 outside the mask.
    (low, high) : tuple of float
        The percentiles, in the units of ``volume``.

    Raises
    ------
    ValueError
        If the shapes differ, the mask is empty, the brain holds NaN or infinity, or it shows no
        contrast: one value fills it (but for a voxel in a thousand), so no scale can be found.
    """
    intensities = np.asarray(volume)
    inside = np.asarray(mask) != 0
    if intensities.shape != inside.shape:
        raise ValueError(
            f"the volume has shape {intensities.shape} and the mask {inside.shape}; "
            "both must be on the same grid"
        )
    # float64, so that a scan with a large offset loses nothing in the subtraction.
    brain = intensities[inside].astype(np.float64)
    if brain.size == 0:
        raise ValueError("the brain mask is empty, so there is nothing to normalise")
    if not np.isfinite(brain).all():
        raise ValueError("the volume holds NaN or infinite values inside the brain mask")
    low, high = (float(value) for value in np.percentile(brain, PERCENTILES))
    # Relative to the size of the values: rounding noise around a constant is not contrast.
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        raise ValueError(
            f"the volume is constant inside the brain mask ({low:g} to {high:g} between its "
            f"percentiles {PERCENTILES[0]} and {PERCENTILES[1]}), so its intensities have no scale"
        )
    normalised = np.zeros(intensities.shape, dtype=np.float32)
    normalised[inside] = np.clip((brain - low) / (high - low), 0.0, 1.0)
    return normalised, (low, high)
