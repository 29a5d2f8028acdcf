"""Tissue classes of a brain: a hidden Markov random field, and fractions where tissues meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Image

from colapipe.contrasts import LESION_LABEL, TISSUES, intensity_order

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# About what a brain mask holds, in the order of TISSUES: where the fit starts, and what it stays
# near where a histogram alone cannot tell two tissues apart.
_EXPECTED_FRACTIONS = (0.18, 0.44, 0.38)
_EXPECTED_WEIGHT = 2.0
# Beyond these percentiles lie vessels, contrast agent and noise.
_PERCENTILES = (0.5, 99.5)
_BINS = 512
_HISTOGRAM_ITERATIONS = 50
_FIELD_ITERATIONS = 25
_CONVERGED = 3e-4
# Density of what is too bright or too dark for white and grey matter (lesions, contrast agent,
# vessels), and how many deviations that is. Beyond the fluid's end there is only more fluid.
_OUTLIERS = 0.05
_TOO_FAR = 3.0
# Noise is much the same everywhere, but the fluid is mostly seen mixed with its neighbours. Left
# to itself its deviation grows to three times that of the cortex, and the class eats into it.
_LARGEST_DEVIATION = 1.5  # of the middle one
_SMALLEST_DEVIATION = 0.01  # of the range of intensities
# FAST's default, for one neighbour that shares a face at the smallest voxel size.
_BETA = 0.1
# Tissues that share voxels: the cortex with fluid outside of it and white matter inside.
_MIXTURES = (("CSF", "GM"), ("GM", "WM"))
_FEWEST_VOXELS = 100


class _Classes(NamedTuple):
    """Normal distributions of three classes from dark to bright; intensities in [0, 1]."""

    means: Doubles
    deviations: Doubles

    def log_density(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return (3, n) logarithms of densities, but for a constant."""
        means = self.means.astype(values.dtype)[:, None]
        deviations = self.deviations.astype(values.dtype)[:, None]
        return np.asarray(-0.5 * ((values - means) / deviations) ** 2 - np.log(deviations))


def segment_tissue(image: Nifti1Image, mask: Nifti1Image, contrast: str) -> Floats:
    """Estimate how much CSF, GM and WM there is in each voxel of a brain.

    A Gaussian mixture is fitted to the histogram, then with a Markov random field over 26
    neighbours, after Zhang et al. [1]_; in place of their expectation step, the parameters are
    taken from the labels of iterated conditional modes [2]_. Each voxel is then taken for pure or
    for a mixture of CSF and GM or of GM and WM, by the likelihood averaged over all fractions, and
    the fraction follows from the intensity, as in FAST's partial volume maps.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) bias-corrected scan, arbitrary units.
    mask : Nifti1Image
        (X, Y, Z), above 0 in the brain, on the grid of ``image``.
    contrast : str
        One of ``CONTRASTS``: it tells which class is which tissue.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z, 3) float32 in [0, 1]: CSF, GM, WM; sums to 1 in the mask, 0 outside it. Lesions
        get the tissue that they look like.

    Raises
    ------
    ValueError
        If the shapes differ, the mask has fewer than 100 voxels, or the image shows no contrast.
    KeyError
        If the contrast is unknown.

    References
    ----------
    .. [1] Zhang, Brady, Smith. Segmentation of brain MR images through a hidden Markov random
       field model and the expectation-maximization algorithm. IEEE Trans Med Imaging 2001;
       20:45-57.
    .. [2] Besag. On the statistical analysis of dirty pictures. J R Stat Soc B 1986; 48:259-302.
    """
    order = intensity_order(contrast)
    data = np.asarray(image.dataobj, dtype=np.float32)
    inside = np.asarray(mask.dataobj) > 0
    if inside.shape != data.shape:
        raise ValueError(f"a mask of shape {inside.shape} for a scan of shape {data.shape}")
    if np.count_nonzero(inside) < _FEWEST_VOXELS:
        raise ValueError(
            f"the brain mask has {np.count_nonzero(inside)} voxels; at least {_FEWEST_VOXELS} "
            "are needed to tell three tissues apart"
        )
    box = tuple(
        slice(int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1)
        for used in (inside.any(axis=(1, 2)), inside.any(axis=(0, 2)), inside.any(axis=(0, 1)))
    )
    brain = inside[box]
    values = data[box][brain]
    low, high = np.percentile(values, _PERCENTILES)
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        raise ValueError(
            f"the {contrast} scan is constant inside the brain mask ({low:g} to {high:g} between "
            f"its percentiles {_PERCENTILES[0]} and {_PERCENTILES[1]}): no tissues can be told"
        )
    values = ((np.clip(values, low, high) - low) / (high - low)).astype(np.float32)

    classes = _fit_histogram(values, order)
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    classes, support = _fit_field(values, brain, classes, order, zooms)
    fractions = _fractions(values, classes, support, order)
    probabilities = np.zeros((*data.shape, len(TISSUES)), np.float32)
    in_label_order = [order.index(tissue) for tissue in TISSUES]
    probabilities[box][brain] = fractions[:, in_label_order]
    return probabilities


