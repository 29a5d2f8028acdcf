"""Whether a transform between two scans can be believed, whoever made it.

An optimiser that lost its way, a matrix of other scans and a scan of something else all leave a
transform that looks like any other. What tells them apart is measured here on some thousand points
of the reference's brain, in half a second, whatever the engine. The figures at the limits are of 26
pairs of contrasts of 11 people (raw clinical, 1 mm, brain-extracted, one with a third of the brain
outside its field of view), as registered by the built-in engine and displaced from there by 30 to
60 mm or 35 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.errors import ParticipantError

LEAST_SEEN = 0.5
"""Share of the reference's brain where the moving scan has data: 0.70 in the cut field of view."""

LEAST_PEAK = 0.45
"""Of `TransformCheck.peak`: 0.55 to 0.93 where scans are aligned, at most 0.25 where they are not.

After a rigid registration of raw scans of two people it is 0.21 to 0.39, of two brains without
their skulls 0.15 to 0.53.
"""

LEAST_DICE = 0.6
"""Overlap of two brains: 0.89 or more where they are aligned, 0.26 to 0.55 after 60 mm."""

LEAST_OF_START = 0.9
"""The similarity may not fall below this part of what it was where the headers put the scans."""

MOST_TURN = 60.0
"""Degrees. Both engines search up to 36 and go on from there; a lying head is turned by less."""

MOST_STRETCH = 0.02
"""Part by which a rigid transform may change lengths; written in six digits it is below 1e-4."""

LEAST_LITRES = 0.1
"""Brain of a reference; a newborn has 0.35. With less there is nothing to register to."""

_POINTS = 20_000
_SEED = 0
_BINS = 32
# Thin pixels of thick slices do not bring their noise, and poses between voxels are as good as on.
_SMOOTH_MM = 3.0
_AWAY_MM, _AWAY_DEGREES = 12.0, 15.0
_FEWEST_POINTS = 100
# As in colapipe.quality.arrays: ripples of a resampling are no data.
_NOTHING = 0.002


