"""A simulated BIDS dataset on disk, with the truth as a derivative dataset inside it.

``OUT/sub-*`` is what a scanner would have given; ``OUT/derivatives/truth`` holds what only a
simulation can know, apart from the scans, so that an app cannot come across it by accident.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Image

from colapipe import __version__
from colapipe.anatomy.images import save_image
from colapipe.anatomy.transforms import write_fsl, write_itk
from colapipe.bids.names import bids_uri, derivative_path
from colapipe.bids.reader import DESCRIPTION
from colapipe.bids.sidecars import write_json
from colapipe.contrasts import CONTRASTS
from colapipe.errors import OutputError, UsageError
from colapipe.files import read_json, write_text
from colapipe.phantom.anatomy import load_template
from colapipe.phantom.defaults import (
    CONTRASTS_TAKEN,
    PROGRAM,
    RESOLUTION,
    SUBJECTS,
    TRUTH,
    default_missing,
)
from colapipe.phantom.signals import SEQUENCES
from colapipe.phantom.simulate import SimulatedSubject, Truth, simulate_subject

_BIDS_VERSION = "1.10.0"
_LICENCE = (
    "Simulated; no person was scanned. Derived from the ICBM 2009a nonlinear symmetric template, "
    "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological "
    "Institute, McGill University: permission to use, copy, modify, and distribute for any purpose "
    "and without fee, provided that this copyright notice appears in all copies."
)
_REFERENCES = [
    "Fonov et al., NeuroImage 2011; 54:313-327 (template)",
    "Wansapura et al., J Magn Reson Imaging 1999; 9:531-538 (T1 and T2 of brain tissue at 3 T)",
    "Stanisz et al., Magn Reson Med 2005; 54:507-512 (T1 and T2 of blood at 3 T)",
    "Oros-Peusquens et al., Front Neurol 2019; 10:1333 (water content)",
]
_README = """\
# Simulated brain MRI

**Nobody was scanned for this dataset.** `{program}` {version} of colapipe simulated it: the ICBM
2009a template brain, deformed for each subject, inside a head of simple shells, with spin-echo and
inversion-recovery signal equations and published relaxation times at 3 T, coil sensitivity, noise,
and small movements between the scans.

{table}

Seed {seed}, anatomy at {resolution:g} mm. The same options give the same bytes.

What is known only because it was made lies in `derivatives/truth`: tissue fractions, brain and
lesion masks, the rigid matrices from every scan to the reference scan, and the scans that are
missing here (`desc-truth`, without noise and bias field, on the grid of the reference scan).

{licence}
"""


def simulate_dataset(
    out_dir: Path | str,
    subjects: int = SUBJECTS,
    seed: int = 0,
    contrasts: Iterable[str] = CONTRASTS_TAKEN,
    resolution: float = RESOLUTION,
    *,
    missing: Mapping[str, Iterable[str]] | None = None,
    sessions: int = 1,
    head: bool = True,
    lesion: bool = False,
    coregistered: bool = False,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write a simulated multi-contrast BIDS dataset.

    Parameters
    ----------
    out_dir : Path
        The dataset's folder. An earlier simulated dataset in it is replaced; whatever else lies
        there is left alone.
    subjects, sessions : int
        How many. A single session has no ``ses-`` in its names.
    seed : int
        Everything follows from it: equal arguments give equal bytes.
    contrasts : iterable of str
        The scans of a complete subject.
    resolution : float
        Voxel size of the anatomy in mm; scans are at least this coarse.
    missing : mapping of str to iterable of str, optional
        Contrasts that a participant (label without ``sub-``) lacks, in every session. By default
        every second subject of three lacks T2w and every third FLAIR.
    head, lesion, coregistered : bool
        As `simulate_subject`.
    force : bool
        Write into a folder that holds other files.
    say : callable, optional
        Is told in one line what has been written.

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    UsageError
        If a number is below 1, a contrast or participant unknown, or somebody would have no scan.
    OutputError
        If the folder cannot be made, or holds files that are not ours.
    MissingToolError
        If nilearn is not installed.
    ReadWriteError
        If a file cannot be written.
    """
    out = Path(out_dir)
    wanted = set(contrasts)
    taken = tuple(c for c in CONTRASTS if c in wanted)
    labels = [f"{number:0{max(2, len(str(subjects)))}d}" for number in range(1, subjects + 1)]
    if missing is None:
        missing = default_missing(labels, taken)
    lacking = {label: set(missing.get(label, ())) for label in labels}
    _check(wanted, labels, lacking, missing, sessions, resolution, seed)
    load_template()  # a missing nilearn is told before anything is touched
    _make_room(out, force)

    truth_dir = out / TRUTH
    # The truth's description comes first and the raw one last: whatever an interrupted run leaves
    # is known to be ours, and a raw description means a complete dataset.
    _describe_truth(truth_dir)
    for number, label in enumerate(labels, start=1):
        present = [c for c in taken if c not in lacking[label]]
        for session in range(1, sessions + 1):
            simulated = simulate_subject(
                seed,
                taken,
                subject=number,
                session=session,
                resolution=resolution,
                head=head,
                lesion=lesion,
                coregistered=coregistered,
                reference=present[0],
            )
            name = f"{session:02d}" if sessions > 1 else None
            _write_scans(out, label, name, present, simulated, head)
            _write_truth(truth_dir, label, name, present, simulated, head)
            if say is not None:
                without = sorted(lacking[label] & set(taken))
                say(
                    f"sub-{label}{f' ses-{name}' if name else ''}: {', '.join(present)}"
                    + (f"; without {', '.join(without)}" if without else "")
                )
    _describe_raw(out, labels, lacking, taken, seed, resolution, lesion)
    return out


