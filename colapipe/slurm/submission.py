"""A submission's folder: who is in it, which jobs it became, and what came of each task."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from colapipe.files import write_text

RECORD = "submission.json"


@dataclass(frozen=True)
class Array:
    """One array of tasks, a participant each.

    Parameters
    ----------
    stage : str
        ``preproc`` or ``synth``.
    job : str
        Its number in SLURM.
    labels : tuple of str
        Participants; the first is task 1.
    """

    stage: str
    job: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """What was submitted together.

    Parameters
    ----------
    folder : Path
    arrays : tuple of Array
    group : str
        Number of the job of the group level, or nothing.
    previous : Submission or None
        The one whose failed tasks these are.
    """

    folder: Path
    arrays: tuple[Array, ...] = ()
    group: str = ""
    previous: Submission | None = None

    def write(self) -> None:
        """Write the record, whole or not at all."""
        content = {
            "arrays": [asdict(array) for array in self.arrays],
            "group": self.group,
            "previous": self.previous.folder.name if self.previous else None,
        }
        write_text(self.folder / RECORD, json.dumps(content, indent=1) + "\n")

    def state(self, stage: str, label: str, waiting: Mapping[str, str]) -> str:
        """Return what came of a participant's last task of a stage.

        Parameters
        ----------
        stage, label : str
        waiting : mapping
            The tasks that are in SLURM's queue, as from `commands.queue`.

        Returns
        -------
        str
            ``done``, ``queued``, ``failed with exit code 1``, ``left nothing``, or ``absent`` for
            a participant without such a task.
        """
        for array in reversed(self.arrays):
            if array.stage == stage and label in array.labels:
                if f"{array.job}_{array.labels.index(label) + 1}" in waiting:
                    return "queued"
                return self._exit(stage, label)
        return self.previous.state(stage, label, waiting) if self.previous else "absent"

    def _exit(self, stage: str, label: str) -> str:
        try:
            code = (self.folder / "exit" / f"{stage}_{label}").read_text(encoding="utf-8").strip()
        except OSError:
            return "left nothing"
        return "done" if code == "0" else f"failed with exit code {code}"


def read_submission(folder: Path) -> Submission:
    """Read the record of a submission, and of those before it."""
    content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    arrays = (Array(a["stage"], a["job"], tuple(a["labels"])) for a in content["arrays"])
    older = content["previous"]
    previous = read_submission(folder.parent / older) if older else None
    return Submission(folder, tuple(arrays), content["group"], previous)


def last_submission(out_dir: Path) -> Submission | None:
    """Return an output folder's last submission; scripts that were only written are none."""
    records = sorted(submissions_folder(out_dir).glob(f"*/{RECORD}"))
    return read_submission(records[-1].parent) if records else None


def new_folder(out_dir: Path) -> Path:
    """Make the folder of a new submission. By name, it comes after all that were made before."""
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S%f")
    folder = submissions_folder(out_dir) / stamp
    for inner in ("exit", "logs"):
        (folder / inner).mkdir(parents=True)
    return folder


def submissions_folder(out_dir: Path) -> Path:
    """Return where the submissions of an output folder are kept."""
    return out_dir / "logs" / "slurm"


def write_tasks(path: Path, labels: Sequence[str], targets: Mapping[str, Sequence[str]]) -> None:
    """Write one line per task: the participant and, after a tab, the contrasts to synthesise."""
    lines = ["\t".join((label, " ".join(targets.get(label, ())))) for label in labels]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
