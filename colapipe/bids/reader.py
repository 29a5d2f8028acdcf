"""Read a raw BIDS dataset: who is in it, which contrasts they have, and which scan to use.

File names are read with one look into each folder of a participant, a session and ``anat``, less
than a millisecond per participant; no file is opened, and none is asked for its size or kind.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colapipe.bids.filters import known_entities
from colapipe.bids.ignore import BidsIgnore, read_bidsignore
from colapipe.bids.left_out import left_out, why_left_out
from colapipe.bids.names import (
    IMAGE_EXTENSIONS,
    contrast_of,
    parse_name,
    why_not_acquired,
)
from colapipe.bids.unread import Entry, Unread, find_unread, is_folder
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, InputFileError, UsageError
from colapipe.files import read_json

DESCRIPTION = "dataset_description.json"

_SESSION = re.compile(r"ses-[a-zA-Z0-9+]+")


@dataclass(frozen=True)
class Scan:
    """One image of a contrast in the raw dataset.

    Parameters
    ----------
    path : Path
        Absolute path of the image.
    relative : str
        Its path within the dataset, with forward slashes, as BIDS URIs want it.
    contrast : str
        One of ``CONTRASTS``.
    participant, session : str, str or None
        Labels without ``sub-`` and ``ses-``.
    entities : dict
        Entities of the name by their short key.
    """

    path: Path
    relative: str
    contrast: str
    participant: str
    session: str | None
    entities: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file name."""
        return self.path.name


@dataclass(frozen=True)
class Listing:
    """What lies in a participant's folders.

    Parameters
    ----------
    participant : str
    sessions : tuple of str
        Labels of the sessions, sorted; empty if there are none.
    scans : tuple of Scan
        Sorted by session, contrast and name.
    others : tuple of Entry
        Files and folders that are not read.
    unreadable : mapping
        Session (None for the participant's own folder and the ``anat`` in it) to what is wrong with
        a folder that cannot be read. It passes for empty: whoever is not asked about does not
        hinder the others.
    """

    participant: str
    sessions: tuple[str, ...] = ()
    scans: tuple[Scan, ...] = ()
    others: tuple[Entry, ...] = ()
    unreadable: Mapping[str | None, str] = field(default_factory=dict)

    @property
    def all_contrasts(self) -> set[str]:
        """The contrasts of all sessions together."""
        return {scan.contrast for scan in self.scans}

    def contrasts(self) -> dict[str | None, set[str]]:
        """Return which contrasts each session has, empty where it has none.

        The key is None for scans outside of sessions, and for a participant who has nothing.
        """
        found: dict[str | None, set[str]] = {session: set() for session in self.sessions}
        for scan in self.scans:
            found.setdefault(scan.session, set()).add(scan.contrast)
        return found or {None: set()}


