"""Similar cooperative filtering of the skip connections (Eq. 4, Fig. 1 F).

A feature f of the down path is split into wavelet bands. The directional details are thresholded
(gamma), as wavelet denoising does; the approximation and the diagonal details are averaged with
their most similar patches (delta), as BM3D does. The inverse transform gives f*, which joins the
up path. "Sum over j" in Eq. 4 cannot be a sum, since the bands of different levels differ in
size: it is read as the family over the levels, as Fig. 1 F draws it (J = 2).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.coladiff.wavelets import Wavelet2D, possible_levels

MODES = ("full", "dwt")
PADDINGS = ("zeros", "circular")
DESCRIPTOR_CHANNELS = 16
PATCH = 3


class BlockMatching(nn.Module):
    """delta of Eq. 4: mix each position of a band with those whose patches are most similar.

    q_i is the 3x3 patch of a 1x1 projection of the band around position i, and
    d_ij = |q_i - q_j|^2. Of the k positions with the smallest d_ij, i itself among them::

        w_ij  = softmax_j(-d_ij / (dim(q) tau))
        out_i = (1 - g) u_i + g sum_j w_ij u_j

    Which positions are chosen has no gradient; tau, g and the projection learn through w.

    Parameters
    ----------
    channels : int
        C.
    bands : int
        Number of bands, each with its own tau and g. They share the projection.
    neighbours : int
        k; on a band with fewer positions, all of them.
    padding : {"zeros", "circular"}
        What a patch at the edge sees beyond it.
    """

    def __init__(
        self, channels: int, bands: int, neighbours: int = 8, padding: str = "zeros"
    ) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"block matching needs a neighbour or more, not {neighbours}")
        if padding not in PADDINGS:
            raise ValueError(f"unknown padding {padding!r}; known are {list(PADDINGS)}")
        self.neighbours, self.padding = neighbours, padding
        # No bias: it would cancel out of every distance.
        self.project = nn.Conv2d(channels, DESCRIPTOR_CHANNELS, 1, bias=False)
        self.log_tau = nn.Parameter(torch.zeros(bands))
        self.g_logit = nn.Parameter(torch.full((bands,), -2.0))

    def forward(self, u: Tensor, band: int) -> Tensor:
        """Return the filtered band (batch, C, h, w), of the shape of ``u``."""
        batch, channels, height, width = u.shape
        n = height * width
        q = self._patches(u)
        # d_ij = |q_i|^2 - 2 q_i q_j + |q_j|^2, and |q_i|^2 neither changes which j are nearest
        # nor the softmax over them: what is left is one matrix product.
        likeness = torch.baddbmm(
            -q.square().sum(dim=1, keepdim=True).expand(-1, n, n), q.mT, q, alpha=2
        )
        nearest, j = likeness.topk(min(self.neighbours, n), dim=-1, sorted=False)
        w = (nearest / (q.shape[1] * self.log_tau[band].exp())).softmax(dim=-1)
        # An embedding bag sums the w_ij u_j without the (n, k, C) neighbours in between; the
        # positions of all slices are the rows of its one table.
        rows = j + n * torch.arange(batch, device=u.device)[:, None, None]
        mixed = F.embedding_bag(
            rows.flatten(0, 1),
            u.flatten(2).mT.reshape(batch * n, channels),
            mode="sum",
            per_sample_weights=w.flatten(0, 1),
        )
        mixed = mixed.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return u.lerp(mixed, self.g_logit[band].sigmoid())

    def _patches(self, u: Tensor) -> Tensor:
        """Return the q_i, shape (batch, dim(q), n)."""
        edge = [PATCH // 2] * 4
        projected = self.project(u)
        if self.padding == "circular":
            projected = F.pad(projected, edge, mode="circular")
        else:
            projected = F.pad(projected, edge)
        return F.unfold(projected, PATCH)


class SimilarCooperativeFilter(nn.Module):
    """f -> f* of Eq. 4, for the feature of one skip connection.

    With J levels, as many of ``levels`` as the map can be halved::

        f* = phi^-1( delta(A_J), {delta(D_j)}, {gamma(H_j)}, {gamma(V_j)} ),  j = 1 ... J

    gamma is the soft threshold sign(u) max(|u| - lambda, 0) with
    lambda = softplus(rho_(j, band, channel)) s_t. A map of odd size passes unchanged. No slice
    sees another of its batch. The filter runs in float32 even under autocast, and returns the
    precision it was given.

    Parameters
    ----------
    channels : int
        C.
    mode : {"full", "dwt"}
        ``dwt``: thresholds only, no block matching.
    wavelet : str
        PyWavelets' name of an orthogonal wavelet.
    levels : int
        The most levels.
    neighbours : int
        k of the block matching.
    largest : int
        Bands with a side above it are not block-matched: the cost grows with the square of the
        number of positions.
    noise_aware : bool
        Let s_t be the standard deviation of the noise at time t, sqrt(1 - abar_t), instead of 1.
    padding : {"zeros", "circular"}
        Of the patches that are compared. With ``circular``, shifting f round by multiples of 2^J
        shifts f* alike.

    Raises
    ------
    ValueError
        If an option is unknown or the wavelet is not orthogonal.
    """

    def __init__(
        self,
        channels: int,
        mode: str = "full",
        wavelet: str = "haar",
        levels: int = 2,
        neighbours: int = 8,
        largest: int = 28,
        noise_aware: bool = False,
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known are {list(MODES)}")
        if levels < 1:
            raise ValueError(f"the filter needs a level or more, not {levels}")
        self.levels, self.largest, self.noise_aware = levels, largest, noise_aware
        self.wavelet = Wavelet2D(wavelet)
        # By level j, the finest first, then H and V. softplus(-4) is about 0.018.
        self.rho = nn.Parameter(torch.full((levels, 2, channels), -4.0))
        # tau and g of A_J at 0, those of D_j at j.
        self.matching = (
            BlockMatching(channels, levels + 1, neighbours, padding) if mode == "full" else None
        )

    @torch.no_grad()
    def make_identity(self) -> None:
        """Set lambda = 0 and g = 0: f* = f but for rounding."""
        self.rho.fill_(-torch.inf)
        if self.matching is not None:
            self.matching.g_logit.fill_(-torch.inf)

    def thresholds(self, noise_level: Tensor | None = None) -> Tensor:
        """Return the lambdas, shape (batch or 1, levels, 2, C): by level, H and V, channel.

        Raises
        ------
        ValueError
            If the filter is noise-aware and no noise level is given.
        """
        thresholds = F.softplus(self.rho)[None]
        if not self.noise_aware:
            return thresholds
        if noise_level is None:
            raise ValueError("a noise-aware filter needs the noise level")
        return thresholds * noise_level.to(thresholds.dtype)[:, None, None, None]

    def forward(self, f: Tensor, noise_level: Tensor | None = None) -> Tensor:
        """Return f*.

        Parameters
        ----------
        f : Tensor, shape (batch, C, H, W)
        noise_level : Tensor, shape (batch,), optional
            sqrt(1 - abar_t) of each slice; of no account unless the filter is noise-aware.
        """
        levels = possible_levels(f.shape[-2], f.shape[-1], self.levels)
        if levels == 0:
            return f
        with torch.autocast(f.device.type, enabled=False):
            approximation, details = self.wavelet.analyse(f, levels)
            lambdas = self.thresholds(noise_level)
            approximation = self._delta(approximation, band=0)
            filtered = []
            for j, (h, v, d) in zip(range(levels, 0, -1), details, strict=True):
                lambda_h, lambda_v = lambdas[:, j - 1, :, :, None, None].unbind(1)
                filtered.append(
                    (soft_threshold(h, lambda_h), soft_threshold(v, lambda_v), self._delta(d, j))
                )
            return self.wavelet.synthesise(approximation, filtered).to(f.dtype)

    def _delta(self, u: Tensor, band: int) -> Tensor:
        if self.matching is None or max(u.shape[-2:]) > self.largest:
            return u
        matched: Tensor = self.matching(u, band)
        return matched


def soft_threshold(u: Tensor, threshold: Tensor) -> Tensor:
    """Return gamma(u) = sign(u) max(|u| - lambda, 0) of Eq. 4 (Donoho, 1995)."""
    return u.sign() * (u.abs() - threshold).relu()