def scan_path(
    label: str, session: str | None, contrast: str, extension: str = ".nii.gz", entities: str = ""
) -> Path:
    """Return the path of a scan within a dataset: ``sub-X[/ses-Y]/anat/sub-X..._T1w.nii.gz``.

    ``entities`` go between those of the contrast and the suffix.
    """
    folders = [f"sub-{label}"] + ([f"ses-{session}"] if session else [])
    agent, suffix = (["ce-gadolinium"], "T1w") if contrast == "T1ce" else ([], contrast)
    parts = [*folders, *agent, *([entities] if entities else []), suffix]
    return Path(*folders, "anat", "_".join(parts) + extension)


def _check(
    contrasts: set[str],
    labels: list[str],
    lacking: dict[str, set[str]],
    missing: Mapping[str, Iterable[str]],
    sessions: int,
    resolution: float,
    seed: int,
) -> None:
    """Refuse what cannot be simulated."""
    if not labels or sessions < 1:
        raise UsageError(f"{len(labels)} subjects with {sessions} sessions: expected 1 or more.")
    if seed < 0:
        raise UsageError(f"seed {seed}: expected 0 or more.")
    if not 0.5 <= resolution <= 8:
        raise UsageError(f"a resolution of {resolution:g} mm: expected 0.5 to 8.")
    unknown = contrasts.union(*lacking.values()) - set(CONTRASTS)
    if unknown or not contrasts:
        raise UsageError(
            f"contrasts {', '.join(sorted(unknown)) or '(none)'}: expected {', '.join(CONTRASTS)}."
        )
    if strangers := sorted(set(missing) - set(labels)):
        raise UsageError(
            f"participants {', '.join(strangers)} cannot lack a contrast: they are not among "
            f"{', '.join(labels)}."
        )
    for label, absent in lacking.items():
        if contrasts <= absent:
            raise UsageError(f"sub-{label} would have no scan at all: leave it at least one.")


