"""The self-check on cached slices: what is usual for participants that a model has not seen.

:mod:`colapipe.quality` measures and judges; here the cached slices of a participant become the
volumes that it looks at, and the numbers of many participants the limits that a model carries.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.coladiff.model import CoLaDiff
from colapipe.contrasts import CONTRASTS, intensity_order
from colapipe.errors import UsageError
from colapipe.evaluation.lesions import split_name
from colapipe.files import write_text
from colapipe.quality.histograms import TrainingRange, fit_range, histogram_of_levels
from colapipe.quality.lights import Found, Limits, SelfCheckLimits, fit_limits, join, judge
from colapipe.quality.selfcheck import (
    SAMPLES,
    STEPS,
    Measures,
    Pair,
    exchange_margin,
    measure_pairs,
    spread_slices,
)
from colapipe.quality.stored import Quality
from colapipe.training.store import SliceStore

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Report = Callable[[str], None]


@dataclass(frozen=True)
class Brain:
    """All contrasts of one participant and session, (X, Y, Z) on the model grid.

    Attributes
    ----------
    name : str
        ``sub-X`` or ``sub-X_ses-Y``.
    images : dict of ndarray, float32 in [0, 1]
    masks : dict of ndarray of bool
        The brain, as each contrast shows it.
    tissues : dict of dict of ndarray
        Maps of CSF, GM and WM, as each contrast shows them.
    slice_ids : list of int
        Indices along z of the model grid.
    """

    name: str
    images: Mapping[str, FloatArray]
    masks: Mapping[str, BoolArray]
    tissues: Mapping[str, Mapping[str, FloatArray]]
    slice_ids: list[int]


def read_brain(store: SliceStore, name: str) -> Brain:
    """Read all cached slices of a participant and session."""
    cached = store.read(name)
    return Brain(
        name,
        {c: np.moveaxis(cached.image(c), 0, 2) for c in cached.contrasts},
        {c: np.moveaxis(cached.mask(c), 0, 2) for c in cached.contrasts},
        {
            c: {tissue: np.moveaxis(v, 0, 2) for tissue, v in cached.tissues(c).items()}
            for c in cached.contrasts
        },
        cached.slices,
    )


def leave_out(model: CoLaDiff, brain: Brain, contrast: str, sources: Sequence[str]) -> Pair:
    """Synthesise a contrast from others, as the app's self-check does.

    Mask and tissue maps come from the best source.
    """
    best = next(name for name in CONTRASTS if name in sources)
    mask = brain.masks[best]

    def stack(volume: npt.NDArray[Any]) -> FloatArray:
        return np.ascontiguousarray(np.moveaxis(volume * mask, 2, 0), dtype=np.float32)

    rows = spread_slices(range(len(brain.slice_ids)))
    participant, session = split_name(brain.name)
    result = model.synthesise(
        {name: stack(brain.images[name]) for name in sources},
        contrast,
        STEPS,
        SAMPLES,
        mask=stack(mask),
        tissues={tissue: stack(volume) for tissue, volume in brain.tissues[best].items()},
        slice_ids=brain.slice_ids,
        rows=rows,
        tissue_source=best,
        participant=participant,
        session=session,
    )
    synthetic = np.moveaxis(result.mean, 0, 2)
    return Pair(brain.images[contrast], synthetic, mask, tuple(rows), tuple(sources))


def check_brain(model: CoLaDiff, brain: Brain, contrasts: Sequence[str]) -> dict[str, Measures]:
    """Synthesise each of some contrasts from the other ones, and compare it with the real one."""
    return measure_pairs(
        {
            name: leave_out(model, brain, name, [c for c in contrasts if c != name])
            for name in contrasts
        }
    )


def calibrate_quality(
    model: Callable[[], CoLaDiff],
    training: SliceStore,
    validation: SliceStore,
    folder: Path,
    made_by: Mapping[str, Mapping[str, Any]],
    report: Report = lambda line: None,
) -> tuple[Quality, dict[str, dict[str, Found]]]:
    """Find what is usual: intensities of the training data, and self-checks of held-out people.

    Parameters
    ----------
    model : callable
        Loads the model; called if there is something left to do.
    training, validation : SliceStore
        The participants that it learned from, and those that it did not.
    folder : Path
        Keeps what was measured, so that a run that was killed goes on where it stopped.
    made_by : mapping
        Participant and session to what the numbers depend on, by name; others are refused.
    report : callable
        Told about each participant.

    Returns
    -------
    Quality
        What the model is to carry.
    dict of dict of Found
        The self-checks by participant and session, and by set of contrasts.

    Raises
    ------
    UsageError
        If the folder has numbers that were made otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checks: dict[str, dict[str, Found]] = {}
    loaded: CoLaDiff | None = None
    for number, name in enumerate(validation.entries, start=1):
        path = folder / f"{name}.json"
        if not path.is_file():
            report(f"[{number}/{len(validation.entries)}] {name}: self-checks")
            loaded = loaded or model()
            content = {
                "made_by": dict(made_by[name]),
                "sets": {k: asdict(v) for k, v in check_sets(loaded, read_brain(validation, name))},
            }
            write_text(path, json.dumps(content))
        checks[name] = read_checks(path, made_by[name])
    sets: dict[str, list[Found]] = {}
    for of_one in checks.values():
        for joined, found in of_one.items():
            sets.setdefault(joined, []).append(found)
    return Quality(_ranges(training, validation), SelfCheckLimits(fit_sets(sets))), checks


