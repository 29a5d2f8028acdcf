"""Hand the complete set of contrasts, real and synthetic, to tools that segment lesions.

Two layouts come from the same volumes: that of the BraTS challenges' algorithms (one folder a
case, ``<case>-t1n.nii.gz`` and so on; the BraTS orchestrator's ``infer_batch`` reads it) and that
of nnU-Net (``imagesTs/<case>_0000.nii.gz``; Isensee et al., Nat Methods 18:203-211, 2021). A table
says of every file whether somebody acquired it.

All files are on one kind of grid: 240 x 240 x 155 voxels of 1 mm, stored towards left, posterior
and superior, which is what BraTS algorithms expect. It lies along the axes of the session's own
reference scan, around its brain. Nothing is registered to the SRI24 atlas that BraTS uses.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from colapipe.anatomy.images import load_scan, oriented_image, save_image
from colapipe.bids.names import template
from colapipe.bids.outputs import OutputFile, SessionFiles, read_session
from colapipe.bids.sidecars import write_json
from colapipe.bids.tables import write_table
from colapipe.contrasts import CONTRASTS
from colapipe.errors import InputFileError, OutputError, UsageError
from colapipe.files import whole
from colapipe.slices import Shape, mask_to_model_grid, model_grid, to_model_grid

SHAPE: Shape = (240, 240, 155)
"""Voxels of an exported volume: the shape that BraTS algorithms expect."""

CHANNEL_ORDER = ("T1w", "T1ce", "T2w", "FLAIR", "PDw")
"""The order in which contrasts become nnU-Net's channels."""

BRATS_NAMES = {"T1w": "t1n", "T1ce": "t1c", "T2w": "t2w", "FLAIR": "t2f"}
"""What the BraTS challenges since 2023 call the contrasts."""

MANIFEST = "manifest.tsv"
_COVERED = 0.95  # Less of the brain than this is worth a word.
BRATS_FOLDER, NNUNET_FOLDER = "brats", "imagesTs"

_SPACE = (
    f"{' x '.join(map(str, SHAPE))} voxels of 1 mm, stored towards left, posterior and superior, "
    "along the axes of the session's reference scan and in its world coordinates; brain-extracted. "
    "This is NOT the SRI24 space of the BraTS challenges: the shape is theirs, but nothing was "
    "registered to an atlas."
)

COLUMNS: dict[str, dict[str, Any]] = template("columns_export.json")
"""The columns of the manifest, described as BIDS asks."""


@dataclass(frozen=True)
class Image:
    """One contrast of a case.

    Parameters
    ----------
    file : Derivative
    synthetic : bool
    std : Derivative or None
        The standard deviation of a synthetic image.
    """

    file: OutputFile
    synthetic: bool
    std: OutputFile | None = None


@dataclass(frozen=True)
class Case:
    """One session: what there is on the reference grid that has most of it.

    Nothing where ``withheld`` says why what is there is not handed on.
    """

    participant: str
    session: str | None
    reference: str | None
    images: Mapping[str, Image] = field(default_factory=dict)
    mask: OutputFile | None = None
    withheld: str = ""

    @property
    def name(self) -> str:
        """``sub-X`` or ``sub-X_ses-Y``: labels have letters, digits and + only."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Parameters
    ----------
    manifest : Path
    channels : tuple of str
        The contrasts of nnU-Net's channels, in their order.
    brats, nnunet : int
        Cases in each layout.
    incomplete : int
        Cases in neither.
    problems : list of str
        Files that could not be used.
    """

    manifest: Path
    channels: tuple[str, ...]
    brats: int
    nnunet: int
    incomplete: int
    problems: list[str]


