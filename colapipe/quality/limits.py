"""Limits on the quality numbers: what lies beyond one is a warning.

This is the one table of limits; beside each stands what was measured where nothing was wrong. They
are wide on purpose: they tell a mishap from a scan; the table of the group tells who is unlike
the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from colapipe.quality.columns import REGIONS

Row = Mapping[str, Any]

RED_LIGHT = "self-check red"
"""How the warning of a red light begins."""

NOT_DONE = "self-check not done"
"""How the warning begins of a contrast that could have been checked and was not."""

FAILED = ("could not be synthesised", "could not be compared", "the self-check failed")
"""How the reasons of a contrast begin that could have been checked, but for what went wrong."""


@dataclass(frozen=True)
class Limit:
    """What is still usual for one quality number, and what to say beyond it.

    Attributes
    ----------
    column : str
        Of :data:`colapipe.quality.columns.COLUMNS`.
    found : str
        What is said of the number; ``{}`` is where it stands.
    meaning : str
        What it may mean, and what to look at.
    low, high : float or None
        What is below ``low`` or above ``high`` is a warning.
    of : {"acquired", "synthetic"}
        Which images it holds for.
    share_of : str
        The number is divided by this column before it is compared; a row without it has no such
        number.
    factor : float
        From the number to what is said.
    unit : str
        Of what is said.
    digits : int
        Decimals of what is said.
    """

    column: str
    found: str
    meaning: str
    low: float | None = None
    high: float | None = None
    of: Literal["acquired", "synthetic"] = "acquired"
    share_of: str = ""
    factor: float = 1.0
    unit: str = ""
    digits: int = 0

    def value(self, row: Row) -> float | None:
        """Return the number that a row has for this limit; None if it has none."""
        if bool(row.get("synthetic")) != (self.of == "synthetic"):
            return None
        number = row.get(self.column)
        if number is None or not self.share_of:
            return number
        whole = row.get(self.share_of)
        return number / whole if whole else None

    def is_beyond(self, value: float) -> bool:
        """Tell whether a number is beyond the limit."""
        return (self.low is not None and value < self.low) or (
            self.high is not None and value > self.high
        )

    def warning(self, row: Row) -> str | None:
        """Return what is to be said of a row; None where its number is usual or absent."""
        value = self.value(row)
        if value is None or not self.is_beyond(value):
            return None
        found = self.found.format(self._say(value), **row)
        return f"{found} (expected {self.expected}): {self.meaning}"

    @property
    def expected(self) -> str:
        """What is within the limit, in words."""
        if self.low is None:
            return f"at most {self._say(self.high or 0.0)}"
        if self.high is None:
            return f"at least {self._say(self.low)}"
        return f"{self.low * self.factor:.{self.digits}f} to {self._say(self.high)}"

    def _say(self, value: float) -> str:
        return f"{value * self.factor:.{self.digits}f} {self.unit}".rstrip()


TISSUE_SHARES = (("csf", 0.02, 0.5), ("gm", 0.15, 0.7), ("wm", 0.15, 0.7))
"""Least and largest share of the brain that a class may take, wide enough for atrophy.

