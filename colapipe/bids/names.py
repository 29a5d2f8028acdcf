"""Names of BIDS files: take them apart, and build those of this app.

The patterns of our own names live in ``bids_templates/colapipe.json``, in the form of a pybids
configuration, so that a user can index our outputs with it; nothing here repeats them. pybids'
``build_path`` is not used because importing pybids takes most of a second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from colapipe.contrasts import CONTRASTS

IMAGE_EXTENSIONS = (".nii.gz", ".nii")
"""What an image file may end in; where both exist, the first is preferred."""

SYNTHETIC_DESCRIPTIONS = ("synth", "synthstd")
"""The values of ``desc-`` that mark a synthesised image and its standard deviation."""

PROCESSED = ("space", "res", "den", "desc", "label", "seg", "atlas")
"""Entities that BIDS keeps for what was made from scans; no scan has them."""

_CONTRAST_AGENT = "gadolinium"
_SUFFIX_OF = {contrast: "T1w" if contrast == "T1ce" else contrast for contrast in CONTRASTS}
_SEGMENT = re.compile(r"([a-zA-Z0-9]+)-([a-zA-Z0-9+]+)")
_LABEL = re.compile(r"[a-zA-Z0-9+]+")
_FIELD = re.compile(r"\{(?P<name>\w+)(?:<(?P<values>[^>]+)>)?(?:\|(?P<default>[\w.]+))?\}")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Entities:
    """A BIDS file name taken apart.

    Parameters
    ----------
    values : mapping of str to str
        Entities in the order of the name, by the short key that stands in it: ``{"sub": "01",
        "ce": "gadolinium"}``.
    suffix : str
        The last part before the extension: ``T1w``, ``mask``, ``xfm``.
    extension : str
        With its dot: ``.nii.gz``.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    extension: str = ""

    def get(self, key: str) -> str | None:
        """Return the value of an entity by its short key, or None if the name lacks it."""
        return self.values.get(key)


def parse_name(filename: str | PurePosixPath | Path) -> Entities:
    """Take a BIDS file name apart.

    Parameters
    ----------
    filename : str or path
        A file name, or a path whose last part is one.

    Raises
    ------
    ValueError
        If a part of the name is not ``key-value``, or a key comes twice.

    Examples
    --------
    >>> parse_name("sub-01_ce-gadolinium_T1w.nii.gz").values
    {'sub': '01', 'ce': 'gadolinium'}
    >>> parse_name("sub-01/anat/sub-01_from-T2w_to-T1w_mode-image_xfm.mat").suffix
    'xfm'
    """
    name = PurePosixPath(filename).name
    stem, dot, extension = name.partition(".")
    *segments, suffix = stem.split("_")
    values: dict[str, str] = {}
    for segment in segments:
        match = _SEGMENT.fullmatch(segment)
        if match is None:
            raise ValueError(f"{name}: {segment!r} is not a BIDS entity (key-value)")
        key, value = match.groups()
        if key in values:
            raise ValueError(f"{name}: the entity {key!r} comes twice")
        values[key] = value
    if not _LABEL.fullmatch(suffix):
        raise ValueError(f"{name}: no BIDS suffix before the extension")
    return Entities(values, suffix, dot + extension)


def contrast_of(entities: Mapping[str, str], suffix: str) -> str | None:
    """Return the contrast of a magnitude image, or None if it is not one this app knows.

    Any ``ce-*`` T1w is a ``T1ce``. Phase, real and imaginary parts and files that say that they
    are synthesised have no contrast; `why_not_a_contrast` tells why.

    Parameters
    ----------
    entities : mapping of str to str
        By short key, as `parse_name` gives them.
    suffix : str

    Examples
    --------
    >>> contrast_of({"sub": "01", "ce": "gadolinium"}, "T1w")
    'T1ce'
    >>> contrast_of({"sub": "01", "part": "phase"}, "T1w") is None
    True
    """
    if why_not_a_contrast(entities, suffix) is not None:
        return None
    return "T1ce" if suffix == "T1w" and "ce" in entities else suffix


