"""Read a raw BIDS dataset: who is in it, which contrasts they have, and which scan to use.

File names are read with one look into each ``anat`` folder, a few milliseconds per participant.
pybids is asked only where a ``--bids-filter-file`` narrows the scans down, with an index of that
one participant (0.4 s; a full index of 1,000 participants takes 8 s and more).
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colapipe.bids.names import (
    IMAGE_EXTENSIONS,
    Entities,
    contrast_of,
    parse_name,
    why_not_a_contrast,
)
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, InputFileError, UsageError

DESCRIPTION = "dataset_description.json"

Filters = Mapping[str, Mapping[str, Any]]
"""Per contrast, the values that entities must have: ``{"T1w": {"acquisition": None}}``."""


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
class RawDataset:
    """A raw BIDS dataset that has passed `open_dataset`.

    Parameters
    ----------
    root : Path
        Its folder, absolute.
    description : mapping
        The content of ``dataset_description.json``.
    """

    root: Path
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The dataset's name."""
        return str(self.description.get("Name", self.root.name))

    def participants(self) -> list[str]:
        """Return the labels of all participants that have a folder, sorted."""
        return participants_in(self.root)

    def sessions(self, participant: str) -> list[str]:
        """Return the labels of a participant's sessions, sorted; empty if there are none."""
        return sessions_in(self.root, participant)

    def unreadable(self, participant: str) -> dict[str | None, str]:
        """Return in words which of a participant's folders cannot be read, by session.

        The key is None for the participant's own folder and the ``anat`` in it. Elsewhere these
        folders pass for empty: whoever is not asked about does not hinder the others.
        """
        problems: dict[str | None, str] = {}
        try:
            labels_in(self._folder(participant), "ses")
        except InputFileError as err:
            return {None: str(err)}
        for session in (None, *self.sessions(participant)):
            try:
                _names(self._folder(participant, session) / "anat")
            except InputFileError as err:
                problems[session] = str(err)
        return problems

    def _folder(self, participant: str, session: str | None = None) -> Path:
        folder = self.root / f"sub-{participant}"
        return folder / f"ses-{session}" if session else folder

    def contrasts_by_glob(self, participant: str) -> dict[str | None, set[str]]:
        """Return which contrasts each session has, from file names alone.

        Filters are not applied: this is the cheap question that is asked about every participant.

        Returns
        -------
        dict
            Session label to contrasts, empty where a session has none. The key is None for a
            participant without sessions.
        """
        found: dict[str | None, set[str]] = {
            session: set() for session in self.sessions(participant)
        }
        for session, _, contrast, _ in self._images(participant):
            found.setdefault(session, set())
            if contrast is not None:
                found[session].add(contrast)
        return found or {None: set()}

    def scans(
        self,
        participant: str,
        session_filter: Sequence[str] | None = None,
        filters: Filters | None = None,
    ) -> tuple[list[Scan], list[str]]:
        """Return the scans of one participant, and what was left out.

        Parameters
        ----------
        participant : str
        session_filter : sequence of str or None
            Labels of the sessions that count; None or empty means all.
        filters : mapping or None
            What `read_filter_file` returns. A filter narrows the scans of its contrast down; it
            never adds one.

        Returns
        -------
        scans : list of Scan
            Sorted by session, contrast and name.
        notes : list of str
            In words: images that are skipped and why, and what each filter removed.
        """
        scans: list[Scan] = []
        notes: list[str] = []
        for session, path, contrast, reason in self._images(participant):
            if session_filter and session not in session_filter:
                continue
            if contrast is None:
                if reason:
                    notes.append(f"{path.name} is skipped: {reason}")
                continue
            relative = path.relative_to(self.root).as_posix()
            entities = dict(parse_name(path.name).values)
            scans.append(Scan(path, relative, contrast, participant, session, entities))
        if filters:
            scans, removed = self._filtered(participant, scans, filters)
            notes += removed
        order = {contrast: rank for rank, contrast in enumerate(CONTRASTS)}
        scans.sort(key=lambda scan: (scan.session or "", order[scan.contrast], scan.name))
        return scans, notes

    def _images(
        self, participant: str
    ) -> Iterator[tuple[str | None, Path, str | None, str | None]]:
        """Yield session, path, contrast, and the reason if an image of interest has none."""
        for session in (None, *self.sessions(participant)):
            anat = self._folder(participant, session) / "anat"
            names: list[str] = []
            with contextlib.suppress(InputFileError):
                names = _image_names(anat)
            for name in names:
                contrast, reason = _classify(name, participant, session)
                yield session, anat / name, contrast, reason

    def _filtered(
        self, participant: str, scans: list[Scan], filters: Filters
    ) -> tuple[list[Scan], list[str]]:
        """Keep the scans that pass the filter of their contrast, and say what was removed."""
        layout = self._index(participant)
        notes = []
        for contrast, query in filters.items():
            # A name is unique within a participant; how pybids spells the folder does not matter.
            kept = {
                Path(path).name
                for path in layout.get(
                    return_type="filename",
                    invalid_filters="allow",
                    **{entity: _query_value(value) for entity, value in query.items()},
                )
            }
            removed = [s for s in scans if s.contrast == contrast and s.name not in kept]
            if removed:
                names = ", ".join(scan.name for scan in removed)
                notes.append(f"the filter {json.dumps({contrast: dict(query)})} removed {names}")
                scans = [scan for scan in scans if scan not in removed]
        return scans, notes

    def _index(self, participant: str) -> Any:
        """Return a pybids layout of one participant's ``anat`` folders, without metadata."""
        from bids.layout import BIDSLayout, BIDSLayoutIndexer

        anat = r"anat(?:/|$)"
        indexer = BIDSLayoutIndexer(
            validate=False,
            index_metadata=False,
            ignore=[
                re.compile(rf"^/(?!sub-{re.escape(participant)}(?:/|$))"),
                re.compile(rf"^/[^/]+/(?!{anat}|ses-[^/]+(?:$|/{anat}))"),
            ],
        )
        return BIDSLayout(self.root, validate=False, config=["bids"], indexer=indexer)


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
    dataset = RawDataset(root, description)
    if need_participants and not dataset.participants():
        raise DatasetError(
            f"{root}: the dataset is empty: no sub-* folder was found; expected one folder for "
            "each participant, as in sub-01/anat/sub-01_T1w.nii.gz. Check the first argument."
        )
    return dataset


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


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder.

    Raises
    ------
    InputFileError
        If it is there and cannot be read: a folder of somebody else, a link to itself, a file.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as err:
        if isinstance(err, FileNotFoundError) and not folder.is_symlink():
            return []
        raise InputFileError(
            folder,
            f"cannot be read ({err.strerror or err})",
            "a folder that you may read",
            "Repair it or its rights, or leave this one out.",
        ) from err


