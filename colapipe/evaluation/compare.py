"""Run models over participants that they did not learn from, and score every image.

For each model, participant and task there is one synthesis, and one row of scores per region
(:mod:`colapipe.quality.scores`). Rows are written as they come; what is there already is not
computed again, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.baselines.load import load_model
from colapipe.baselines.slicewise import Synthesiser
from colapipe.coladiff.model import CoLaDiff, UnsuitableModelError
from colapipe.errors import DatasetError, ModelError, UsageError
from colapipe.evaluation.cases import Case, Task, read_case, tasks_of
from colapipe.evaluation.cost import Cost
from colapipe.evaluation.lesions import find_lesion, lesion_slices, split_name
from colapipe.files import write_text
from colapipe.quality import metrics
from colapipe.quality.scores import Row, read_scores_tsv, score_synthesis, write_scores_tsv
from colapipe.slices import MIN_FRACTION
from colapipe.training.store import SliceStore

SCORES = "scores"
"""Folder of the scores inside the output folder: a table and what made it, for each model."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """A model that is to be scored, and how it is run.

    Attributes
    ----------
    label : str
        What tables call it.
    path : Path
    steps, samples : int
        No steps and one sample where ``ceiling`` is set.
    metadata : dict
        Its description.
    sha256 : str
        Of its file.
    held_out : bool
        Whether it is known that it did not learn from the participants that are scored.
    ceiling : bool
        Score its autoencoder alone, on the true image: what the latent of a CoLa-Diff loses.
    """

    label: str
    path: Path
    steps: int
    samples: int
    metadata: dict[str, Any]
    sha256: str
    held_out: bool = True
    ceiling: bool = False

    @property
    def file_name(self) -> str:
        """The label as the name of a file, never that of another label."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", self.label).strip("-.")[:60]
        return f"{plain}-{hashlib.sha256(self.label.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Conditions:
    """What must be the same for scores to stand in one table.

    Attributes
    ----------
    every : int
        Every how many-th of the slices with enough brain is scored.
    split : str
        SHA-256 of the split.
    seed : int
    checksums : dict
        Participant and session to the CRC-32 of its cached slices.
    lesions : dict
        Participant and session to the file of its lesion mask.
    """

    every: int
    split: str
    seed: int = 0
    checksums: Mapping[str, int] = field(default_factory=dict)
    lesions: Mapping[str, Path] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions as JSON knows them, files by their content."""
        lesions = {
            name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
            for name, path in sorted(self.lesions.items())
        }
        return {
            "every": self.every,
            "split": self.split,
            "seed": self.seed,
            "slices": dict(sorted(self.checksums.items())),
            "lesions": lesions,
        }


def conditions_of(
    store: SliceStore, every: int, split: str, seed: int = 0, lesions: Path | None = None
) -> Conditions:
    """Look at the data once: their checksums, and who has a lesion mask."""
    checksums = {name: store.read(name).checksum() for name in store.entries}
    found: dict[str, Path] = {}
    if lesions is not None:
        if not lesions.is_dir():
            raise DatasetError(f"{lesions}: no such folder")
        for name in store.entries:
            path = find_lesion(lesions, name)
            if path is not None:
                found[name] = path
        if not found:
            raise DatasetError(
                f"{lesions}: no lesion mask of any participant here; expected files such as "
                "sub-X/anat/sub-X_label-lesion_mask.nii.gz or sub-X_dseg.nii.gz"
            )
    return Conditions(every, split, seed, checksums, found)


def score_case(
    model: Synthesiser, case: Case, task: Task, candidate: Candidate, name: str, seed: int = 0
) -> list[Row]:
    """Synthesise a case and return its scores, a row per region.

    Raises
    ------
    UnsuitableModelError
        If the model cannot serve the task, or has no autoencoder where that is to be scored.
    """
    participant, session = split_name(name)
    with Cost() as cost:
        image = _make_image(model, case, task, candidate, name, seed)

    def scored(slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.moveaxis(slices[case.rows], 0, -1)

    rows = score_synthesis(
        scored(image),
        scored(case.truth),
        scored(case.mask),
        {tissue: scored(values) for tissue, values in case.regions.items()},
        None if case.lesion is None else scored(case.lesion),
        range(len(case.rows)),
    )
    synth, truth = scored(image), scored(case.truth)
    scale = 80 / len(case.rows)
    rows[0] |= {
        "psnr_paper_sd": _spread(metrics.paper_psnr(synth, truth)),
        "ssim_paper_sd": _spread(metrics.paper_ssim(synth, truth)),
        "seconds_per_80": cost.seconds * scale,
        "cpu_seconds_per_80": cost.cpu_seconds * scale,
        "peak_memory": cost.peak_bytes,
    }
    about = {
        "participant_id": f"sub-{participant}",
        "session_id": f"ses-{session}" if session else None,
        "model": candidate.label,
        "target": task.target,
        "sources": task.joined,
    }
    return [{**about, **row} for row in rows]


def _spread(of_slices: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation over slices; NaN where one of them is infinite."""
    return float(of_slices.std()) if np.isfinite(of_slices).all() else float("nan")


def _make_image(
    model: Synthesiser, case: Case, task: Task, candidate: Candidate, name: str, seed: int
) -> npt.NDArray[np.float32]:
    """Return the image that is scored, shaped like the truth; only its scored slices are made."""
    if candidate.ceiling:
        if not isinstance(model, CoLaDiff):
            raise UnsuitableModelError(f"{candidate.path}: has no autoencoder")
        image = np.zeros_like(case.truth)
        image[case.rows] = model.reconstruct(case.truth[case.rows], case.mask[case.rows])
        return image
    participant, session = split_name(name)
    return model.synthesise(
        case.sources,
        task.target,
        candidate.steps,
        candidate.samples,
        seed,
        mask=case.mask,
        tissues=case.tissues,
        slice_ids=case.slice_ids,
        tissue_source=case.best,
        participant=participant,
        session=session,
        # A model may look at the whole volume to make one slice: neighbours, histogram.
        rows=case.rows,
    ).mean


