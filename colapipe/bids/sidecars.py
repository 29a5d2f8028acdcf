"""The JSON file beside each output: what it is, what it was made from, and with what.

BIDS asks for ``SkullStripped`` on every image that is not a mask, and for ``SpatialReference``
wherever ``space-`` is not a standard template. A synthesised image says so, and never carries the
acquisition parameters of a scan: nobody acquired it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.bids.names import check_synthetic_name, is_synthetic_name
from colapipe.contrasts import LESION_LABEL, TISSUES
from colapipe.files import write_text

if TYPE_CHECKING:
    import numpy as np

    Grid = tuple[Sequence[int], np.ndarray]

INTENSITY_RANGE = (0, 1000)
"""Range of the intensities of synthesised images, in arbitrary units."""

TISSUE_NAMES = {
    "CSF": "Cerebrospinal fluid",
    "GM": "Grey matter",
    "WM": "White matter",
    "lesion": "Lesion",
}

SYNTHETIC_FIELDS = frozenset(
    (
        "Description",
        "IntensityRange",
        "IntensityUnits",
        "LesionConditioning",
        "SkullStripped",
        "Sources",
        "SpatialReference",
        "SynthesisModel",
        "SynthesizedFrom",
        "SynthesizedSlices",
        "Synthetic",
        "TissueSource",
        "UncertaintyCalibration",
        "Warnings",
    )
)
"""All that the sidecar of a synthesised image may hold.