def order_classes(
    class_means: Sequence[float] | npt.NDArray[np.floating], contrast: str
) -> tuple[int, int, int]:
    """Tell which of three classes is CSF, which GM and which WM, by how bright they are.

    No program's numbering can be relied on: FAST's ``-t 2`` counts from the brightest.

    Parameters
    ----------
    class_means : sequence of 3 float
        Mean intensity of each class in the scan, in any order.
    contrast : str
        One of ``CONTRASTS``.

    Returns
    -------
    tuple of 3 int
        Indices of the CSF, GM and WM class.

    Raises
    ------
    ValueError
        If there are not three finite means.
    KeyError
        If the contrast is unknown.
    """
    means = np.asarray(class_means, dtype=np.float64)
    if means.shape != (len(TISSUES),) or not np.isfinite(means).all():
        raise ValueError(f"class means {means.tolist()}: expected three finite numbers")
    dark_to_bright = np.argsort(means, kind="stable")
    order = intensity_order(contrast)
    csf, gm, wm = (int(dark_to_bright[order.index(tissue)]) for tissue in TISSUES)
    return csf, gm, wm


def labels(
    probabilities: npt.NDArray[np.floating],
    mask: npt.NDArray[np.bool_],
    lesion: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.uint8]:
    """Label each voxel with its most probable tissue.

    Parameters
    ----------
    probabilities : numpy.ndarray
        (X, Y, Z, 3) of CSF, GM, WM. Where all three are 0 there is no label.
    mask : numpy.ndarray
        (X, Y, Z) bool, the brain.
    lesion : numpy.ndarray, optional
        (X, Y, Z) bool, which goes before any tissue.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) uint8: 0 outside, 1 CSF, 2 GM, 3 WM, 4 lesion.
    """
    known = np.asarray(mask, dtype=bool) & (probabilities.max(axis=-1) > 0)
    result = np.where(known, probabilities.argmax(axis=-1) + 1, 0).astype(np.uint8)
    if lesion is not None:
        result[np.asarray(lesion, dtype=bool) & np.asarray(mask, dtype=bool)] = LESION_LABEL
    return result


def _fit_histogram(values: Floats, order: tuple[str, str, str]) -> _Classes:
    """Fit three Gaussians to the histogram by expectation maximisation, from expected volumes."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0, 1))
    frequencies = counts / counts.sum()
    centres = (edges[1:] + edges[:-1]) / 2
    expected = np.array([_EXPECTED_FRACTIONS[TISSUES.index(tissue)] for tissue in order])
    bounds = np.concatenate([[0], np.cumsum(expected)])
    ranks = (bounds[1:] + bounds[:-1]) / 2
    means = np.interp(ranks, np.cumsum(frequencies), centres)
    classes = _Classes(means, _limited(np.full(3, np.diff(means).mean() / 2)))
    weights = expected
    for _ in range(_HISTOGRAM_ITERATIONS):
        density = weights[:, None] * np.exp(classes.log_density(centres)) / np.sqrt(2 * np.pi)
        outliers = _OUTLIERS * _beyond(centres, classes, order, deviations=0)
        posterior = density / np.maximum(density.sum(axis=0) + outliers, 1e-30) * frequencies
        mass = np.maximum(posterior.sum(axis=1), 1e-6)
        means = posterior @ centres / mass
        variances = np.sum(posterior * (centres - means[:, None]) ** 2, axis=1) / mass
        classes = _sorted(means, variances)
        weights = (mass + _EXPECTED_WEIGHT * expected) / (mass.sum() + _EXPECTED_WEIGHT)
    return classes


def _fit_field(
    values: Floats,
    brain: npt.NDArray[np.bool_],
    classes: _Classes,
    order: tuple[str, str, str],
    zooms: Doubles,
) -> tuple[_Classes, Floats]:
    """Fit the classes with a Markov random field; return them and (3, n) sums over neighbours."""
    spread = (np.sqrt(0.5) * zooms.min() / zooms).astype(np.float32)
    counted = ~_beyond(values, classes, order, deviations=_TOO_FAR)
    support = np.zeros((3, values.size), np.float32)
    volume = np.zeros(brain.shape, np.float32)
    for _ in range(_FIELD_ITERATIONS):
        label = (classes.log_density(values) + np.float32(_BETA) * support).argmax(axis=0)
        means, variances = classes.means.copy(), classes.deviations**2
        for k in range(3):
            members = values[(label == k) & counted]
            if members.size:
                means[k] = members.mean(dtype=np.float64)
                variances[k] = members.var(dtype=np.float64)
            volume[brain] = label == k
            support[k] = _neighbour_sum(volume, spread)[brain]
        before, classes = classes, _sorted(means, variances)
        if np.abs(classes.means - before.means).max() < _CONVERGED:
            break
    return classes, support


def _beyond(
    values: npt.NDArray[np.floating],
    classes: _Classes,
    order: tuple[str, str, str],
    deviations: float,
) -> npt.NDArray[np.bool_]:
    """Tell which values lie outside all classes, at an end that is not the fluid's."""
    reach = deviations * classes.deviations
    too_dark = (values < classes.means[0] - reach[0]) & (order[0] != "CSF")
    too_bright = (values > classes.means[-1] + reach[-1]) & (order[-1] != "CSF")
    return np.asarray(too_dark | too_bright)


