"""What is drawn of one reference grid: each file is read, and becomes rows, sheets and planes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from colapipe.bids.outputs import OutputFile, SessionFiles
from colapipe.contrasts import CONTRASTS
from colapipe.quality.arrays import has_data
from colapipe.quality.histograms import TrainingRange, histogram
from colapipe.report import charts, figures, planes, registration, steppers
from colapipe.report.figure import Figure, Values
from colapipe.report.figures import TISSUE_COLOURS, Floats, Strip, View
from colapipe.report.parts import Comparison, Drawing, Panel, Picture
from colapipe.report.planes import Layout
from colapipe.report.steppers import Budget, MapPanel
from colapipe.report.uncertainty import interval_in_words
from colapipe.report.volumes import UNDRAWABLE, Mask, Volumes, by_preference
from colapipe.slices import CROP_SIZE, MIN_FRACTION, SPACING

__all__ = ["MAP_PERCENTILE", "Figure", "Grid"]

# The upper end of a map's colour bar covers this percentile of the brain.
MAP_PERCENTILE = 99.5
# Voxels are many: so many tell how uncertainty and error go together.
_ENOUGH_VOXELS = 200_000
# Share of the brain without data in a real scan.
_WORTH_SAYING = 0.01
_THRESHOLD_CM2 = MIN_FRACTION * (CROP_SIZE * SPACING) ** 2 / 100


@dataclass(frozen=True)
class _Scan:
    """What is kept of an acquired contrast, because several figures show it."""

    tiles: Floats
    planes: Floats
    sheet: Picture
    histogram: Values


@dataclass(frozen=True)
class _Views:
    """Where the pictures of a grid are cut, the same in all, so that they can be compared."""

    rows: View
    native: View
    first: int
    layout: Layout
    area: Drawing | None


class Grid:
    """Draws what lies on the grid of one reference.

    Only what is drawn is kept of a file. A truth is read a second time for its error map, and the
    synthesised images to learn which slices they cover. A file that cannot be drawn becomes a
    remark, and the other pictures stay.

    Parameters
    ----------
    files : SessionFiles
    space : str
        Reference contrast whose grid this is.
    tile_width : int
        Width of one drawn slice of a row in pixels.
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
        self.preproc = files.preproc.get(space, {})
        self.synth = files.synth.get(space, {})
        self.std = files.std.get(space, {})
        self.masks = files.masks.get(space, {})
        self.tissues = files.tissues.get(space, {})
        self.lesion = files.lesions.get(space)
        self.budget = steppers.plan_budget([files]) if budget is None else budget
        self._volumes = Volumes(files, space, show_head)
        self._tile_width = tile_width
        self._views: _Views | None = None
        self._scans: dict[str, _Scan] = {}
        self.undrawn: list[str] = []

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
        for source in sources:
            self._add_scan(figure, source, "source", contrast)
        with _or_said(figure, f"The synthesised {contrast}"):
            mask = self._volumes.mask_for(contrast)
            made = self._volumes.load(self.synth[contrast])
            covered = figures.covered_mask(made, mask)
            if not covered.any():
                raise ValueError("it is zero everywhere in the brain")
            shown = figures.own_scale(made, covered)
            self._add_made(figure, contrast, shown, covered)
            error = std = None
            if contrast in self.preproc:
                self._add_scan(figure, contrast, "real scan", contrast)
                error = self._add_error(figure, contrast, shown, covered)
            if contrast in self.std:
                std = self._add_uncertainty(figure, contrast, covered)
            self._add_weights(figure, contrast)
            if error is not None and std is not None:
                known = np.flatnonzero(np.isfinite(error))
                known = known[:: math.ceil(len(known) / _ENOUGH_VOXELS)]
                figure.charts.append(charts.reliability_chart(contrast, std[known], error[known]))
        return figure

    def scans(self) -> Figure:
        """All acquired scans on this grid, for a page without a synthesis."""
        figure = Figure(f"Scans on the grid of {self.space}")
        for contrast in by_preference(self.preproc):
            self._add_scan(figure, contrast, "preprocessed", "")
        return figure

    def comparisons(self) -> list[Comparison]:
        """The reference and each scan that was brought to its grid; those that can be drawn.

        The others are said in ``undrawn``.
        """
        if self.space not in self.preproc:
            return []
        found = []
        with _or_listed(self.undrawn, f"The registration to {self.space}"):
            layout, below = self._views_for("").layout, self._scan(self.space, "").planes
            reference = registration.draw_picture(
                below,
                layout,
                f"{self.space}, the reference: {layout.words}.",
                self.budget.picture_bytes,
            )
            edges = registration.draw_edges(
                registration.find_edges(below, layout), f"Edges of {self.space}."
            )
            for contrast in by_preference(self.preproc):
                if contrast == self.space:
                    continue
                with _or_listed(self.undrawn, f"{contrast} on {self.space}"):
                    moved = registration.draw_picture(
                        self._scan(contrast, "").planes,
                        layout,
                        f"{contrast} on the grid of {self.space}: {layout.words}.",
                        self.budget.picture_bytes,
                    )
                    found.append(
                        registration.compare(reference, edges, moved, self.space, contrast)
                    )
        return found

    def histograms(self, ranges: Mapping[str, TrainingRange]) -> list[Drawing]:
        """Return the intensities of the acquired scans that were drawn, in their order.

        Parameters
        ----------
        ranges : mapping of str to TrainingRange
            Of the model's training data, by contrast; those that are known.
        """
        return [
            charts.histogram_chart(contrast, self._scans[contrast].histogram, ranges.get(contrast))
            for contrast in by_preference(self._scans, first=self.space)
        ]

    def area(self) -> Drawing | None:
        """Brain area of each slice, and which were synthesised; None if none was."""
        with suppress(*UNDRAWABLE):
            return self._views_for("").area
        return None

    def anatomy(self) -> Figure:
        """Contours of brain masks and tissue classes on planes of the reference."""
        figure = Figure(f"Brain mask and tissue classes on the grid of {self.space}")
        for source in by_preference(self.masks):
            self._add_contours(figure, self.masks[source], source)
        for source in by_preference(self.tissues):
            self._add_contours(figure, self.tissues[source], source)
        if not self.masks:
            figure.remarks.append("No brain mask was found on this grid.")
        if not self.tissues:
            figure.remarks.append("No tissue classes were found on this grid.")
        return figure

    def _add_scan(self, figure: Figure, contrast: str, note: str, target: str) -> None:
        """Add an acquired contrast in grey, inside a mask that is not the target's."""
        with _or_said(figure, self.preproc[contrast].path.name):
            scan = self._scan(contrast, target)
            views = self._views_for(target)
            alt = f"{contrast}, {note}: {_in_words(views.rows)}"
            figure.strips.append(Strip("grey", contrast, alt, scan.tiles, views.rows, note=note))
            self._add_panel(figure, Panel(contrast, note, "grey", False, scan.sheet))
            figure.acquired[contrast] = scan.histogram

    def _add_made(self, figure: Figure, contrast: str, shown: Floats, covered: Mask) -> None:
        """Add the synthesised contrast, marked as such."""
        views = self._views_for(contrast)
        missing = sum(not covered[:, :, z].any() for z in views.rows.slices)
        if missing:
            figure.remarks.append(
                f"{missing} of the {len(views.rows.slices)} slices drawn here were not "
                "synthesised; they are black."
            )
        words = f"SYNTHETIC {contrast}, never acquired: "
        tiles = figures.draw_tiles(shown, views.rows)
        alt = words + _in_words(views.rows)
        figure.strips.append(Strip("grey", contrast, alt, tiles, views.rows, synthetic=True))
        alt = words + _in_words(views.native)
        sheet = steppers.grey_sheet(shown, views.native, alt, self.budget)
        self._add_panel(figure, Panel(contrast, "synthesised", "grey", True, sheet))
        figure.made[contrast] = histogram(shown[covered])

    def _add_error(
        self, figure: Figure, contrast: str, shown: Floats, covered: Mask
    ) -> Values | None:
        """Add the error against the real scan, if it can be drawn.

        Return its values in the brain, NaN where the real scan has no data.
        """
        with _or_said(figure, f"The error of {contrast}"):
            truth = self._volumes.load(self.preproc[contrast])
            error = figures.error_map(shown, truth, covered)
            known = has_data(truth[covered])
            missing = 1 - known.mean()
            if missing > _WORTH_SAYING:
                figure.remarks.append(
                    f"In {100 * missing:.0f} % of the brain the real {contrast} holds no data (its "
                    "field of view may be cut). What the error map shows there is no error, and "
                    "is left out of the numbers below."
                )
            values = error[covered]
            self._add_map(figure, "Error", "|synth - real|", error, covered, values[known])
            return np.where(known, values, np.float32(np.nan))
        return None

    def _add_uncertainty(self, figure: Figure, contrast: str, covered: Mask) -> Values | None:
        """Add the standard deviation between samples, on the scale of the error; return it."""
        with _or_said(figure, self.std[contrast].path.name):
            std = self._volumes.load(self.std[contrast])
            sidecar = self.std[contrast].sidecar
            model = sidecar.get("SynthesisModel")
            samples = model.get("Samples") if isinstance(model, dict) else None
            # Only a number may reach the lettering of a picture.
            note = f"SD, {samples} samples" if isinstance(samples, int) else "std. deviation"
            scaled = figures.own_scale(std, covered)
            values = scaled[covered]
            self._add_map(figure, "Uncertainty", note, scaled, covered, values)
            figure.remarks.append(interval_in_words(sidecar))
            return values
        return None

    def _add_map(
        self,
        figure: Figure,
        label: str,
        note: str,
        values: Floats,
        inside: Mask,
        brain: Values,
    ) -> None:
        """Add a map whose colour scale is settled when all maps of the page are known.

        ``brain`` holds the values that the numbers and the scale are made of.
        """
        if brain.size == 0 or not np.isfinite(values[inside]).all():
            raise ValueError("it holds no numbers, or NaN, or infinite values")
        views = self._views_for("")
        top = float(np.percentile(brain, MAP_PERCENTILE))
        figure.map_tops.append(top)
        figure.remarks.append(
            f"{label} in the brain, as a share of the intensity range: mean {brain.mean():.3f}, "
            f"{MAP_PERCENTILE:g} % of voxels at most {top:.3f}, largest {brain.max():.3f}."
        )
        words = f"{label} map, brighter is larger: "
        outline = figures.draw_outline(inside, views.rows)
        tiles = figures.draw_tiles(values, views.rows)
        alt = words + _in_words(views.rows)
        figure.strips.append(Strip("map", label, alt, tiles, views.rows, note, outline=outline))
        alt = words + _in_words(views.native)
        drawn, ring = steppers.map_tiles(values, inside, views.native)
        self._add_panel(figure, MapPanel(label, note, alt, drawn, ring, views.native))

    def _add_weights(self, figure: Figure, contrast: str) -> None:
        """Add the auto-weights of the sources, if the sidecar tells them."""
        model = self.synth[contrast].sidecar.get("SynthesisModel")
        weights = model.get("SourceWeights") if isinstance(model, dict) else None
        if not isinstance(weights, dict):
            return
        # Only what a network can have written: known contrasts, and numbers.
        usable = {
            name: value
            for name, value in weights.items()
            if name in CONTRASTS and type(value) in (int, float) and math.isfinite(value)
        }
        if usable:
            figure.charts.append(charts.weights_chart(contrast, usable))

    def _add_panel(self, figure: Figure, panel: Panel | MapPanel) -> None:
        """Add what can be stepped through."""
        views = self._views_for("")
        figure.native, figure.first = views.native, views.first
        figure.panels.append(panel)

    def _add_contours(self, figure: Figure, derivative: OutputFile, source: str) -> None:
        """Add the contours of a mask, or of tissue classes, on the reference in grey."""
        with _or_said(figure, derivative.path.name):
            if self.space not in self.preproc:
                raise ValueError(f"there is no preprocessed {self.space} to draw it on")
            layout = self._views_for("").layout
            grey = self._scan(self.space, "").planes
            labels = self._volumes.load(derivative)
            kind = "mask" if derivative.name.suffix == "mask" else "tissue"
            most = self.budget.picture_bytes
            if kind == "mask":
                alt = f"Contour of the brain mask of {source} on {self.space}: {layout.words}."
                figure.pictures.append(planes.draw_mask_contour(grey, labels, layout, alt, most))
            else:
                alt = f"Borders of the tissue classes of {source} on {self.space}: {layout.words}."
                picture = planes.draw_tissue_contours(grey, labels, layout, alt, most)
                figure.pictures.append(picture)
                figure.tissues |= {label for label in TISSUE_COLOURS if (labels == label).any()}
            figure.contours.append((kind, source))

    def _scan(self, contrast: str, target: str) -> _Scan:
        """Read and draw an acquired contrast; once, inside the mask of its first use."""
        if contrast not in self._scans:
            views = self._views_for(target)
            mask = self._volumes.mask_for(target)
            shown = self._volumes.scan(contrast, mask)
            words = f"{contrast}, acquired: {_in_words(views.native)}"
            self._scans[contrast] = _Scan(
                tiles=figures.draw_tiles(shown, views.rows),
                planes=planes.draw_planes(shown, views.layout),
                sheet=steppers.grey_sheet(shown, views.native, words, self.budget),
                histogram=histogram(shown[mask]),
            )
        return self._scans[contrast]

    def _views_for(self, target: str) -> _Views:
        """Where to cut; settled by the first mask that is asked for."""
        if self._views is None:
            mask = self._volumes.mask_for(target)
            affine = self._volumes.affine
            synthesised = self._synthesised_slices(mask)
            covered = mask & synthesised if synthesised.any() else mask
            native = steppers.native_view(covered, affine, self.budget)
            lesion = None
            if self.lesion is not None:
                with suppress(*UNDRAWABLE):
                    lesion = self._volumes.load(self.lesion)
            self._views = _Views(
                rows=figures.choose_view(mask, affine, self._tile_width),
                native=native,
                first=steppers.first_slice(native, covered, lesion),
                layout=planes.choose_layout(mask, affine),
                area=_draw_area(mask, affine, synthesised),
            )
        return self._views

    def _synthesised_slices(self, mask: Mask) -> Mask:
        """Which axial slices hold synthesised voxels in the brain, of any target; (Z,).

        They are the same for all targets of a grid, so that they can share the sheets of their
        sources.
        """
        found = np.zeros(mask.shape[2], dtype=bool)
        for derivative in self.synth.values():
            with suppress(*UNDRAWABLE):
                found |= figures.covered_mask(self._volumes.load(derivative), mask).any(axis=(0, 1))
        return found


