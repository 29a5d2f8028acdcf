"""Measure how the pieces of one session fit on a reference grid, from its derivative files alone.

Whatever a file does not tell is left out of its row; a file that cannot be read is said in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from colapipe.anatomy.images import Grid, grid_of, same_grid
from colapipe.anatomy.maps import load_map
from colapipe.bids.outputs import OutputFile, SessionFiles
from colapipe.bids.sidecars import INTENSITY_RANGE
from colapipe.contrasts import CONTRASTS, LESION_LABEL, TISSUES
from colapipe.errors import InputFileError
from colapipe.files import read_json
from colapipe.quality.arrays import (
    blur_inside,
    correlation,
    dice,
    has_data,
    normalised_mutual_information,
    share_clipped,
    shift_and_turn,
    synthesised_region,
)
from colapipe.quality.intervals import interval_of
from colapipe.slices.intensity import PERCENTILES

SMOOTHING = 2.0
"""mm: standard deviation of the blur before scans are compared with each other."""

FEWEST = 1000
"""Voxels without which scans are not compared with each other."""

Row = dict[str, Any]
Key = tuple[str, bool]
Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass
class Measured:
    """The quality numbers of one reference grid.

    Attributes
    ----------
    rows : list of dict
        One for each contrast on the grid, real scans first; the keys are columns of
        :data:`colapipe.quality.columns.COLUMNS`. What is not known is absent.
    warnings : dict
        Contrast ("" for none) and whether it is about a synthetic image, to words about files that
        could not be used or are not what they should be.
    """

    rows: list[Row] = field(default_factory=list)
    warnings: dict[Key, list[str]] = field(default_factory=dict)


def measure_grids(files: SessionFiles) -> dict[str, Measured]:
    """Measure every reference grid of a session.

    Parameters
    ----------
    files : SessionFiles
        As from :func:`colapipe.bids.outputs.read_session`.

    Returns
    -------
    dict
        Reference contrast to its numbers.
    """
    return {space: measure_grid(files, space) for space in files.spaces}


def measure_grid(files: SessionFiles, space: str) -> Measured:
    """Measure one reference grid of a session; never raises for what is in a file."""
    return _Grid(files, space).measure()


class _Grid:
    """What lies on the grid of one reference, cut to the box around its brain."""

    def __init__(self, files: SessionFiles, space: str) -> None:
        self.files, self.space = files, space
        self.warnings: dict[Key, list[str]] = {}
        self.grid: Grid | None = None
        self.blurred: dict[str, Values] = {}

    def measure(self) -> Measured:
        """Return the rows of real scans, then those of synthetic images."""
        rows = []
        self.brain, self.masks = self._find_brain()
        self.regions = self._find_regions()
        reference = self._values(self.files.preproc.get(self.space, {}).get(self.space))
        for contrast, scan in _ordered(self.files.preproc.get(self.space, {})):
            rows.append(self._scan(contrast, scan, reference))
        self._compare(rows)
        for contrast, made in _ordered(self.files.synth.get(self.space, {})):
            rows.append(self._synthetic(contrast, made))
        return Measured([_known(row) for row in rows], self.warnings)

    def _scan(self, contrast: str, scan: OutputFile, reference: Values | None) -> Row:
        row: Row = {"contrast": contrast, "synthetic": False}
        values = reference if contrast == self.space else self._values(scan)
        if values is not None and values.size:
            with_data = has_data(values)
            self.blurred[contrast] = self._blur(values, with_data)
            row["coverage"] = float(with_data.mean())
            low, high = np.percentile(values, PERCENTILES)
            clipped = share_clipped(values[with_data], float(low), float(high))
            row["clipped_low"], row["clipped_high"] = clipped
            if reference is not None and contrast != self.space:
                both = with_data & has_data(reference)
                row["nmi"] = normalised_mutual_information(values[both], reference[both])
        if contrast != self.space:
            row |= self._motion(contrast)
        return row | self._volumes(contrast)

    def _blur(self, values: Values, with_data: Mask) -> Values:
        """Blur a scan's voxels of the brain; NaN where it has no data."""
        if self.brain is None or self.grid is None:
            raise ValueError("there is no brain")
        volume = np.zeros(self.brain.shape, dtype=np.float32)
        inside = np.zeros(self.brain.shape, dtype=bool)
        volume[self.brain], inside[self.brain] = values, with_data
        zooms = np.sqrt((self.grid[1][:3, :3] ** 2).sum(axis=0))
        return blur_inside(volume, inside, SMOOTHING / zooms)[self.brain]

    def _compare(self, rows: list[Row]) -> None:
        """Find for each acquired scan the other one that is most like it.

        Where dark and bright are exchanged, as in T1w and T2w, they are not alike.
        """
        of = {row["contrast"]: row for row in rows}
        for one, other in combinations(self.blurred, 2):
            both = np.isfinite(self.blurred[one]) & np.isfinite(self.blurred[other])
            if np.count_nonzero(both) < FEWEST:
                continue
            found = correlation(self.blurred[one][both], self.blurred[other][both])
            for contrast, partner in ((one, other), (other, one)):
                if found > of[contrast].get("alike", -math.inf):
                    of[contrast] |= {"alike": found, "alike_with": partner}
        self.blurred.clear()

    def _motion(self, contrast: str) -> Row:
        for transform in self.files.transforms:
            name = transform.name
            if (name.get("from"), name.get("to")) == (contrast, self.space):
                sidecar = self._json(transform)
                kept = sidecar.get("IdentityKept")
                moved = (0.0, 0.0) if kept is True else shift_and_turn(sidecar)
                row: Row = {"identity_kept": kept if isinstance(kept, bool) else None}
                return row if moved is None else row | {"shift": moved[0], "turn": moved[1]}
        return {}

    def _volumes(self, contrast: str) -> Row:
        """Volumes from the masks and labels of one contrast, and how its mask fits."""
        row: Row = {}
        if self.grid is None:
            return row
        millilitres = abs(float(np.linalg.det(self.grid[1][:3, :3]))) / 1000
        mask = self.masks.get(contrast)
        if mask is not None:
            row["volume_brain"] = float(np.count_nonzero(mask) * millilitres)
            if contrast != self.space and self.space in self.masks:
                row["mask_dice"] = dice(mask, self.masks[self.space])
        labels = self._load(self.files.tissues.get(self.space, {}).get(contrast))
        if labels is not None:
            for label, tissue in enumerate(TISSUES, start=1):
                volume = np.count_nonzero(labels == label) * millilitres
                row[f"volume_{tissue.lower()}"] = float(volume)
        if contrast == self.space and self.lesion is not None:
            row["volume_lesion"] = float(np.count_nonzero(self.lesion) * millilitres)
        return row

    def _synthetic(self, contrast: str, made: OutputFile) -> Row:
        row: Row = {"contrast": contrast, "synthetic": True}
        sidecar = self._json(made)
        slices = sidecar.get("SynthesizedSlices")
        count = slices.get("Count") if isinstance(slices, Mapping) else None
        row["slices"] = count if isinstance(count, int) and not isinstance(count, bool) else None
        values = self._values(made)
        if self.grid is None or self.brain is None or values is None:
            return row
        shape = self.grid[0]
        region = np.broadcast_to(synthesised_region(sidecar, self.grid), shape)
        covered = region[self.box][self.brain]
        row["coverage"] = float(covered.mean()) if covered.size else None
        row["clipped_low"], row["clipped_high"] = share_clipped(values[covered], *INTENSITY_RANGE)
        std = self.files.std.get(self.space, {}).get(contrast)
        return row | self._uncertainty(std, covered)

    def _uncertainty(self, std: OutputFile | None, covered: Mask) -> Row:
        values = self._values(std)
        if std is None or values is None:
            return {}
        interval = interval_of(self._json(std))
        row: Row = {"interval_level": None if interval is None else interval.level}
        for region, inside in {"brain": covered, **self.regions}.items():
            chosen = values[covered & inside]
            if chosen.size:
                row[f"sd_{region}"] = float(chosen.mean())
                if interval is not None:
                    row[f"interval_{region}"] = float(interval.half_width(chosen).mean())
        return row

    def _find_brain(self) -> tuple[Mask | None, dict[str, Mask]]:
        """Read the brain masks; the reference's sets the grid and the box.

        Without a mask the support of the reference serves, or of what else lies on the grid.
        """
        masks: dict[str, Mask] = {}
        self.box = (slice(None), slice(None), slice(None))
        for contrast, mask in _ordered(self.files.masks.get(self.space, {}), first=self.space):
            voxels = self._load(mask)
            if voxels is not None:
                masks[contrast] = voxels > 0
                self._check_mask(mask, voxels)
        brain = next(iter(masks.values()), None)
        images = (self.files.preproc, self.files.synth)
        for kind in () if brain is not None else images:
            for _, image in _ordered(kind.get(self.space, {}), first=self.space):
                voxels = self._load(image)
                if voxels is not None and brain is None:
                    self._warn(
                        image,
                        f"{image.path}: there is no brain mask on the grid of {self.space}; "
                        "where this image is not 0 is taken for the brain",
                    )
                    brain = voxels != 0
        if brain is not None:
            self.box = _box(brain)
            brain = brain[self.box]
        return brain, masks

    def _check_mask(self, mask: OutputFile, voxels: Values) -> None:
        """Say what the mask's maker had to say, and if it has more than two values."""
        self._pass_on_remarks(mask)
        inside = voxels[voxels > 0]
        if inside.size and inside.min() != inside.max():
            self._warn(
                mask,
                f"{mask.path}: a brain mask with values from {inside.min():.3g} to "
                f"{inside.max():.3g} inside; expected 0 and one other value. Every voxel above 0 "
                "was taken for brain; look at its contour.",
            )

    def _pass_on_remarks(self, mask: OutputFile) -> None:
        """Say what the mask's maker had to say of it."""
        remarks = mask.sidecar.get("Remarks")
        for remark in remarks if isinstance(remarks, list) else ():
            self._warn(mask, str(remark))

    def _find_regions(self) -> dict[str, Mask]:
        """Tissues, by the reference's labels, and lesions, as masks of the brain's voxels."""
        lesion = self._load(self.files.lesions.get(self.space))
        if lesion is not None:
            self._pass_on_remarks(self.files.lesions[self.space])
        self.lesion = None if lesion is None else lesion > 0
        if self.brain is None:
            return {}
        regions = {}
        if self.lesion is not None:
            regions["lesion"] = self.lesion[self.box][self.brain]
        ordered = _ordered(self.files.tissues.get(self.space, {}), first=self.space)
        labels = self._values(ordered[0][1]) if ordered else None
        if labels is not None:
            for label, tissue in enumerate(TISSUES, start=1):
                regions[tissue.lower()] = labels == label
            regions.setdefault("lesion", labels == LESION_LABEL)
        return regions

    def _values(self, derivative: OutputFile | None) -> Values | None:
        """The voxels of an image in the brain, in one order for all; None if there are none."""
        voxels = self._load(derivative)
        if voxels is None or self.brain is None:
            return None
        return voxels[self.box][self.brain]

    def _load(self, derivative: OutputFile | None) -> Values | None:
        """Read an image; None, and a warning, if it cannot be read or lies on another grid."""
        if derivative is None:
            return None
        try:
            image = load_map(derivative.path)
        except Exception as err:
            # Whatever is wrong with a file must not cost a participant all that is good.
            self._warn(
                derivative,
                str(err)
                if isinstance(err, InputFileError)
                else f"{derivative.path}: cannot be read ({type(err).__name__}: {err})",
            )
            return None
        if self.grid is None:
            self.grid = grid_of(image)
        if not same_grid(image, self.grid):
            self._warn(
                derivative,
                f"{derivative.path}: is not on the grid of the other files of {self.space}; "
                "it is not measured",
            )
            return None
        return np.asarray(image.dataobj, dtype=np.float32)

    def _json(self, derivative: OutputFile) -> dict[str, Any]:
        path = derivative.path
        content, problem = read_json(path.with_name(path.name.partition(".")[0] + ".json"))
        if problem is not None:
            self._warn(derivative, problem)
        return content

    def _warn(self, derivative: OutputFile, message: str) -> None:
        """Say something about a file, and so about the contrast that it shows or comes from."""
        desc = derivative.name.get("desc") or ""
        about = derivative.contrast or derivative.name.get("from") or desc.removeprefix("from")
        key = (about if about in CONTRASTS else "", desc in ("synth", "synthstd"))
        said = self.warnings.setdefault(key, [])
        if message not in said:
            said.append(message)


def _ordered(
    files: Mapping[str, OutputFile], first: str | None = None
) -> list[tuple[str, OutputFile]]:
    """Sort by preference as a reference, ``first`` before all."""
    names = sorted(files, key=lambda name: (name != first, CONTRASTS.index(name)))
    return [(name, files[name]) for name in names]


def _box(inside: Mask) -> tuple[slice, slice, slice]:
    """The smallest box around a mask; the whole grid if it is empty."""
    if not inside.any():
        return slice(None), slice(None), slice(None)
    bounds = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(inside.any(axis=others))
        bounds.append(slice(int(where[0]), int(where[-1]) + 1))
    return bounds[0], bounds[1], bounds[2]


def _known(row: Row) -> Row:
    """Leave out what is not known."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
