"""The tissues' inherent density distributions of Fig. 1 E, as maps.

For each contrast and tissue class k, the histogram of the class over the volume gives a density
p_k(I) of its intensities. Each voxel x then has p(x) = sum_k S_k(x) p_k(I(x)): how common its
intensity is in the tissue that it is of. So the guidance stays spatial, as the figure has it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 64


def class_histograms(image: Tensor, tissues: Tensor, mask: Tensor, bins: int = BINS) -> Tensor:
    """Return the histogram of each class over a volume.

    Parameters
    ----------
    image : Tensor, shape (slices, H, W)
        In [0, 1].
    tissues : Tensor, shape (K, slices, H, W)
        Probability of each class, in [0, 1]. A voxel counts as much as it belongs to a class.
    mask : Tensor, shape (slices, H, W)
        The brain: every value above 0.
    bins : int
        Of equal width, from 0 to 1; an intensity of 1 is in the last one.

    Returns
    -------
    counts : Tensor, shape (K, bins)
    """
    inside = mask > 0
    index = (image[inside] * bins).long().clamp(0, bins - 1)
    weights = tissues[:, inside].double()  # a long sum of small numbers
    counts = weights.new_zeros(len(tissues), bins)
    return counts.index_add_(1, index, weights).to(image.dtype)


def densities(counts: Tensor, smoothing: float = 1.0) -> Tensor:
    """Return the density of each class over [0, 1], from its histogram.

    Parameters
    ----------
    counts : Tensor, shape (..., bins)
    smoothing : float
        Standard deviation, in bins, of the Gaussian that smooths the histogram; 0 for none. What
        would leave [0, 1] is spread over the bins that are left, so that no count is lost.

    Returns
    -------
    densities : Tensor, shape (..., bins)
        Each with mean 1 over its bins; zeros for a class without a voxel.

    Raises
    ------
    ValueError
        If ``smoothing`` is negative.
    """
    if smoothing < 0:
        raise ValueError(f"the smoothing is a standard deviation, not {smoothing:g}")
    bins = counts.shape[-1]
    if smoothing > 0:
        centres = torch.arange(bins, device=counts.device, dtype=counts.dtype)
        kernel = torch.exp(-0.5 * ((centres[:, None] - centres) / smoothing).square())
        with torch.autocast(counts.device.type, enabled=False):
            counts = counts @ (kernel / kernel.sum(dim=1, keepdim=True))
    total = counts.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, bins * counts / total, torch.zeros_like(counts))


def density_map(image: Tensor, tissues: Tensor, densities: Tensor) -> Tensor:
    """Return how common each voxel's intensity is in its tissue.

    Axes before K, such as that of a batch, are those of all three; none for one volume.

    Parameters
    ----------
    image : Tensor, shape (..., *space)
        In [0, 1]. For instance (slices, H, W), or (batch, H, W) with a batch of densities.
    tissues : Tensor, shape (..., K, *space)
        In [0, 1]: (K, slices, H, W), or (batch, K, H, W).
    densities : Tensor, shape (..., K, bins)
        From :func:`densities`: (K, bins), or (batch, K, bins).

    Returns
    -------
    map : Tensor, of the shape of ``image``, in [0, 1]
        log(1 + p) / log(1 + bins), where p lies between 0 and the number of bins: densities
        differ by orders of magnitude. 0 where there is no tissue.

    Raises
    ------
    ValueError
        If the shapes do not fit together.
    """
    *before, classes, bins = densities.shape
    space = image.shape[len(before) :]
    if image.shape != (*before, *space) or tissues.shape != (*before, classes, *space):
        raise ValueError(
            f"the shapes do not fit: image {tuple(image.shape)}, tissues {tuple(tissues.shape)}, "
            f"densities {tuple(densities.shape)}"
        )
    # In units of bins from the centre of the first; constant beyond the outermost centres.
    position = (image * bins - 0.5).clamp(0, bins - 1).flatten(len(before)).unsqueeze(-2)
    below = position.long().clamp(max=max(0, bins - 2))
    fraction = position - below
    shape = (*before, classes, position.shape[-1])
    p_below = densities.gather(-1, below.expand(shape))
    p_above = densities.gather(-1, (below + 1).clamp(max=bins - 1).expand(shape))
    p_k = p_below + fraction * (p_above - p_below)
    p = (tissues.flatten(len(before) + 1) * p_k).sum(dim=-2).clamp(0, bins)
    return (torch.log1p(p) / math.log1p(bins)).reshape(image.shape)