def check_export_folder(directory: Path, bids_dir: Path, out_dir: Path) -> None:
    """Refuse a folder that an export would spoil.

    Raises
    ------
    UsageError
        If it lies in the dataset or in the outputs, or holds what no export wrote.
    OutputError
        If it is not a folder, or cannot be read.
    """
    folder = directory.resolve()
    for name, other in (("BIDS_DIR", bids_dir), ("OUT_DIR", out_dir)):
        if folder.is_relative_to(other.resolve()):
            raise UsageError(
                f"--export {directory}: lies in {name}, {other}; expected a folder outside it. "
                f"Use {out_dir.parent / (out_dir.name + '-export')}, for example."
            )
    try:
        holds = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    except OSError as err:
        raise OutputError(
            f"--export {directory}: cannot be read as a folder ({err.strerror}). Choose another."
        ) from err
    if holds and MANIFEST not in holds:
        raise UsageError(
            f"--export {directory}: holds files that no export wrote; expected a new or empty "
            "folder, or one of an earlier export. Choose another."
        )


def export(
    out_dir: Path,
    directory: Path,
    sessions: Sequence[tuple[str, str | None]],
    others: Sequence[Path] = (),
    withheld: Mapping[tuple[str, str | None], str] | None = None,
) -> Exported:
    """Write the contrasts of some sessions for BraTS algorithms and for nnU-Net.

    The reference grid of a session is the one on which most contrasts are; among equals, the first
    in the order of ``CONTRASTS``. nnU-Net's channels are the contrasts that at least half of the
    sessions have, real or synthetic. A session that lacks one of a layout's contrasts is not in
    that layout, since both tools fail on a missing file; the manifest lists it all the same.

    What an earlier export left in ``directory`` and this one does not write is deleted; other
    files stay.

    Parameters
    ----------
    out_dir : Path
        The derivatives of a run at the participant level.
    directory : Path
        Checked by `check_export_folder`.
    sessions : sequence of (str, str or None)
        Labels of participant and session.
    others : sequence of Path
        Further folders with preprocessed images, for a run with ``--synth-only``.
    withheld : mapping, optional
        Sessions whose files may not be what was asked for, with the reason; the manifest says so,
        and none of their volumes is exported.

    Returns
    -------
    Exported

    Raises
    ------
    OutputError, ReadWriteError
        If something cannot be written.
    """
    why = withheld or {}
    problems: list[str] = []
    cases = []
    for who in sessions:
        if who in why:
            cases.append(Case(*who, None, withheld=why[who]))
            continue
        try:
            cases.append(_find_case(out_dir, others, *who))
        except OSError as err:
            problems.append(f"{err.filename}: cannot be read ({err.strerror or err})")
            cases.append(Case(*who, None))
    channels = _channels(cases)
    # Without its table, a folder that is half written does not pass for an export.
    for folder in (BRATS_FOLDER, NNUNET_FOLDER):
        _make_folder(directory / folder)
    write_table(directory / MANIFEST, (), COLUMNS)
    rows: list[dict[str, str]] = []
    written: set[Path] = set()
    for case in cases:
        files = _places(case, channels)
        rendered: dict[str, _Rendered] = {}
        problem = ""
        try:
            rendered = _render(case, {contrast for paths in files.values() for contrast in paths})
        except InputFileError as err:
            problem = f"not exported: {err}"
            problems.append(f"{case.name}: {err}")
            files = {}
        written |= _write_case(directory, files, rendered)
        rows += _rows(case, channels, out_dir, rendered, files, problem)
    _delete_stale(directory, written)
    write_json(directory / "dataset.json", _dataset_json(channels))
    write_table(directory / MANIFEST, rows, COLUMNS)
    in_brats = {row["case"] for row in rows if row.get("brats_file")}
    in_nnunet = {row["case"] for row in rows if row.get("nnunet_file")}
    incomplete = len(cases) - len(in_brats | in_nnunet)
    return Exported(
        directory / MANIFEST, channels, len(in_brats), len(in_nnunet), incomplete, problems
    )


# --- what there is -------------------------------------------------------------------------------