def _image_names(anat: Path) -> list[str]:
    """Return the image files of a folder, sorted; dangling links of git-annex count as files."""
    return [
        name
        for name in _names(anat)
        if name.endswith(IMAGE_EXTENSIONS) and not name.startswith(".")
    ]


def _classify(name: str, participant: str, session: str | None) -> tuple[str | None, str | None]:
    """Return the contrast of an image, or the reason why it is skipped.

    Images of suffixes that this app has no use for (T2starw, UNIT1, ...) are passed over without
    a reason: naming them would only make noise.
    """
    try:
        parsed = parse_name(name)
    except ValueError:
        return None, "its name is not a BIDS name"
    contrast = contrast_of(parsed.values, parsed.suffix)
    if contrast is None:
        if contrast_of({}, parsed.suffix) is None:
            return None, None
        return None, why_not_a_contrast(parsed.values, parsed.suffix)
    if parsed.get("sub") != participant or parsed.get("ses") != session:
        return None, "its name does not belong to the folder it is in"
    return contrast, None


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
    entities = _known_entities() if query else ()
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


def _known_entities() -> tuple[str, ...]:
    """Return the names of the entities that pybids reads from raw file names."""
    from bids.layout import Config

    return tuple(Config.load("bids").entities)


def _near(word: str, words: Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(words), n=1)
    return f" (did you mean {match[0]}?)" if match else ""


def _query_value(value: Any) -> Any:
    """Return a filter's value as pybids wants it."""
    from bids.layout import Query

    if isinstance(value, list):
        return [_query_value(item) for item in value]
    if value is None:
        return Query.NONE
    return Query.ANY if value == "*" else value


def read_json(path: Path) -> tuple[dict[str, Any], str | None]:
    """Read a JSON object.

    Returns
    -------
    content : dict
        Empty if there was a problem.
    problem : str or None
        Which file, what was found, what was expected; None if all is well.
    """
    try:
        # A byte order mark, as Windows editors write it, is not a mistake worth stopping for.
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        return {}, f"{path}: cannot be read ({err.strerror}); expected a JSON file"
    except ValueError as err:
        return {}, f"{path}: is not JSON ({err}); expected a JSON object"
    if not isinstance(content, dict):
        return {}, f"{path}: is a JSON {type(content).__name__}; expected a JSON object"
    return content, None


def read_sidecar(path: Path, root: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """Read the metadata of an image, following BIDS' inheritance principle.

    A JSON file counts if it has the image's suffix and no entity that the image lacks. Files
    nearer to the image win over those nearer to the root; of several in one folder, the one with
    most entities counts.

    Parameters
    ----------
    path : Path
        The image.
    root : Path or None
        The dataset's folder; None reads the image's own folder only.

    Returns
    -------
    metadata : dict
    warnings : list of str
        One for each file that could not be used.
    """
    image = parse_name(path.name)
    metadata: dict[str, Any] = {}
    warnings = []
    for folder in _levels(path.parent, root):
        candidates = [
            (len(entities.values), candidate)
            for candidate, entities in _json_files(folder)
            if entities.suffix == image.suffix and entities.values.items() <= image.values.items()
        ]
        for _, candidate in sorted(candidates)[-1:]:
            content, problem = read_json(candidate)
            metadata.update(content)
            if problem is not None:
                warnings.append(f"{problem}; it is ignored")
    return metadata, warnings


def _levels(folder: Path, root: Path | None) -> list[Path]:
    """Return the folders from the root down to `folder`."""
    if root is None or not folder.is_relative_to(root):
        return [folder]
    return [folder, *(p for p in folder.parents if p.is_relative_to(root))][::-1]


def _json_files(folder: Path) -> Iterator[tuple[Path, Entities]]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, parse_name(path.name)
        except ValueError:
            continue
