"""Calibrate a model's standard deviation on participants that it did not learn from.

For each participant and target there is one synthesis with several samples, from all other
contrasts, and a file of voxels: error, standard deviation and tissue of some of them, drawn at
random. What is there already is not made again, so a run that was killed goes on where it stopped.
:mod:`colapipe.coladiff.calibration` does the statistics; here are the data and the new checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from colapipe.coladiff.calibration import (
    Calibration,
    TargetCalibration,
    Voxels,
    coverage,
    fit,
    leave_one_out,
)
from colapipe.coladiff.checkpoint import METADATA_KEY, write_safetensors
from colapipe.coladiff.model import CoLaDiff, UnsuitableModelError
from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.errors import DatasetError, UsageError
from colapipe.evaluation.cases import Case, Task, read_case, tasks_of
from colapipe.evaluation.cost import Cost
from colapipe.evaluation.lesions import lesion_slices, split_name
from colapipe.files import whole
from colapipe.quality.stored import KEY as QUALITY_KEY
from colapipe.quality.stored import Quality
from colapipe.slices import MIN_FRACTION
from colapipe.training.store import SliceStore

EVERY = 4
"""Every how many-th of the slices with enough brain is synthesised."""

VOXELS = 50_000
"""How many voxels of a participant (and session) are kept for each target."""

FEWEST = 2
"""Participants that a target needs; a coverage of participants who were left out needs one more."""

REGIONS = (*TISSUES, "lesion")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What a file of voxels depends on, besides the participant's data.

    Attributes
    ----------
    model_sha256 : str
        Of the model's file.
    sampler : str
    steps, samples : int
    every : int
        See :data:`EVERY`.
    voxels : int
        See :data:`VOXELS`.
    seed : int
        Of the samples' noise, and of which voxels are kept.
    """

    model_sha256: str
    sampler: str
    steps: int
    samples: int
    every: int = EVERY
    voxels: int = VOXELS
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What the calibration of one target found.

    Attributes
    ----------
    target : str
    sources : tuple of str
        The sets of sources that the participants have, joined: ``T1w+FLAIR``.
    fitted : TargetCalibration or None
        None where there are too few participants.
    held_out : dict of dict of float
        Coverage by participant and region, with floor and factor of the others; empty for fewer
        than three participants.
    uncalibrated : dict of dict of float
        The same of mean ± z * std, which would be right if samples were as far from the truth as
        from each other.
    spearman : dict of float
        Rank correlation of std and \\|error\\| over the voxels, by participant.
    width : float
        Mean width of the intervals, in [0, 1]; NaN without ``fitted``.
    """

    target: str
    sources: tuple[str, ...]
    fitted: TargetCalibration | None
    held_out: dict[str, dict[str, float]]
    uncalibrated: dict[str, dict[str, float]]
    spearman: dict[str, float]
    width: float


class VoxelStore:
    """The voxels that were kept, one file for each participant (and session) and target.

    Parameters
    ----------
    folder : Path
    settings : Settings
    checksums : dict
        Participant and session to the CRC-32 of its cached slices, as of
        :func:`colapipe.evaluation.compare.conditions_of`.
    lesions : dict
        Participant and session to the file of its lesion mask.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        checksums: Mapping[str, int],
        lesions: Mapping[str, Path],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._settings, self._checksums = folder, settings, checksums
        self._lesions = {
            name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            for name, path in lesions.items()
        }

    def path(self, name: str, task: Task) -> Path:
        """Return the file of a participant (and session) and target."""
        return self._folder / f"{name}_{task.target}.npz"

    def has(self, name: str, task: Task) -> bool:
        """Say whether the voxels of a participant and target are there.

        Raises
        ------
        UsageError
            If they are, but were made otherwise, or their file is damaged.
        """
        path = self.path(name, task)
        if not path.is_file():
            return False
        try:
            with np.load(path) as content:
                before = json.loads(str(content["made_by"]))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(f"{path}: damaged ({error}); remove it") from error
        made_by = self._made_by(name, task)
        if changed := [key for key in made_by if before.get(key) != made_by[key]]:
            raise UsageError(
                f"{path}: made otherwise ({', '.join(changed)}); repeat the options, remove the "
                "folder, or choose another --out"
            )
        return True

    def write(self, name: str, task: Task, voxels: Voxels) -> None:
        """Store voxels; a reader sees the whole file or none."""
        path = self.path(name, task)
        arrays: dict[str, Any] = {
            "made_by": json.dumps(self._made_by(name, task)),
            "error": voxels.error.astype(np.float32),
            "std": voxels.std.astype(np.float32),
            **voxels.regions,
        }
        with whole(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    def read(self, names: Sequence[str], task_of: Mapping[str, Task]) -> Voxels:
        """Return the voxels of one participant, of all sessions together."""
        parts = []
        for name in names:
            with np.load(self.path(name, task_of[name])) as content:
                parts.append({key: content[key] for key in content.files if key != "made_by"})
        regions = {region for part in parts for region in part} - {"error", "std"}
        # A session without a lesion mask has no voxel that is known to be in a lesion.
        joined = {
            key: np.concatenate([part.get(key, np.zeros(len(part["std"]), bool)) for part in parts])
            for key in ("error", "std", *sorted(regions, key=REGIONS.index))
        }
        return Voxels(joined.pop("error"), joined.pop("std"), joined)

    def _made_by(self, name: str, task: Task) -> dict[str, Any]:
        return {
            **asdict(self._settings),
            "sources": task.joined,
            "slices": self._checksums[name],
            "lesion": self._lesions.get(name),
        }


def draw_voxels(
    mean: npt.NDArray[np.floating[Any]],
    std: npt.NDArray[np.floating[Any]],
    case: Case,
    count: int,
    seed: Sequence[int],
) -> Voxels:
    """Keep some of a participant's voxels, every one of the brain with the same probability.

    Parameters
    ----------
    mean, std : ndarray, (slices, height, width)
        As the model returns them.
    case : Case
    count : int
        Voxels to keep; all, if there are no more.
    seed : sequence of int

    Returns
    -------
    Voxels
        With the regions of the scores: the most probable tissue outside the lesion, and the lesion.
    """
    rows = case.rows
    inside = np.flatnonzero(case.mask[rows])
    if inside.size > count:
        inside = np.sort(np.random.default_rng(seed).choice(inside, count, replace=False))

    def kept(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(values[rows].reshape(-1)[inside])

    maps = np.stack([kept(case.regions[tissue]) for tissue in TISSUES])
    lesion = np.zeros(inside.size, dtype=bool) if case.lesion is None else kept(case.lesion)
    healthy = ~lesion & (maps.max(axis=0) > 0)
    regions = {tissue: healthy & (maps.argmax(axis=0) == k) for k, tissue in enumerate(TISSUES)}
    if case.lesion is not None:
        regions["lesion"] = lesion
    return Voxels(kept(case.truth) - kept(mean), kept(std), regions)


def collect(
    model: Callable[[], CoLaDiff],
    store: SliceStore,
    found: VoxelStore,
    settings: Settings,
    lesions: Mapping[str, Path],
    report: Report = lambda line: None,
) -> dict[str, dict[str, Task]]:
    """Synthesise what is not there yet, one participant and target at a time.

    Parameters
    ----------
    model : callable
        Loads the model; called if there is something left to do.
    store : SliceStore
        The participants.
    found : VoxelStore
        Gets the voxels.
    settings : Settings
    lesions : dict
        Participant and session to the file of its lesion mask.
    report : callable
        Told about each synthesis.

    Returns
    -------
    dict of dict of Task
        Target, and then name of participant and session, to the task that there are voxels of.

    Raises
    ------
    UsageError
        If there are voxels that were made otherwise.
    DatasetError
        If no target has enough participants.
    """
    work = [
        (name, task)
        for name, entry in store.entries.items()
        for task in tasks_of(entry["contrasts"])
    ]
    people = {(task.target, split_name(name)[0]) for name, task in work}
    if max(Counter(target for target, _ in people).values(), default=0) < FEWEST:
        raise _too_few()
    # All are looked at before anything runs: a folder that does not fit should say so at once.
    left = [(name, task) for name, task in work if not found.has(name, task)]
    if left:
        skipped = _make(model(), store, found, left, settings, lesions, report)
        work = [pair for pair in work if pair not in skipped]
    tasks: dict[str, dict[str, Task]] = {}
    for name, task in work:
        tasks.setdefault(task.target, {})[name] = task
    return {target: tasks[target] for target in CONTRASTS if target in tasks}


def _make(
    model: CoLaDiff,
    store: SliceStore,
    found: VoxelStore,
    left: Sequence[tuple[str, Task]],
    settings: Settings,
    lesions: Mapping[str, Path],
    report: Report,
) -> list[tuple[str, Task]]:
    """Make files of voxels; return those that cannot be made."""
    impossible = []
    drawn: tuple[str, npt.NDArray[np.bool_] | None] = ("", None)
    for number, (name, task) in enumerate(left, start=1):
        where = f"[{number}/{len(left)}] {name}: {task}"
        if drawn[0] != name:
            path = lesions.get(name)
            drawn = (name, None if path is None else lesion_slices(path, store, name))
        case = read_case(store, name, task, settings.every, drawn[1])
        if not case.rows:
            report(f"{where}: no slice has brain on {MIN_FRACTION:.0%} of it")
            impossible.append((name, task))
            continue
        try:
            with Cost() as cost:
                voxels = _synthesise(model, case, task, settings, name)
        except UnsuitableModelError as error:
            report(f"{where}: {error}")
            impossible.append((name, task))
            continue
        found.write(name, task, voxels)
        report(
            f"{where}: mean |error| {np.abs(voxels.error).mean():.3f}, mean SD "
            f"{voxels.std.mean():.3f}, {cost.seconds:.0f} s"
        )
    return impossible


def _synthesise(model: CoLaDiff, case: Case, task: Task, settings: Settings, name: str) -> Voxels:
    participant, session = split_name(name)
    result = model.synthesise(
        case.sources,
        task.target,
        settings.steps,
        settings.samples,
        settings.seed,
        mask=case.mask,
        tissues=case.tissues,
        slice_ids=case.slice_ids,
        rows=case.rows,
        sampler=settings.sampler,
        tissue_source=case.best,
        participant=participant,
        session=session,
    )
    if result.std is None:
        raise UsageError("a standard deviation needs two samples or more")
    seed = (settings.seed, zlib.crc32(f"{name} {task.target}".encode()))
    return draw_voxels(result.mean, result.std, case, settings.voxels, seed)


def calibrate(
    found: VoxelStore,
    tasks: Mapping[str, Mapping[str, Task]],
    settings: Settings,
    level: float,
) -> tuple[Calibration, list[Result]]:
    """Fit every target, and see what its intervals cover in participants who were left out.

    Parameters
    ----------
    found : VoxelStore
    tasks : dict of dict of Task
        As :func:`collect` returns them.
    settings : Settings
    level : float
        In (0, 1).

    Returns
    -------
    Calibration
        Without the targets that have too few participants.
    list of Result
        One for each target.

    Raises
    ------
    DatasetError
        If no target has enough participants.
    """
    results = [_calibrate_target(found, target, tasks[target], level) for target in tasks]
    targets = {result.target: result.fitted for result in results if result.fitted is not None}
    if not targets:
        raise _too_few()
    s = settings
    return Calibration(targets, s.samples, s.steps, s.sampler, level), results


def _too_few() -> DatasetError:
    return DatasetError(
        f"no contrast of {FEWEST} or more validation participants: one does not show how people "
        "differ, so nothing can be calibrated"
    )


def _calibrate_target(
    found: VoxelStore, target: str, tasks: Mapping[str, Task], level: float
) -> Result:
    sessions: dict[str, list[str]] = {}
    for name in tasks:
        sessions.setdefault(split_name(name)[0], []).append(name)
    people = {label: found.read(names, tasks) for label, names in sessions.items()}
    fitted = fit(list(people.values()), level) if len(people) >= FEWEST else None
    # A floor this small is none.
    raw = TargetCalibration(1e-12, float(stats.norm.ppf((1 + level) / 2)), FEWEST)
    width = math.nan
    if fitted is not None:
        width = float(np.mean([2 * fitted.half_width(v.std).mean() for v in people.values()]))
    return Result(
        target,
        tuple(dict.fromkeys(task.joined for task in tasks.values())),
        fitted,
        leave_one_out(people, level) if len(people) > FEWEST else {},
        coverage(people, raw),
        {label: _spearman(voxels) for label, voxels in people.items()},
        width,
    )


def _spearman(voxels: Voxels) -> float:
    """Return the rank correlation of std and the size of the error; NaN if either is constant."""
    size = np.abs(voxels.error)
    if np.ptp(size) == 0 or np.ptp(voxels.std) == 0:
        return math.nan
    return float(stats.spearmanr(voxels.std, size).statistic)


def write_calibrated(
    source: Path, path: Path, calibration: Calibration | None, quality: Quality | None = None
) -> None:
    """Write a copy of a checkpoint that carries a calibration: same tensors, same types.

    Parameters
    ----------
    source : Path
        The checkpoint.
    path : Path
        The new one; a reader sees the old file or the whole new one.
    calibration : Calibration or None
        Of the uncertainty; None keeps what the checkpoint has.
    quality : Quality, optional
        Limits of the self-check and intensities of the training data; what the checkpoint has
        without it.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(source, framework="pt") as file:
        header = dict(file.metadata())
    metadata = json.loads(header[METADATA_KEY])
    if calibration is not None:
        metadata["calibration"] = calibration.to_dict()
    if quality is not None:
        metadata[QUALITY_KEY] = quality.to_dict()
    header[METADATA_KEY] = json.dumps(metadata, sort_keys=True)
    write_safetensors(path, load_file(source), header)
