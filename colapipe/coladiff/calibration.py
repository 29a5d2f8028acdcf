"""Intervals that hold what they promise: calibration of the standard deviation over samples.

The samples of a model differ by less, or by more, than it errs. How much is measured on
participants whose truth is known, by split conformal prediction (Angelopoulos and Bates 2021,
arXiv 2107.07511, section 2.3.2, "scalar uncertainty estimates"): a voxel's score is

    r = |error| / max(std, floor),

and the interval is the mean of the samples +- factor * max(std, floor), where ``factor`` is a
quantile of r. That the intervals of a diffusion model's images should be calibrated, and on images
as a whole rather than voxel by voxel, is the idea of K-RCPS (Teneggi et al. 2023, arXiv
2302.03791). The floor is needed because samples can agree and be wrong together: r has no upper
bound where std is close to 0.

**What is promised.** Voxels of one brain are alike, and those of two are not exchangeable; the
participant is the unit. So all participants weigh the same, whatever their number of voxels ("CDF
pooling" of Dunn et al., arXiv 1809.07441), and "90 %" is meant so: of all voxels of the brain of a
new participant, 90 % are expected inside their intervals, on average over new participants who are
to these K as they are to each other (disease, scanner, sources, steps, samples).

- With ``factor`` at the level's quantile this holds only in the limit of many participants.
  Whatever the distributions are, the expectation is at least level * K / (K + 1)
  (:func:`guaranteed_coverage`): 0.75 for 0.9 and five participants. It follows from Theorem 1 of
  Lee et al. (arXiv 2306.06342), whose own remedy, the quantile at level * (K + 1) / K, does not
  exist for fewer than nine participants and is the 99 % quantile for ten.
- Therefore the quantile is taken where leaving one participant out at a time says: the smallest
  level, not below the one that is asked for, at which the factor of the others covers enough of the
  one who was left out, on average. This mends what five participants get wrong on average, but it
  is an estimate and no theorem.
- The floor is chosen on the same participants. It is one number from few candidates; the promise
  above is for a floor that was fixed before.

**What is not promised.** Nothing about one participant: some will have 97 % and some 75 %. Nothing
about a region: what is covered less in lesions is made up for elsewhere; look at
:func:`coverage`. Nothing about one voxel, and nothing where the data differ from these.

Intensities are those of the model, in [0, 1]. Needs numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEVEL = 0.9
BRAIN = "brain"
"""What :func:`coverage` calls all voxels of a participant together."""

_QUANTILES_OF_FLOOR = 21
_VOXELS_FOR_FLOOR = 5_000  # of each participant; the floor need not be exact, the factor must


class CalibrationError(ValueError):
    """A stored calibration that is malformed; the message says what is wrong with it."""


@dataclass(frozen=True)
class Voxels:
    """Some voxels of one participant whose truth is known.

    Parameters
    ----------
    error : ndarray, (n,)
        True minus synthesised intensity.
    std : ndarray, (n,)
        Standard deviation over the samples, 0 or more.
    regions : dict of ndarray, (n,), bool
        Which of the voxels lie in a region; regions may overlap.

    Raises
    ------
    ValueError
        If there is no voxel, shapes differ, or a value is not finite or a std negative.
    """

    error: npt.NDArray[np.floating[Any]]
    std: npt.NDArray[np.floating[Any]]
    regions: Mapping[str, BoolArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {np.shape(values) for values in (self.error, self.std, *self.regions.values())}
        if len(shapes) != 1 or len(shape := shapes.pop()) != 1 or shape[0] == 0:
            raise ValueError(
                "errors, standard deviations and regions must be one-dimensional, of one length "
                "above 0"
            )
        if not (np.isfinite(self.error).all() and np.isfinite(self.std).all()):
            raise ValueError("errors and standard deviations must be finite")
        if np.min(self.std) < 0:
            raise ValueError("a standard deviation is negative")

    def scores(self, floor: float) -> FloatArray:
        """Return r = |error| / max(std, floor), (n,)."""
        r = np.abs(self.error.astype(np.float64)) / np.maximum(self.std.astype(np.float64), floor)
        return np.asarray(r)


@dataclass(frozen=True)
class TargetCalibration:
    """How the standard deviation of one target becomes an interval.

    Parameters
    ----------
    floor : float
        Above 0, in intensities of the model, in [0, 1].
    factor : float
        0 or more.
    participants : int
        K, the number of participants that it was fitted on; 2 or more.

    Raises
    ------
    ValueError
        If a number is not as said.
    """

    floor: float
    factor: float
    participants: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.floor) and self.floor > 0):
            raise ValueError(f"'floor' is {self.floor}; expected a number above 0")
        if not (math.isfinite(self.factor) and self.factor >= 0):
            raise ValueError(f"'factor' is {self.factor}; expected a number of 0 or more")
        if self.participants < 2:
            raise ValueError(f"'participants' is {self.participants}; expected 2 or more")

    def half_width(self, std: npt.ArrayLike) -> FloatArray:
        """Return factor * max(std, floor), in the shape of ``std``."""
        return np.asarray(self.factor * np.maximum(np.asarray(std, np.float64), self.floor))


@dataclass(frozen=True)
class Calibration:
    """A model's calibration, as its checkpoint carries it under ``metadata["calibration"]``.

    Parameters
    ----------
    targets : dict of TargetCalibration
        By contrast.
    samples, steps : int
    sampler : str
        What it was made for; other samples have another standard deviation.
    level : float
        The part of the voxels that is expected inside, in (0, 1).

    Raises
    ------
    ValueError
        If there is no target, or a number is out of its range.

    Examples
    --------
    >>> calibration = Calibration({"T2w": TargetCalibration(0.02, 2.0, 5)}, 8, 4, "ddim")
    >>> calibration.half_width([0.0, 0.1], "T2w").tolist()
    [0.04, 0.2]
    >>> low, high = calibration.interval([0.01, 0.5], [0.0, 0.1], "T2w")
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([0.0, 0.3], [0.05, 0.7])
    >>> calibration.objection("T2w", sampler="ddim", steps=4, samples=2)
    'it was made for 8 samples of 4 steps (ddim), and these are 2 samples of 4 steps (ddim)'
    """

    targets: Mapping[str, TargetCalibration]
    samples: int
    steps: int
    sampler: str
    level: float = LEVEL

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("'targets' is empty")
        if self.samples < 2 or self.steps < 1:
            raise ValueError("'samples' must be 2 or more, and 'steps' 1 or more")
        if not 0 < self.level < 1:
            raise ValueError(f"'level' is {self.level}; expected a number between 0 and 1")

    def half_width(self, std: npt.ArrayLike, target: str) -> FloatArray:
        """Return factor * max(std, floor).

        Parameters
        ----------
        std : array_like
            In intensities of the model, in [0, 1].
        target : str

        Raises
        ------
        KeyError
            If the target was not calibrated.
        """
        return self.targets[target].half_width(std)

    def interval(
        self, mean: npt.ArrayLike, std: npt.ArrayLike, target: str
    ) -> tuple[FloatArray, FloatArray]:
        """Return the lower and the upper end of the intervals, clipped to [0, 1].

        Clipping loses nothing: every truth lies in [0, 1].

        Parameters
        ----------
        mean, std : array_like, of one shape
        target : str

        Raises
        ------
        KeyError
            If the target was not calibrated.
        """
        centre, half = np.asarray(mean, np.float64), self.half_width(std, target)
        return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)

    def objection(self, target: str, *, sampler: str, steps: int, samples: int) -> str | None:
        """Return why the calibration does not hold for a synthesis; None if it does."""
        if target not in self.targets:
            return f"it does not cover {target}"
        made = f"{self.samples} samples of {self.steps} steps ({self.sampler})"
        given = f"{samples} samples of {steps} steps ({sampler})"
        return None if made == given else f"it was made for {made}, and these are {given}"

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON knows it."""
        return {
            "level": self.level,
            "samples": self.samples,
            "steps": self.steps,
            "sampler": self.sampler,
            "targets": {
                name: {
                    "floor": found.floor,
                    "factor": found.factor,
                    "participants": found.participants,
                }
                for name, found in self.targets.items()
            },
        }

    @classmethod
    def from_dict(cls, content: Any) -> Calibration:
        """Build a calibration from JSON.

        Raises
        ------
        CalibrationError
            If an entry is unknown, missing, of the wrong type or out of its range.
        """
        kinds = {"level": float, "samples": int, "steps": int, "sampler": str, "targets": dict}
        _check_entries(content, kinds, "a calibration")
        kinds = {"floor": float, "factor": float, "participants": int}
        for name, entry in content["targets"].items():
            _check_entries(entry, kinds, f"the calibration of {name}")
        try:
            targets = {name: TargetCalibration(**e) for name, e in content["targets"].items()}
            return cls(**{**content, "targets": targets})
        except ValueError as err:
            raise CalibrationError(str(err)) from err


