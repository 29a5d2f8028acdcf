"""What a page is made of: pictures, drawings, comparisons and slices to step through.

The modules that draw fill these; the page shows them. Nothing here knows of files or of HTML pages.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup


@dataclass(frozen=True)
class Picture:
    """An encoded image with its size in pixels and the words that stand for it."""

    data: bytes
    width: int
    height: int
    alt: str
    mime: Literal["image/png", "image/webp"] = "image/png"

    @property
    def data_uri(self) -> str:
        """The picture as a ``data:`` address, so that the page needs no other file."""
        return f"data:{self.mime};base64," + base64.b64encode(self.data).decode("ascii")


@dataclass(frozen=True)
class Drawing:
    """A chart as inline SVG, in the colours of the page, and the words that stand for it.

    Attributes
    ----------
    title, alt : str
        ``alt`` says what can be read from it, numbers included.
    svg : Markup
        One ``<svg role="img">`` whose ``aria-label`` is ``alt`` and whose texts are escaped;
        colours are the page's custom properties ``--ink``, ``--soft``, ``--line``, ``--accent`` and
        ``--synth``, with values of their own for where the drawing stands alone.
    remarks : list of str
        Said under it.
    kind, contrast : str
        What it shows, of which contrast: parts of the name of its file.
    """

    title: str
    svg: Markup
    alt: str
    remarks: list[str] = field(default_factory=list)
    kind: str = ""
    contrast: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two pictures of one size to be laid over each other, for a slider or a flicker.

    Attributes
    ----------
    title : str
    below, above : Picture
        The reference, and the scan that was moved to it: the same slices at the same scale.
    edges : Picture
        PNG of that size, transparent but for the edges of the reference.
    below_name, above_name : str
    remarks : list of str
    """

    title: str
    below: Picture
    above: Picture
    edges: Picture
    below_name: str
    above_name: str
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Panel:
    """One image of a stepper: all its slices in one sheet of equal tiles, row by row.

    Attributes
    ----------
    label, note : str
        ``"T2w"``, ``"source"``.
    kind : {"grey", "map"}
        An image, or a map on the colour scale of the whole page.
    synthetic : bool
        To be marked SYNTHETIC.
    sheet : Picture
        Its tiles are at voxel resolution, square in millimetres, anterior up, the patient's left
        on the left. No letters are in its pixels: the page writes L and R beside it.
    """

    label: str
    note: str
    kind: Literal["grey", "map"]
    synthetic: bool
    sheet: Picture


@dataclass(frozen=True)
class Stepper:
    """Axial slices to step through, the same in every panel.

    Attributes
    ----------
    title : str
    heights_mm : tuple of float
        World z of each slice, from inferior to superior.
    columns : int
        Tiles in a row of every sheet.
    tile : tuple of int
        (height, width) of a tile in pixels.
    first : int
        Index of the slice to show first.
    panels : tuple of Panel
        Sources first, then the synthesised image, the truth, error and uncertainty.
    limit : float
        Value at the top of the colour scale of all maps.
    remarks : list of str
    """

    title: str
    heights_mm: tuple[float, ...]
    columns: int
    tile: tuple[int, int]
    first: int
    panels: tuple[Panel, ...]
    limit: float
    remarks: list[str] = field(default_factory=list)
