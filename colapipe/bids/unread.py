"""A participant's files that look like scans and are not read: which, why, and what to do about it.

A scan under a name that is not read would count as missing, and be made up. So everything is named
that looks like one. Only names are looked at, no file is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from colapipe.bids.looks import OTHER_SUFFIXES, RESEMBLED, looks_like, words_of
from colapipe.bids.names import (
    IMAGE_EXTENSIONS,
    SYNTHETIC_DESCRIPTIONS,
    Entities,
    contrast_of,
    parse_name,
    scan_name,
    why_not_a_contrast,
    why_not_acquired,
)
from colapipe.errors import ScanWarning

if TYPE_CHECKING:
    from colapipe.bids.ignore import BidsIgnore

MOST_NAMED = 20
"""Lines about one session or one dataset before the rest is only counted."""

DATATYPES = words_of("anat beh dwi eeg fmap func ieeg meg micr motion mrs nirs perf pet")
"""Folders that BIDS knows in those of participants and sessions."""

_NOT_LOOKED_INTO = words_of("code derivatives figures log logs sourcedata")
# Suffixes that say nothing, so that entities may: sub-01_acq-T2_anat.
_NO_CONTRAST = words_of("anat brain data head image img mr mri orig raw scan vol volume")

_FORMATS = {
    ".brik": ("AFNI's format", "3dAFNItoNIFTI"),
    ".dcm": ("DICOM", "dcm2niix"),
    ".hdr": ("an image in two files", "fslchfiletype NIFTI_GZ"),
    ".head": ("AFNI's format", "3dAFNItoNIFTI"),
    ".ima": ("DICOM", "dcm2niix"),
    ".img": ("an image in two files", "fslchfiletype NIFTI_GZ"),
    ".mgh": ("FreeSurfer's format", "mri_convert"),
    ".mgz": ("FreeSurfer's format", "mri_convert"),
    ".mha": ("MetaImage", "3D Slicer or SimpleITK"),
    ".mhd": ("MetaImage", "3D Slicer or SimpleITK"),
    ".mnc": ("MINC", "mnc2nii"),
    ".nhdr": ("NRRD", "3D Slicer or SimpleITK"),
    ".nrrd": ("NRRD", "3D Slicer or SimpleITK"),
    ".par": ("PAR/REC", "dcm2niix"),
    ".rec": ("PAR/REC", "dcm2niix"),
}
_PACKED = words_of(".7z .bz2 .gz .gzip .lz4 .lzma .rar .tar .tgz .xz .z .zip .zst")
_BESIDE_IMAGES = words_of(
    """.annot .bmp .bval .bvec .csv .docx .gif .gii .html .ini .ipynb .jpeg .jpg .json .label .lock
    .log .lta .m .mat .md .md5 .pdf .pkl .png .pptx .py .raw .sh .sha1 .sha256 .stats .svg .tif
    .tiff .toml .tsv .txt .webp .xfm .xls .xlsx .xml .yaml .yml .zraw"""
)
_KEPT_ENTITIES = ("task", "acq", "ce", "rec", "run", "echo", "chunk")
_WEIGHTED = ("flash", "inplanet1", "inplanet2", "unit1")


@dataclass(frozen=True)
class Entry:
    """A file or folder of a participant, by name.

    Parameters
    ----------
    session : str or None
        The session in whose folder it lies.
    folder : str
        The folder it lies in, relative to the dataset.
    name : str
    is_folder : bool
    """

    session: str | None
    folder: str
    name: str
    is_folder: bool = False

    @property
    def relative(self) -> str:
        """Its path within the dataset; that of a folder ends with a slash."""
        return f"{self.folder}/{self.name}" + ("/" if self.is_folder else "")


@dataclass(frozen=True)
class Unread:
    """Files that are not read, all for one reason.

    Parameters
    ----------
    session : str or None
    files : tuple of str
        Paths within the dataset.
    contrasts : tuple of str
        What they look like; empty if nothing says so.
    reason : str
        Why they are not read.
    advice : str
        What the user can do: a sentence, or nothing.
    is_scan : bool
        Whether the files may well be the scans, so that it would be wrong to call the contrasts
        missing without a warning.
    resembles : bool
        Whether it is something else in BIDS (a T2starw), worth a word only where the contrast is
        missing.
    ignored : bool
        Whether ``.bidsignore`` leaves the files out.
    """

    session: str | None
    files: tuple[str, ...]
    contrasts: tuple[str, ...]
    reason: str
    advice: str = ""
    is_scan: bool = True
    resembles: bool = False
    ignored: bool = False

    @property
    def names(self) -> str:
        """The files; of many, the first."""
        return first(self.files)

    @property
    def why(self) -> str:
        """The reason and the advice."""
        return f"{self.reason}. {self.advice}" if self.advice else self.reason

    @property
    def sentence(self) -> str:
        """What it is, why it is not read, and what to do."""
        many = len(self.files) > 1
        looks = f"look{'' if many else 's'} like {' or '.join(self.contrasts)} and "
        return (
            f"{self.names} {looks if self.contrasts and not self.resembles else ''}"
            f"{'are' if many else 'is'} not read: {self.why}"
        )


def split_extension(name: str) -> tuple[str, str]:
    """Return a file name without its extension, and the extension as it is written.

    Examples
    --------
    >>> split_extension("sub-01_acq-1.5mm_T2w.NII.gz"), split_extension("T2w.mgz")
    (('sub-01_acq-1.5mm_T2w', '.NII.gz'), ('T2w', '.mgz'))
    """
    known = {*IMAGE_EXTENSIONS, ".nii", *_FORMATS, *_PACKED, *_BESIDE_IMAGES}
    stem, extension = name, ""
    while True:
        rest, dot, last = stem.rpartition(".")
        last = dot + last
        unknown_but_last = not extension and re.fullmatch(r"\.[a-zA-Z][a-zA-Z0-9]*", last)
        if not rest or not (last.lower() in known or unknown_but_last):
            return stem, extension
        stem, extension = rest, last + extension


def find_unread(
    root: Path,
    participant: str,
    sessions: Collection[str],
    entries: Iterable[Entry],
    scans: Collection[str],
    ignore: BidsIgnore | None = None,
) -> list[Unread]:
    """Say which of a participant's files look like scans and are not read.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    participant : str
    sessions : collection of str
        The participant's sessions.
    entries : iterable of Entry
        What lies in the folders of the participant and the sessions and in their ``anat``,
        without the scans.
    scans : collection of str
        Names of the scans that are read.
    ignore : BidsIgnore or None

    Returns
    -------
    list of Unread
        Files with the same reason and advice together, in the order of `entries`.
    """
    search = _Search(root, participant, sessions, scans, ignore)
    groups: dict[Unread, list[str]] = {}
    for entry in entries:
        for found in search.judge(entry):
            groups.setdefault(replace(found, files=()), []).extend(found.files)
    return [replace(one, files=tuple(files)) for one, files in groups.items()]


@dataclass(frozen=True)
class _Search:
    root: Path
    participant: str
    sessions: Collection[str]
    scans: Collection[str]
    ignore: BidsIgnore | None

    def judge(self, entry: Entry) -> Iterator[Unread]:
        line = self.ignore.line_for(entry.relative) if self.ignore else None
        if line is not None:
            path = self.root / entry.relative
            looks = scans_below(path, 2) if entry.is_folder else contrasts_in([entry.name])
            if looks:
                reason = f".bidsignore leaves it out by the line {line!r}"
                yield Unread(
                    entry.session, (entry.relative,), looks, reason, is_scan=False, ignored=True
                )
        elif entry.is_folder:
            yield from self.judge_folder(entry)
        else:
            found = self.judge_file(entry)
            if found is not None:
                yield found

    def judge_folder(self, entry: Entry) -> Iterator[Unread]:
        """Look into a folder that BIDS does not know here, one level deep."""
        if entry.name in _NOT_LOOKED_INTO:
            return
        inside = list(look_into(self.root / entry.relative))
        has_anat = any(isdir and name.lower() == "anat" for name, isdir in inside)
        if entry.folder == f"sub-{self.participant}" and (has_anat or is_like(entry.name, "ses")):
            yield from self.judge_session(entry)
            return
        files = [
            Entry(entry.session, f"{entry.folder}/{entry.name}", name)
            for name, isdir in inside
            if not isdir
        ]
        found = [one for file in files for one in self.judge(file) if one.contrasts]
        if entry.name in DATATYPES:
            found = [one for one in found if one.is_scan]
        yield from found
        if found or entry.name in DATATYPES:
            return
        contrast = looks_like(split_extension(entry.name)[0])
        is_dicom = any(split_extension(file.name)[1].lower() in (".dcm", ".ima") for file in files)
        if contrast or is_dicom:
            name = self.target(entry, contrast, "", ".nii.gz") if contrast else "NIfTI files"
            yield Unread(
                entry.session,
                (entry.relative,),
                (contrast,) if contrast else (),
                "it is a folder, not a NIfTI file",
                f"If it holds a DICOM series, convert it to {name} (dcm2niix).",
                is_scan=contrast is not None,
            )

    def judge_session(self, entry: Entry) -> Iterator[Unread]:
        """Name a folder that is meant for a session and does not have the name of one."""
        contrasts = scans_below(self.root / entry.relative, 1)
        if contrasts:
            yield Unread(
                entry.session,
                (entry.relative,),
                contrasts,
                "the folder of a session is named ses-<label>, with a label of letters, digits "
                "and + only",
                f"Rename it to {legal_name(entry.name, 'ses')}, for example, and the files in it "
                "accordingly.",
                # Sessions are not mixed: where there are others, nothing is made up for this one.
                is_scan=not self.sessions,
            )

    def judge_file(self, entry: Entry) -> Unread | None:
        """Say why a file is not read; None for what nobody would take for a scan."""
        stem, extension = split_extension(entry.name)
        if any(part.lower() in _BESIDE_IMAGES for part in re.findall(r"\.\w+", extension)):
            return None
        parsed, problem = _parse(stem)
        suffix = parsed.suffix if parsed else stem.rpartition("_")[2]
        session = entry.session
        if parsed and session is None and parsed.get("ses") in self.sessions:
            session = parsed.get("ses")
        entry = replace(entry, session=session)
        if suffix.lower() in RESEMBLED:
            return self.resembling(entry, suffix)
        if suffix.lower() in OTHER_SUFFIXES:
            return None
        is_suffix = parsed is not None and contrast_of({}, parsed.suffix) is not None
        contrast = looks_like(stem)
        if parsed and suffix.lower() not in _NO_CONTRAST:
            contrast = parsed.suffix if is_suffix else looks_like(parsed.suffix)
            contrast = "T1ce" if contrast == "T1w" and parsed.get("ce") else contrast
        if contrast is None:
            return self.unknown(entry, extension, suffix, problem)

        reasons = []
        where = PurePosixPath(entry.folder).name
        if where != "anat":
            reasons.append(f"it lies in {where}/, not in anat/")
        if extension not in IMAGE_EXTENSIONS:
            reasons.append(_about_extension(extension))
        if _kind(extension) in _FORMATS:
            pass  # it gets a new name by the conversion
        elif parsed is None:
            reasons.append(problem)
        else:
            reasons += self.about_labels(parsed, session)
            if not is_suffix:
                example = "ce-gadolinium and T1w" if contrast == "T1ce" else contrast
                reasons.append(f"BIDS writes {example}, not {suffix}")
            other = why_not_a_contrast(parsed.values, parsed.suffix) if is_suffix else None
            other = other or why_not_acquired(parsed.values)
            if other:
                reasons.append(other)
        never_the_scan = parsed is not None and (
            parsed.get("desc") in SYNTHETIC_DESCRIPTIONS or parsed.get("part") not in (None, "mag")
        )
        return Unread(
            session,
            (entry.relative,),
            (contrast,),
            "; ".join(reasons),
            "" if never_the_scan else self.advice(entry, contrast, stem, extension, parsed),
            is_scan=not never_the_scan,
        )

    def about_labels(self, parsed: Entities, session: str | None) -> list[str]:
        """Say which labels of a name are not those of the folder."""
        reasons = []
        for key, label in (("sub", self.participant), ("ses", session)):
            found = parsed.get(key)
            if found == label:
                continue
            if found is None:
                reasons.append(f"its name lacks {key}-{label}")
            else:
                reasons.append(f"its name says {key}-{found}, which is not the folder it is in")
        return reasons

    def resembling(self, entry: Entry, suffix: str) -> Unread:
        contrasts = RESEMBLED[suffix.lower()]
        advice = ""
        if suffix.lower() in _WEIGHTED:
            name = scan_name(self.participant, entry.session, contrasts[0], f"acq-{suffix}")
            advice = f"If it may serve as {contrasts[0]}, copy it to {name}.nii.gz."
        reason = f"{suffix} does not count as {' or '.join(contrasts)}"
        return Unread(
            entry.session, (entry.relative,), contrasts, reason, advice, False, resembles=True
        )

    def unknown(self, entry: Entry, extension: str, suffix: str, problem: str) -> Unread | None:
        """Name an image of which nothing says what contrast it has."""
        if not _is_image(extension) or PurePosixPath(entry.folder).name != "anat":
            return None
        reason = problem or f"BIDS knows no suffix {suffix} for a scan"
        if extension not in IMAGE_EXTENSIONS:
            reason = _about_extension(extension)
        advice = "Its name does not say which contrast it has."
        return Unread(entry.session, (entry.relative,), (), reason, advice, is_scan=False)

    def advice(
        self, entry: Entry, contrast: str, stem: str, extension: str, parsed: Entities | None
    ) -> str:
        """Say what to do with a file that looks like a scan."""
        end = ".nii" if extension.lower() == ".nii" else ".nii.gz"
        target = self.target(entry, contrast, stem, end)
        name = PurePosixPath(target).name
        if name in self.scans:
            return f"{name} is there and is read."
        kind = _kind(extension)
        if kind in _FORMATS:
            return f"Convert it to {target} ({_FORMATS[kind][1]})."
        if extension.lower() not in IMAGE_EXTENSIONS:
            if extension.lower().startswith(".nii.") and kind in _PACKED:
                return f"Unpack it, and store it as {target}."
            return f"If it is a NIfTI image, rename it to {target}; otherwise convert it."
        if parsed and why_not_acquired(parsed.values):
            return (
                f"If it is the scan as acquired, rename it to {target}; what was made from scans "
                "belongs in a dataset of its own."
            )
        if parsed and parsed.get("ce") and contrast != "T1ce":
            return f"If it may serve as {contrast}, rename it to {target}."
        if parsed and parsed.get("sub") not in (None, self.participant):
            return f"Put it into the folder of its participant, or rename it to {target}."
        verb = "Rename" if PurePosixPath(entry.folder).name == "anat" else "Move"
        return f"{verb} it to {target}."

    def target(self, entry: Entry, contrast: str, stem: str, end: str) -> str:
        """Return the path that a file should have, with those of its entities that are legal."""
        kept: dict[str, str] = {}
        for segment in stem.split("_")[:-1]:
            key, _, value = segment.partition("-")
            value = re.sub(r"[^a-zA-Z0-9+]", "", value)
            if value and key in _KEPT_ENTITIES and (key != "ce" or contrast == "T1ce"):
                kept.setdefault(key, f"{key}-{value}")
        name = scan_name(self.participant, entry.session, contrast, *kept.values())
        session = f"ses-{entry.session}/" if entry.session else ""
        return f"sub-{self.participant}/{session}anat/{name}{end}"


def only_ignored(unread: Iterable[Unread]) -> bool:
    """Tell whether ``.bidsignore`` leaves out all that could be a scan, and there is something."""
    ignored = [one.ignored for one in unread if one.is_scan or one.ignored]
    return bool(ignored) and all(ignored)


def say_unread(
    unread: Iterable[Unread], available: Collection[str], targets: Collection[str]
) -> tuple[list[str], list[ScanWarning]]:
    """Put what was not read into words, for one session.

    Parameters
    ----------
    unread : iterable of Unread
    available, targets : collection of str
        Contrasts that the session has, and those that are to be synthesised.

    Returns
    -------
    notes : list of str
        At most `MOST_NAMED` and how many more there are.
    warnings : list of ScanWarning
        Where an image would be made up in place of a file that looks like the scan.
    """
    notes: list[str] = []
    warnings: list[ScanWarning] = []
    for one in unread:
        missing = [contrast for contrast in one.contrasts if contrast not in available]
        made_up = [contrast for contrast in missing if contrast in targets and one.is_scan]
        like = "look like one and are" if len(one.files) > 1 else "looks like one and is"
        warnings += [
            ScanWarning(
                contrast,
                f"{contrast} counts as missing, although {one.names} {like} not read: {one.why}",
            )
            for contrast in made_up
        ]
        if not made_up and (missing or not one.resembles):
            notes.append(one.sentence)
    return at_most(MOST_NAMED, notes, "files are not read"), warnings


def first(names: Sequence[str]) -> str:
    """Return the first names of a list in words, fit to be printed, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    # Bytes that are no text would stop whoever writes them down.
    text = ", ".join(names[:3]).encode("utf-8", "backslashreplace").decode("utf-8")
    return text + more