def _draw_area(mask: Mask, affine: npt.NDArray[np.float64], synthesised: Mask) -> Drawing | None:
    """Draw the area curve of a grid on which something was synthesised."""
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    if not synthesised.any() or len(slices) < 2:
        return None
    within = np.arange(slices[0], slices[-1] + 1)
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    areas = mask[:, :, within].sum(axis=(0, 1)) * zooms[0] * zooms[1] / 100
    middle = [float(np.flatnonzero(mask.any(axis=axes)).mean()) for axes in ((1, 2), (0, 2))]
    heights = [float((affine @ [*middle, z, 1.0])[2]) for z in within]
    return charts.area_chart(heights, areas, synthesised[within], _THRESHOLD_CM2)


@contextmanager
def _or_said(figure: Figure, what: str) -> Iterator[None]:
    """Turn a file that cannot be read or drawn into a remark under its figure."""
    with _or_listed(figure.remarks, what):
        yield


@contextmanager
def _or_listed(remarks: list[str], what: str) -> Iterator[None]:
    """Turn what cannot be read or drawn into a remark."""
    try:
        yield
    except UNDRAWABLE as error:
        words = str(error) or type(error).__name__
        remarks.append(f"{what} cannot be drawn: {words}.")


def _in_words(view: View) -> str:
    """Describe the slices for those who cannot see them."""
    return (
        f"{len(view.slices)} axial slices from z = {view.heights_mm[0]:.0f} "
        f"to {view.heights_mm[-1]:.0f} mm."
    )
