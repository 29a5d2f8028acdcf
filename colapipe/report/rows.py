"""Which rows a figure has: the files of one reference grid, loaded, checked and cut to slices."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage

from colapipe.anatomy.intensity import normalise
from colapipe.contrasts import CONTRASTS
from colapipe.report import figures, steppers
from colapipe.report.figures import Floats, Strip, View
from colapipe.report.files import Derivative, SessionFiles
from colapipe.report.parts import Panel, Picture, Stepper
from colapipe.report.steppers import Budget, MapPanel
from colapipe.report.uncertainty import interval_in_words

Mask = npt.NDArray[np.bool_]

# What reading or drawing a broken image can raise; the page then says so instead of a picture.
_UNDRAWABLE = (OSError, EOFError, ValueError, zlib.error, ImageFileError)

# The upper end of a map's colour bar covers this percentile of the brain.
MAP_PERCENTILE = 99.5


@dataclass
class Figure:
    """A block of rows under one heading; filled with pictures once the map scale is known."""

    title: str
    strips: list[Strip] = field(default_factory=list)
    map_tops: list[float] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    panels: list[Panel | MapPanel] = field(default_factory=list)
    native: View | None = None
    first: int = 0

    def stepper(self, limit: float, budget: Budget) -> Stepper | None:
        """Return the same images at voxel resolution, for more slices; None without a synthesis.

        Parameters
        ----------
        limit : float
            Value at the top of the colour scale of all maps of the page.
        budget : Budget
            Of the page.
        """
        if self.native is None:
            return None
        return Stepper(
            title=self.title,
            heights_mm=self.native.heights_mm,
            columns=steppers.columns_of(self.native),
            tile=self.native.tile,
            first=self.first,
            panels=tuple(
                panel.coloured(limit, budget) if isinstance(panel, MapPanel) else panel
                for panel in self.panels
            ),
            limit=limit,
            remarks=self.remarks,
        )

    @property
    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Name and colour of the tissues that its rows show."""
        shown = {
            int(label)
            for strip in self.strips
            if strip.classes is not None
            for label in np.unique(strip.classes)
        }
        return [entry for label, entry in figures.TISSUE_COLOURS.items() if label in shown]


