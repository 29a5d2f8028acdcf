"""Random changes of a sample that leave its anatomy true.

What differs between scanners and sites is put in: the shape of each source's intensity scale,
brightness that drifts over the head, noise, and resolution. The target is left as it is: it is what
"normalised" means to the model. Geometry changes all planes of a sample together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

FloatArray = npt.NDArray[np.float32]

LEVELS: FloatArray = np.linspace(0, 1, 256, dtype=np.float32)
"""The intensities that stored slices can have."""


@dataclass(frozen=True)
class Augmentation:
    """How often and how much; probabilities are per source, or per sample for geometry.

    Parameters
    ----------
    curve : float
        Probability of another intensity scale.
    curve_spread : float
        Standard deviation of the logarithm of its slopes.
    bias, noise, blur : float
        Probabilities of a bias field, of noise, and of a lower resolution.
    geometry, flip : float
        Probabilities of an affine change, and of changing left and right.
    no_tissues : float
        Probability that the tissue maps are withheld.
    """

    curve: float = 0.7
    curve_spread: float = 0.3
    bias: float = 0.3
    noise: float = 0.15
    blur: float = 0.15
    geometry: float = 0.3
    flip: float = 0.5
    no_tissues: float = 0.1


def random_curve(rng: np.random.Generator, spread: float) -> FloatArray:
    """Return the new intensity of each of the 256 levels: a rising curve from 0 to 1.

    Piecewise linear over five pieces whose slopes differ by factors of about exp(spread), and a
    gamma; its ends may be cut, as when the brightest voxels are brighter than usual.
    """
    slopes = np.exp(rng.normal(0, spread, size=5))
    knots = np.concatenate([[0.0], np.cumsum(slopes) / slopes.sum()])
    curve = np.interp(LEVELS, np.linspace(0, 1, 6), knots) ** np.exp(rng.normal(0, spread / 3))
    gain, offset = np.exp(rng.normal(0, 0.07)), rng.normal(0, 0.02)
    return np.clip(gain * curve + offset, 0, 1).astype(np.float32)


def vary_bias(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return slices (n, x, y) times a smooth field, about 8 % either way."""
    _, height, width = image.shape
    x = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    y = np.linspace(-1, 1, width, dtype=np.float32)[None]
    a = rng.normal(0, 0.06, size=5).astype(np.float32)
    field = np.exp(a[0] * x + a[1] * y + a[2] * x * y + a[3] * x * x + a[4] * y * y)
    return np.clip(image * field, 0, 1)


def vary_noise(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return slices with Gaussian noise of up to 4 % of the range."""
    level = np.float32(rng.uniform(0.005, 0.04))
    return np.clip(image + level * rng.standard_normal(image.shape, dtype=np.float32), 0, 1)


def vary_resolution(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return slices as if scanned with larger voxels along one or both of their axes."""
    planes = torch.from_numpy(np.ascontiguousarray(image))[None]
    height, width = image.shape[-2:]
    factors = np.where(rng.random(2) < 0.7, rng.uniform(1.0, 2.5, size=2), 1.0)
    small = (max(8, round(height / factors[0])), max(8, round(width / factors[1])))
    coarse = F.interpolate(planes, size=small, mode="area")
    fine = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return np.asarray(fine[0].numpy())


def random_affine(rng: np.random.Generator) -> Tensor:
    """Return a random rotation, scaling, shear and shift, shape (2, 3), for affine_grid."""
    angle = rng.normal(0, math.radians(6))
    scale = np.exp(rng.normal(0, 0.06, size=2))
    shear = rng.normal(0, 0.03)
    shift = rng.normal(0, 0.02, size=2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[scale[0], shear], [0.0, scale[1]]])
    return torch.tensor(np.column_stack([linear, shift]), dtype=torch.float32)


def vary_geometry(planes: Tensor, theta: Tensor) -> Tensor:
    """Return all planes (channels, x, y) of a sample moved together by an affine (2, 3)."""
    grid = F.affine_grid(theta[None], [1, *planes.shape], align_corners=False)
    return F.grid_sample(planes[None], grid, mode="bilinear", align_corners=False)[0]
