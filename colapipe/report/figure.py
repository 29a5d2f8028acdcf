"""A block of pictures under one heading, and what can be made of it once the scale is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from colapipe.quality.histograms import TrainingRange
from colapipe.report import charts, figures, steppers
from colapipe.report.figures import Strip, View
from colapipe.report.parts import Drawing, Panel, Picture, Stepper
from colapipe.report.steppers import Budget, MapPanel

Values = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass
class Figure:
    """A block of pictures under one heading.

    Attributes
    ----------
    title : str
    strips : list of Strip
        Rows of slices, to be rendered once the scale of all maps is known.
    map_tops : list of float
        The upper ends of its maps.
    remarks : list of str
    pictures : list of Picture
        Drawn already; the page adds its rendered rows.
    contours : list of tuple of str
        What each drawn picture shows: ``mask`` or ``tissue``, and of which contrast.
    tissues : set of int
        Labels of ``TISSUE_COLOURS`` in its pictures.
    panels, native, first
        The same images to step through (:meth:`stepper`).
    charts : list of Drawing
        Weights of the sources, and how uncertainty and error go together, where they are known.
    acquired, made : dict
        Share of the brain's voxels in each of 64 bins from 0 to 1, by contrast: of scans, and of
        the synthesised image.
    """

    title: str
    strips: list[Strip] = field(default_factory=list)
    map_tops: list[float] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    contours: list[tuple[str, str]] = field(default_factory=list)
    tissues: set[int] = field(default_factory=set)
    panels: list[Panel | MapPanel] = field(default_factory=list)
    native: View | None = None
    first: int = 0
    charts: list[Drawing] = field(default_factory=list)
    acquired: dict[str, Values] = field(default_factory=dict)
    made: dict[str, Values] = field(default_factory=dict)

    def stepper(self, limit: float, budget: Budget) -> Stepper | None:
        """Return its images at voxel resolution, for more slices; None if it has none.

        Parameters
        ----------
        limit : float
            Value at the top of the colour scale of all maps of the page.
        budget : Budget
            Of the page.
        """
        if self.native is None or not self.panels:
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

    def histograms(self, ranges: Mapping[str, TrainingRange]) -> list[Drawing]:
        """Return the intensities of the synthesised image, over those of the real scan if known.

        Parameters
        ----------
        ranges : mapping of str to TrainingRange
            Of the model's training data, by contrast; those that are known.
        """
        return [
            charts.histogram_chart(
                contrast,
                shares,
                ranges.get(contrast),
                synthetic=True,
                real=self.acquired.get(contrast),
            )
            for contrast, shares in self.made.items()
        ]

    @property
    def legend(self) -> list[tuple[str, tuple[int, int, int]]]:
        """Name and colour of the tissues that its pictures show."""
        return [entry for label, entry in figures.TISSUE_COLOURS.items() if label in self.tissues]