class Results:
    """The scores of one model, in a folder: a table, and what made it.

    Parameters
    ----------
    folder : Path
        The output folder.
    candidate : Candidate
    conditions : Conditions

    Raises
    ------
    UsageError
        If the folder holds scores of the same label that were made otherwise.
    """

    def __init__(self, folder: Path, candidate: Candidate, conditions: Conditions) -> None:
        folder = folder / SCORES
        folder.mkdir(parents=True, exist_ok=True)
        self.table = folder / f"{candidate.file_name}.tsv"
        self.about = folder / f"{candidate.file_name}.json"
        identity = {
            "format_version": 1,
            "label": candidate.label,
            "kind": candidate.metadata["kind"],
            "model_sha256": candidate.sha256,
            "steps": candidate.steps,
            "samples": candidate.samples,
            "held_out": candidate.held_out,
            **conditions.to_dict(),
        }
        # Not in the others: scores of before there were ceilings go on.
        if candidate.ceiling:
            identity["ceiling"] = True
        if self.about.is_file():
            before = json.loads(self.about.read_text(encoding="utf-8"))
            if changed := [key for key in identity if before.get(key) != identity[key]]:
                raise UsageError(
                    f"{self.table}: these scores of {candidate.label} were made otherwise "
                    f"({', '.join(changed)}); repeat the options, remove the file and the .json "
                    "beside it, or choose another --out"
                )
        else:
            self.table.unlink(missing_ok=True)
            _write_json(self.about, identity)
        self.rows: list[Row] = read_scores_tsv(self.table) if self.table.is_file() else []
        self._done = {_key(row) for row in self.rows}

    def has(self, name: str, task: Task) -> bool:
        """Say whether a participant's scores of a task are there."""
        participant, session = split_name(name)
        of_session = f"ses-{session}" if session else "n/a"
        return (f"sub-{participant}", of_session, task.target, task.joined) in self._done

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a participant and task; a reader sees all of them or none."""
        self.rows += [{**row, "session_id": row["session_id"] or "n/a"} for row in rows]
        self._done |= {_key(row) for row in self.rows[-len(rows) :]}
        temporary = self.table.with_name(f".{self.table.name}")
        write_scores_tsv(temporary, self.rows)
        temporary.replace(self.table)


def _key(row: Row) -> tuple[str, ...]:
    return (row["participant_id"], row["session_id"], row["target"], row["sources"])


def compare(
    candidates: Sequence[Candidate],
    store: SliceStore,
    folder: Path,
    conditions: Conditions,
    targets: Sequence[str] | None = None,
    sources: Sequence[Sequence[str]] | None = None,
    device: str = "cpu",
    report: Report = lambda line: None,
) -> None:
    """Score models on the participants of a store, one after the other.

    Parameters
    ----------
    candidates : sequence of Candidate
    store : SliceStore
        The participants to score.
    folder : Path
        Gets the scores.
    conditions : Conditions
        From :func:`conditions_of`.
    targets, sources
        See :func:`tasks_of`.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    report : callable
        Told about each synthesis.

    Raises
    ------
    UsageError
        If the tasks make no sense, or the folder holds other scores.
    DatasetError
        If nobody can serve any task.
    """
    work = [
        (name, task)
        for name, entry in store.entries.items()
        for task in tasks_of(entry["contrasts"], targets, sources)
    ]
    if not work:
        raise DatasetError("no participant has the contrasts of any task that is asked for")
    # All are looked at before anything runs: a folder that does not fit should say so at once.
    results = [Results(folder, candidate, conditions) for candidate in candidates]
    for candidate, result in zip(candidates, results, strict=True):
        known = set(candidate.metadata["contrasts"])
        left = [
            (name, task)
            for name, task in work
            if task.target in known and not result.has(name, task)
        ]
        if not left:
            report(f"{candidate.label}: nothing left to do")
            continue
        model = load_model(candidate.path, device)
        drawn: tuple[str, npt.NDArray[np.bool_] | None] = ("", None)
        for number, (name, task) in enumerate(left, start=1):
            where = f"{candidate.label} [{number}/{len(left)}] {name}: {task}"
            if drawn[0] != name:
                path = conditions.lesions.get(name)
                drawn = (name, None if path is None else lesion_slices(path, store, name))
            case = read_case(store, name, task, conditions.every, drawn[1])
            if not case.rows:
                report(f"{where}: no slice has brain on {MIN_FRACTION:.0%} of it")
                continue
            try:
                rows = score_case(model, case, task, candidate, name, conditions.seed)
            except UnsuitableModelError as error:
                report(f"{where}: {error}")
                continue
            result.add(rows)
            brain = rows[0]
            report(
                f"{where}: PSNR {brain['psnr']:.2f} dB, fitted {brain['psnr_fitted']:.2f} dB, "
                f"{brain['seconds_per_80']:.1f} s per 80 slices"
            )


def read_results(folder: Path) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Return the rows of all models in an output folder, and what made them, by label.

    Raises
    ------
    ModelError
        If a file there is damaged.
    """
    rows: list[Row] = []
    about: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / SCORES).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            table = path.with_name(f"{path.name.removesuffix('.json')}.tsv")
            about[content["label"]] = content
            rows += read_scores_tsv(table) if table.is_file() else []
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: damaged ({error}); remove it and its table") from error
    return rows, about


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")
