"""Which participants are finished: a note per participant, so that a rerun need not look closer.

Nipype knows for every node whether its result is still valid, but to ask it means to build the
workflow and to hash its inputs: seconds for each participant. The note says that a run with the
same request, on the same input files, ended well and wrote these files. Where a dataset lies, and
when its files were copied or touched, does not count; what is in them does, and what they are
called within the dataset.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colapipe import __version__
from colapipe.bids.names import bids_uri
from colapipe.bids.sidecars import write_json
from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.run.fingerprints import Fingerprint, Times, fingerprint, is_same, refreshed, times_of
from colapipe.run.model import ModelInfo

_CHANGES_NOTHING = (
    *("level", "participants", "sessions", "nprocs", "omp_nthreads", "mem_gb", "device"),
    *("work_dir", "clean_workdir", "use_plugin", "slurm", "slurm_dry_run", "slurm_failed"),
    *("verbosity", "dry_run", "stop_on_first_crash", "skip_bids_validation"),
)
"""Settings that do not change what is written."""

_ACTS_THROUGH_OTHERS = (
    *("bids_dir", "out_dir", "bids_filter_file", "derivatives", "export"),
    *("engine", "model", "targets"),
)
"""Settings that change it only through the scans and files that are found, the plan, or what stands
in the note by itself: the engine that was chosen, the hash of the model."""

_OF_SYNTHESIS = (
    *("sources", "evaluate", "lesion_conditioning", "self_check", "sampler", "steps", "samples"),
    *("slices", "seed", "sloppy"),
)
"""Settings that a run which only preprocesses does not look at, but in its plan."""


@dataclass(frozen=True)
class Task:
    """What is asked for one participant, and the files that it starts from.

    Parameters
    ----------
    key : str
        Hash of all that decides about the outputs but the content of files.
    sessions : tuple of str or None
        Those that were planned; None where there are no sessions.
    inputs : mapping of str to Path
        By BIDS URI.
    times : mapping of str to list of int
        Of the inputs, when the plan was made.
    """

    key: str
    sessions: tuple[str | None, ...]
    inputs: Mapping[str, Path]
    times: Mapping[str, Times]


@dataclass(frozen=True)
class Note:
    """What a run has noted of a participant; files by URI, and by path in the output folder."""

    key: str
    sessions: tuple[str | None, ...]
    inputs: Mapping[str, Fingerprint]
    files: Mapping[str, Fingerprint]

    def has(self, out_dir: Path, name: str) -> bool:
        """Say whether an output is there as this run left it."""
        return name in self.files and is_same(out_dir / name, self.files[name])


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
        self._may_write = not settings.dry_run
        self._run = {
            "version": __version__,
            "engine": f"{engine} {engine_version}",
            "model": model.sha256 if model else "",
            "options": _options(settings, model),
        }

    def task(self, plans: Sequence[SessionPlan]) -> Task:
        """Return what is asked for one participant, with the state of the scans by now."""
        what = [_plan_in_words(plan) for plan in plans]
        inputs = dict(pair for plan in plans for pair in _inputs(dataclasses.asdict(plan)))
        text = json.dumps([self._run, what, sorted(inputs)], sort_keys=True, default=str)
        return Task(
            hashlib.sha256(text.encode()).hexdigest(),
            tuple(plan.session for plan in plans),
            inputs,
            {uri: times_of(path) for uri, path in inputs.items()},
        )

    def holds(self, participant: str, task: Task) -> bool:
        """Say whether a run like this one has finished a participant, and nothing changed since."""
        path = self._path(participant)
        note = _read_note(path)
        if (
            note is None
            or note.key != task.key
            or not all(is_same(task.inputs[uri], note.inputs.get(uri, [])) for uri in task.inputs)
            or not _unchanged(self._root, note)
        ):
            return False
        if self._may_write:
            # Where content was looked at, it need not be the next time.
            inputs = {uri: refreshed(task.inputs[uri], note.inputs[uri]) for uri in task.inputs}
            files = {name: refreshed(self._root / name, note.files[name]) for name in note.files}
            if (inputs, files) != (note.inputs, note.files):
                _write_note(path, dataclasses.replace(note, inputs=inputs, files=files))
        return True

    def note(self, participant: str, task: Task) -> None:
        """Note that a participant is finished, with the files that are there now.

        The inputs are those before the run: who changes one meanwhile changes the next.
        """
        inputs = {
            uri: fingerprint(path, task.times[uri]) for uri, path in sorted(task.inputs.items())
        }
        files = _outputs(self._root, participant, task.sessions)
        _write_note(self._path(participant), Note(task.key, task.sessions, inputs, files))

    def _path(self, participant: str) -> Path:
        return _folder(self._root) / f"sub-{participant}_{self._mode}.json"


def read_notes(out_dir: Path, participant: str) -> list[Note]:
    """Return what runs of any kind have noted of a participant."""
    paths = sorted(_folder(out_dir).glob(f"sub-{participant}_*.json"))
    return [note for note in map(_read_note, paths) if note is not None]


@contextlib.contextmanager
def keeping_notes(out_dir: Path, participant: str) -> Iterator[None]:
    """Renew a participant's notes after a block that writes outputs again, where they held before.

    Reports that are written again are no reason to look at a finished participant again.
    """
    held = {}
    for path in _folder(out_dir).glob(f"sub-{participant}_*.json"):
        note = _read_note(path)
        if note is not None and _unchanged(out_dir, note):
            held[path] = note
    yield
    for path, note in held.items():
        files = _outputs(out_dir, participant, note.sessions)
        _write_note(path, dataclasses.replace(note, files=files))


def _folder(out_dir: Path) -> Path:
    return out_dir / "logs" / "finished"


def _read_note(path: Path) -> Note | None:
    """Return what is in a note; None if there is none, or one of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        note = Note(
            content["key"],
            tuple(content["sessions"]),
            dict(content["inputs"]),
            dict(content["files"]),
        )
        known = [*note.inputs.values(), *note.files.values()]
        return note if all(len(entry) in (0, 4) for entry in known) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(path: Path, note: Note) -> None:
    write_json(path, dataclasses.asdict(note))


