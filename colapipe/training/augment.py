"""Random changes of a sample that leave its anatomy true.

A contrast's intensity scale differs between scanners even after normalisation, so each source is
changed on its own. The target is left as it is: it is what "normalised" means to the model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

FloatArray = npt.NDArray[np.float32]


def vary_intensity(
    image: FloatArray, mask: npt.NDArray[np.bool_], rng: np.random.Generator
) -> FloatArray:
    """Return ``image`` with a random gamma, gain and offset inside the mask, kept in [0, 1]."""
    gamma = np.exp(rng.normal(0, 0.15))
    gain = np.exp(rng.normal(0, 0.07))
    offset = rng.normal(0, 0.03)
    varied = np.clip(gain * np.power(image, gamma) + offset, 0, 1) * mask
    return varied.astype(np.float32)


def vary_geometry(planes: Tensor, rng: np.random.Generator) -> Tensor:
    """Return all planes of a sample rotated, scaled, sheared and shifted together.

    Parameters
    ----------
    planes : Tensor, shape (channels, x, y)
    rng : Generator
    """
    angle = rng.normal(0, np.deg2rad(5))
    scale = np.exp(rng.normal(0, 0.05, size=2))
    shear = rng.normal(0, 0.03)
    shift = rng.normal(0, 0.02, size=2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[scale[0], shear], [0.0, scale[1]]])
    theta = torch.tensor(np.column_stack([linear, shift])[None], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, *planes.shape], align_corners=False)
    return F.grid_sample(planes[None], grid, mode="bilinear", align_corners=False)[0]