A list of what is allowed, and not of the many fields that describe an acquisition, so that no
EchoTime of a source scan can slip in.
"""


def preproc(
    contrast: str,
    reference: str,
    *,
    sources: Sequence[str],
    spatial_reference: str,
    engine: str,
    engine_version: str,
    resampled: bool,
    skull_stripped: bool = True,
) -> dict[str, Any]:
    """Describe a preprocessed image.

    Parameters
    ----------
    contrast, reference : str
    sources : sequence of str
        BIDS URIs of the files that it was made from.
    spatial_reference : str
        BIDS URI of the scan whose stored grid it is on.
    engine, engine_version : str
        ``fsl`` or ``builtin``, and its version.
    resampled : bool
        False for the reference itself and for scans that were on its grid already.
    skull_stripped : bool
    """
    grid = f"resampled to the grid of the {reference}" if resampled else "on its own voxels"
    brain = "brain-extracted" if skull_stripped else "with skull"
    return {
        **_common(
            f"{contrast}, {grid}, bias-corrected, {brain}; intensities are not normalised.",
            sources,
            spatial_reference,
        ),
        "SkullStripped": skull_stripped,
        "Resampled": resampled,
        "Engine": _engine(engine, engine_version),
    }


def brain_mask(
    contrast: str,
    reference: str,
    *,
    sources: Sequence[str],
    spatial_reference: str,
    engine: str,
    engine_version: str,
) -> dict[str, Any]:
    """Describe a brain mask computed from `contrast` on the grid of `reference`."""
    return {
        **_common(
            f"Brain mask computed from the {contrast}, on the grid of the {reference}.",
            sources,
            spatial_reference,
        ),
        "Type": "Brain",
        "SourceContrast": contrast,
        "Engine": _engine(engine, engine_version),
    }


def lesion_mask(
    reference: str, *, sources: Sequence[str], spatial_reference: str
) -> dict[str, Any]:
    """Describe a lesion mask that was given to the app, on the grid of `reference`."""
    return {
        **_common(
            f"Lesion mask as given, on the grid of the {reference}; drawn with all contrasts in "
            "view.",
            sources,
            spatial_reference,
        ),
        "Type": "Lesion",
    }


def dseg(
    contrast: str,
    reference: str,
    *,
    sources: Sequence[str],
    spatial_reference: str,
    engine: str,
    engine_version: str,
    lesion: bool = False,
) -> dict[str, Any]:
    """Describe tissue labels computed from `contrast`; `dseg_table` names them."""
    added = ", and lesions as given" if lesion else ""
    return {
        **_common(
            f"Tissue labels computed from the {contrast}, on the grid of the {reference}{added}.",
            sources,
            spatial_reference,
        ),
        "Manual": False,
        "SourceContrast": contrast,
        "Engine": _engine(engine, engine_version),
    }


def dseg_table(*, lesion: bool = False) -> str:
    """Return the tab-separated table of tissue labels that comes with every ``dseg``."""
    rows = [(index, tissue) for index, tissue in enumerate(TISSUES, start=1)]
    if lesion:
        rows.append((LESION_LABEL, "lesion"))
    lines = ["index\tname\tabbreviation"]
    lines += [f"{index}\t{TISSUE_NAMES[tissue]}\t{tissue}" for index, tissue in rows]
    return "\n".join(lines) + "\n"


def probseg(
    tissue: str,
    contrast: str,
    reference: str,
    *,
    sources: Sequence[str],
    spatial_reference: str,
    engine: str,
    engine_version: str,
) -> dict[str, Any]:
    """Describe the probability map, 0 to 1, of one tissue, computed from `contrast`."""
    return {
        **_common(
            f"Probability of {TISSUE_NAMES[tissue].lower()}, computed from the {contrast}, "
            f"on the grid of the {reference}.",
            sources,
            spatial_reference,
        ),
        "Manual": False,
        "SourceContrast": contrast,
        "Engine": _engine(engine, engine_version),
    }


def xfm(
    moving: str,
    reference: str,
    *,
    sources: Sequence[str],
    moving_grid: Grid,
    reference_grid: Grid,
    moving_to_reference: np.ndarray,
    engine: str,
    engine_version: str,
    identity_kept: bool = False,
) -> dict[str, Any]:
    """Describe a rigid transform and both grids, without which FSL's file means nothing.

    Parameters
    ----------
    moving, reference : str
        Contrasts.
    sources : sequence of str
        BIDS URIs of both scans, the moving one first.
    moving_grid, reference_grid : tuple
        Shape, and 4x4 affine from voxels to RAS+ millimetres.
    moving_to_reference : np.ndarray
        (4, 4) float64 in RAS+ millimetres: x_ref = M @ x_moving.
    engine, engine_version : str
    identity_kept : bool
        The scans were aligned already, and the identity was kept.
    """
    kept = " They were aligned already; the identity was kept." if identity_kept else ""
    return {
        "Description": f"Rigid transform from the {moving} to the {reference}.{kept}",
        "Sources": list(sources),
        "Formats": {
            ".mat": "FSL FLIRT matrix, from moving to reference; valid for these two grids only",
            ".txt": "ITK transform file (LPS+ millimetres) for resampling the moving image: maps "
            "points of the reference to points of the moving image",
        },
        "MovingGrid": _grid(moving_grid),
        "ReferenceGrid": _grid(reference_grid),
        "MovingToReference": moving_to_reference,
        "MovingToReferenceUnits": "RAS+ millimetres, x_reference = M @ x_moving",
        "IdentityKept": identity_kept,
        "Engine": _engine(engine, engine_version),
    }


def synth(
    contrast: str,
    reference: str,
    *,
    info: Mapping[str, Any],
    sources: Sequence[str],
    spatial_reference: str,
    tissue_source: str | None,
    lesion_conditioning: bool,
    model_grid: Grid | None = None,
) -> dict[str, Any]:
    """Describe a synthesised image.

    Parameters
    ----------
    contrast, reference : str
    info : mapping
        What ``colapipe-model synth`` wrote to its ``info.json``.
    sources : sequence of str
        BIDS URIs of all conditioning images, maps and masks.
    spatial_reference : str
        BIDS URI of the scan whose stored grid it is on.
    tissue_source : str or None
        Contrast that the brain mask and tissue maps were computed from.
    lesion_conditioning : bool
        Lesion masks were given to the model as its fourth class.
    model_grid : tuple or None
        Shape and affine of the 1 mm grid that the slices are numbered on.

    Raises
    ------
    ValueError
        If the target is among its own sources, or its tissue maps are its own.
    """
    return {
        **_synthetic(
            contrast,
            f"{contrast} synthesised from {', '.join(info['contrasts'])} by a diffusion model; "
            f"nobody acquired it. On the grid of the {reference}, brain only, 0 elsewhere.",
            info,
            sources,
            spatial_reference,
            tissue_source,
            lesion_conditioning,
            model_grid,
        ),
        "IntensityRange": list(INTENSITY_RANGE),
    }


def synthstd(
    contrast: str,
    reference: str,
    *,
    info: Mapping[str, Any],
    sources: Sequence[str],
    spatial_reference: str,
    tissue_source: str | None,
    lesion_conditioning: bool,
    model_grid: Grid | None = None,
) -> dict[str, Any]:
    """Describe the standard deviation over the samples of a synthesised image; see `synth`."""
    return {
        **_synthetic(
            contrast,
            f"Standard deviation over {info['samples']} samples of the {contrast} synthesised from "
            f"{', '.join(info['contrasts'])}, in the units of the synthesised image. On the grid "
            f"of the {reference}, brain only, 0 elsewhere.",
            info,
            sources,
            spatial_reference,
            tissue_source,
            lesion_conditioning,
            model_grid,
        ),
        "UncertaintyCalibration": uncertainty_calibration(contrast, info),
    }


def uncertainty_calibration(contrast: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a standard deviation becomes an interval, or why it does not.

    Parameters
    ----------
    contrast : str
        The target.
    info : mapping
        See `synth`; ``info["model"]["calibration"]`` is that of the checkpoint.

    Returns
    -------
    dict
        ``Calibrated``, and a ``Reason`` if that is False.
    """
    from colapipe.coladiff.calibration import Calibration, CalibrationError

    stored = info["model"].get("calibration")
    if stored is None:
        return {"Calibrated": False, "Reason": "the model carries no calibration"}
    try:
        calibration = Calibration.from_dict(stored)
    except CalibrationError as err:
        # An image that is good otherwise must not fail here, after all the work.
        return {"Calibrated": False, "Reason": f"the model's calibration cannot be read: {err}"}
    problem = calibration.objection(
        contrast, sampler=info["sampler"], steps=info["steps"], samples=info["samples"]
    )
    if problem is not None:
        return {"Calibrated": False, "Reason": f"the model's calibration does not apply: {problem}"}
    found = calibration.targets[contrast]
    low, high = INTENSITY_RANGE
    return {
        "Calibrated": True,
        "Level": calibration.level,
        "Factor": found.factor,
        "Floor": found.floor * (high - low),
        "Interval": "synthesised image ± Factor * max(this image, Floor), clipped to "
        f"{low}..{high}",
        "Participants": found.participants,
        "Meaning": "Level is the part of a brain's voxels that is expected inside, on average over "
        "participants like those of the calibration, from all contrasts that they had; one "
        "participant or one region, a lesion above all, may have less.",
    }


