"""Tasks, and the slices of a participant as a task shows them.

A **task** is a target and the sources that it is made from. Nothing of the target is looked at
before it is scored: mask and tissue maps come from the best source, and the truth is masked by that
mask, as in training. The regions that scores are taken in are those of the participant's first
contrast, the target or not, so that they are the same for every task and model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from colapipe.contrasts import CONTRASTS
from colapipe.errors import UsageError
from colapipe.slices import MIN_FRACTION
from colapipe.training.store import SliceStore

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """A target and what it is made from.

    Parameters
    ----------
    target : str
    sources : tuple of str
        Put into the order of ``CONTRASTS``.

    Raises
    ------
    UsageError
        If a contrast is unknown, there is no source, or the target is among them.
    """

    target: str
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in (self.target, *self.sources):
            if name not in CONTRASTS:
                raise UsageError(f"unknown contrast {name!r}; known are {', '.join(CONTRASTS)}")
        if self.target in self.sources:
            raise UsageError(f"the target {self.target} is among its own sources")
        if not self.sources:
            raise UsageError(f"there is no source to make {self.target} from")
        object.__setattr__(
            self, "sources", tuple(name for name in CONTRASTS if name in self.sources)
        )

    @property
    def joined(self) -> str:
        """The sources as a table names them."""
        return "+".join(self.sources)

    def __str__(self) -> str:
        return f"{self.target} from {self.joined}"


def tasks_of(
    available: Sequence[str],
    targets: Sequence[str] | None = None,
    sources: Sequence[Sequence[str]] | None = None,
) -> list[Task]:
    """Return the tasks that a participant with some contrasts can serve.

    Parameters
    ----------
    available : sequence of str
    targets : sequence of str, optional
        Without: every contrast; with ``sources``, every one that is in none of them.
    sources : sequence of sequence of str, optional
        Sets of sources; without, all contrasts but the target.

    Raises
    ------
    UsageError
        If a target that was asked for is among its sources, or a contrast is unknown.
    """
    if targets is None:
        used = {name for group in sources or () for name in group}
        targets = [name for name in CONTRASTS if name in available and name not in used]
    tasks = []
    for target in targets:
        groups = sources or [[name for name in available if name != target]]
        for task in (Task(target, tuple(group)) for group in groups if group):
            if target in available and set(task.sources) <= set(available):
                tasks.append(task)
    return tasks


@dataclass(frozen=True)
class Case:
    """One participant and session, made ready for one task.

    Attributes
    ----------
    sources : dict of ndarray, (slices, height, width), float32 in [0, 1]
    truth : ndarray, same shape
    mask : ndarray, same shape, bool
        Of the best source.
    tissues : dict of ndarray, same shape
        Of the best source: what the model is given.
    regions : dict of ndarray, same shape
        Of the first contrast: where scores are taken.
    lesion : ndarray of bool, same shape, or None
    best : str
        The best source.
    slice_ids : list of int
        Indices along z of the model grid.
    rows : list of int
        Which of the slices are scored.
    """

    sources: dict[str, FloatArray]
    truth: FloatArray
    mask: npt.NDArray[np.bool_]
    tissues: dict[str, FloatArray]
    regions: dict[str, FloatArray]
    lesion: npt.NDArray[np.bool_] | None
    best: str
    slice_ids: list[int]
    rows: list[int]


def read_case(
    store: SliceStore,
    name: str,
    task: Task,
    every: int = 2,
    lesion: npt.NDArray[np.bool_] | None = None,
) -> Case:
    """Read all cached slices of a participant and session, as a task shows them.

    Parameters
    ----------
    store : SliceStore
    name : str
        ``sub-X`` or ``sub-X_ses-Y``.
    task : Task
    every : int
        Every how many-th of the slices with enough brain is scored.
    lesion : ndarray, optional
        From :func:`~colapipe.evaluation.lesions.lesion_slices`.
    """
    cached = store.read(name)
    best = next(contrast for contrast in CONTRASTS if contrast in task.sources)
    mask = cached.mask(best)

    def tissues(contrast: str) -> dict[str, FloatArray]:
        return {tissue: volume * mask for tissue, volume in cached.tissues(contrast).items()}

    first = next(contrast for contrast in CONTRASTS if contrast in cached.contrasts)
    enough = np.flatnonzero(mask.mean(axis=(1, 2)) >= MIN_FRACTION)
    shown = tissues(best)
    return Case(
        sources={contrast: cached.image(contrast) * mask for contrast in task.sources},
        truth=cached.image(task.target) * mask,
        mask=mask,
        tissues=shown,
        regions=shown if first == best else tissues(first),
        lesion=None if lesion is None else lesion & mask,
        best=best,
        slice_ids=cached.slices,
        rows=[int(row) for row in enough[::every]],
    )