def _outputs(
    out_dir: Path, participant: str, sessions: Sequence[str | None]
) -> dict[str, Fingerprint]:
    """Return the files of some sessions, the figures and the pages."""
    home = out_dir / f"sub-{participant}"
    folders = [home / f"ses-{session}" if session else home for session in sessions]
    found = [path for folder in folders for path in (folder / "anat").glob("**/*")]
    found += [*(home / "figures").glob("*"), home.with_name(f"{home.name}.html")]
    found += out_dir.glob(f"{home.name}_3d.html")
    return {
        path.relative_to(out_dir).as_posix(): fingerprint(path)
        for path in sorted(found)
        if not path.is_dir() and not path.name.startswith(".")
    }


def _unchanged(out_dir: Path, note: Note) -> bool:
    return all(is_same(out_dir / name, known) for name, known in note.files.items())


def _options(settings: Settings, model: ModelInfo | None) -> dict[str, Any]:
    """Return the settings that decide about outputs; what is left out is what the model says."""
    ignored = {*_CHANGES_NOTHING, *_ACTS_THROUGH_OTHERS}
    if settings.mode == "preproc-only":
        ignored |= {*_OF_SYNTHESIS}
    options = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in ignored
    }
    if model is not None:
        defaults = {"steps": model.steps, "samples": model.samples}
        defaults["sampler"] = model.metadata.get("defaults", {}).get("sampler")
        for name, default in defaults.items():
            if options.get(name, "") is None:
                options[name] = default
    # The self-check keeps away from named targets that may exist.
    options["targets"] = settings.targets if options.get("evaluate") else ()
    return options


def _plan_in_words(plan: SessionPlan) -> Any:
    """Return a plan without paths outside the dataset, and without what is only said about it."""
    content = dataclasses.asdict(dataclasses.replace(plan, notes=(), warnings=()))
    content["errors"] = bool(plan.errors)
    if content["derivatives"]:
        content["derivatives"]["notes"] = ()
    return _without_paths(content)


def _without_paths(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {
            key: _without_paths(value)
            for key, value in content.items()
            if not isinstance(value, Path)
        }
    if isinstance(content, (list, tuple)):
        return [_without_paths(value) for value in content]
    return content


def _inputs(content: Any) -> Iterator[tuple[str, Path]]:
    """Yield the BIDS URI and the path of every file in a plan."""
    if isinstance(content, Mapping):
        if isinstance(content.get("path"), Path):
            yield bids_uri(content["relative"], content.get("dataset", "raw")), content["path"]
        for value in content.values():
            yield from _inputs(value)
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _inputs(value)