def _make_room(out: Path, force: bool) -> None:
    """Create the folder, and take an earlier simulation out of it."""
    truth_dir = out / TRUTH
    ours = _is_ours(out) or _is_ours(truth_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not ours and not force:
            raise OutputError(
                f"{out}: the folder is not empty, and not a simulated dataset of {PROGRAM}. "
                "Choose another one, or use --force to write into it."
            )
        # Scans first: while the truth stands, what remains is known to be ours.
        for sidecar in sorted(out.glob("sub-*/**/anat/*.json")):
            if read_json(sidecar)[0].get("Simulated") is True:
                sidecar.with_suffix(".nii.gz").unlink(missing_ok=True)
                sidecar.unlink()
        for folder in sorted(out.glob("sub-*/**/"), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        if _is_ours(truth_dir):
            shutil.rmtree(truth_dir)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be prepared ({error.strerror or error}). "
            "Choose a folder that you may write to."
        ) from error


def _is_ours(dataset: Path) -> bool:
    description = dataset / DESCRIPTION
    if not description.is_file():
        return False
    makers = read_json(description)[0].get("GeneratedBy")
    return isinstance(makers, list) and any(
        isinstance(maker, dict) and maker.get("Name") == PROGRAM for maker in makers
    )


def _write_scans(
    out: Path,
    label: str,
    session: str | None,
    present: list[str],
    simulated: SimulatedSubject,
    head: bool,
) -> None:
    for contrast in present:
        path = out / scan_path(label, session, contrast)
        image = simulated.images[contrast]
        write_json(path.with_suffix("").with_suffix(".json"), _acquisition(contrast, image, head))
        save_image(_as_integers(image), path)


def _acquisition(contrast: str, image: Nifti1Image, head: bool) -> dict[str, Any]:
    """Describe a scan by the parameters that it was simulated with."""
    sequence = SEQUENCES[contrast]
    kind = "inversion recovery spin echo" if sequence.ti else "spin echo"
    thickness = max(float(zoom) for zoom in image.header.get_zooms()[:3])
    content = {
        "Simulated": True,
        "Description": f"Simulated {contrast} scan; nobody was scanned.",
        "Modality": "MR",
        "Manufacturer": "simulated",
        "ManufacturersModelName": f"{PROGRAM} {__version__}",
        "MagneticFieldStrength": 3,
        "PulseSequenceType": f"simulated {kind}",
        "ScanningSequence": ["SE", "IR"] if sequence.ti else "SE",
        "SequenceVariant": "NONE",
        "MRAcquisitionType": "2D" if max(sequence.zooms) >= 2 * min(sequence.zooms) else "3D",
        "EchoTime": sequence.te,
        "RepetitionTime": sequence.tr,
        "FlipAngle": 90,
        "SliceThickness": round(thickness, 3),
        "SkullStripped": not head,
    }
    if sequence.ti:
        content["InversionTime"] = sequence.ti
    if sequence.gadolinium:
        content |= {"ContrastBolusIngredient": "GADOLINIUM", "ContrastBolusAgent": "simulated"}
    return content


def _write_truth(
    root: Path,
    label: str,
    session: str | None,
    present: list[str],
    simulated: SimulatedSubject,
    head: bool,
) -> None:
    truth = simulated.truth
    space = f"space-{truth.reference}"
    reference_uri = bids_uri(scan_path(label, session, truth.reference).as_posix(), "raw")

    def write(image: Nifti1Image, relative: Path, description: str, **extra: Any) -> None:
        write_json(
            (root / relative).with_suffix("").with_suffix(".json"),
            {
                "Simulated": True,
                "Description": description,
                "Sources": [reference_uri],
                "SpatialReference": reference_uri,
                **extra,
            },
        )
        save_image(image, root / relative)

    for tissue, fraction in truth.tissues.items():
        fraction.set_data_dtype(np.uint8)  # scaled by nibabel: steps of 1/255
        path = scan_path(label, session, "probseg", entities=f"{space}_label-{tissue}")
        write(fraction, path, f"True fraction of {tissue} in the brain.", SkullStripped=True)
    path = scan_path(label, session, "mask", entities=f"{space}_label-brain")
    write(truth.brain, path, "True brain mask.", Type="Brain")
    if truth.lesion is not None:
        path = Path(derivative_path(label, session, "mask", space=truth.reference, label="lesion"))
        write(truth.lesion, path, "True lesion mask, rim and core.", Type="Lesion")
    for contrast, clean in truth.clean.items():
        if contrast not in present:
            path = scan_path(label, session, contrast, entities=f"{space}_desc-truth")
            text = f"The {contrast} that is missing, without noise and bias field."
            write(_as_integers(clean), path, text, SkullStripped=not head)
    for contrast in present:
        if contrast != truth.reference:
            _write_matrix(root, label, session, contrast, simulated)


def _write_matrix(
    root: Path, label: str, session: str | None, moving: str, simulated: SimulatedSubject
) -> None:
    truth: Truth = simulated.truth
    matrix = truth.moving_to_reference[moving]
    names = {
        extension: root
        / derivative_path(
            label, session, "xfm", extension, from_=moving, to=truth.reference, mode="image"
        )
        for extension in (".mat", ".txt", ".json")
    }
    moving_image, reference_image = simulated.images[moving], simulated.images[truth.reference]
    content = {
        "Simulated": True,
        "Description": f"True rigid transform from the {moving} to the {truth.reference}.",
        "Sources": [
            bids_uri(scan_path(label, session, contrast).as_posix(), "raw")
            for contrast in (moving, truth.reference)
        ],
        "MovingToReference": matrix,
        "MovingToReferenceUnits": "RAS+ millimetres, x_reference = M @ x_moving",
        "Formats": {".mat": "FSL FLIRT matrix", ".txt": "ITK transform file"},
    }
    write_json(names[".json"], content)
    write_fsl(matrix, names[".mat"], moving_image, reference_image)
    write_itk(matrix, names[".txt"])


def _as_integers(image: Nifti1Image) -> Nifti1Image:
    """Round intensities to int16, as scanners do."""
    data = np.clip(np.rint(np.asarray(image.dataobj)), 0, np.iinfo(np.int16).max)
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    return Nifti1Image(data.astype(np.int16), image.affine, header)


def _describe_raw(
    out: Path,
    labels: list[str],
    lacking: dict[str, set[str]],
    taken: tuple[str, ...],
    seed: int,
    resolution: float,
    lesion: bool,
) -> None:
    rows = [
        (f"sub-{label}", "yes", ",".join(c for c in taken if c in lacking[label]) or "n/a")
        for label in labels
    ]
    header = ("participant_id", "simulated", "missing_contrasts", "lesion")
    lines = ["\t".join((*row, "yes" if lesion else "no")) for row in rows]
    write_text(out / "participants.tsv", "\n".join(["\t".join(header), *lines]) + "\n")
    yes_no = {"yes": "yes", "no": "no"}
    write_json(
        out / "participants.json",
        {
            "simulated": {"Description": "Nobody was scanned", "Levels": yes_no},
            "missing_contrasts": {
                "Description": "Contrasts that other participants have and this one lacks"
            },
            "lesion": {"Description": "White matter lesions were simulated", "Levels": yes_no},
        },
    )
    table = ["| contrast | sequence | TR s | TE s | TI s |", "|---|---|---|---|---|"]
    for contrast in taken:
        s = SEQUENCES[contrast]
        kind = "inversion recovery" if s.ti else "spin echo"
        table.append(f"| {contrast} | {kind} | {s.tr:g} | {s.te:g} | {s.ti or '-'} |")
    write_text(
        out / "README.md",
        _README.format(
            program=PROGRAM,
            version=__version__,
            table="\n".join(table),
            seed=seed,
            resolution=resolution,
            licence=_LICENCE,
        ),
    )
    write_json(
        out / DESCRIPTION,
        _description("Simulated multi-contrast brain MRI", "raw"),
    )


def _describe_truth(truth_dir: Path) -> None:
    write_text(truth_dir / ".bidsignore", "*_xfm.*\n")
    write_text(
        truth_dir / "README.md",
        "# The truth behind a simulated dataset\n\nNobody was scanned. See the README of the raw "
        f"dataset, two folders up.\n\n{_LICENCE}\n",
    )
    write_json(
        truth_dir / DESCRIPTION,
        _description(
            "Truth behind simulated multi-contrast brain MRI",
            "derivative",
            DatasetLinks={"raw": "../.."},
            SourceDatasets=[{"URL": "../..", "Version": __version__}],
        ),
    )


def _description(name: str, kind: str, **extra: Any) -> dict[str, Any]:
    content = {
        "Name": name,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": kind,
        "License": _LICENCE,
        "Authors": ["The colapipe developers"],
        "ReferencesAndLinks": _REFERENCES,
        "GeneratedBy": [
            {"Name": PROGRAM, "Version": __version__, "Description": "Simulation; nobody scanned"}
        ],
        **extra,
    }
    return {key: value for key, value in content.items() if value is not None}