@dataclass(frozen=True)
class RawDataset:
    """A raw BIDS dataset that has passed `open_dataset`.

    Parameters
    ----------
    root : Path
        Its folder, absolute.
    description : mapping
        The content of ``dataset_description.json``.
    ignore : BidsIgnore or None
        What its ``.bidsignore`` leaves out.
    """

    root: Path
    description: Mapping[str, Any] = field(default_factory=dict)
    ignore: BidsIgnore | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The dataset's name."""
        return str(self.description.get("Name", self.root.name))

    def participants(self) -> list[str]:
        """Return the labels of all participants that have a folder, sorted."""
        labels = participants_in(self.root)
        return [label for label in labels if not self._ignores(f"sub-{label}/")]

    def left_out(self) -> list[str]:
        """Say which folders hold scans and are no participant's, one line each."""
        return left_out(self.root, self.ignore)

    def why_left_out(self, label: str) -> str | None:
        """Say why somebody is not among the participants; None if nothing is known of them."""
        return why_left_out(self.root, label, self.ignore)

    def listing(self, participant: str) -> Listing:
        """Return what lies in a participant's folders, from names alone."""
        scans: list[Scan] = []
        others: list[Entry] = []
        folders: dict[str | None, str] = {None: f"sub-{participant}"}
        sessions = []
        unreadable: dict[str | None, str] = {}

        def entries(session: str | None, folder: str) -> list[tuple[str, bool]]:
            try:
                return _entries(self.root / folder)
            except InputFileError as err:
                unreadable.setdefault(session, str(err))
                return []

        for name, isdir in entries(None, folders[None]):
            entry = Entry(None, folders[None], name, isdir)
            # A link in a loop and a file of such a name count: they are told to be unreadable.
            if _SESSION.fullmatch(name) and not self._ignores(f"{folders[None]}/{name}/"):
                sessions.append(name.removeprefix("ses-"))
                folders[sessions[-1]] = f"{folders[None]}/{name}"
            elif name != "anat":
                others.append(entry)
        for session, folder in folders.items():
            if session is not None:
                others += [
                    Entry(session, folder, name, isdir)
                    for name, isdir in entries(session, folder)
                    if name != "anat"
                ]
            anat = f"{folder}/anat"
            if self._ignores(f"{anat}/"):
                others.append(Entry(session, folder, "anat", is_folder=True))
                continue
            if session in unreadable:
                continue
            for name, isdir in entries(session, anat):
                entry = Entry(session, anat, name, isdir)
                scan = None if isdir else self._scan(entry, participant)
                if scan is not None:
                    scans.append(scan)
                elif not name.endswith(".json"):
                    others.append(entry)
        order = {contrast: rank for rank, contrast in enumerate(CONTRASTS)}
        scans.sort(key=lambda scan: (scan.session or "", order[scan.contrast], scan.name))
        return Listing(participant, tuple(sessions), tuple(scans), tuple(others), unreadable)

    def unread(self, listing: Listing) -> list[Unread]:
        """Say which files of a participant look like scans and are not read."""
        names = {scan.name for scan in listing.scans}
        return find_unread(
            self.root, listing.participant, listing.sessions, listing.others, names, self.ignore
        )

    def _scan(self, entry: Entry, participant: str) -> Scan | None:
        """Return a file as a scan; None if its name is not that of one."""
        if not entry.name.endswith(IMAGE_EXTENSIONS):
            return None
        try:
            parsed = parse_name(entry.name)
        except ValueError:
            return None
        contrast = contrast_of(parsed.values, parsed.suffix)
        if (
            contrast is None
            or parsed.extension not in IMAGE_EXTENSIONS
            or why_not_acquired(parsed.values) is not None
            or (parsed.get("sub"), parsed.get("ses")) != (participant, entry.session)
            or self._ignores(entry.relative)
        ):
            return None
        path = self.root / entry.relative
        values = dict(parsed.values)
        return Scan(path, entry.relative, contrast, participant, entry.session, values)

    def _ignores(self, relative: str) -> bool:
        return self.ignore is not None and self.ignore.line_for(relative) is not None


def open_dataset(bids_dir: Path, *, need_participants: bool = True) -> RawDataset:
    """Check that a folder is a usable BIDS dataset, and return it.

    Parameters
    ----------
    bids_dir : Path
    need_participants : bool
        False where only the dataset's description is needed, as for ``--synth-only``.

    Raises
    ------
    DatasetError
        If the folder is missing or unreadable, has no ``dataset_description.json``, this is not
        JSON or lacks Name or BIDSVersion, or there is no participant.
    """
    root = Path(bids_dir).absolute()
    try:
        next(root.iterdir(), None)
    except OSError as err:
        found = {errno.ENOENT: "does not exist", errno.ENOTDIR: "is not a folder"}.get(
            err.errno or 0, f"cannot be read ({err.strerror or err})"
        )
        raise DatasetError(
            f"{root}: {found}; expected the folder of a BIDS dataset that you may read. Check the "
            "first argument."
        ) from err
    description = _description(root)
    if not need_participants:
        return RawDataset(root, description)
    _refuse_derivatives(root, description)
    dataset = RawDataset(root, description, read_bidsignore(root))
    if not dataset.participants():
        near = "".join(f"\n{line}" for line in dataset.left_out())
        raise DatasetError(
            f"{root}: the dataset is empty: no sub-* folder was found; expected one folder for "
            "each participant, as in sub-01/anat/sub-01_T1w.nii.gz. Check the first argument."
            f"{near}"
        )
    return dataset


