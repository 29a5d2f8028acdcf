"""What a run has left in a participant's folder, sorted by the names of the files alone.

For the report and the quality numbers, which show and measure whatever lies there, synthetic
images too; `colapipe.bids.derivatives` finds what a run may build upon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colapipe.bids.names import IMAGE_EXTENSIONS, Entities, parse_name
from colapipe.bids.reader import leads_nowhere, sessions_in
from colapipe.contrasts import CONTRASTS
from colapipe.files import read_json


@dataclass(frozen=True)
class OutputFile:
    """One file and what its BIDS name says."""

    path: Path
    name: Entities

    @property
    def contrast(self) -> str | None:
        """The contrast of an image, acquired or not, with ``ce-*`` T1w read as T1ce."""
        if self.name.suffix == "T1w" and "ce" in self.name.values:
            return "T1ce"
        return self.name.suffix if self.name.suffix in CONTRASTS else None

    @property
    def sidecar(self) -> dict[str, Any]:
        """The JSON beside the file; empty where there is none or it cannot be read."""
        return read_json(self.path.with_name(self.path.name.partition(".")[0] + ".json"))[0]


@dataclass
class SessionFiles:
    """The derivatives of one session, by what they are.

    Images are keyed by space (the reference contrast whose grid they are on) and then by contrast;
    masks and tissue labels by the contrast that they were computed from. A lesion mask is keyed by
    its space alone; the tables of scores, quality numbers and self-checks are lists, one for each
    space.
    """

    label: str | None
    preproc: dict[str, dict[str, OutputFile]] = field(default_factory=dict)
    synth: dict[str, dict[str, OutputFile]] = field(default_factory=dict)
    std: dict[str, dict[str, OutputFile]] = field(default_factory=dict)
    masks: dict[str, dict[str, OutputFile]] = field(default_factory=dict)
    tissues: dict[str, dict[str, OutputFile]] = field(default_factory=dict)
    lesions: dict[str, OutputFile] = field(default_factory=dict)
    scores: list[OutputFile] = field(default_factory=list)
    quality: list[OutputFile] = field(default_factory=list)
    selfchecks: list[OutputFile] = field(default_factory=list)
    transforms: list[OutputFile] = field(default_factory=list)
    everything: list[Path] = field(default_factory=list)
    ambiguous: list[Path] = field(default_factory=list)

    @property
    def spaces(self) -> list[str]:
        """Spaces with images to show, in the order of preference of their reference."""
        found = {*self.preproc, *self.synth}
        return sorted(found, key=CONTRASTS.index)


def participant_label(participant: str) -> str:
    """Return a participant's label without ``sub-``.

    Raises
    ------
    ValueError
        If it is not a label but a path.
    """
    label = participant.removeprefix("sub-")
    if not label or Path(label).name != label:
        raise ValueError(f"{participant!r} is not a participant label")
    return label


def session_folders(out_dir: Path, participant: str) -> dict[str | None, Path]:
    """Return the anat folders of a participant, by session label (None: no session level)."""
    subject = out_dir / f"sub-{participant}"
    folders: dict[str | None, Path] = {}
    if out_dir.is_file():
        return folders  # Whoever writes there is told.
    if _is_there(subject / "anat"):
        folders[None] = subject / "anat"
    for session in sessions_in(out_dir, participant):
        anat = subject / f"ses-{session}" / "anat"
        if _is_there(anat):
            folders[session] = anat
    return folders


def _is_there(folder: Path) -> bool:
    """Say whether something is there, readable or not: whoever reads it is told why it is not."""
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return leads_nowhere(folder)
    except OSError:
        return True
    return True


def read_session(label: str | None, anat: Path) -> SessionFiles:
    """Sort the files of one anat folder by what their names say."""
    found = SessionFiles(label)
    # Short names first: where two files claim one place, the one with fewer entities is drawn.
    for path in sorted(anat.iterdir(), key=lambda entry: (len(entry.name), entry.name)):
        if path.is_file() and not path.name.startswith("."):
            found.everything.append(path)
            try:
                name = parse_name(path)
            except ValueError:
                continue  # Not a BIDS name: listed, and nothing more is known of it.
            _place(found, OutputFile(path, name))
    found.everything.sort()
    found.transforms.sort(key=lambda derivative: derivative.path.name)
    return found


def _place(found: SessionFiles, derivative: OutputFile) -> None:
    """Put one file where it belongs; files of other kinds are only listed."""
    name = derivative.name
    space, desc = name.get("space"), name.get("desc") or ""
    if name.suffix == "qc" and name.extension == ".tsv":
        tables = {"quality": found.quality, "selfcheck": found.selfchecks}
        tables.get(desc, found.scores).append(derivative)
        return
    if name.suffix == "xfm" and name.extension == ".json":
        found.transforms.append(derivative)
        return
    if name.extension not in IMAGE_EXTENSIONS or space not in CONTRASTS:
        return
    source = desc.removeprefix("from") if desc.startswith("from") else None
    images = {"preproc": found.preproc, "synth": found.synth, "synthstd": found.std}
    if desc in images and derivative.contrast is not None:
        kind, key = images[desc], derivative.contrast
    elif source in CONTRASTS and name.suffix == "mask" and name.get("label") == "brain":
        kind, key = found.masks, source
    elif source in CONTRASTS and name.suffix == "dseg":
        kind, key = found.tissues, source
    elif name.suffix == "mask" and name.get("label") == "lesion":
        found.lesions.setdefault(space, derivative)
        return
    else:
        return
    of_space = kind.setdefault(space, {})
    if key in of_space:
        found.ambiguous.append(derivative.path)
    else:
        of_space[key] = derivative
