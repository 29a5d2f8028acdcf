"""What a report says about the run, kept as a file, so that the report can be written again."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from colapipe import __version__
from colapipe.bids.names import report_path
from colapipe.bids.outputs import SessionFiles, read_session, session_folders
from colapipe.bids.reader import DESCRIPTION, participants_in
from colapipe.files import read_json, write_text
from colapipe.report.gallery import write_figures
from colapipe.report.page import build_subject_report
from colapipe.report.viewer import build_viewer, viewer_name

_RAW = "bids:raw:"
_RECORD = re.compile(r"sub-([a-zA-Z0-9+]+)\.json")


def write_report(
    out_dir: Path,
    participant: str,
    run: Mapping[str, Any],
    *,
    show_head: bool = False,
    viewer: bool = False,
) -> Path:
    """Write a participant's report, and keep what it says about the run.

    Parameters
    ----------
    out_dir, participant, run, show_head
        As for :func:`colapipe.report.page.build_subject_report`; the label without ``sub-``.
    viewer : bool
        Write the 3-D page, too. One of an earlier run is deleted otherwise: it shows what was.

    Returns
    -------
    Path
        The page.
    """
    # First, so that the report can link to it.
    if viewer:
        build_viewer(out_dir, participant, show_head=show_head)
    else:
        (out_dir / viewer_name(participant)).unlink(missing_ok=True)
    page = build_subject_report(out_dir, participant, run, show_head=show_head)
    # The page shows settings in the order in which they are given.
    text = json.dumps(run, indent=2, ensure_ascii=False, default=str)
    write_text(_folder(out_dir) / f"sub-{participant}.json", text + "\n")
    return page


def read_record(out_dir: Path, participant: str) -> dict[str, Any]:
    """Return what the latest report of a participant said about its run.

    Where it was not kept, it is put together from the files that the run wrote, as far as they
    tell: scans, engine, model. What is not known is absent, and the report says so.
    """
    record = read_json(_folder(out_dir) / f"sub-{participant}.json")[0]
    if not record:
        record = _from_derivatives(out_dir, participant)
    # Somebody may have edited the file.
    if not isinstance(record.get("model"), dict):
        record["model"] = None
    return record


def recorded_participants(out_dir: Path) -> list[str]:
    """Return the labels of all participants with outputs or with a report, failed ones included."""
    kept = (_RECORD.fullmatch(path.name) for path in _folder(out_dir).glob("sub-*.json"))
    return sorted({*participants_in(out_dir), *(match[1] for match in kept if match)})


def read_failures(out_dir: Path) -> dict[str, list[str]]:
    """Return what the latest run of each participant on record failed with; only of those."""
    failures = {}
    for participant in recorded_participants(out_dir):
        listed = read_json(_folder(out_dir) / f"sub-{participant}.json")[0].get("failures")
        entries = listed if isinstance(listed, list) else []
        messages = [str(entry.get("message")) for entry in entries if isinstance(entry, dict)]
        if messages:
            failures[participant] = messages
    return failures


def read_earlier(out_dir: Path) -> dict[str, list[str]]:
    """Return the outputs of earlier runs that the failed run of each participant has left there.

    Paths relative to the output folder; they are not what the latest run was asked for.
    """
    earlier = {}
    for participant in recorded_participants(out_dir):
        listed = read_json(_folder(out_dir) / f"sub-{participant}.json")[0].get("earlier")
        if isinstance(listed, list) and listed:
            earlier[participant] = [str(name) for name in listed]
    return earlier


def delete_report(out_dir: Path, participant: str) -> None:
    """Delete the pages, the figures and the record of a participant of whom nothing is left."""
    for path in (
        out_dir / report_path(participant),
        out_dir / viewer_name(participant),
        _folder(out_dir) / f"sub-{participant}.json",
    ):
        path.unlink(missing_ok=True)
    write_figures(out_dir, participant, ())
    for folder in (out_dir / f"sub-{participant}" / "figures", out_dir / f"sub-{participant}"):
        with contextlib.suppress(OSError):  # Not there, or somebody has put a file there.
            folder.rmdir()


def unknown_runs(out_dir: Path) -> dict[str, str]:
    """Return those participants of whom no run of this version has left a record, and why."""
    unknown = {}
    for participant in participants_in(out_dir):
        record = read_json(_folder(out_dir) / f"sub-{participant}.json")[0]
        version = record.get("version")
        if not record:
            unknown[participant] = "no run has left a record of it"
        elif version != __version__:
            unknown[participant] = f"colapipe {version or 'of another version'} wrote it"
    return unknown


def _folder(out_dir: Path) -> Path:
    return out_dir / "logs" / "reports"


def _from_derivatives(out_dir: Path, participant: str) -> dict[str, Any]:
    """Describe a run by what the sidecars of its files say."""
    folders = session_folders(out_dir, participant)
    sessions = [read_session(label, folder) for label, folder in folders.items()]
    engine = _first(
        image.sidecar.get("Engine")
        for files in sessions
        for images in files.preproc.values()
        for image in images.values()
    )
    model = _first(
        image.sidecar.get("SynthesisModel")
        for files in sessions
        for images in files.synth.values()
        for image in images.values()
    )
    tool = _first(read_json(out_dir / DESCRIPTION)[0].get("GeneratedBy") or ())
    return {
        "version": tool.get("Version"),
        "engine": engine.get("Name"),
        "engine_version": engine.get("Version"),
        "model": {
            "name": model.get("Name"),
            "sha256": model.get("WeightsSHA256"),
            "licence": model.get("Licence"),
        }
        if model
        else None,
        "sessions": [
            {
                "session": files.label,
                "reference": ", ".join(files.spaces),
                "contrasts": _scans(files),
            }
            for files in sessions
        ],
    }


def _scans(files: SessionFiles) -> dict[str, str]:
    """Return the raw scan of each preprocessed contrast: the first of its sources."""
    scans: dict[str, str] = {}
    for images in files.preproc.values():
        for contrast, image in images.items():
            sources = image.sidecar.get("Sources")
            first = str(sources[0]) if isinstance(sources, list) and sources else ""
            if first.startswith(_RAW):
                scans.setdefault(contrast, first.removeprefix(_RAW))
    return scans


def _first(values: Iterable[Any]) -> dict[str, Any]:
    """Return the first of the values that is a JSON object; an empty one if none is."""
    return next((value for value in values if isinstance(value, dict)), {})