def guaranteed_coverage(level: float, participants: int) -> float:
    """Return the coverage to expect at least, whatever the participants are like; see above."""
    return level * participants / (participants + 1)


def fit(participants: Sequence[Voxels], level: float = LEVEL) -> TargetCalibration:
    """Find floor and factor for one target.

    Parameters
    ----------
    participants : sequence of Voxels
        One for each participant, sessions of one put together. All weigh the same.
    level : float
        In (0, 1).

    Raises
    ------
    ValueError
        If there are fewer than two participants, the level is not in (0, 1), or the samples never
        differ.
    """
    if len(participants) < 2:
        raise ValueError(
            f"participants: {len(participants)}; needed are 2 or more, for one does not show how "
            "people differ"
        )
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; expected a number between 0 and 1")
    floor = _choose_floor(participants, level)
    scores = [np.sort(voxels.scores(floor)) for voxels in participants]
    pooled, weight = _pool(scores)
    factor = _quantile(pooled, weight, max(level, _level_for_a_new_participant(scores, level)))
    return TargetCalibration(floor, factor, len(participants))


def coverage(
    participants: Mapping[str, Voxels], fitted: TargetCalibration
) -> dict[str, dict[str, float]]:
    """Return the part of the voxels that lies in its interval, by participant and region.

    The first region is :data:`BRAIN`, all voxels; regions without any voxel are left out.
    """
    found = {}
    for name, voxels in participants.items():
        covered = np.abs(voxels.error) <= fitted.half_width(voxels.std)
        parts = {BRAIN: np.ones(covered.shape, dtype=bool), **voxels.regions}
        found[name] = {
            region: float(covered[inside].mean())
            for region, inside in parts.items()
            if inside.any()
        }
    return found