def qc(columns: Mapping[str, str], *, sources: Sequence[str] = ()) -> dict[str, Any]:
    """Describe a table of scores.

    Parameters
    ----------
    columns : mapping of str to str
        Column to what stands in it, its unit included.
    sources : sequence of str
        BIDS URIs of the images that were compared.
    """
    described: dict[str, Any] = {name: {"Description": text} for name, text in columns.items()}
    return {**described, "Sources": list(sources)} if sources else described


def _common(description: str, sources: Sequence[str], spatial_reference: str) -> dict[str, Any]:
    return {
        "Description": description,
        "Sources": list(sources),
        "SpatialReference": spatial_reference,
    }


def _engine(name: str, version: str) -> dict[str, str]:
    return {"Name": name, "Version": version}


def _grid(grid: Grid) -> dict[str, Any]:
    shape, affine = grid
    return {"Shape": [int(size) for size in shape], "Affine": affine, "AffineUnits": "RAS+ mm"}


def _synthetic(
    contrast: str,
    description: str,
    info: Mapping[str, Any],
    sources: Sequence[str],
    spatial_reference: str,
    tissue_source: str | None,
    lesion_conditioning: bool,
    model_grid: Grid | None,
) -> dict[str, Any]:
    if contrast in info["contrasts"] or contrast == tissue_source:
        raise ValueError(
            f"{contrast} is said to be synthesised from itself: sources "
            f"{', '.join(info['contrasts'])}, tissue maps from {tissue_source}"
        )
    model = info["model"]
    slices: dict[str, Any] = {
        "Count": len(info["slices"]),
        "Ranges": slice_ranges(info["slices"]),
        "Numbering": "axial slices of the 1 mm grid of the model, first and last of each range",
    }
    if model_grid is not None:
        slices["Grid"] = _grid(model_grid)
    content = {
        **_common(description, sources, spatial_reference),
        "SkullStripped": True,
        "Synthetic": True,
        "SynthesisModel": {
            "Name": model["name"],
            "WeightsSHA256": model["sha256"],
            "Licence": model.get("licence"),
            "TrainingData": model.get("training_data"),
            "Sampler": info["sampler"],
            "Steps": info["steps"],
            "Samples": info["samples"],
            "Seed": info["seed"],
            "Device": info["device"],
            "Precision": info["precision"],
            "Threads": info.get("threads"),
            "BatchSize": info.get("batch_size"),
            "SourceWeights": info.get("auto_weights"),
        },
        "SynthesizedFrom": list(info["contrasts"]),
        "SynthesizedSlices": slices,
        "TissueSource": tissue_source,
        "LesionConditioning": lesion_conditioning,
        "IntensityUnits": "arbitrary",
    }
    # What is not known is left out: BIDS has no null.
    content["SynthesisModel"] = _known(content["SynthesisModel"])
    return _known(content)