def false_alarms(checks: Mapping[str, Mapping[str, Found]]) -> str:
    """Judge everybody's untouched contrasts by the limits of the others, and return it in words.

    Parameters
    ----------
    checks : mapping
        ``sub-X`` or ``sub-X_ses-Y`` to its self-checks, by set of contrasts.

    Returns
    -------
    str
        A Markdown section: how many contrasts are green, amber and red, and which are red. Empty
        where nobody has enough others.
    """
    lights: Counter[str] = Counter()
    red = []
    for name, sets in checks.items():
        who = split_name(name)[0]
        others = [found for other, found in checks.items() if split_name(other)[0] != who]
        for joined, found in sets.items():
            limits = fit_limits([other[joined] for other in others if joined in other])
            for contrast, measures in found.measures.items() if limits else ():
                verdict = judge(contrast, measures, limits.get(contrast))
                lights[verdict.light] += 1
                if verdict.light == "red":
                    red.append(f"- {name}, {contrast} of {joined}: {verdict.reasons[0]}\n")
    if not (count := lights.total()):
        return ""
    shares = ", ".join(
        f"{lights[name]} {name} ({100 * lights[name] / count:.0f} %)"
        for name in ("green", "amber", "red")
    )
    return (
        "## Self-check of untouched scans, leaving one participant out at a time\n\n"
        f"{count} contrasts of {len(checks)} sessions, in every set of contrasts: {shares}.\n\n"
        + "".join(red)
    )


def read_checks(path: Path, made_by: Mapping[str, Any] | None = None) -> dict[str, Found]:
    """Read the self-checks of one participant, by set of contrasts.

    Raises
    ------
    UsageError
        If they were not made by what is named.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    before = content["made_by"]
    if changed := [key for key, value in (made_by or {}).items() if before.get(key) != value]:
        raise UsageError(
            f"{path}: made otherwise ({', '.join(changed)}); remove it, or choose another --out"
        )
    return {
        joined: Found(
            {name: Measures(**found) for name, found in entry["measures"].items()},
            entry["exchanged"],
        )
        for joined, entry in content["sets"].items()
    }


def exchange_names(brain: Brain, one: str, other: str) -> Brain:
    """Return a brain with two contrasts under each other's name, as wrong file names would do.

    The tissue maps that a scan would have been given under its wrong name have the same classes
    from dark to bright.
    """
    names = {one: other, other: one}

    def swapped(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[names.get(name, name)] for name in values}

    tissues = swapped(brain.tissues)
    for name, true in names.items():
        maps = brain.tissues[true]
        order = zip(intensity_order(name), intensity_order(true), strict=True)
        tissues[name] = {wrong: maps[right] for wrong, right in order}
    return replace(brain, images=swapped(brain.images), masks=swapped(brain.masks), tissues=tissues)


def check_sets(model: CoLaDiff, brain: Brain) -> Iterator[tuple[str, Found]]:
    """Yield the self-check of every set of two or more contrasts that a participant has."""
    known = [name for name in CONTRASTS if name in brain.images and name in model.contrasts]
    least = max(2, int(model.metadata["min_sources"]) + 1)
    for count in range(least, len(known) + 1):
        for contrasts in combinations(known, count):
            yield join(contrasts), check_with_exchange(model, brain, contrasts)


def check_with_exchange(model: CoLaDiff, brain: Brain, contrasts: Sequence[str]) -> Found:
    """Check a participant, and see what exchanged names do to the margins against them."""
    return Found(check_brain(model, brain, contrasts), _exchanged(model, brain, contrasts))


def _exchanged(model: CoLaDiff, brain: Brain, contrasts: Sequence[str]) -> dict[str, float]:
    """Return the margin of each two contrasts when they are exchanged on purpose."""
    margins = {}
    for pair in combinations(contrasts, 2):
        wrong = exchange_names(brain, *pair)
        margins[join(pair)] = exchange_margin(
            *(leave_out(model, wrong, name, [c for c in contrasts if c != name]) for name in pair)
        )
    return margins


def fit_sets(found: Mapping[str, Sequence[Found]]) -> dict[str, dict[str, Limits]]:
    """Return the limits of every set of contrasts that enough participants have."""
    fitted = {joined: fit_limits(measured) for joined, measured in found.items()}
    return {joined: limits for joined, limits in fitted.items() if limits}


def _ranges(training: SliceStore, validation: SliceStore) -> dict[str, TrainingRange]:
    """Return the histograms of the training participants, by contrast."""
    ranges = {}
    for contrast in CONTRASTS:
        mine = _histograms(training, contrast)
        if mine:
            ranges[contrast] = fit_range(mine, _histograms(validation, contrast))
    return ranges


def _histograms(store: SliceStore, contrast: str) -> list[npt.NDArray[np.float64]]:
    """Return the histogram of each participant (and session) who has a contrast."""
    return [
        histogram_of_levels(cached.levels(contrast)[cached.mask(contrast)])
        for cached in map(store.read, store.entries)
        if contrast in cached.contrasts
    ]
