"""Scores of one synthesised volume against the true one, per region, and the table of them.

The table is a BIDS TSV: ``n/a`` where a figure is missing, ``inf`` where two images are the same,
and a description of every column in :data:`SCORE_COLUMNS` for the JSON file beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.bids.names import template
from colapipe.bids.tables import MISSING, as_tsv, read_rows, table_of
from colapipe.contrasts import TISSUES
from colapipe.files import write_text
from colapipe.quality import metrics
from colapipe.slices import slices_with_brain

Row = dict[str, Any]


SCORE_COLUMNS: dict[str, dict[str, Any]] = template("columns_scores.json")
"""Every column a score table may have, in order, described as BIDS asks."""

_TEXT_COLUMNS = (
    "participant_id",
    "session_id",
    "model",
    "target",
    "sources",
    "method",
    "region",
)
_COUNT_COLUMNS = ("voxels", "slices", "peak_memory")


def score_synthesis(
    synth: npt.ArrayLike,
    truth: npt.ArrayLike,
    mask: npt.ArrayLike,
    tissues: Mapping[str, npt.ArrayLike] | None = None,
    lesion: npt.ArrayLike | None = None,
    slices: Sequence[int] | None = None,
) -> list[Row]:
    """Score a synthesised volume against the true one, in the brain and in its parts.

    Both images are blanked outside the mask first. The gain and offset of the fitted figures are
    found once, in the brain, and used for every region.

    Parameters
    ----------
    synth, truth : array_like, (X, Y, Z) on the model grid, in [0, 1]
    mask : array_like, (X, Y, Z)
        The brain.
    tissues : mapping of str to array_like, (X, Y, Z), optional
        Probabilities (or masks) of CSF, GM and WM. A voxel belongs to its most probable class;
        to none where all are 0, or inside the lesion.
    lesion : array_like, (X, Y, Z), optional
        Lesion mask; voxels above 0.5.
    slices : sequence of int, optional
        Axial slices to score; every slice with brain without it. Paper-like figures want those
        of :func:`colapipe.slices.select_slices`.

    Returns
    -------
    list of dict
        One row for ``brain``, then one for each tissue and for the lesion, where given. The keys
        are columns of :data:`SCORE_COLUMNS`; NaN where a figure has no meaning.

    Raises
    ------
    ValueError
        If the arrays differ in shape, or the mask has no voxel in the slices.
    """
    true_image = np.asarray(truth, dtype=np.float64)
    arrays = {"synthesised image": synth, "mask": mask, "lesion": lesion, **(tissues or {})}
    for name, array in arrays.items():
        if array is not None and np.shape(array) != true_image.shape:
            raise ValueError(
                f"{name} has shape {np.shape(array)}; the true image has {true_image.shape}"
            )
    scored = list(slices_with_brain(mask) if slices is None else slices)
    # Slices that are not scored are left out altogether: every metric works slice by slice.
    brain = (np.asarray(mask) != 0)[..., scored]
    if not brain.any():
        raise ValueError("the brain mask has no voxel in the slices that should be scored")
    s = np.where(brain, np.asarray(synth, dtype=np.float64)[..., scored], 0.0)
    t = np.where(brain, true_image[..., scored], 0.0)
    gain, offset = metrics.fit_gain_offset(s, t, brain)
    fitted = metrics.apply_gain_offset(s, gain, offset, brain)

    row = _region_row("brain", brain, s, fitted, t)
    row |= {"slices": len(scored), "gain": gain, "offset": offset}
    for suffix, image in (("", s), ("_fitted", fitted)):
        row[f"ssim{suffix}"] = metrics.ssim(image, t, brain)
        row[f"psnr_paper{suffix}"] = float(metrics.paper_psnr(image, t).mean())
        row[f"ssim_paper{suffix}"] = float(metrics.paper_ssim(image, t).mean())
    rows = [row]

    damaged = np.zeros_like(brain)
    if lesion is not None:
        damaged = brain & (np.asarray(lesion)[..., scored] > 0.5)
    if tissues:
        names = sorted(tissues, key=_tissue_order)
        maps = np.stack([np.asarray(tissues[name])[..., scored] for name in names])
        known = brain & ~damaged & (maps.max(axis=0) > 0)
        most_probable = maps.argmax(axis=0)
        for index, name in enumerate(names):
            rows.append(_region_row(name, known & (most_probable == index), s, fitted, t))
    if lesion is not None:
        rows.append(_region_row("lesion", damaged, s, fitted, t))
    return [{name: row[name] for name in SCORE_COLUMNS if name in row} for row in rows]


def _tissue_order(name: str) -> int:
    """Return the place of a tissue in the table: the order of its label."""
    return TISSUES.index(name) if name in TISSUES else len(TISSUES)


def _region_row(
    region: str,
    inside: npt.NDArray[np.bool_],
    synth: npt.NDArray[np.float64],
    fitted: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
) -> Row:
    """Return the figures that make sense in any region."""
    row: Row = {"region": region, "voxels": int(inside.sum())}
    for suffix, image in (("", synth), ("_fitted", fitted)):
        row[f"psnr{suffix}"] = metrics.psnr(image, truth, inside)
        row[f"mae{suffix}"] = metrics.mae(image, truth, inside)
        row[f"nmse{suffix}"] = metrics.nmse(image, truth, inside)
    return row


# --- the table -----------------------------------------------------------------------------------


def describe_columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the descriptions of the columns that a table of these rows has, in order.

    It is the content of the JSON file beside the TSV.

    Raises
    ------
    ValueError
        If a row has a key that is not a column of :data:`SCORE_COLUMNS`.
    """
    used = {name for row in rows for name in row}
    unknown = used - set(SCORE_COLUMNS)
    if unknown:
        raise ValueError(
            f"no description of the column(s) {sorted(unknown)}; known are {list(SCORE_COLUMNS)}"
        )
    return {name: entry for name, entry in SCORE_COLUMNS.items() if name in used}


def write_scores_tsv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of scores as a BIDS table.

    Figures keep six significant digits; NaN, None and what a row does not have become ``n/a``.

    Parameters
    ----------
    path : Path
        The ``.tsv`` file.
    rows : sequence of mapping
        From :func:`score_synthesis`, with ``participant_id``, ``session_id``, ``target`` or
        ``method`` added as needed.

    Raises
    ------
    ValueError
        If a row has a key that is not a column of :data:`SCORE_COLUMNS`.
    """
    write_text(Path(path), as_tsv(table_of(rows, list(describe_columns(rows)))))


def read_scores_tsv(path: Path | str) -> list[Row]:
    """Read a table that :func:`write_scores_tsv` wrote.

    Parameters
    ----------
    path : Path
        The ``.tsv`` file.

    Returns
    -------
    list of dict
        Counts as int, other figures as float, NaN where the table says ``n/a``.

    Raises
    ------
    ValueError
        If a cell that should hold a number does not; the message names the file and the column.
    """
    try:
        rows = read_rows(Path(path))
        return [{name: _value(name, cell) for name, cell in row.items()} for row in rows]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _value(name: str, cell: str) -> Any:
    """Return what the text of one cell means."""
    if name in _TEXT_COLUMNS:
        return cell
    if cell == MISSING:
        return math.nan
    try:
        return int(cell) if name in _COUNT_COLUMNS else float(cell)
    except ValueError as error:
        raise ValueError(f"{cell!r} in the column {name!r} is not a number") from error