def _known(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value is not None}


def slice_ranges(slices: Iterable[int]) -> list[list[int]]:
    """Return slice numbers as ranges, first and last included.

    Examples
    --------
    >>> slice_ranges([3, 4, 5, 9])
    [[3, 5], [9, 9]]
    """
    ranges: list[list[int]] = []
    for index in sorted(set(slices)):
        if ranges and index == ranges[-1][1] + 1:
            ranges[-1][1] = index
        else:
            ranges.append([index, index])
    return ranges


def check_sidecar(path: Path, data: Mapping[str, Any]) -> None:
    """Refuse a sidecar that could let a synthesised image pass for a scan.

    Raises
    ------
    ValueError
        If the content says ``Synthetic`` and the name does not, or the other way round, or if a
        synthesised image has a field that is not among ``SYNTHETIC_FIELDS``.
    """
    if data.get("Synthetic") is True:
        check_synthetic_name(path)
        foreign = sorted(set(data) - SYNTHETIC_FIELDS)
        if foreign:
            raise ValueError(
                f"{path}: {', '.join(foreign)} does not belong on a synthesised image, which "
                "nobody acquired"
            )
    elif is_synthetic_name(path):
        raise ValueError(f'{path}: the sidecar of a synthesised image must say "Synthetic": true')


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file, with sorted keys, in one step: readers see the old file or the new one.

    Arrays become lists.

    Raises
    ------
    ValueError
        If `check_sidecar` refuses the content, or a number is not finite.
    OutputError, ReadWriteError
        If the folder cannot be made, or the file not be written.
    """
    check_sidecar(path, data)
    text = json.dumps(
        data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False, default=_plain
    )
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    """Return arrays and NumPy scalars as what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not belong in a JSON sidecar: {value!r}")
