"""Which participants are finished: a note per participant, so that a rerun need not look closer.

Nipype knows for every node whether its result is still valid, but to ask it means to build the
workflow and to hash its inputs: seconds for each participant. The note says that a run with the
same options, on the same input files, ended well and wrote these files. Whatever differs, if only
by a time stamp, sends the participant to the workflow, which decides by content.
"""

from __future__ import annotations

import contextlib
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
        note = _read_note(self._path(participant))
        return (
            note is not None
            and note[0] == key
            and (self._root / f"sub-{participant}.html").is_file()
            and _unchanged(self._root, note[1])
        )

    def note(self, participant: str, key: str) -> None:
        """Note that a participant is finished, with the files that are there now.

        The key is that of the scans before the run: who changes one meanwhile changes the next.
        """
        _write_note(self._path(participant), key, self._root, participant)

    def _path(self, participant: str) -> Path:
        return _folder(self._root) / f"sub-{participant}_{self._mode}.json"


@contextlib.contextmanager
def keeping_notes(out_dir: Path, participant: str) -> Iterator[None]:
    """Renew a participant's notes after a block that writes outputs again, where they held before.

    Reports that are written again are no reason to look at a finished participant again.
    """
    held = {}
    for path in _folder(out_dir).glob(f"sub-{participant}_*.json"):
        note = _read_note(path)
        if note is not None and _unchanged(out_dir, note[1]):
            held[path] = note[0]
    yield
    for path, key in held.items():
        _write_note(path, key, out_dir, participant)


def _folder(out_dir: Path) -> Path:
    return out_dir / "logs" / "finished"


def _read_note(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the key and the states of the files in a note; None if there is no such note."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return note["key"], dict(note["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(path: Path, key: str, out_dir: Path, participant: str) -> None:
    files = {
        found.relative_to(out_dir).as_posix(): _state(found)
        for found in sorted(out_dir.glob(f"sub-{participant}/**/*"))
        if found.is_file() and not found.name.startswith(".")
    }
    write_json(path, {"key": key, "files": files})


def _unchanged(out_dir: Path, files: Mapping[str, Any]) -> bool:
    return all(_state(out_dir / name) == state for name, state in files.items())


def _without_notes(plan: SessionPlan) -> dict[str, Any]:
    content = dataclasses.asdict(dataclasses.replace(plan, notes=(), warnings=()))
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