def why_not_a_contrast(entities: Mapping[str, str], suffix: str) -> str | None:
    """Say in words why an image has no contrast for this app; None if it has one."""
    if suffix not in _SUFFIX_OF.values():
        return f"{suffix} is not a contrast of this app"
    part = entities.get("part")
    if part not in (None, "mag"):
        return f"part-{part} is not a magnitude image"
    if suffix != "T1w" and "ce" in entities:
        return f"only T1w images are used after a contrast agent (ce-{entities['ce']})"
    if entities.get("desc") in SYNTHETIC_DESCRIPTIONS:
        return f"desc-{entities['desc']} is synthesised, not acquired"
    return None


def why_not_acquired(entities: Mapping[str, str]) -> str | None:
    """Say in words by which entities an image was made from a scan; None if it may be one.

    Examples
    --------
    >>> why_not_acquired({"sub": "01", "space": "MNI152Lin", "desc": "preproc"})
    'space-MNI152Lin and desc-preproc mark a processed image, not a scan'
    """
    marks = [f"{key}-{entities[key]}" for key in PROCESSED if key in entities]
    verb = "mark" if len(marks) > 1 else "marks"
    return f"{' and '.join(marks)} {verb} a processed image, not a scan" if marks else None


def scan_name(participant: str, session: str | None, contrast: str, *between: str) -> str:
    """Return the name that BIDS gives to a scan, without its extension.

    Parameters
    ----------
    participant, session : str, str or None
    contrast : str
        One of ``CONTRASTS``.
    between : str
        Other entities, such as ``acq-hires``.

    Examples
    --------
    >>> scan_name("01", None, "T1ce", "run-2")
    'sub-01_ce-gadolinium_run-2_T1w'
    """
    agent = contrast == "T1ce" and not any(entity.startswith("ce-") for entity in between)
    return "_".join(
        [
            f"sub-{participant}",
            *([f"ses-{session}"] if session else []),
            *([f"ce-{_CONTRAST_AGENT}"] if agent else []),
            *between,
            _SUFFIX_OF[contrast],
        ]
    )


def derivative_path(
    participant: str,
    session: str | None,
    suffix: str | None = None,
    extension: str = ".nii.gz",
    *,
    contrast: str | None = None,
    space: str | None = None,
    label: str | None = None,
    desc: str | None = None,
    from_: str | None = None,
    to: str | None = None,
    mode: str | None = None,
) -> PurePosixPath:
    """Build the path of an output, relative to the output folder.

    Parameters
    ----------
    participant, session : str, str or None
        Labels without ``sub-`` and ``ses-``.
    suffix : str or None
        ``mask``, ``dseg``, ``probseg``, ``xfm`` or ``qc``. None for an image of `contrast`.
    extension : str
        With its dot.
    contrast : str or None
        One of ``CONTRASTS``, for images; ``T1ce`` becomes ``ce-gadolinium`` and ``T1w``.
    space, label, desc, from_, to, mode : str or None
        Entities of the name. In ``space``, ``from_`` and ``to``, ``T1ce`` is written as such.

    Returns
    -------
    PurePosixPath
        ``sub-X[/ses-Y]/anat/sub-X[_ses-Y]..._<suffix><extension>``.

    Raises
    ------
    ValueError
        If no pattern in ``bids_templates/colapipe.json`` has exactly these entities, or a value is
        not one that BIDS or the pattern allows.

    Examples
    --------
    >>> str(derivative_path("01", None, contrast="T1ce", space="T1w", desc="preproc"))
    'sub-01/anat/sub-01_ce-gadolinium_space-T1w_desc-preproc_T1w.nii.gz'
    >>> str(derivative_path("01", "02", "xfm", ".mat", from_="T2w", to="T1w", mode="image"))
    'sub-01/ses-02/anat/sub-01_ses-02_from-T2w_to-T1w_mode-image_xfm.mat'
    """
    agent = None
    if contrast is not None:
        if contrast not in CONTRASTS:
            raise ValueError(f"{contrast!r} is not a contrast; known are {', '.join(CONTRASTS)}")
        if suffix not in (None, _SUFFIX_OF[contrast]):
            raise ValueError(f"an image of {contrast} has no suffix {suffix!r}")
        suffix = _SUFFIX_OF[contrast]
        agent = _CONTRAST_AGENT if contrast == "T1ce" else None
    return _build(
        {
            "subject": participant,
            "session": session,
            "ceagent": agent,
            "space": space,
            "label": label,
            "desc": desc,
            "from": from_,
            "to": to,
            "mode": mode,
            "suffix": suffix,
            "extension": extension,
        }
    )


