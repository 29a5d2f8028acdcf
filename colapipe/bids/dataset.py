"""The output folder as a BIDS dataset: its description, what validators skip, where it may be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import colapipe
from colapipe.bids.names import template
from colapipe.bids.reader import DESCRIPTION
from colapipe.bids.sidecars import write_json
from colapipe.errors import UsageError
from colapipe.files import read_json, write_text

BIDSIGNORE = ("*.html", "figures", "log", "logs", "*_xfm.*", "*_qc.*", "group_*")
"""What a validator does not know. A folder has no trailing slash: with one it is not ignored."""

_APP = "colapipe"
_VALIDATOR = "bids-validator-deno"
_BUILTIN_TOOLS = {
    "deepbet": "Brain masks (deepbet)",
    "SimpleITK": "Rigid registration, resampling and bias correction (SimpleITK)",
}


@dataclass(frozen=True)
class Validation:
    """What a BIDS validator said, one line for each kind of finding.

    Parameters
    ----------
    errors, warnings : tuple of str
        The code, how many files it concerns, and one of them.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def ensure_outside(out_dir: Path, bids_dir: Path, work_dir: Path | None = None) -> None:
    """Refuse output and work folders that would spoil a dataset.

    Allowed are output folders outside the dataset and those under its ``derivatives`` folder; work
    folders outside the dataset only.

    Raises
    ------
    UsageError
        Saying where the output may go instead.
    """
    bids, out = Path(bids_dir).resolve(), Path(out_dir).resolve()
    suggestion = bids / "derivatives" / _APP
    if out == bids:
        raise UsageError(
            f"{out_dir}: the output folder is the dataset itself, which is never written to. "
            f"Use {suggestion}, for example."
        )
    if out.is_relative_to(bids):
        first, *below = out.relative_to(bids).parts
        if first != "derivatives" or not below:
            raise UsageError(
                f"{out_dir}: the output folder is inside the dataset {bids_dir}; expected a folder "
                f"outside it, or one under its derivatives folder. Use {suggestion}, for example."
            )
    if work_dir is not None and Path(work_dir).resolve().is_relative_to(bids):
        raise UsageError(
            f"{work_dir}: the work folder is inside the dataset {bids_dir}, where its thousands of "
            "files would be taken for data. Choose one outside it with --work-dir."
        )
    _ensure_ours(out)


def _ensure_ours(out_dir: Path) -> None:
    """Refuse a folder that holds a raw dataset or the outputs of another app."""
    path = out_dir / DESCRIPTION
    if not path.is_file():
        return
    description, problem = read_json(path)
    makers = [str(entry["Name"]) for entry in _entries(description.get("GeneratedBy"))]
    if problem is not None or _APP in makers:
        return
    what = (
        f"the outputs of {', '.join(makers)}" if makers else "a dataset that colapipe did not make"
    )
    raise UsageError(
        f"{out_dir}: holds {what} ({DESCRIPTION}). Choose an output folder of its own, such as "
        f"{out_dir.parent / _APP}."
    )


def write_dataset_description(
    out_dir: Path,
    bids_dir: Path,
    engine: str,
    engine_version: str,
    model: Mapping[str, Any] | None = None,
    derivatives: Sequence[tuple[str, Path]] = (),
) -> list[str]:
    """Write ``dataset_description.json`` and ``.bidsignore`` of the output folder.

    What is there already is completed, not replaced: keys that this app does not write, the tools
    of earlier runs and links to other datasets stay. Each file is written in one step and only if
    it changes, so that the jobs of an array do not disturb each other.

    Parameters
    ----------
    out_dir, bids_dir : Path
    engine, engine_version : str
        ``fsl`` or ``builtin``, and its version.
    model : mapping or None
        ``name``, ``sha256`` and ``licence`` of the model; None for a run that only preprocesses.
    derivatives : sequence of (str, Path)
        Names and folders of the derivative datasets that were read.

    Returns
    -------
    list of str
        Warnings: outputs of another version or of another dataset are here already.

    Raises
    ------
    OutputError, ReadWriteError
        If the folder cannot be made or a file not be written.
    """
    out_dir, bids_dir = Path(out_dir).resolve(), Path(bids_dir).resolve()
    path = out_dir / DESCRIPTION
    warnings: list[str] = []
    existing: dict[str, Any] = {}
    if path.exists():
        existing, problem = read_json(path)
        if problem is not None:
            warnings.append(f"{problem}; it is written anew")
    raw, _ = read_json(bids_dir / DESCRIPTION)
    source = _source_dataset(raw, bids_dir, out_dir)
    warnings += _differences(existing, source, bids_dir, out_dir)

    tools = _generated_by(engine, engine_version, model)
    named = {tool["Name"] for tool in tools}
    earlier = [tool for tool in _entries(existing.get("GeneratedBy")) if tool["Name"] not in named]
    links = {name: _link(root.resolve(), out_dir) for name, root in derivatives if name}
    known_links = existing.get("DatasetLinks")
    content = {
        **template(DESCRIPTION),
        **existing,
        "BIDSVersion": template(DESCRIPTION)["BIDSVersion"],
        "DatasetType": "derivative",
        "GeneratedBy": tools + earlier,
        "SourceDatasets": [source],
        "DatasetLinks": {
            **(known_links if isinstance(known_links, dict) else {}),
            "raw": _link(bids_dir, out_dir),
            **links,
        },
    }
    if content != existing:
        write_json(path, content)
    _write_bidsignore(out_dir)
    return warnings