Ordinary: CSF 0.10 to 0.23, GM 0.32 to 0.45, WM 0.39 to 0.57 (12 people, T1w and T2w).
"""

LIMITS = (
    Limit(
        "coverage",
        "it covers {} of the brain",
        "its field of view is cut, or it lies elsewhere. Look at the registration. What is "
        "synthesised from it beyond its edge is a guess.",
        # Ordinary: 0.982 or more (44 people). A FLAIR whose field of view is cut: 0.66.
        low=0.9,
        factor=100,
        unit="%",
    ),
    Limit(
        "mask_dice",
        "the overlap (Dice) of its brain mask with that of the reference is {}",
        "one of the masks or the registration is wrong. Look at both. Other masks and transforms "
        "can be given with --derivatives.",
        # Ordinary: 0.977 to 0.980 between heads with skull, 0.998 or more where it was gone.
        low=0.8,
        digits=2,
    ),
    Limit(
        "shift",
        "the registration moved it by {}",
        "scans of one session are rarely so far apart. Look at the registration.",
        # Ordinary: at most 0.5; an uneasy patient between thick stacks 18.
        high=40.0,
        unit="mm",
    ),
    Limit(
        "turn",
        "the registration turned it by {}",
        "a head is rarely turned so far between two scans. Look at the registration.",
        # Ordinary: at most 1.1; an uneasy patient between thick stacks 15.
        high=30.0,
        unit="degrees",
    ),
    Limit(
        "alike",
        "in the brain it is the same as the {alike_with} (correlation {})",
        "one scan may be there under two names. Look at both files.",
        # Ordinary: at most 0.96, of T1w and T1ce (43 people); 0.990 in simulated ones. The same
        # scan: 1 as it is or rescaled, 0.998 or more after a way through voxels of 2 mm, 0.986 to
        # 0.996 of 3 mm, 0.958 to 0.986 of slices of 5.5 mm. Not all of these are found, since T1w
        # and T1ce of a brain in which nothing enhances may be as alike.
        high=0.995,
        digits=3,
    ),
    Limit(
        "volume_brain",
        "its brain mask holds {}",
        "the mask has missed brain, holds what is none, or the voxel size in the header is wrong. "
        "Look at its contour. Another mask can be given with --derivatives.",
        # Ordinary: 1067 (slices that miss the cerebellum) to 1731; children have less.
        low=700.0,
        high=2200.0,
        factor=0.001,
        unit="litres",
        digits=2,
    ),
    *(
        Limit(
            f"volume_{tissue}",
            f"{{}} of its brain are labelled {REGIONS[tissue]}",
            "the tissue classes cannot be right. Look at them, at the mask, and whether the file "
            "has the wrong name.",
            low=low,
            high=high,
            share_of="volume_brain",
            factor=100,
            unit="%",
        )
        for tissue, low, high in TISSUE_SHARES
    ),
    Limit(
        "clipped_low",
        "{} of its brain have the darkest intensity",
        "dark tissue was cut off when the scan was stored or converted. Look at its intensities.",
        # Ordinary: at most 0.007 but for one scan that was stored so, 0.074 (43 people).
        high=0.15,
        factor=100,
        unit="%",
        digits=1,
    ),
    Limit(
        "clipped_high",
        "{} of its brain have the brightest intensity",
        "the scan is saturated: bright tissue and lesions are cut off. Look at its intensities.",
        # Ordinary: 0.001 to 0.0043 (43 people).
        high=0.02,
        factor=100,
        unit="%",
        digits=1,
    ),
    Limit(
        "clipped_low",
        "{} of its brain are black",
        "the synthesis has failed. Look at it, and at its sources.",
        # Ordinary: 0.022.
        high=0.5,
        of="synthetic",
        factor=100,
        unit="%",
    ),
    Limit(
        "clipped_high",
        "{} of its brain are white",
        "the synthesis has failed. Look at it, and at its sources.",
        # Ordinary: 0.0001.
        high=0.5,
        of="synthetic",
        factor=100,
        unit="%",
    ),
)
"""Every limit, in the order in which warnings are said.

How much of the brain a synthetic image covers has none: that is what --slices and --sloppy ask for.
"""

NO_LIMIT = {
    "contrast": "a name",
    "synthetic": "says which image the row is about",
    "nmi": "differs from pair to pair of contrasts; a transform is judged before it is used",
    "identity_kept": "both answers are right",
    "alike_with": "belongs to alike",
    "volume_lesion": "people have none, and large ones",
    **{
        f"{kind}_{region}": "depends on model, target, sampler and samples; the group page compares"
        for kind in ("sd", "interval")
        for region in REGIONS
    },
    "interval_level": "what the calibration promises",
    "slices": "as many as were asked for with --slices and --sloppy",
    "warnings": "what is beyond the limits of the others",
}
"""Columns without a limit, each with the reason."""

COVERAGE = LIMITS[0]


def warnings_of(row: Row) -> list[str]:
    """Return what is beyond a limit in a row of quality numbers, in words.

    Parameters
    ----------
    row : mapping
        Keys are columns of :data:`colapipe.quality.columns.COLUMNS`; what is not known is absent.
    """
    found = (limit.warning(row) for limit in LIMITS)
    return [warning for warning in found if warning is not None]


def warning_of_light(row: Row) -> str | None:
    """Return what is to be said of a row of the self-check; None where nothing is.

    A red light is a warning, and so is a contrast that could have been checked and was not.

    Parameters
    ----------
    row : mapping
        Keys are columns of :data:`colapipe.quality.selfcheck_table.SELFCHECK_COLUMNS`.
    """
    light, reasons = row.get("light"), str(row.get("reasons") or "no reason is given")
    if light == "red":
        return f"{RED_LIGHT}: {reasons}"
    if light == "n/a" and reasons.startswith(FAILED):
        return f"{NOT_DONE}: {reasons}"
    return None