def _sorted(means: Doubles, variances: Doubles) -> _Classes:
    ranks = np.argsort(means, kind="stable")
    return _Classes(means[ranks], _limited(np.sqrt(variances[ranks])))


def _limited(deviations: Doubles) -> Doubles:
    deviations = np.maximum(deviations, _SMALLEST_DEVIATION)
    return np.minimum(deviations, _LARGEST_DEVIATION * np.median(deviations))


def _neighbour_sum(volume: Floats, spread: Floats) -> Floats:
    """Sum the 26 neighbours, weighted 1 over faces, 0.71 over edges, 0.5 over corners.

    Along an axis with larger voxels the weight falls as one over their size. Products of one
    weight per axis stand in for one over the distance (corners 0.58), since they take three
    passes over the volume.
    """
    total = volume
    for axis, weight in enumerate(spread):
        line = np.moveaxis(total, axis, 0)
        summed = line.copy()
        summed[1:] += weight * line[:-1]
        summed[:-1] += weight * line[1:]
        total = np.moveaxis(summed, 0, axis)
    return np.asarray((total - volume) / spread.max())


def _fractions(
    values: Floats, classes: _Classes, support: Floats, order: tuple[str, str, str]
) -> Floats:
    """Choose between pure and mixed for each voxel; return (n, 3) fractions, dark to bright."""
    centres = np.linspace(0, 1, _BINS)
    log_likelihood = list(classes.log_density(centres))
    compositions = [np.tile(pure, (_BINS, 1)) for pure in np.eye(3)]
    neighbours = list(np.eye(3))
    parts = (np.arange(20) + 0.5) / 20
    for first, second in _MIXTURES:
        a, b = order.index(first), order.index(second)
        mixed = _Classes(*(parts * each[a] + (1 - parts) * each[b] for each in classes))
        likelihood = np.exp(mixed.log_density(centres)).mean(axis=0)
        log_likelihood.append(np.log(np.maximum(likelihood, 1e-30)))
        difference = classes.means[a] - classes.means[b]
        # Two classes coincide where an image has fewer than three grey levels.
        part = np.clip((centres - classes.means[b]) / (difference or 1e-6), 0, 1)
        composition = np.zeros((_BINS, 3))
        composition[:, a], composition[:, b] = part, 1 - part
        compositions.append(composition)
        neighbours.append((np.eye(3)[a] + np.eye(3)[b]) / 2)

    bins = np.rint(values * (_BINS - 1)).astype(np.intp)
    best = np.full(values.shape, -np.inf, np.float32)
    kind = np.zeros(values.shape, np.intp)
    for index, (table, shares) in enumerate(zip(log_likelihood, neighbours, strict=True)):
        score = table.astype(np.float32)[bins]
        score += (_BETA * shares).astype(np.float32) @ support
        better = score > best
        kind[better] = index
        np.maximum(best, score, out=best)
    return np.asarray(np.array(compositions, np.float32)[kind, bins])