@dataclass(frozen=True)
class TransformCheck:
    """What is measured of a transform, and why it is refused if it is.

    Attributes
    ----------
    seen : float
        Share of the reference's brain where the moving scan has data.
    shift, turn : float
        How far the middle of the brain is moved, mm, and by which angle, degrees.
    similarity, similarity_at_start : float
        Mutual information in the brain, nats, times the share that is seen: as transformed, and
        where the headers place the scans; NaN where nothing is seen.
    peak : float
        By which part of itself the similarity falls, on average, where the scan is moved by 12 mm
        or turned by 15 degrees from where the transform places it. About 0: any other place would
        do as well.
    dice : float
        Overlap of the two brains; NaN where the moving one is not known.
    stretch : float
        The largest part by which lengths are changed: 0 for a rigid transform, 2 for a mirrored
        one.
    litres : float
        Volume of the reference's brain.
    reasons : tuple of str
        Why it is refused, in words; empty if it is accepted.
    """

    seen: float = math.nan
    shift: float = math.nan
    turn: float = math.nan
    similarity: float = math.nan
    similarity_at_start: float = math.nan
    peak: float = math.nan
    dice: float = math.nan
    stretch: float = math.nan
    litres: float = math.nan
    reasons: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    @property
    def reference_to_blame(self) -> bool:
        """It is refused, and the reference shows no brain that anything could be aligned with."""
        return not self.accepted and self.litres < LEAST_LITRES

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON values; what is not known is absent."""
        known = {
            name: value
            for name, value in asdict(self).items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        return {
            "accepted": self.accepted,
            "reference_to_blame": self.reference_to_blame,
            **known,
            "reasons": list(self.reasons),
        }


def check_transform(
    matrix: np.ndarray,
    moving: Nifti1Image,
    reference: Nifti1Image,
    reference_mask: Nifti1Image,
    moving_mask: Nifti1Image | None = None,
) -> TransformCheck:
    """Measure a transform and decide whether it can be believed.

    Parameters
    ----------
    matrix : numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm.
    moving, reference : Nifti1Image
        (X, Y, Z) scans of any contrasts and grids.
    reference_mask : Nifti1Image
        Brain mask on the grid of ``reference``.
    moving_mask : Nifti1Image, optional
        Brain mask of the moving scan, on its own grid.
    """
    inside = np.asarray(reference_mask.dataobj) > 0
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        return TransformCheck(reasons=("it is no 4x4 matrix of finite numbers",))
    values = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    mirrored = np.linalg.det(matrix[:3, :3]) < 0
    stretch = 2.0 if mirrored else float(np.abs(values - 1).max())
    if stretch > MOST_STRETCH:
        how = "it mirrors the scan" if mirrored else f"it stretches lengths by {stretch:.0%}"
        return TransformCheck(stretch=stretch, reasons=(f"{how}; expected a rigid transform",))
    if not inside.any():
        return TransformCheck(stretch=stretch, litres=0.0, reasons=("there is no brain to align",))
    pair = _Pair(moving, reference, inside)
    check = _measure(pair, matrix, reference_mask, moving_mask, stretch)
    return TransformCheck(**{**asdict(check), "reasons": tuple(_reasons(check))})


def first_accepted(
    attempts: Iterable[Callable[[], np.ndarray]],
    moving: Nifti1Image,
    reference: Nifti1Image,
    reference_mask: Nifti1Image | None,
) -> np.ndarray:
    """Register from one start after the other until a transform can be believed.

    Parameters
    ----------
    attempts : iterable of callable
        Each returns a 4x4 ``moving_to_reference``, or raises `ParticipantError`.
    moving, reference : Nifti1Image
    reference_mask : Nifti1Image or None
        Without one nothing can be checked, and the first transform is taken.

    Returns
    -------
    numpy.ndarray
        The first transform that is accepted; else the one at which the scans agree most.

    Raises
    ------
    ParticipantError
        Of the first attempt, if none gives a transform.
    """
    refused: list[tuple[float, np.ndarray]] = []
    error: ParticipantError | None = None
    for attempt in attempts:
        try:
            matrix = attempt()
        except ParticipantError as err:
            error = error or err
            continue
        if reference_mask is None:
            return matrix
        check = check_transform(matrix, moving, reference, reference_mask)
        if check.accepted:
            return matrix
        refused.append((float(np.nan_to_num(check.similarity)), matrix))
        if check.reference_to_blame:
            break
    if not refused:
        raise error or ParticipantError("no registration was tried")
    return max(refused, key=lambda entry: entry[0])[1]


def _measure(
    pair: _Pair,
    matrix: np.ndarray,
    reference_mask: Nifti1Image,
    moving_mask: Nifti1Image | None,
    stretch: float,
) -> TransformCheck:
    middle = pair.points.mean(axis=0)
    similarity = pair.similarity(matrix)
    away = [np.nan_to_num(pair.similarity(step @ matrix)) for step in _steps(middle)]
    cosine = float(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))
    return TransformCheck(
        seen=float(pair.sample(matrix)[1].mean()),
        shift=float(np.linalg.norm(apply_affine(np.linalg.inv(matrix), middle) - middle)),
        turn=math.degrees(math.acos(cosine)),
        similarity=similarity,
        similarity_at_start=pair.similarity(np.eye(4)),
        peak=1 - float(np.mean(away)) / similarity if similarity > 0 else 0.0,
        dice=math.nan if moving_mask is None else _dice(pair, matrix, reference_mask, moving_mask),
        stretch=stretch,
        litres=_litres(reference_mask),
    )


def _reasons(check: TransformCheck) -> list[str]:
    """Compare what was measured with the limits."""
    reasons = []
    if check.litres < LEAST_LITRES:
        reasons.append(
            f"the brain of the reference has {check.litres:.2g} litres, expected {LEAST_LITRES:g} "
            "or more"
        )
    if check.seen < LEAST_SEEN:
        reasons.append(
            f"the scan has data in {check.seen:.0%} of the brain, expected {LEAST_SEEN:.0%} or more"
        )
    if check.turn > MOST_TURN:
        reasons.append(
            f"it turns the scan by {check.turn:.0f} degrees, expected at most {MOST_TURN:.0f}"
        )
    if check.dice < LEAST_DICE:
        reasons.append(
            f"the two brains overlap by {check.dice:.2f} (Dice), expected {LEAST_DICE} or more"
        )
    # Where less than that is seen there is nothing left to compare.
    if check.seen >= LEAST_SEEN:
        if check.peak < LEAST_PEAK:
            reasons.append(
                f"{_AWAY_MM:.0f} mm or {_AWAY_DEGREES:.0f} degrees away the scans agree nearly as "
                f"well (they lose {check.peak:.0%} of their similarity, expected "
                f"{LEAST_PEAK:.0%} or more)"
            )
        if check.similarity < LEAST_OF_START * check.similarity_at_start:
            reasons.append(
                f"the scans agreed better where their headers place them (similarity "
                f"{check.similarity_at_start:.2f}, now {check.similarity:.2f})"
            )
    if reasons:
        reasons.append(f"it moves the brain by {check.shift:.0f} mm and {check.turn:.0f} degrees")
    return reasons


class _Pair:
    """Points of the reference's brain with its intensities, and the moving scan; both smoothed."""

    def __init__(
        self, moving: Nifti1Image, reference: Nifti1Image, inside: npt.NDArray[np.bool_]
    ) -> None:
        voxels = np.argwhere(inside)
        rng = np.random.default_rng(_SEED)
        chosen = voxels[rng.choice(len(voxels), min(_POINTS, len(voxels)), replace=False)]
        self.points = apply_affine(reference.affine, chosen)
        self._fixed = _smoothed(reference)[tuple(chosen.T)]
        self._moving = _smoothed(moving)
        self._to_voxels = np.linalg.inv(moving.affine)
        levels = np.abs(self._moving[self._moving != 0])
        self._nothing = _NOTHING * float(np.percentile(levels, 99.9)) if levels.size else 0.0

    def sample(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the moving scan's intensities at the points, and where it has data."""
        places = apply_affine(self._to_voxels @ np.linalg.inv(matrix), self.points)
        values = ndimage.map_coordinates(
            self._moving, places.T, order=1, mode="constant", cval=np.nan
        )
        return values, np.abs(np.nan_to_num(values)) > self._nothing

    def similarity(self, matrix: np.ndarray) -> float:
        """Return the mutual information at a pose, times the share of points that are seen."""
        values, seen = self.sample(matrix)
        if np.count_nonzero(seen) < _FEWEST_POINTS:
            return math.nan
        return mutual_information(self._fixed[seen], values[seen]) * float(seen.mean())


def mutual_information(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the mutual information of two images in the same voxels, nats.

    Parameters
    ----------
    one, other : array_like, (n,)
        Intensities in any units; each is put into 32 bins of equal counts.
    """
    codes = []
    for values in (np.asarray(one), np.asarray(other)):
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
        codes.append(np.searchsorted(edges, values, side="right"))
    counts = np.bincount(codes[0] * _BINS + codes[1], minlength=_BINS**2)
    joint = counts.reshape(_BINS, _BINS) / counts.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    return float((joint[positive] * np.log(joint[positive] / independent[positive])).sum())


def _smoothed(image: Nifti1Image) -> npt.NDArray[np.float32]:
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    sigma = np.sqrt(np.maximum(_SMOOTH_MM**2 - zooms**2, 0)) / (2 * math.sqrt(2 * math.log(2)))
    data = np.asarray(image.dataobj, dtype=np.float32)
    return np.asarray(ndimage.gaussian_filter(data, sigma / zooms, truncate=3))


def _steps(middle: np.ndarray) -> list[np.ndarray]:
    """Return movements away from a pose, about the middle of the brain."""
    steps = []
    for direction in np.vstack([np.eye(3), -np.eye(3)]):
        steps.append(from_matvec(np.eye(3), _AWAY_MM * direction))
        turn = euler2mat(*(math.radians(_AWAY_DEGREES) * direction))
        steps.append(from_matvec(turn, middle - turn @ middle))
    return steps


def _litres(mask: Nifti1Image) -> float:
    voxel = abs(float(np.linalg.det(mask.affine[:3, :3])))
    return float(np.count_nonzero(np.asarray(mask.dataobj) > 0)) * voxel / 1e6


def _dice(
    pair: _Pair, matrix: np.ndarray, reference_mask: Nifti1Image, moving_mask: Nifti1Image
) -> float:
    """Return the overlap of both brains, by the part of the reference's points in the other."""
    brain = (np.asarray(moving_mask.dataobj) > 0).astype(np.float32)
    places = apply_affine(np.linalg.inv(matrix @ moving_mask.affine), pair.points)
    shared = float((ndimage.map_coordinates(brain, places.T, order=1) >= 0.5).mean())
    one, other = _litres(reference_mask), _litres(moving_mask)
    return 2 * shared * one / (one + other) if one + other else math.nan
