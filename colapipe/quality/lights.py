"""From the numbers of a self-check to a traffic light with reasons.

The limits come from participants who were left out of the training (``colapipe-model calibrate``),
for each set of contrasts that a session can have, since few sources make a worse synthesis. They
are bounds for one more participant like these, if the numbers are normally distributed: the mean
and t sd sqrt(1 + 1/n) (Geisser 1993, "Predictive Inference"). For exchanged names both sides are
known, since names can be exchanged on purpose: the limit lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from colapipe.contrasts import CONTRASTS
from colapipe.files import is_number
from colapipe.quality.pose import FURTHEST, fisher
from colapipe.quality.selfcheck import SLICES, Measures

Light = Literal["green", "amber", "red", "n/a"]

FEWEST = 3
"""Participants that limits need; with two nobody knows how much people differ."""

RARE, VERY_RARE = 0.025, 0.005
"""Part of untouched scans that may be beyond a limit of amber and of red."""

VOXEL = 1.0
"""mm; limits of the displacement are not below one (amber) and two (red)."""

_DECIMALS = 3


@dataclass(frozen=True)
class Limit:
    """What is usual for a number, and where amber and red begin."""

    usual: float
    amber: float
    red: float


@dataclass(frozen=True)
class Limits:
    """Limits for one contrast in one set of contrasts.

    Attributes
    ----------
    participants : int
        How many they were found on.
    correlation, asymmetry, displacement : Limit
        See :class:`~colapipe.quality.selfcheck.Measures`.
    exchange : dict of float
        For each other contrast of the set: below it, the two seem to be exchanged.
    """

    participants: int
    correlation: Limit
    asymmetry: Limit
    displacement: Limit
    exchange: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint's metadata holds."""
        content: dict[str, Any] = {"participants": self.participants}
        for name in _NAMES:
            limit = getattr(self, name)
            content[name] = [round(v, _DECIMALS) for v in (limit.usual, limit.amber, limit.red)]
        content["exchange"] = {k: round(v, _DECIMALS) for k, v in self.exchange.items()}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Limits:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If it is malformed; the message says how.
        """
        found = {}
        for name in _NAMES:
            values = content.get(name)
            if not isinstance(values, list) or len(values) != 3 or not all(map(is_number, values)):
                raise ValueError(f"{name!r} must be a list of three numbers")
            found[name] = Limit(*values)
        if type(content.get("participants")) is not int:
            raise ValueError("'participants' must be a whole number")
        exchange = content.get("exchange")
        if not isinstance(exchange, dict) or not all(
            name in CONTRASTS and is_number(value) for name, value in exchange.items()
        ):
            raise ValueError("'exchange' must be an object of contrasts and numbers")
        return cls(participants=content["participants"], exchange=exchange, **found)


_NAMES = ("correlation", "asymmetry", "displacement")


@dataclass(frozen=True)
class Verdict:
    """What is thought of one contrast.

    Attributes
    ----------
    light : str
        green, amber, red, or n/a where no limits are known.
    reasons : tuple of str
        What is unusual and what to look at, the gravest first.
    score : float
        The correlation on a scale where 1 is what is usual and 0 is where red begins; NaN where no
        limits are known.
    """

    light: Light
    reasons: tuple[str, ...] = ()
    score: float = math.nan


@dataclass(frozen=True)
class Found:
    """The self-check of one participant with one set of contrasts.

    Attributes
    ----------
    measures : dict of Measures
        By contrast.
    exchanged : dict of float
        By two contrasts (:func:`join`): the margin against exchanged names where these have been
        exchanged on purpose.
    """

    measures: Mapping[str, Measures]
    exchanged: Mapping[str, float] = field(default_factory=dict)


def fit_limits(participants: Sequence[Found]) -> dict[str, Limits]:
    """Return the limits for the contrasts of one set.

    Parameters
    ----------
    participants : sequence of Found
        All of the same contrasts.

    Returns
    -------
    dict of Limits
        By contrast; empty for fewer than three participants.
    """
    if len(participants) < FEWEST:
        return {}
    found = {}
    for name in participants[0].measures:
        mine = [participant.measures[name] for participant in participants]
        places = [m.displacement for m in mine if math.isfinite(m.displacement)]
        # Where hardly any place was found nobody knows what is usual: no limit that is in reach.
        displacement = _bounds(places, 1) if len(places) >= FEWEST else Limit(*[FURTHEST] * 3)
        asymmetry = _of_correlation([m.asymmetry for m in mine])
        found[name] = Limits(
            participants=len(mine),
            correlation=_of_correlation([m.correlation for m in mine]),
            # Only what is more like its mirror image than like itself can be a mirrored scan.
            asymmetry=Limit(asymmetry.usual, asymmetry.amber, min(asymmetry.red, 0.0)),
            displacement=Limit(
                displacement.usual,
                max(displacement.amber, VOXEL),
                max(displacement.red, 2 * VOXEL),
            ),
            exchange=_exchange_limits(name, participants),
        )
    return found


def _exchange_limits(name: str, participants: Sequence[Found]) -> dict[str, float]:
    """Return the margin below which names seem to be exchanged, by partner.

    Halfway between right and exchanged names, or where right ones rarely are; none for two
    contrasts that would be found in less than half of all cases.
    """
    limits = {}
    for other in participants[0].measures[name].exchange:
        right = _bounds([found.measures[name].exchange[other] for found in participants], -1)
        wrong = float(np.mean([found.exchanged[join((name, other))] for found in participants]))
        limit = min((right.usual + wrong) / 2, right.amber)
        if limit > wrong:
            limits[other] = limit
    return limits


def _of_correlation(values: Sequence[float]) -> Limit:
    """Return the limits of a correlation, from below."""
    found = _bounds([fisher(value) for value in values], -1)
    return Limit(*(math.tanh(z) for z in (found.usual, found.amber, found.red)))


def _bounds(values: Sequence[float], side: int) -> Limit:
    """Return the limits of one more value, above (1) or below (-1) the others."""
    from scipy import stats

    count = len(values)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = spread * math.sqrt(1 + 1 / count)
    amber, red = (float(stats.t.ppf(1 - part, count - 1)) for part in (RARE, VERY_RARE))
    return Limit(mean, mean + side * amber * reach, mean + side * red * reach)


def judge(contrast: str, found: Measures, limits: Limits | None) -> Verdict:
    """Judge one contrast by its limits; None where the model has none.

    Parameters
    ----------
    contrast : str
    found : Measures
    limits : Limits or None
    """
    if limits is None:
        return Verdict("n/a", (f"not calibrated for {contrast} from {'+'.join(found.sources)}",))
    red, amber = [], []
    for other, margin in found.exchange.items():
        if margin < limits.exchange.get(other, -math.inf):
            red.append(
                f"{contrast} and {other} fit better with exchanged names: look whether a file has "
                "the wrong name"
            )
    if found.asymmetry < limits.asymmetry.red:
        red.append(
            f"left and right differ the other way round than in the other contrasts (correlation "
            f"{found.asymmetry:.2f}): look whether this scan or a source is mirrored"
        )
    elif found.asymmetry < limits.asymmetry.amber:
        amber.append(
            "left and right differ less as in the other contrasts than usual (correlation "
            f"{found.asymmetry:.2f}, usual {limits.asymmetry.usual:.2f}): look at the alignment"
        )
    if found.displacement > limits.displacement.amber:
        (red if found.displacement > limits.displacement.red else amber).append(
            f"it fits the other contrasts best when turned by {found.turn:.1f} degrees and shifted "
            f"by {found.shift:.1f} mm: look at the registration, or for motion between the scans"
        )
    if found.correlation < limits.correlation.amber:
        (red if found.correlation < limits.correlation.red else amber).append(
            "its synthesis from the other contrasts is less like it than usual (correlation "
            f"{found.correlation:.2f}, usual {limits.correlation.usual:.2f}): look at this scan "
            "and its sources for artefacts, a wrong name or unusual anatomy"
        )
    low, usual = fisher(limits.correlation.red), fisher(limits.correlation.usual)
    return Verdict(
        "red" if red else "amber" if amber else "green",
        (*red, *amber),
        (fisher(found.correlation) - low) / (usual - low) if usual > low else math.nan,
    )


@dataclass(frozen=True)
class SelfCheckLimits:
    """The limits of a model, by set of contrasts.

    Attributes
    ----------
    sets : dict of dict of Limits
        Contrasts of a session, joined as by :func:`join`, to the limits of each contrast.
    """

    sets: Mapping[str, Mapping[str, Limits]] = field(default_factory=dict)

    def find(self, contrast: str, session: Sequence[str]) -> Limits | None:
        """Return the limits of a contrast in a session; None if there are none.

        Where a session has contrasts that nothing was calibrated with, the limits are those of the
        others: one more source does no harm.
        """
        known = {name for joined in self.sets for name in joined.split("+")}
        return self.sets.get(join(known & set(session)), {}).get(contrast)

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint's metadata holds."""
        sets = {
            joined: {name: limits.to_dict() for name, limits in entries.items()}
            for joined, entries in self.sets.items()
        }
        return {"slices": SLICES, "sets": sets}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SelfCheckLimits:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If it is malformed; the message says how.
        """
        if content.get("slices") != SLICES:
            raise ValueError(f"'slices' is {content.get('slices')!r}; expected {SLICES}")
        sets = content.get("sets")
        if not isinstance(sets, dict):
            raise ValueError("'sets' must be a JSON object")
        found: dict[str, dict[str, Limits]] = {}
        for joined, entries in sets.items():
            if not isinstance(entries, dict) or join(joined.split("+")) != joined:
                raise ValueError(f"'sets.{joined}' is not a set of contrasts with an object")
            found[joined] = {}
            for name, entry in entries.items():
                if name not in joined.split("+") or not isinstance(entry, dict):
                    raise ValueError(f"'sets.{joined}.{name}' is not a contrast with an object")
                try:
                    found[joined][name] = Limits.from_dict(entry)
                except ValueError as error:
                    raise ValueError(f"'sets.{joined}.{name}': {error}") from error
        return cls(found)


def join(contrasts: Sequence[str] | set[str]) -> str:
    """Return the name of a set of contrasts, whatever their order."""
    return "+".join(name for name in CONTRASTS if name in contrasts)