def at_most(most: int, lines: Sequence[str], what: str) -> list[str]:
    """Return the first lines, and one that says how many more there are."""
    more = len(lines) - most
    return [*lines[:most], f"... and {more} more {what}"] if more > 0 else list(lines)


def look_into(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the names in a folder, sorted, and whether each is a folder; none if it is unreadable.

    Hidden files are passed over.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, is_folder(entry)) for entry in entries)
    except OSError:
        return
    yield from (one for one in found if not one[0].startswith("."))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder or a link to one; links in a loop are not.

    A link with the name of an image is git-annex's: it counts as a file without a look at it.
    """
    try:
        return entry.is_dir(follow_symlinks=not entry.name.endswith((*IMAGE_EXTENSIONS, ".json")))
    except OSError:
        return False


def contrasts_in(names: Iterable[str]) -> tuple[str, ...]:
    """Return what the images among some file names look like, each contrast once."""
    parts = (split_extension(name) for name in names)
    found = (looks_like(stem) for stem, extension in parts if _is_image(extension))
    return tuple(dict.fromkeys(contrast for contrast in found if contrast))


def scans_below(folder: Path, levels: int) -> tuple[str, ...]:
    """Return what the images of a participant's, a session's or an ``anat`` folder look like.

    Parameters
    ----------
    folder : Path
    levels : int
        How many folders deep to look: 2 for a participant's.
    """
    inside = list(look_into(folder))
    found = list(contrasts_in(name for name, isdir in inside if not isdir))
    for name, isdir in inside if levels else ():
        if isdir and (name.lower() == "anat" or is_like(name, "ses")):
            found += scans_below(folder / name, levels - 1)
    return tuple(dict.fromkeys(found))


def is_like(name: str, prefix: str) -> bool:
    """Tell whether a folder is probably meant for a participant (``sub``) or session (``ses``)."""
    return name.lower().startswith(prefix)


def legal_name(name: str, prefix: str) -> str:
    """Return a name that BIDS allows for a folder of participant or session.

    Examples
    --------
    >>> legal_name("sub_CC-001", "sub"), legal_name("Ses-1", "ses"), legal_name("sub-", "sub")
    ('sub-CC001', 'ses-1', 'sub-01')
    """
    words = {"sub": "subject|subj|sub", "ses": "session|sess|ses"}[prefix]
    label = re.sub(rf"^(?:{words})(?![a-z])", "", name, flags=re.IGNORECASE)
    return f"{prefix}-{re.sub(r'[^a-zA-Z0-9+]', '', label) or '01'}"


def _parse(stem: str) -> tuple[Entities | None, str]:
    """Take a name apart, or say what is wrong with it."""
    if " " in stem:
        return None, "there is a space in its name"
    if "." in stem:
        return None, "there is a dot in the middle of its name"
    try:
        return parse_name(f"{stem}.nii"), ""
    except ValueError as err:
        return None, str(err).partition(": ")[2]


def _is_image(extension: str) -> bool:
    return extension.lower().startswith((".nii", *_FORMATS))


def _kind(extension: str) -> str:
    """Return the part of an extension that says which format it is."""
    parts = re.findall(r"\.\w+", extension.lower())
    return next((part for part in parts if part in _FORMATS), parts[-1] if parts else "")


def _about_extension(extension: str) -> str:
    kind = _kind(extension)
    expected = " or ".join(IMAGE_EXTENSIONS)
    if kind in _FORMATS:
        return f"it is {_FORMATS[kind][0]}, and only {expected} is read"
    if extension.lower() in IMAGE_EXTENSIONS:
        return f"its ending is {extension}, expected {extension.lower()}"
    return f"its ending is {extension or 'missing'}, expected {expected}"
