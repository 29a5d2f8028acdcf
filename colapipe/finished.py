"""Which participants are finished: a note per participant, so that a rerun need not look closer.

Nipype knows for every node whether its result is still valid, but to ask it means to build the
workflow and to hash its inputs: seconds for each participant. The note says that a run with the
same options, on the same input files, ended well and wrote these files. Whatever differs, if only
by a time stamp, sends the participant to the workflow, which decides by content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe import __version__
from colapipe.bids.sidecars import write_json
from colapipe.config import Settings
from colapipe.model_info import ModelInfo
from colapipe.plan import SessionPlan

_CHANGES_NOTHING = (
    *("level", "participants", "sessions", "nprocs", "omp_nthreads", "mem_gb", "device"),
    *("work_dir", "clean_workdir", "use_plugin", "slurm", "slurm_dry_run", "slurm_failed"),
    *("verbosity", "dry_run", "stop_on_first_crash", "skip_bids_validation", "bids_filter_file"),
    "export",
)
"""Settings that do not change what is written. A filter acts through the scans it leaves."""


class FinishedParticipants:
    """The notes in one output folder, for one kind of run.

    Parameters
    ----------
    settings : Settings
    engine, engine_version : str
    model : ModelInfo or None
    """

    def __init__(
        self, settings: Settings, engine: str, engine_version: str, model: ModelInfo | None
    ) -> None:
        self._root = settings.out_dir
        self._mode = settings.mode
        options = {
            field.name: str(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if field.name not in (*_CHANGES_NOTHING, "model")
        }
        self._run = {
            "version": __version__,
            "engine": f"{engine} {engine_version}",
            "model": model.sha256 if model else "",
            "options": options,
        }

    def key(self, plans: Sequence[SessionPlan]) -> str:
        """Return a hash of all that decides about one participant's outputs, scans included."""
        what = [_without_notes(plan) for plan in plans]
        inputs = {str(path): _state(path) for path in _paths(what)}
        text = json.dumps([self._run, what, inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def holds(self, participant: str, key: str) -> bool:
        """Say whether a run like this one has finished a participant, and nothing changed since."""
        try:
            note = json.loads(self._path(participant).read_text(encoding="utf-8"))
            same, files = note["key"] == key, dict(note["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return (
            same
            and (self._root / f"sub-{participant}.html").is_file()
            and all(_state(self._root / name) == state for name, state in files.items())
        )

    def note(self, participant: str, key: str) -> None:
        """Note that a participant is finished, with the files that are there now.

        The key is that of the scans before the run: who changes one meanwhile changes the next.
        """
        files = {
            path.relative_to(self._root).as_posix(): _state(path)
            for path in sorted(self._root.glob(f"sub-{participant}/**/*"))
            if path.is_file() and not path.name.startswith(".")
        }
        write_json(self._path(participant), {"key": key, "files": files})

    def _path(self, participant: str) -> Path:
        return self._root / "logs" / "finished" / f"sub-{participant}_{self._mode}.json"


def _without_notes(plan: SessionPlan) -> dict[str, Any]:
    content = dataclasses.asdict(dataclasses.replace(plan, notes=()))
    if content["derivatives"]:
        content["derivatives"]["notes"] = ()
    return content


def _paths(content: Any) -> Iterator[Path]:
    """Yield every path in nested mappings and sequences."""
    if isinstance(content, Path):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _paths(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _paths(value)


def _state(path: Path) -> list[int]:
    """Return size and time of change of a file, nothing for one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