def _refuse_derivatives(root: Path, description: Mapping[str, Any]) -> None:
    """Refuse a dataset that says that it was made from another one.

    ``PipelineDescription`` is what fMRIPrep wrote before BIDS had ``DatasetType``.
    """
    kind = description.get("DatasetType", "")
    if str(kind).lower() != "derivative" and (kind or "PipelineDescription" not in description):
        return
    makers = description.get("GeneratedBy") or [description.get("PipelineDescription")]
    names = [
        str(maker["Name"])
        for maker in (makers if isinstance(makers, list) else [])
        if isinstance(maker, dict) and maker.get("Name")
    ]
    raise DatasetError(
        f"{root / DESCRIPTION}: the dataset is a derivative"
        f"{', made by ' + ', '.join(names) if names else ''}; expected a raw dataset, with scans "
        "as they were acquired. Give the raw dataset that it was made from. What was made from it "
        "before can be given with --derivatives, and what colapipe prepared is taken up with "
        "--synth-only. If these are acquired scans all the same, defaced for example, write "
        '"DatasetType": "raw" into that file.'
    )


def _description(root: Path) -> dict[str, Any]:
    path = root / DESCRIPTION
    if not _is_file(path):
        inside = (root / name for name in _names(root))
        near = next((p for p in (root.parent, *inside) if _is_file(p / DESCRIPTION)), None)
        hint = (
            f"{near} has one: was that folder meant?"
            if near
            else 'Write at least {"Name": "...", "BIDSVersion": "1.10.0"} into it.'
        )
        raise DatasetError(f"{path}: does not exist; expected in every BIDS dataset. {hint}")
    content, problem = read_json(path)
    if problem is not None:
        raise DatasetError(f"{problem}. Correct the file; an editor with JSON support helps.")
    for key in ("Name", "BIDSVersion"):
        if not content.get(key):
            raise DatasetError(
                f"{path}: {key} is missing; expected in every BIDS dataset. "
                f'Add it, as in "{key}": "{"My study" if key == "Name" else "1.10.0"}".'
            )
    return content


def _is_file(path: Path) -> bool:
    """Say whether there is such a file, as far as one may look."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def labels_in(folder: Path, prefix: str) -> list[str]:
    """Return the sorted labels X of all folders ``<prefix>-X``; empty if there is no folder.

    Works on raw datasets and derivatives alike, and opens no file. A link that leads nowhere and a
    file of such a name count: whoever wants to read them is told what they are.

    Raises
    ------
    InputFileError
        If the folder cannot be read.
    """
    start = f"{prefix}-"
    labels = (name.removeprefix(start) for name in _names(folder) if name.startswith(start))
    return sorted(label for label in labels if re.fullmatch(r"[a-zA-Z0-9+]+", label))


def participants_in(root: Path) -> list[str]:
    """Return the labels of the participants of a raw or derivative dataset, sorted.

    Raises
    ------
    DatasetError
        If its folder cannot be read.
    """
    try:
        return labels_in(root, "sub")
    except InputFileError as err:
        raise DatasetError(str(err)) from err


def sessions_in(root: Path, participant: str) -> list[str]:
    """Return the labels of a participant's sessions, sorted; none where they cannot be read."""
    with contextlib.suppress(InputFileError):
        return labels_in(root / f"sub-{participant}", "ses")
    return []