def leave_one_out(
    participants: Mapping[str, Voxels], level: float = LEVEL
) -> dict[str, dict[str, float]]:
    """Return :func:`coverage` of each participant with floor and factor of all the others.

    Raises
    ------
    ValueError
        As :func:`fit`; it needs three participants.
    """
    found: dict[str, dict[str, float]] = {}
    for name, voxels in participants.items():
        others = [other for key, other in participants.items() if key != name]
        found |= coverage({name: voxels}, fit(others, level))
    return found


def _choose_floor(participants: Sequence[Voxels], level: float) -> float:
    """Return the quantile of std that gives the smallest mean width of the intervals.

    The largest std is among them: where std says nothing, all intervals have one width.
    """
    few = [_thinned(voxels) for voxels in participants]
    differ = [voxels.std[voxels.std > 0].astype(np.float64) for voxels in few]
    differ = [std for std in differ if std.size]
    if not differ:
        raise ValueError("the standard deviation is 0 everywhere: the samples do not differ")
    pooled, weight = _pool(differ)
    levels = np.linspace(0, 1, _QUANTILES_OF_FLOOR)
    floors = sorted({_quantile(pooled, weight, share) for share in levels})
    widths = [
        _quantile(*_pool([voxels.scores(floor) for voxels in few]), level)
        * np.mean([np.maximum(voxels.std, floor).mean() for voxels in few])
        for floor in floors
    ]
    return floors[int(np.argmin(widths))]


def _thinned(voxels: Voxels) -> Voxels:
    every = math.ceil(len(voxels.error) / _VOXELS_FOR_FLOOR)
    return Voxels(voxels.error[::every], voxels.std[::every])


def _level_for_a_new_participant(scores: Sequence[FloatArray], level: float) -> float:
    """Return the level whose quantile covers ``level`` of a participant who is left out.

    A score of participant k is covered by the others' quantile at beta exactly where less than
    beta of the others' scores lie below it. So that part is each score's rank, and beta is just
    above the ``level`` quantile of all ranks.

    Parameters
    ----------
    scores : sequence of ndarray
        Of each participant, in ascending order.
    """
    count = len(scores)
    pooled, weight = _pool(scores)
    below = np.concatenate([[0.0], weight])
    ranks = []
    for own in scores:
        of_all = below[np.searchsorted(pooled, own, "left")]
        of_own = np.searchsorted(own, own, "left") / own.size
        ranks.append((count * of_all - of_own) / (count - 1))
    return min(1.0, _quantile(*_pool(ranks), level) + 1e-9)


def _pool(groups: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return all values in ascending order, and the weight up to each; groups weigh the same."""
    values = np.concatenate(groups)
    weights = np.concatenate([np.full(group.size, 1 / group.size) for group in groups])
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return values[order], total / total[-1]


def _quantile(values: FloatArray, weight: FloatArray, level: float) -> float:
    """Return the smallest value up to which there is ``level`` of the weight."""
    # Sums of weights are off by rounding; the largest value must stay within reach.
    index = int(np.searchsorted(weight, level - 1e-12, "left"))
    return float(values[min(index, values.size - 1)])


def _check_entries(content: Any, kinds: Mapping[str, type], what: str) -> None:
    if not isinstance(content, Mapping):
        raise CalibrationError(f"{what} must be a JSON object")
    if wrong := sorted(set(kinds) ^ set(content), key=str):
        problem = "is missing" if wrong[0] in kinds else "is not known"
        raise CalibrationError(f"{wrong[0]!r} of {what} {problem}")
    for key, kind in kinds.items():
        # A whole number is a float, too; true is neither.
        allowed = (int, float) if kind is float else (kind,)
        if type(content[key]) not in allowed:
            raise CalibrationError(f"{key!r} of {what} must be {kind.__name__}")