class Grid:
    """Draws what lies on the grid of one reference.

    Each file is read once and only its drawn slices are kept; a truth is read a second time for
    its error map. A file that cannot be drawn becomes a remark, and the other rows stay.

    Parameters
    ----------
    files : SessionFiles
    space : str
        Reference contrast whose grid this is.
    tile_width : int
        Width of one drawn slice in pixels.
    show_head : bool
        Draw also what lies outside the brain mask.
    budget : Budget, optional
        Of the page's steppers; by default, as if the page showed nothing else.
    """

    def __init__(
        self,
        files: SessionFiles,
        space: str,
        tile_width: int,
        show_head: bool,
        budget: Budget | None = None,
    ) -> None:
        self.space = space
        self.budget = steppers.plan_budget([files]) if budget is None else budget
        self.preproc = files.preproc.get(space, {})
        self.synth = files.synth.get(space, {})
        self.std = files.std.get(space, {})
        self.masks = files.masks.get(space, {})
        self.tissues = files.tissues.get(space, {})
        self.lesion = files.lesions.get(space)
        self._tile_width = tile_width
        self._show_head = show_head
        # Set by the first file that is read; all others must agree.
        self._shape: tuple[int, ...] | None = None
        self._affine: npt.NDArray[np.float64] = np.eye(4)
        self._view: View | None = None
        self._masks: dict[str, Mask] = {}
        self._tiles: dict[str, Floats] = {}
        self._sheets: dict[str, Picture] = {}
        self._native: tuple[View, int] | None = None

    def synthesis(self, contrast: str) -> Figure:
        """Sources, the synthesised image, and where they exist truth, error and uncertainty."""
        figure = Figure(f"Synthesised {contrast} on the grid of {self.space}")
        named = self.synth[contrast].sidecar.get("SynthesizedFrom")
        sources = [source for source in by_preference(self.preproc) if source != contrast]
        if isinstance(named, list):
            sources = [source for source in sources if source in named]
        else:
            figure.remarks.append(
                "The sidecar does not say which contrasts this image was made from; all others on "
                "this grid are shown."
            )
        with _or_said(figure, f"The slices to step through of {contrast}"):
            figure.native, figure.first = self._native_view()
        for source in sources:
            self._add_scan(figure, source, "source", contrast)
        with _or_said(figure, f"The synthesised {contrast}"):
            mask = self._mask_for(contrast)
            made = self._load(self.synth[contrast])
            covered = figures.covered_mask(made, mask)
            if not covered.any():
                raise ValueError("it is zero everywhere in the brain")
            self._add_made(figure, contrast, made, covered)
            if contrast in self.preproc:
                self._add_scan(figure, contrast, "real scan", contrast)
                self._add_error(figure, contrast, made, covered)
            if contrast in self.std:
                self._add_uncertainty(figure, contrast, made, covered)
        return figure

    def anatomy(self) -> Figure:
        """Brain masks and tissue classes on the reference, and the scans if nothing was made."""
        title = "Brain mask and tissue classes" if self.synth else "Scans, brain mask and tissues"
        figure = Figure(f"{title} on the grid of {self.space}")
        if not self.synth:
            for contrast in by_preference(self.preproc):
                self._add_scan(figure, contrast, "preprocessed", "")
        for source in by_preference(self.masks):
            self._add_overlay(figure, self.masks[source], source)
        for source in by_preference(self.tissues):
            self._add_overlay(figure, self.tissues[source], source)
        if not self.masks:
            figure.remarks.append("No brain mask was found on this grid.")
        if not self.tissues:
            figure.remarks.append("No tissue classes were found on this grid.")
        return figure

    def _add_scan(self, figure: Figure, contrast: str, note: str, target: str) -> None:
        """Add an acquired contrast in grey, inside a mask that is not the target's."""
        derivative = self.preproc[contrast]
        with _or_said(figure, derivative.path.name):
            view = self._view_of(self._mask_for(target))
            tiles = self._drawn(contrast, target)
            alt = f"{contrast}, {note}: {_in_words(view)}"
            figure.strips.append(Strip("grey", contrast, alt, tiles, view, note=note))
            if figure.native is not None:
                figure.panels.append(Panel(contrast, note, "grey", False, self._sheets[contrast]))

    def _add_made(self, figure: Figure, contrast: str, made: Floats, covered: Mask) -> None:
        """Add the synthesised contrast, marked as such."""
        view = self._view_of(self._mask_for(contrast))
        shown = normalise(made, covered)[0]
        missing = sum(not covered[:, :, z].any() for z in view.slices)
        if missing:
            figure.remarks.append(
                f"{missing} of the {len(view.slices)} slices drawn here were not "
                "synthesised; they are black."
            )
        alt = f"SYNTHETIC {contrast}, never acquired: {_in_words(view)}"
        tiles = figures.draw_tiles(shown, view)
        figure.strips.append(Strip("grey", contrast, alt, tiles, view, synthetic=True))
        if figure.native is not None:
            words = f"SYNTHETIC {contrast}, never acquired: {_in_words(figure.native)}"
            sheet = steppers.grey_sheet(shown, figure.native, words, self.budget)
            figure.panels.append(Panel(contrast, "synthesised", "grey", True, sheet))

    def _add_error(self, figure: Figure, contrast: str, made: Floats, covered: Mask) -> None:
        """Add the error against the real scan."""
        with _or_said(figure, f"The error of {contrast}"):
            error = figures.error_map(made, self._load(self.preproc[contrast]), covered)
            self._add_map(figure, "Error", "|synth - real|", error, covered)

    def _add_uncertainty(self, figure: Figure, contrast: str, made: Floats, covered: Mask) -> None:
        """Add the standard deviation between samples, on the scale of the error."""
        with _or_said(figure, self.std[contrast].path.name):
            std = self._load(self.std[contrast])
            sidecar = self.std[contrast].sidecar
            model = sidecar.get("SynthesisModel")
            samples = model.get("Samples") if isinstance(model, dict) else None
            # Only a number may reach the lettering of a picture.
            note = f"SD, {samples} samples" if isinstance(samples, int) else "std. deviation"
            # The range of the synthesised image becomes 0 to 1, as it does for the error.
            low, high = normalise(made, covered)[1]
            scaled = np.where(covered, std, 0).astype(np.float32) / np.float32(high - low)
            self._add_map(figure, "Uncertainty", note, scaled, covered)
            figure.remarks.append(interval_in_words(sidecar))

    def _add_map(self, figure: Figure, label: str, note: str, values: Floats, inside: Mask) -> None:
        """Add a map whose colour scale is settled when all maps of the page are known."""
        brain = values[inside]
        if not np.isfinite(brain).all():
            raise ValueError("it holds NaN or infinite values")
        view = self._view_of(inside)
        top = float(np.percentile(brain, MAP_PERCENTILE))
        figure.map_tops.append(top)
        figure.remarks.append(
            f"{label} in the brain, as a share of the intensity range: mean {brain.mean():.3f}, "
            f"{MAP_PERCENTILE:g} % of voxels at most {top:.3f}, largest {brain.max():.3f}."
        )
        alt = f"{label} map, brighter is larger: {_in_words(view)}"
        outline = figures.draw_outline(inside, view)
        tiles = figures.draw_tiles(values, view)
        figure.strips.append(Strip("map", label, alt, tiles, view, note=note, outline=outline))
        if figure.native is not None:
            words = f"{label} map, brighter is larger: {_in_words(figure.native)}"
            drawn, ring = steppers.map_tiles(values, inside, figure.native)
            figure.panels.append(MapPanel(label, note, words, drawn, ring, figure.native))

    def _add_overlay(self, figure: Figure, derivative: Derivative, source: str) -> None:
        """Add a mask's contour, or coloured tissue classes, on the reference in grey."""
        with _or_said(figure, derivative.path.name):
            if self.space not in self.preproc:
                raise ValueError(f"there is no preprocessed {self.space} to draw it on")
            view = self._view_of(self._mask_for(""))
            grey = self._drawn(self.space, "")
            labels = self._load(derivative)
            if derivative.name.suffix == "mask":
                strip = Strip(
                    "grey",
                    "Brain mask",
                    f"Contour of the brain mask of {source} on {self.space}: {_in_words(view)}",
                    grey,
                    view,
                    note=f"{source} on {self.space}",
                    outline=figures.draw_outline(labels, view),
                )
            else:
                strip = Strip(
                    "tissue",
                    "Tissues",
                    f"Tissue classes of {source} in colour on {self.space}: {_in_words(view)}",
                    grey,
                    view,
                    note=f"{source} on {self.space}",
                    classes=figures.draw_labels(labels, view),
                )
            figure.strips.append(strip)

    def _drawn(self, contrast: str, target: str) -> Floats:
        """The slices of a scan in [0, 1], kept because several figures show them."""
        if contrast not in self._tiles:
            mask = self._mask_for(target)
            voxels = self._load(self.preproc[contrast])
            shown, (low, high) = normalise(voxels, mask)
            if self._show_head:
                shown = np.clip((voxels - low) / (high - low), 0.0, 1.0)
            self._tiles[contrast] = figures.draw_tiles(shown, self._view_of(mask))
            if self._native is not None:
                view = self._native[0]
                words = f"{contrast}, acquired: {_in_words(view)}"
                self._sheets[contrast] = steppers.grey_sheet(shown, view, words, self.budget)
        return self._tiles[contrast]

    def _view_of(self, mask: Mask) -> View:
        """One view for the whole grid, so that rows and figures can be compared."""
        if self._view is None:
            self._view = figures.choose_view(mask, self._affine, self._tile_width)
        return self._view

    def _native_view(self) -> tuple[View, int]:
        """The slices to step through on this grid, and which to show first.

        They are the same for all its targets, so that they can share the sheets of their sources.
        """
        if self._native is None:
            covered = np.array(self._mask_for(""))
            synthesised = np.zeros(covered.shape[2], dtype=bool)
            for contrast in by_preference(self.synth):
                with suppress(*_UNDRAWABLE):
                    synthesised |= (self._load(self.synth[contrast]) != 0).any(axis=(0, 1))
            covered[:, :, ~synthesised] = False
            view = steppers.native_view(covered, self._affine, self.budget)
            lesion = None
            if self.lesion is not None:
                with suppress(*_UNDRAWABLE):
                    lesion = self._load(self.lesion)
            self._native = view, steppers.first_slice(view, covered, lesion)
        return self._native

    def _mask_for(self, target: str) -> Mask:
        """A brain mask that does not come from ``target``, the reference's if there is one.

        Without a mask file the support of a brain-extracted scan serves.
        """
        for source in by_preference(self.masks, first=self.space):
            if source != target:
                return self._mask(self.masks[source])
        for source in by_preference(self.preproc, first=self.space):
            derivative = self.preproc[source]
            extracted = derivative.sidecar.get("SkullStripped") is not False
            if source != target and (extracted or self._show_head):
                return self._mask(derivative)
        raise ValueError("there is no brain mask, and only brain-extracted images are shown")

    def _mask(self, derivative: Derivative) -> Mask:
        name = derivative.path.name
        if name not in self._masks:
            self._masks[name] = self._load(derivative) != 0
        return self._masks[name]

    def _load(self, derivative: Derivative) -> Floats:
        """Read a file in display order, and refuse one that is on another grid."""
        image = nib.load(derivative.path)
        if not isinstance(image, SpatialImage):
            raise ValueError("it is not an image")
        volume, affine = figures.canonical(image)
        if self._shape is None:
            self._shape, self._affine = volume.shape, affine
        if volume.shape != self._shape or not np.allclose(affine, self._affine, atol=1e-2):
            raise ValueError("it is not on the grid of the other files")
        return volume


def by_preference(contrasts: Iterable[str], first: str | None = None) -> list[str]:
    """Sort contrasts by preference as a reference, ``first`` before all; unknown names last."""
    ranks = {contrast: rank for rank, contrast in enumerate(CONTRASTS)}
    return sorted(contrasts, key=lambda name: (name != first, ranks.get(name, len(ranks)), name))


@contextmanager
def _or_said(figure: Figure, what: str) -> Iterator[None]:
    """Turn a file that cannot be read or drawn into a remark under its figure."""
    try:
        yield
    except _UNDRAWABLE as error:
        words = str(error) or type(error).__name__
        figure.remarks.append(f"{what} cannot be drawn: {words}.")


def _in_words(view: View) -> str:
    """Describe the slices for those who cannot see them."""
    return (
        f"{len(view.slices)} axial slices from z = {view.heights_mm[0]:.0f} "
        f"to {view.heights_mm[-1]:.0f} mm."
    )
