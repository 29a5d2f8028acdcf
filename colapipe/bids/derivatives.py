"""Find what other runs and other tools have made of a participant, and whose image it came from.

Nothing of a target may reach its synthesis, so a mask or map is of use only if it is known which
contrast it was computed from. The JSON file beside an image is read here and not through pybids,
whose metadata of derivatives is that of another file where names are alike.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colapipe.bids.names import (
    IMAGE_EXTENSIONS,
    SYNTHETIC_DESCRIPTIONS,
    Entities,
    bids_uri,
    contrast_of,
    parse_name,
)
from colapipe.bids.reader import DESCRIPTION, leads_nowhere
from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.errors import UsageError
from colapipe.files import read_json

MATRIX_EXTENSIONS = (".mat", ".txt")
"""FSL's and ITK's rigid transforms."""

_APP = "colapipe"
_T1W_PIPELINES = ("fmriprep", "smriprep")
_NAMED_PATH = re.compile(r"([a-zA-Z0-9][a-zA-Z0-9._+-]*)=(.+)", re.DOTALL)
_LESION = re.compile(r"lesion|tumou?r", re.IGNORECASE)


@dataclass(frozen=True)
class Derivative:
    """A file of a derivative dataset that may be used.

    Parameters
    ----------
    path : Path
        Absolute.
    relative : str
        Path within its dataset, with forward slashes.
    dataset : str
        The name of the dataset; empty for the output dataset itself.
    own : bool
        Made by this app.
    contrast : str or None
        The contrast that it is, or was computed from; for a matrix, the moving contrast. None for
        lesion masks, which are drawn with all contrasts in view.
    space : str or None
        What ``space-`` says about its grid; for a matrix, the contrast it moves to. None if the
        name does not say, as with fMRIPrep's masks on the grid of the image they belong to.
    label : str or None
        What ``label-`` says: the tissue of a probability map.
    metadata : mapping
        The content of the JSON file beside it.
    """

    path: Path
    relative: str
    dataset: str
    own: bool
    contrast: str | None
    space: str | None
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def uri(self) -> str:
        """Its BIDS URI, as the ``Sources`` of an output list it."""
        return bids_uri(self.relative, self.dataset)

    @property
    def grid(self) -> str | None:
        """The contrast whose grid it should be on: that of its name, else of its source."""
        return self.space or self.contrast


@dataclass(frozen=True)
class Prepared:
    """What a preprocessing run of this app left on one reference grid.

    Parameters
    ----------
    reference : str
    images : dict
        Contrast to preprocessed image; the reference is among them.
    masks, labels : dict
        Source contrast to brain mask and to tissue labels (dseg).
    tissues : dict
        Source contrast to tissue (CSF, GM, WM) to probability map; complete sets only.
    """

    reference: str
    images: dict[str, Derivative]
    masks: dict[str, Derivative]
    labels: dict[str, Derivative]
    tissues: dict[str, dict[str, Derivative]]


@dataclass(frozen=True)
class Found:
    """Everything of use that was found for one session of one participant.

    In each tuple the files of the dataset that was named first come first.

    Parameters
    ----------
    masks, tissues, labels, images, matrices, lesions : tuple of Derivative
        Brain masks, tissue probability maps, tissue labels and preprocessed images of this app,
        rigid matrices, lesion masks. Grids have not been compared with those of the scans.
    notes : tuple of str
        In words: what was not used and why, and what was taken for granted.
    unreadable : tuple of str
        Those notes that are about folders and files that cannot be read.
    """

    masks: tuple[Derivative, ...] = ()
    tissues: tuple[Derivative, ...] = ()
    labels: tuple[Derivative, ...] = ()
    images: tuple[Derivative, ...] = ()
    matrices: tuple[Derivative, ...] = ()
    lesions: tuple[Derivative, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def mask(self, contrast: str, grid: str) -> Derivative | None:
        """Return the first brain mask computed from `contrast` on the grid of `grid`."""
        return next((m for m in self.masks if (m.contrast, m.grid) == (contrast, grid)), None)

    def matrix(self, moving: str, reference: str) -> Derivative | None:
        """Return the first matrix from one contrast to another, ``.mat`` before ``.txt``."""
        fitting = [m for m in self.matrices if (m.contrast, m.space) == (moving, reference)]
        fitting.sort(key=lambda matrix: MATRIX_EXTENSIONS.index(matrix.path.suffix))
        return fitting[0] if fitting else None

    def prepared(self) -> dict[str, Prepared]:
        """Return what this app's preprocessing left, by reference, best reference first.

        A reference counts if its own preprocessed image is there.
        """
        return {
            reference: self._prepared_on(reference)
            for reference in CONTRASTS
            if any(i.own and i.space == i.contrast == reference for i in self.images)
        }

    def _prepared_on(self, reference: str) -> Prepared:
        def first(files: Sequence[Derivative]) -> dict[str, Derivative]:
            here = [f for f in files if f.own and f.space == reference and f.contrast]
            return {str(f.contrast): f for f in reversed(here)}

        tissues: dict[str, dict[str, Derivative]] = {}
        for contrast in CONTRASTS:
            maps = [t for t in self.tissues if t.contrast == contrast]
            by_label = {
                tissue: first([t for t in maps if t.label == tissue]).get(contrast)
                for tissue in TISSUES
            }
            complete = {tissue: found for tissue, found in by_label.items() if found is not None}
            if len(complete) == len(TISSUES):
                tissues[contrast] = complete
        return Prepared(
            reference, first(self.images), first(self.masks), first(self.labels), tissues
        )


def parse_derivatives(values: Sequence[str]) -> list[tuple[str, Path]]:
    """Take the values of ``--derivatives [NAME=]PATH`` apart.

    Returns
    -------
    list of (str, Path)
        Name, by default that of the folder, and absolute path.

    Raises
    ------
    UsageError
        If a folder does not exist, or a name is ``raw`` or comes twice.
    """
    roots: list[tuple[str, Path]] = []
    for value in values:
        match = _NAMED_PATH.fullmatch(value)
        path = Path(match[2] if match else value).expanduser().absolute()
        name = match[1] if match else re.sub(r"[^a-zA-Z0-9._+-]", "-", path.name)
        if not path.is_dir():
            raise UsageError(
                f"--derivatives {value}: {path} is not a folder; expected the folder of a "
                "derivative dataset, as in --derivatives fmriprep=/data/derivatives/fmriprep."
            )
        if name == "raw" or name in (known for known, _ in roots):
            raise UsageError(
                f"--derivatives {value}: the name {name!r} is taken. "
                f"Give another one: --derivatives OTHERNAME={path}"
            )
        roots.append((name, path))
    return roots


def find_derivatives(
    roots: Sequence[tuple[str, Path]], participant: str, session: str | None
) -> Found:
    """Find masks, matrices, lesion masks and preprocessed images of one session.

    Parameters
    ----------
    roots : sequence of (str, Path)
        Names and folders of derivative datasets, the most trusted one first. An empty name stands
        for the output dataset itself.
    participant, session : str, str or None
        Files outside the session's folder are not used: never across sessions.

    Returns
    -------
    Found
    """
    search = _Search(participant, session)
    for name, root in roots:
        search.look_into(name, root)
    return Found(
        **{kind: tuple(files) for kind, files in search.found.items()},
        notes=tuple(search.notes),
        unreadable=tuple(search.unreadable),
    )


class _Search:
    """The state of one call of `find_derivatives`."""

    def __init__(self, participant: str, session: str | None) -> None:
        self.participant, self.session = participant, session
        self.notes: list[str] = []
        self.unreadable: list[str] = []
        kinds = ("masks", "tissues", "labels", "images", "matrices", "lesions")
        self.found: dict[str, list[Derivative]] = {kind: [] for kind in kinds}

    def look_into(self, dataset: str, root: Path) -> None:
        """Add the files of one dataset."""
        try:
            self._look_into(dataset, root.absolute())
        except OSError as err:
            self._note_unreadable(Path(err.filename or root), err)

    def _note_unreadable(self, path: Path, err: OSError) -> None:
        words = f"{path}: cannot be read ({err.strerror or err}); it is not used"
        self.notes.append(words)
        self.unreadable.append(words)

    def _look_into(self, dataset: str, root: Path) -> None:
        description, problem = read_json(root / DESCRIPTION)
        if problem is not None:
            self.notes.append(f"{problem}; what made these files is unknown")
        makers = _makers(description)
        own = _APP in makers
        for_lesions = (
            not own
            and not makers & set(_T1W_PIPELINES)
            and any(
                _LESION.search(text)
                for text in (dataset, root.name, str(description.get("Name", "")))
            )
        )
        folder = root / f"sub-{self.participant}"
        anat = (folder / f"ses-{self.session}" if self.session else folder) / "anat"
        for path in _files(anat):
            name = _parse(path)
            if name is None or name.get("sub") != self.participant:
                continue
            if name.get("ses") != self.session:
                continue
            try:
                self._sort_in(path, name, root, dataset, makers, for_lesions)
            except OSError as err:
                self._note_unreadable(path, err)
        if self.session and not anat.exists() and any(_files(folder / "anat")):
            self.notes.append(
                f"{folder / 'anat'} belongs to no session and is not used for ses-{self.session}"
            )

    def _sort_in(
        self,
        path: Path,
        name: Entities,
        root: Path,
        dataset: str,
        makers: frozenset[str],
        for_lesions: bool,
    ) -> None:
        """Decide what a file is, and add it or say why not."""
        kind = _kind(name, for_lesions, own=_APP in makers)
        if kind is None:
            return
        space = name.get("to") if kind == "matrices" else name.get("space")
        if space is not None and space not in CONTRASTS and kind != "lesions":
            if kind != "matrices":
                self.notes.append(
                    f"{path.name} is not used: space-{space} is no participant's grid"
                )
            return
        if not path.exists():
            self.notes.append(f"{path.name} is not used: its content is not here (datalad get)")
            return
        metadata = self._metadata(path)
        if metadata.get("Synthetic") is True:
            self.notes.append(f"{path.name} is not used: its JSON says that it is synthesised")
            return
        contrast: str | None
        if kind == "lesions":
            contrast = None
        elif kind == "matrices":
            contrast = name.get("from")
        elif kind == "images":
            contrast = contrast_of(name.values, name.suffix)
        else:
            contrast, note = _source_contrast(name, metadata, makers)
            if note is not None:
                self.notes.append(f"{path.name} {note}")
            if contrast is None:
                return
        self.found[kind].append(
            Derivative(
                path=path,
                relative=path.relative_to(root).as_posix(),
                dataset=dataset,
                own=_APP in makers,
                contrast=contrast,
                space=space,
                label=name.get("label"),
                metadata=metadata,
            )
        )

    def _metadata(self, path: Path) -> dict[str, Any]:
        sidecar = path.with_name(path.name.partition(".")[0] + ".json")
        if not sidecar.is_file():
            return {}
        content, problem = read_json(sidecar)
        if problem is not None:
            self.notes.append(f"{problem}; it is ignored")
        return content


def _kind(name: Entities, for_lesions: bool, own: bool) -> str | None:
    """Return which list of `Found` a file belongs to, from its name; None for others."""
    label, desc = name.get("label"), name.get("desc") or ""
    if name.suffix == "xfm":
        moves = {name.get("from"), name.get("to")} <= set(CONTRASTS)
        return "matrices" if moves and name.extension in MATRIX_EXTENSIONS else None
    if name.extension not in IMAGE_EXTENSIONS:
        return None
    is_brain = label == "brain" or (label is None and desc == "brain")
    if name.suffix in ("mask", "roi") and (label or "").lower() == "lesion":
        return "lesions"
    if for_lesions and name.suffix in ("mask", "roi", "dseg") and not is_brain:
        return "lesions"
    if name.suffix == "mask" and is_brain:
        return "masks"
    if name.suffix == "probseg" and label in TISSUES:
        return "tissues"
    if own and name.suffix == "dseg":
        # The labels of other tools' segmentations mean other tissues.
        return "labels"
    if own and desc == "preproc" and contrast_of(name.values, name.suffix) and name.get("space"):
        return "images"
    return None


def _source_contrast(
    name: Entities, metadata: Mapping[str, Any], makers: frozenset[str]
) -> tuple[str | None, str | None]:
    """Return the contrast that a mask or map was computed from, and a note.

    The file name says it (``desc-from<contrast>``), or its sidecar's Sources do. fMRIPrep and
    sMRIPrep compute theirs from T1w images, whatever else refines them.
    """
    desc = name.get("desc") or ""
    named = desc.removeprefix("from") if desc.startswith("from") else None
    listed = [
        source
        for key in ("Sources", "RawSources")
        for source in _strings(metadata.get(key))
        if not source.endswith(MATRIX_EXTENSIONS)
    ]
    contrasts = {_contrast_of_source(source) for source in listed}
    known = {contrast for contrast in contrasts if contrast is not None}
    if named in CONTRASTS:
        if known - {named}:
            return None, (
                f"is not used: its name says {named}, its Sources say {', '.join(sorted(known))}"
            )
        return named, None
    if len(contrasts) == 1 and known:
        return known.pop(), None
    if makers & set(_T1W_PIPELINES) and known <= {"T1w"}:
        return "T1w", "is taken as computed from the T1w, as fMRIPrep and sMRIPrep do"
    if known:
        return None, (
            "is not used: it was computed from more than one file "
            f"({', '.join(sorted(listed))}), and a part of it could be the contrast to synthesise"
        )
    return None, (
        "is not used: which contrast it was computed from is unknown. "
        'Name the image under "Sources" in its JSON file'
    )


def _contrast_of_source(source: str) -> str | None:
    """Return the contrast of a source file by its URI or path, or None if it cannot be told."""
    name = _parse(Path(source.rpartition(":")[2]))
    if name is None or name.extension not in IMAGE_EXTENSIONS:
        return None
    desc = name.get("desc") or ""
    if desc.removeprefix("from") in CONTRASTS and desc.startswith("from"):
        return desc.removeprefix("from")
    if desc in SYNTHETIC_DESCRIPTIONS:
        return None
    return contrast_of(name.values, name.suffix)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _makers(description: Mapping[str, Any]) -> frozenset[str]:
    """Return the lower-case names under GeneratedBy."""
    entries = description.get("GeneratedBy")
    entries = entries if isinstance(entries, list) else []
    return frozenset(
        str(entry["Name"]).lower()
        for entry in entries
        if isinstance(entry, dict) and "Name" in entry
    )


def _parse(path: Path) -> Entities | None:
    try:
        return parse_name(path.name)
    except ValueError:
        return None


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, dangling links among them; empty if there is no folder.

    Raises
    ------
    OSError
        If it is there and cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not _is_folder(entry))
    except FileNotFoundError:
        if leads_nowhere(folder):
            raise
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link to itself is no folder; what is to be read under its name is told why it is not.
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False