def _source_dataset(raw: Mapping[str, Any], bids_dir: Path, out_dir: Path) -> dict[str, str]:
    """Return the entry of SourceDatasets for the raw dataset."""
    known = {
        "URL": _link(bids_dir, out_dir),
        "DOI": raw.get("DatasetDOI"),
        "Version": raw.get("DatasetVersion"),
        "Name": raw.get("Name"),
    }
    return {key: str(value) for key, value in known.items() if value}


def _differences(
    existing: Mapping[str, Any], source: Mapping[str, str], bids_dir: Path, out_dir: Path
) -> list[str]:
    """Say if the folder holds outputs of another version or of another dataset."""
    warnings = []
    for tool in _entries(existing.get("GeneratedBy")):
        version = tool.get("Version")
        if tool["Name"] == _APP and version != colapipe.__version__:
            warnings.append(
                f"{out_dir}: has outputs of {_APP} {version}, this is {colapipe.__version__}; "
                "use another output folder to keep versions apart"
            )
    links = existing.get("DatasetLinks")
    link = links.get("raw") if isinstance(links, dict) else None
    if isinstance(link, str):
        earlier = (out_dir / link).resolve()
        sources = existing.get("SourceDatasets")
        name = sources[0].get("Name") if isinstance(sources, list) and sources else None
        # A container or another machine mounts the same dataset elsewhere; only another folder that
        # can be seen from here, or another name, is another dataset.
        if earlier != bids_dir and (earlier.is_dir() or name != source.get("Name")):
            warnings.append(
                f"{out_dir}: has outputs of another dataset ({name or earlier}), this is "
                f"{source.get('Name', bids_dir)}; use one output folder for each dataset"
            )
    return warnings


def _generated_by(
    engine: str, engine_version: str, model: Mapping[str, Any] | None
) -> list[dict[str, str]]:
    """Return the entries of GeneratedBy for this run, the app first."""
    tools = [{"Name": _APP, "Version": colapipe.__version__, **_code_url()}]
    if engine == "fsl":
        tools.append(
            {"Name": "FSL", "Version": engine_version, "Description": "FLIRT, FAST and BET"}
        )
    else:
        tools += [
            {"Name": name, **_version(name), "Description": description}
            for name, description in _BUILTIN_TOOLS.items()
        ]
    if model is not None:
        tools.append(
            {
                "Name": "CoLa-Diff",
                "Version": str(model["sha256"]),
                "Description": f"Synthesis with the weights {model['name']}; "
                "the version is the SHA-256 of the weights",
            }
        )
    return tools


def _version(package: str) -> dict[str, str]:
    try:
        return {"Version": metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {}


def _code_url() -> dict[str, str]:
    """Return the address of the source code, if the installed package knows one."""
    try:
        addresses = metadata.metadata(_APP).get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return {}
    for address in addresses:
        label, _, url = address.partition(", ")
        if label.lower() in ("source", "source code", "repository", "code"):
            return {"CodeURL": url}
    return {}


def _link(target: Path, out_dir: Path) -> str:
    """Return a path from the output folder to a dataset, which survives moving both."""
    return Path(os.path.relpath(target, out_dir)).as_posix()


def _entries(value: Any) -> list[dict[str, Any]]:
    """Return the usable entries of a GeneratedBy list."""
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and "Name" in entry]


def _write_bidsignore(out_dir: Path) -> None:
    path = out_dir / ".bidsignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    missing = [pattern for pattern in BIDSIGNORE if pattern not in lines]
    if missing:
        write_text(path, "\n".join([*lines, *missing]) + "\n")


def validate(dataset: Path) -> Validation | None:
    """Run the official BIDS validator, if it is installed (extra ``validate``).

    It runs offline, with the schema that it brings along.

    Parameters
    ----------
    dataset : Path
        Folder of a raw or derivative dataset.

    Returns
    -------
    Validation or None
        None if the validator is not installed.
    """
    beside = Path(sys.executable).with_name(_VALIDATOR)
    program = str(beside) if beside.is_file() else shutil.which(_VALIDATOR)
    if program is None:
        return None
    result = subprocess.run(
        [program, str(dataset), "--format", "json"], capture_output=True, text=True, check=False
    )
    try:
        issues = json.loads(result.stdout)["issues"]["issues"]
    except (ValueError, KeyError, TypeError):
        said = result.stderr.strip().splitlines()
        reason = said[0] if said else f"exit code {result.returncode}"
        return Validation(warnings=(f"the BIDS validator could not check {dataset}: {reason}",))
    return Validation(_summary(issues, "error"), _summary(issues, "warning"))


def _summary(issues: Sequence[Mapping[str, Any]], severity: str) -> tuple[str, ...]:
    """Return one line for each kind of issue: code, count, and the first place."""
    counts: Counter[str] = Counter()
    places: dict[str, str] = {}
    for issue in issues:
        if issue.get("severity") == severity:
            kind = " ".join(str(issue[key]) for key in ("code", "subCode") if issue.get(key))
            counts[kind] += 1
            places.setdefault(kind, str(issue.get("location", "")))
    return tuple(
        f"{kind}: {places[kind]}" + (f" and {count - 1} more" if count > 1 else "")
        for kind, count in counts.items()
    )
