"""What a calibration found, for people: tables of floors and factors, and of what is covered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from colapipe.coladiff.calibration import BRAIN, guaranteed_coverage
from colapipe.evaluation.calibrate import FEWEST, REGIONS, Result
from colapipe.evaluation.tables import NOTHING, Table

ByParticipant = Mapping[str, Mapping[str, float]]


def calibration_table(results: Sequence[Result]) -> Table:
    """Return floor, factor and mean width of each target."""
    rows = []
    for result in results:
        known = [value for value in result.spearman.values() if not math.isnan(value)]
        row = [NOTHING] * 3
        if result.fitted is not None:
            fitted = result.fitted
            row = [f"{fitted.floor:.4f}", f"{fitted.factor:.2f}", f"{result.width:.3f}"]
        people = str(len(result.spearman))
        spearman = f"{np.mean(known):.2f}" if known else NOTHING
        rows.append((result.target, ", ".join(result.sources), people, *row, spearman))
    return Table(
        "Floor and factor",
        ("Target", "Sources", "Participants", "Floor", "Factor", "Mean width", "Spearman"),
        rows,
        "Half the width of an interval is factor x max(standard deviation, floor), in intensities "
        "of [0, 1]; images leave the app in 0 to 1000. Spearman: rank correlation of the standard "
        "deviation and |error| over a participant's voxels, mean over participants; at 0 the "
        "standard deviation does not say where the errors are. A target with fewer than "
        f"{FEWEST} participants is not calibrated.",
    )


def coverage_table(results: Sequence[Result], level: float) -> Table:
    """Return the coverage in participants who were left out, by target and region."""
    rows = [(r.target, *_coverage_cells(r.held_out, r.uncalibrated)) for r in results]
    if len(results) > 1:
        held_out = _over_targets([result.held_out for result in results])
        raw = _over_targets([result.uncalibrated for result in results])
        rows.append(("all", *_coverage_cells(held_out, raw)))
    return Table(
        f"Coverage of the {100 * level:g} % intervals, leaving one participant out at a time",
        ("Target", "Brain", "SD", "Range", *REGIONS, "Uncalibrated"),
        rows,
        "The part of the voxels whose true intensity lies in its interval, with floor and factor "
        "of all other participants: mean, standard deviation and range over participants, and mean "
        "in each region. Uncalibrated: in the brain, of mean ± "
        f"{stats.norm.ppf((1 + level) / 2):.3f} standard deviations. The last row is over each "
        "participant's mean over targets.",
    )


def promise(results: Sequence[Result], level: float) -> str:
    """Return what the intervals promise, in words."""
    fewest = min(r.fitted.participants for r in results if r.fitted is not None)
    return (
        f"Of the voxels of a new participant's brain, {100 * level:g} % are expected inside, on "
        "average over participants who are to these as these are to each other. It is not promised "
        "for one participant, for a region, or for other sources, steps or samples. With "
        f"{fewest} participants the expectation is an estimate; what holds whatever they are like "
        f"is {100 * guaranteed_coverage(level, fewest):.0f} %."
    )


def coverage_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per target, participant and region, for people who make their own tables."""
    rows = []
    for result in results:
        for label, raw in result.uncalibrated.items():
            for region, value in raw.items():
                whole = region == BRAIN
                rows.append(
                    {
                        "participant_id": f"sub-{label}",
                        "target": result.target,
                        "region": region,
                        "coverage": result.held_out.get(label, {}).get(region, math.nan),
                        "coverage_uncalibrated": value,
                        "spearman": result.spearman[label] if whole else math.nan,
                    }
                )
    return rows


def _coverage_cells(held_out: ByParticipant, raw: ByParticipant) -> list[str]:
    brain = [regions[BRAIN] for regions in held_out.values()]
    cells = [NOTHING] * 3
    if brain:
        ends = f"{min(brain):.3f} to {max(brain):.3f}"
        cells = [f"{np.mean(brain):.3f}", f"{np.std(brain, ddof=1):.3f}", ends]
    for region in REGIONS:
        values = [regions[region] for regions in held_out.values() if region in regions]
        few = f" (n={len(values)})" if len(values) < len(brain) else ""
        cells.append(f"{np.mean(values):.3f}{few}" if values else NOTHING)
    return [*cells, f"{np.mean([regions[BRAIN] for regions in raw.values()]):.3f}"]


def _over_targets(found: Sequence[ByParticipant]) -> dict[str, dict[str, float]]:
    """Return each participant's mean over targets, region by region."""
    values: dict[str, dict[str, list[float]]] = {}
    for of_target in found:
        for label, regions in of_target.items():
            for region, value in regions.items():
                values.setdefault(label, {}).setdefault(region, []).append(value)
    return {
        label: {region: float(np.mean(parts)) for region, parts in regions.items()}
        for label, regions in values.items()
    }