def _find_case(
    out_dir: Path, others: Sequence[Path], participant: str, session: str | None
) -> Case:
    """Find the images of a session, on the grid that has most of them."""
    found: list[SessionFiles] = []
    for root in (out_dir, *others):
        folder = root / f"sub-{participant}"
        anat = (folder / f"ses-{session}" if session else folder) / "anat"
        if anat.is_dir():
            found.append(read_session(session, anat))
    grids: dict[str, dict[str, Image]] = {}
    for reference in CONTRASTS:
        here = grids.setdefault(reference, {})
        for files in found:
            stds = files.std.get(reference, {})
            for contrast, file in files.synth.get(reference, {}).items():
                here.setdefault(contrast, Image(file, True, stds.get(contrast)))
        for files in reversed(found):
            for contrast, file in files.preproc.get(reference, {}).items():
                here[contrast] = Image(file, False)
    # max() keeps the first among equals.
    best = max(CONTRASTS, key=lambda reference: len(grids[reference]))
    if not grids[best]:
        return Case(participant, session, None)
    masks = [mask for files in found for mask in _in_order(files.masks.get(best, {}), best)]
    return Case(participant, session, best, grids[best], masks[0] if masks else None)


def _in_order(masks: Mapping[str, OutputFile], reference: str) -> Iterator[OutputFile]:
    """Yield brain masks, that of the reference itself first."""
    for contrast in (reference, *CONTRASTS):
        if contrast in masks:
            yield masks[contrast]