def synthetic_path(
    participant: str,
    session: str | None,
    contrast: str,
    space: str,
    *,
    desc: str = "synth",
    extension: str = ".nii.gz",
) -> PurePosixPath:
    """Build the path of a synthesised image, which always says so.

    Raises
    ------
    ValueError
        If `desc` is not one of ``SYNTHETIC_DESCRIPTIONS``: an image that nobody acquired never
        gets a name that could pass for a scan.
    """
    path = derivative_path(
        participant, session, contrast=contrast, space=space, desc=desc, extension=extension
    )
    check_synthetic_name(path)
    return path


def is_synthetic_name(path: str | PurePosixPath | Path) -> bool:
    """Whether a file name says that the image is synthesised, or its standard deviation."""
    try:
        name = parse_name(path)
    except ValueError:
        return False
    return name.get("desc") in SYNTHETIC_DESCRIPTIONS and name.suffix in _SUFFIX_OF.values()


def check_synthetic_name(path: str | PurePosixPath | Path) -> None:
    """Refuse a name for a synthesised image that does not say what it is.

    Raises
    ------
    ValueError
        If the name has neither ``desc-synth`` nor ``desc-synthstd``.
    """
    if not is_synthetic_name(path):
        raise ValueError(
            f"{path}: the name of a synthesised image must have desc-synth or desc-synthstd"
        )


def report_path(participant: str) -> PurePosixPath:
    """Build the path of a participant's report, relative to the output folder."""
    return _build({"subject": participant, "extension": ".html"})


def bids_uri(relative: str | PurePosixPath, dataset: str = "") -> str:
    """Return the BIDS URI of a file.

    Parameters
    ----------
    relative : str or path
        Path within the dataset.
    dataset : str
        Its name among the ``DatasetLinks``; empty for the dataset that the URI stands in.

    Examples
    --------
    >>> bids_uri("sub-01/anat/sub-01_T1w.nii.gz", "raw")
    'bids:raw:sub-01/anat/sub-01_T1w.nii.gz'
    """
    return f"bids:{dataset}:{PurePosixPath(relative)}"


def template(name: str) -> dict[str, Any]:
    """Read a JSON file of ``bids_templates``."""
    text = resources.files("colapipe.bids_templates").joinpath(name).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@lru_cache(maxsize=1)
def path_patterns() -> tuple[str, ...]:
    """Return the name patterns of all outputs, in pybids' notation."""
    return tuple(template("colapipe.json")["default_path_patterns"])


def _build(entities: Mapping[str, str | None]) -> PurePosixPath:
    """Fill the first pattern that takes exactly these entities."""
    given = {name: value for name, value in entities.items() if value is not None}
    for name, value in given.items():
        if name != "extension" and not _LABEL.fullmatch(value):
            raise ValueError(f"{value!r} is not a BIDS label for {name} (letters and digits only)")
    for pattern in path_patterns():
        path = _fill(pattern, given)
        if path is not None:
            return PurePosixPath(path)
    described = ", ".join(f"{name}={value!r}" for name, value in given.items())
    raise ValueError(f"no pattern in bids_templates/colapipe.json fits {described}")


def _fill(pattern: str, entities: Mapping[str, str]) -> str | None:
    """Fill one pattern: ``{name<allowed|values>|default}``, optional parts in brackets."""
    if set(entities) - {match["name"] for match in _FIELD.finditer(pattern)}:
        return None
    for match in _FIELD.finditer(pattern):
        value = entities.get(match["name"])
        if value is not None and match["values"] and value not in match["values"].split("|"):
            return None

    def keep_or_drop(optional: re.Match[str]) -> str:
        names = {match["name"] for match in _FIELD.finditer(optional[1])}
        return optional[1] if names <= set(entities) else ""

    pattern = _OPTIONAL.sub(keep_or_drop, pattern)
    values = {
        match["name"]: entities.get(match["name"], match["default"])
        for match in _FIELD.finditer(pattern)
    }
    if None in values.values():
        return None
    return _FIELD.sub(lambda match: str(values[match["name"]]), pattern)