def leads_nowhere(folder: Path) -> bool:
    """Say whether a session's folder, or one of the two above it, is a link to nothing."""
    return any(path.is_symlink() and not path.exists() for path in (folder, *folder.parents[:2]))


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; see `_entries`."""
    return [name for name, _ in _entries(folder)]


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the names in a folder, sorted, and whether each is a folder; none if there is none.

    Hidden files are passed over. Links of git-annex count as files, whether they dangle or not.

    Raises
    ------
    InputFileError
        If it is there and cannot be read: a folder of somebody else, a link to itself, a file.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((e.name, is_folder(e)) for e in entries if not e.name.startswith("."))
    except OSError as err:
        if isinstance(err, FileNotFoundError) and not leads_nowhere(folder):
            return []
        raise InputFileError(
            folder,
            f"cannot be read ({err.strerror or err})",
            "a folder that you may read",
            "Repair it or its rights, or leave this one out.",
        ) from err


def choose_scan(scans: Sequence[Scan]) -> tuple[Scan, str | None]:
    """Choose one of several scans of one contrast in one session.

    The rule, in this order: contrast agent ``gadolinium``, no ``acq-`` entity, no ``rec-`` entity,
    fewest other entities, first ``run``; where two still differ, the first in natural order
    (``run-2`` before ``run-10``); ``.nii.gz`` before ``.nii``. Filters have been applied before.
    The first run is taken, not the last, because a repeat may just as well be a planned second
    scan; runs are not averaged, because that smooths what is to be learned from them.

    Returns
    -------
    scan : Scan
    note : str or None
        Which scans were passed over, if there was a choice.

    Raises
    ------
    ValueError
        If there is no scan, or they are of several contrasts or sessions.
    """
    if len({(scan.participant, scan.session, scan.contrast) for scan in scans}) != 1:
        raise ValueError("expected scans of one contrast in one session")
    chosen, *others = sorted(scans, key=_preference)
    if not others:
        return chosen, None
    names = ", ".join(scan.name for scan in others)
    return chosen, (
        f"{chosen.contrast}: {chosen.name} is used, {names} passed over "
        "(first acquisition and run; --bids-filter-file chooses otherwise)"
    )


def choose_scans(
    scans: Iterable[Scan],
) -> tuple[dict[str | None, dict[str, Scan]], list[str]]:
    """Choose one scan for each session and contrast with `choose_scan`.

    Returns
    -------
    chosen : dict
        Session to contrast to scan.
    notes : list of str
    """
    groups: dict[tuple[str | None, str], list[Scan]] = {}
    for scan in scans:
        groups.setdefault((scan.session, scan.contrast), []).append(scan)
    chosen: dict[str | None, dict[str, Scan]] = {}
    notes = []
    for (session, contrast), group in groups.items():
        chosen.setdefault(session, {})[contrast], note = choose_scan(group)
        if note:
            notes.append(note)
    return chosen, notes


def _preference(scan: Scan) -> tuple[Any, ...]:
    entities = dict(scan.entities)
    agent, acquisition, reconstruction, run = (
        entities.pop(key, "") for key in ("ce", "acq", "rec", "run")
    )
    others = sorted(
        f"{key}-{value}" for key, value in entities.items() if key not in ("sub", "ses", "part")
    )
    return (
        agent not in ("", "gadolinium"),
        _natural(agent),
        _natural(acquisition),
        _natural(reconstruction),
        len(others),
        [_natural(other) for other in others],
        _natural(run),
        not scan.name.endswith(IMAGE_EXTENSIONS[0]),
        scan.name,
    )


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key by which ``run-2`` comes before ``run-10``, and nothing before all."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def read_filter_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read a ``--bids-filter-file``.

    The file is JSON: contrast to entity to value, with the entity names of pybids. ``null`` means
    that the entity must be absent, ``"*"`` that it must be there, a list that any of its values
    will do: ``{"T1w": {"acquisition": null, "run": [1, 2]}, "T1ce": {"ceagent": "*"}}``. Contrasts
    may be written in lower case.

    Raises
    ------
    UsageError
        If the file cannot be read or is not of this form, or names an unknown contrast or entity.
    """
    option = f"--bids-filter-file {path}"
    content, problem = read_json(path)
    if problem is not None:
        raise UsageError(f"--bids-filter-file {problem}.")
    known = {contrast.lower(): contrast for contrast in CONTRASTS}
    filters: dict[str, dict[str, Any]] = {}
    for key, query in content.items():
        contrast = known.get(key.lower())
        if contrast is None:
            raise UsageError(
                f"{option}: {key!r} is not a contrast{_near(key, CONTRASTS)}. "
                f"Valid ones: {', '.join(CONTRASTS)}."
            )
        if contrast in filters:
            raise UsageError(f"{option}: {contrast} comes twice; write one filter for it.")
        if not isinstance(query, dict):
            raise UsageError(
                f"{option}: {key} has {query!r}; expected an object such as "
                '{"acquisition": null}.'
            )
        _check_query(option, key, query)
        filters[contrast] = query
    return filters


def _check_query(option: str, contrast: str, query: Mapping[str, Any]) -> None:
    entities = known_entities() if query else ()
    for entity, value in query.items():
        if entity not in entities:
            raise UsageError(
                f"{option}: {contrast}: {entity!r} is not an entity{_near(entity, entities)}. "
                f"Valid ones: {', '.join(entities)}."
            )
        values = value if isinstance(value, list) else [value]
        if not values or not all(
            item is None or (isinstance(item, (str, int)) and not isinstance(item, bool))
            for item in values
        ):
            raise UsageError(
                f"{option}: {contrast}: {entity} has {value!r}; expected a string, a number, null "
                '(absent), "*" (any), or a list of these.'
            )


def _near(word: str, words: Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {match[0]}?)" if match else ""