def _channels(cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the contrasts that at least half of the cases have, in nnU-Net's order."""
    with_images = [case for case in cases if case.images]
    counts = {name: sum(name in case.images for case in with_images) for name in CHANNEL_ORDER}
    return tuple(name for name, count in counts.items() if count and 2 * count >= len(with_images))


def _places(case: Case, channels: Sequence[str]) -> dict[str, dict[str, PurePosixPath]]:
    """Return the files of each layout that the case is complete for, by contrast."""
    numbered = {name: f"{case.name}_{number:04d}.nii.gz" for number, name in enumerate(channels)}
    named = {name: f"{case.name}/{case.name}-{short}.nii.gz" for name, short in BRATS_NAMES.items()}
    return {
        folder: {name: PurePosixPath(folder, file) for name, file in files.items()}
        for folder, files in ((NNUNET_FOLDER, numbered), (BRATS_FOLDER, named))
        if files and set(files) <= set(case.images)
    }


# --- volumes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rendered:
    """A volume on the exported grid, and what is to be said about it."""

    image: nib.Nifti1Image
    covered: float
    outside: int


def _render(case: Case, contrasts: set[str]) -> dict[str, _Rendered]:
    """Resample contrasts of a case to the exported grid.

    Raises
    ------
    InputFileError
        If an image cannot be read, or is not on the grid of the others.
    """
    if not contrasts:
        return {}
    window = _window(case)
    rendered = {}
    for contrast in sorted(contrasts):
        image = case.images[contrast]
        scan = load_scan(image.file.path)
        try:
            volume, covered = window.resample(scan, synthetic=image.synthetic)
        except ValueError as err:
            expected = f"an image on the grid of the {case.reference}"
            raise InputFileError(
                image.file.path, str(err), expected, "Run the participant again."
            ) from err
        volume.header["descrip"] = _said_inside(contrast, image)
        rendered[contrast] = _Rendered(volume, covered, window.outside)
    return rendered


def _window(case: Case) -> _Window:
    """Lay the grid around the brain mask; preprocessed images are brain-extracted, one will do."""
    path = case.mask.path if case.mask else next(iter(case.images.values())).file.path
    image = load_scan(path)
    inside = (np.asarray(image.dataobj) > 0).astype(np.uint8)
    try:
        return _Window(nib.Nifti1Image(inside, image.affine))
    except ValueError as err:
        raise InputFileError(path, str(err), "a brain", "Run the participant again.") from err


class _Window:
    """The exported grid around one brain."""

    def __init__(self, brain: nib.Nifti1Image) -> None:
        self._brain = np.asarray(brain.dataobj) > 0
        self._grid = model_grid(brain.affine, brain.shape)
        on_grid = mask_to_model_grid(brain, self._grid)
        self._start = window_around(on_grid)
        self._affine = _lps_affine(self._grid.affine, self._start)
        self.outside = int(on_grid.sum()) - int(_cut(on_grid, self._start).sum())

    def resample(self, image: nib.Nifti1Image, *, synthetic: bool) -> tuple[nib.Nifti1Image, float]:
        """Return an image on this grid, and the part of the brain where it is not 0.

        Raises
        ------
        ValueError
            If it is not on the grid of the brain mask.
        """
        filled = self._brain & (np.asarray(image.dataobj) != 0)
        # Slices that were not synthesised stay 0, and do not mix with their neighbours.
        shown = filled if synthetic and filled.any() else self._brain
        volume = to_model_grid(image, self._grid, mask=shown)
        where = nib.Nifti1Image(shown.astype(np.uint8), image.affine)
        inside = mask_to_model_grid(where, self._grid) != 0
        cut = _cut(np.where(inside, volume, np.float32(0)), self._start)
        stored = oriented_image(np.asfortranarray(cut[::-1, ::-1]), self._affine)
        return stored, float(filled.sum() / self._brain.sum())


def _said_inside(contrast: str, image: Image) -> str:
    """Say in the file itself what its name cannot: at most 79 letters."""
    if image.synthetic:
        return f"SYNTHETIC {contrast}: made by a model, not acquired. See {MANIFEST}"
    return f"{contrast}: preprocessed scan"


def window_around(brain: npt.ArrayLike, shape: Shape = SHAPE) -> Shape:
    """Return where on the model grid a window of ``shape`` begins that has the brain in its middle.

    A grid that has this shape already, as BraTS' own scans do, is kept as it is. Of a brain higher
    than the window, the top is kept and the brain stem cut.

    Parameters
    ----------
    brain : array_like, (X, Y, Z)
        Brain mask on the model grid, in RAS order.
    shape : tuple of int

    Returns
    -------
    tuple of int
        First index along each axis; negative where the window reaches out of the grid.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    inside = np.asarray(brain) != 0
    if not inside.any():
        raise ValueError("the brain mask is empty, so there is nothing to put a window around")
    if inside.shape == shape:
        return (0, 0, 0)
    starts = []
    for axis, size in enumerate(shape):
        indices = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        first, end = int(indices[0]), int(indices[-1]) + 1
        too_high = axis == 2 and end - first > size
        starts.append(end - size if too_high else (first + end - size) // 2)
    return (starts[0], starts[1], starts[2])


def _cut(volume: npt.NDArray[Any], start: Shape) -> npt.NDArray[Any]:
    """Cut the window out of a volume; what lies outside the volume is 0."""
    window = np.zeros(SHAPE, dtype=volume.dtype)
    source, target = [], []
    for first, size, length in zip(start, SHAPE, volume.shape, strict=True):
        low, high = max(first, 0), max(min(first + size, length), max(first, 0))
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    window[tuple(target)] = volume[tuple(source)]
    return window


def _lps_affine(affine: npt.NDArray[np.float64], start: Shape) -> npt.NDArray[np.float64]:
    """Return the affine of a window that is stored towards left, posterior and superior."""
    to_grid = np.diag([-1.0, -1.0, 1.0, 1.0])
    to_grid[:3, 3] = (start[0] + SHAPE[0] - 1, start[1] + SHAPE[1] - 1, start[2])
    return np.asarray(affine @ to_grid)


# --- files ---------------------------------------------------------------------------------------


def _write_case(
    directory: Path,
    files: Mapping[str, Mapping[str, PurePosixPath]],
    rendered: Mapping[str, _Rendered],
) -> set[Path]:
    """Write the volumes of a case and return their paths; a volume in both layouts is one file."""
    written: dict[str, Path] = {}
    everything = set()
    for paths in files.values():
        for contrast, place in paths.items():
            path = directory / place
            _make_folder(path.parent)
            if contrast in written:
                _link(written[contrast], path)
            else:
                save_image(rendered[contrast].image, path)
                written[contrast] = path
            everything.add(path)
    return everything


def _link(path: Path, link: Path) -> None:
    """Give a file a second name, or a copy where the file system knows no links."""
    with whole(link) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def _delete_stale(directory: Path, written: set[Path]) -> None:
    """Delete volumes of an earlier export, so that none passes for one of this export."""
    patterns = [f"{NNUNET_FOLDER}/sub-*_[0-9][0-9][0-9][0-9].nii.gz"]
    patterns += [f"{BRATS_FOLDER}/sub-*/sub-*-{short}.nii.gz" for short in BRATS_NAMES.values()]
    for path in [path for pattern in patterns for path in directory.glob(pattern)]:
        if path not in written:
            path.unlink(missing_ok=True)
    for folder in (directory / BRATS_FOLDER).glob("sub-*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"--export: {folder} cannot be created ({err.strerror}). Choose another folder."
        ) from err


# --- tables --------------------------------------------------------------------------------------


def _rows(
    case: Case,
    channels: Sequence[str],
    out_dir: Path,
    rendered: Mapping[str, _Rendered],
    files: Mapping[str, Mapping[str, PurePosixPath]],
    problem: str,
) -> Iterator[dict[str, str]]:
    """Yield a row for each contrast that a case has or lacks."""
    wanted = {*channels, *case.images} if case.images else set(channels)
    missing = [name for name in CHANNEL_ORDER if name in channels and name not in case.images]
    for contrast in (name for name in CHANNEL_ORDER if name in wanted):
        row = {
            "case": case.name,
            "participant_id": f"sub-{case.participant}",
            "session_id": f"ses-{case.session}" if case.session else "",
            "contrast": contrast,
            "reference": case.reference or "",
        }
        image = case.images.get(contrast)
        if image is None:
            note = "neither a preprocessed scan nor a synthesised image; the case is incomplete"
            if case.withheld:
                note = f"not exported: {case.withheld}"
            yield row | {"origin": "missing", "note": note}
            continue
        row |= _origin(image, out_dir)
        for column, folder in (("brats_file", BRATS_FOLDER), ("nnunet_file", NNUNET_FOLDER)):
            if contrast in files.get(folder, {}):
                row[column] = str(files[folder][contrast])
        volume = rendered.get(contrast)
        if volume is not None:
            row |= {"covered": f"{volume.covered:.4f}", "outside": str(volume.outside)}
            row["note"] = "; ".join(_remarks(contrast, image, volume))
        elif problem:
            row["note"] = problem
        elif missing:
            row["note"] = f"not exported: the case lacks {', '.join(missing)}"
        else:
            row["note"] = "not exported: fewer than half of the cases have it"
        yield row


def _remarks(contrast: str, image: Image, volume: _Rendered) -> Iterator[str]:
    """Yield what is to be known about an exported volume."""
    if image.synthetic and contrast == "T1ce":
        yield "enhancement in a synthetic T1ce is not evidence of enhancement"
    if volume.covered < _COVERED:
        yield f"is 0 in {1 - volume.covered:.0%} of the brain"
    if volume.outside:
        yield f"{volume.outside} brain voxels do not fit into the grid"


def _origin(image: Image, out_dir: Path) -> dict[str, str]:
    """Return the cells that say where an image comes from."""
    cells = {
        "origin": "synthetic" if image.synthetic else "real",
        "source_file": _place(image.file.path, out_dir),
    }
    if image.synthetic:
        sidecar = image.file.sidecar
        sources = sidecar.get("SynthesizedFrom")
        model = sidecar.get("SynthesisModel")
        model = model if isinstance(model, dict) else {}
        cells |= {
            "sources": "+".join(map(str, sources)) if isinstance(sources, list) else "",
            "model": str(model.get("Name") or ""),
            "weights_sha256": str(model.get("WeightsSHA256") or ""),
            "std_file": _place(image.std.path, out_dir) if image.std else "",
        }
    return cells


def _place(path: Path, out_dir: Path) -> str:
    return (path.relative_to(out_dir) if path.is_relative_to(out_dir) else path).as_posix()


def _dataset_json(channels: Sequence[str]) -> dict[str, Any]:
    """Return what nnU-Net calls the description of a dataset, as far as images alone have one."""
    return {
        "name": "colapipe export",
        "description": f"{_SPACE} Some volumes are synthetic: {MANIFEST} says which.",
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": {"background": 0},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }
