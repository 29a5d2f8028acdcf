"""Axial slices to step through: sheets of tiles at voxel resolution, within a budget of bytes.

One sheet holds all slices of one image. Greys are WebP at a quality at which nothing visible is
lost; maps are PNG with the colour map of :mod:`colapipe.report.figures`, whose colours are exact.
Every function takes volumes in the order of :func:`colapipe.report.figures.canonical`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from colapipe.bids.outputs import SessionFiles
from colapipe.report import figures
from colapipe.report.figures import Bytes, Floats, View
from colapipe.report.parts import Panel, Picture

Mask = npt.NDArray[np.bool_]

PAGE_BYTES = 5_000_000
"""For the sheets of a whole page, before they become text (which takes a third more)."""

PICTURE_BYTES = 150_000
"""For a picture of planes; less where a page has many."""

MOST_SLICES = 32
# A scan of thick slices is shown whole, where the bytes allow it.
_WHOLE = 40
_FEWEST_SLICES = 8
# A slice is worth stepping to where the brain covers at least this share of its largest slice.
_MIN_AREA = 0.05
# Bytes per pixel to plan with, measured on brains of 1 mm voxels at the second best quality.
_GREY_COST, _MAP_COST = 0.12, 0.33
# Tried from the best to the smallest until a sheet is within its share.
_QUALITIES = (95, 90, 80, 65, 45)
_LEVELS = (208, 104, 64, 32, 16)
_LONGEST_EDGE = 640
# For all pictures of planes of a page.
_ALL_PICTURES = 3_000_000


@dataclass(frozen=True)
class Budget:
    """How many bytes the sheets of a page may take.

    Attributes
    ----------
    greys, maps : int
        Sheets of each kind on the whole page.
    total : int
        Bytes for all of them.
    pictures : int
        Pictures of planes on the whole page, which have bytes of their own.
    """

    greys: int
    maps: int
    total: int = PAGE_BYTES
    pictures: int = 0

    @property
    def picture_bytes(self) -> int:
        """The share of one picture of planes."""
        return min(PICTURE_BYTES, _ALL_PICTURES // max(1, self.pictures))

    @property
    def grey_bytes(self) -> int:
        """The share of one sheet of greys."""
        return int(self.total * _GREY_COST / self._cost)

    @property
    def map_bytes(self) -> int:
        """The share of one sheet of a map, which is larger because it loses nothing."""
        return int(self.total * _MAP_COST / self._cost)

    @property
    def pixels(self) -> float:
        """Pixels that one sheet may have."""
        return self.total / self._cost

    @property
    def _cost(self) -> float:
        return max(1, self.greys) * _GREY_COST + self.maps * _MAP_COST


@dataclass(frozen=True)
class MapPanel:
    """A panel whose sheet can be coloured once the scale of the whole page is known.

    Attributes
    ----------
    label, note, alt : str
    tiles, ring : ndarray (height, slices * width)
        As :func:`map_tiles` returns them.
    view : View
    """

    label: str
    note: str
    alt: str
    tiles: Floats
    ring: Mask
    view: View

    def coloured(self, limit: float, budget: Budget) -> Panel:
        """Return the panel on a scale from 0 to ``limit``."""
        sheet = map_sheet(self.tiles, self.ring, self.view, limit, self.alt, budget)
        return Panel(self.label, self.note, "map", False, sheet)


def plan_budget(sessions: list[SessionFiles], total: int = PAGE_BYTES) -> Budget:
    """Count the pictures that the files of all sessions will need, and share out the bytes."""
    greys = maps = pictures = 0
    for files in sessions:
        for space in files.spaces:
            scans, made = files.preproc.get(space, {}), files.synth.get(space, {})
            greys += len(scans) + len(made)
            maps += len(made.keys() & scans.keys())
            maps += len(made.keys() & files.std.get(space, {}).keys())
            # One of each scan for the registration, and one of each mask and segmentation.
            pictures += len(scans) + len(files.masks.get(space, {}))
            pictures += len(files.tissues.get(space, {}))
    return Budget(greys, maps, total, pictures)


def native_view(covered: npt.ArrayLike, affine: npt.NDArray[np.float64], budget: Budget) -> View:
    """Choose slices evenly through what was synthesised, drawn at one pixel per voxel.

    Where voxels are not square in the axial plane, the finer side sets the pixel and the other is
    interpolated. Where even eight slices are too many for the budget, pixels become larger.

    Parameters
    ----------
    covered : array_like (X, Y, Z)
        The brain, without the slices that were not synthesised.
    affine : ndarray (4, 4)
    budget : Budget

    Raises
    ------
    ValueError
        If ``covered`` is empty.
    """
    inside = np.asarray(covered) != 0
    # Box and heights are those of the rows; only the slices and the size differ.
    outer = figures.choose_view(inside, affine, count=1)
    x0, x1, y0, y1 = outer.box
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    size = np.array([(y1 - y0) * zooms[1], (x1 - x0) * zooms[0]]) / min(zooms[0], zooms[1])
    size = np.minimum(np.rint(size), _LONGEST_EDGE)
    areas = inside.sum(axis=(0, 1))
    worth = np.flatnonzero(areas >= max(1, _MIN_AREA * areas.max()))
    wanted = len(worth) if len(worth) <= _WHOLE else MOST_SLICES
    count = min(wanted, max(_FEWEST_SLICES, int(budget.pixels // size.prod())))
    too_large = size.prod() * count / budget.pixels
    if too_large > 1:
        size = np.maximum(1, np.floor(size / math.sqrt(too_large)))
    chosen = worth[np.unique(np.rint(np.linspace(0, len(worth) - 1, count)).astype(int))]
    middle = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)
    return View(
        outer.box,
        tuple(int(z) for z in chosen),
        tuple(float((affine @ [*middle, z, 1.0])[2]) for z in chosen),
        (int(size[0]), int(size[1])),
    )


def columns_of(view: View) -> int:
    """Tiles in a row of the sheet: about as many as there are rows."""
    return math.ceil(math.sqrt(len(view.slices)))


def first_slice(view: View, covered: npt.ArrayLike, lesion: npt.ArrayLike | None = None) -> int:
    """Return which of the view's slices to show first: that with the most lesion, or brain.

    Parameters
    ----------
    view : View
    covered, lesion : array_like (X, Y, Z)
        What was synthesised, and the lesion if one is known.
    """
    for volume in (lesion, covered):
        if volume is not None:
            areas = (np.asarray(volume) != 0).sum(axis=(0, 1))[list(view.slices)]
            if areas.any():
                return int(areas.argmax())
    return len(view.slices) // 2


def grey_sheet(volume: npt.ArrayLike, view: View, alt: str, budget: Budget) -> Picture:
    """Draw an image as one sheet of WebP.

    Parameters
    ----------
    volume : array_like (X, Y, Z)
        In [0, 1]: black to white.
    view : View
    alt : str
    budget : Budget
    """
    grey = np.rint(np.clip(_sheet(figures.draw_tiles(volume, view), view), 0, 1) * 255)
    return webp(grey.astype(np.uint8), alt, budget.grey_bytes)


def webp(pixels: Bytes, alt: str, most_bytes: int) -> Picture:
    """Encode greys, (height, width) uint8, at the best quality within ``most_bytes``."""
    # WebP has no greys of its own.
    image = Image.fromarray(pixels).convert("RGB")
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=2)
        if buffer.tell() <= most_bytes:
            break
    height, width = pixels.shape
    return Picture(buffer.getvalue(), width, height, alt, "image/webp")


def map_tiles(values: npt.ArrayLike, inside: npt.ArrayLike, view: View) -> tuple[Floats, Mask]:
    """Draw a map side by side, and the ring around the region that it covers.

    The ring lies outside the region, so that it hides no value.

    Parameters
    ----------
    values, inside : array_like (X, Y, Z)
    view : View

    Returns
    -------
    tiles : ndarray (height, slices * width), float32
    ring : ndarray of the same shape, bool
    """
    height, width = view.tile
    tiles = figures.draw_tiles(values, view)
    drawn = figures.draw_tiles(np.asarray(inside) != 0, view, smooth=False) > 0.5
    region = np.pad(drawn.reshape(height, -1, width), ((1, 1), (0, 0), (1, 1)))
    beside = region[:-2, :, 1:-1] | region[2:, :, 1:-1] | region[1:-1, :, :-2] | region[1:-1, :, 2:]
    return tiles, beside.reshape(drawn.shape) & ~drawn


def map_sheet(
    tiles: Floats, ring: Mask, view: View, limit: float, alt: str, budget: Budget
) -> Picture:
    """Draw a map as one sheet of PNG in the colours of the rows' maps.

    Parameters
    ----------
    tiles, ring : ndarray (height, slices * width)
        As :func:`map_tiles` returns them.
    view : View
    limit : float
        Value of the brightest colour, shared by all maps of the page.
    alt : str
    budget : Budget
    """
    share = np.clip(_sheet(tiles, view) / limit, 0.0, 1.0)
    around = _sheet(ring, view)
    for levels in _LEVELS:
        index = np.rint(share * (levels - 1)).astype(np.uint8)
        index[around] = levels
        image = Image.fromarray(index).convert("P")
        image.putpalette(figures.map_colours(levels).tobytes())
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=6)
        if buffer.tell() <= budget.map_bytes:
            break
    return Picture(buffer.getvalue(), index.shape[1], index.shape[0], alt)


def colour_bar(limit: float) -> Picture:
    """Draw the scale of all maps, one colour per column from 0 (left) to ``limit`` (right)."""
    colours = figures.map_colours(_LEVELS[0])[:-1]
    buffer = io.BytesIO()
    Image.fromarray(colours[None]).save(buffer, "PNG")
    alt = f"Colour scale from 0, dark, to {limit:g}, bright."
    return Picture(buffer.getvalue(), len(colours), 1, alt)


def _sheet(tiles: npt.NDArray, view: View) -> npt.NDArray:
    """Arrange tiles that lie side by side in rows; empty places at the end are 0."""
    height, width = view.tile
    columns = columns_of(view)
    rows = math.ceil(len(view.slices) / columns)
    single = tiles.reshape(height, len(view.slices), width)
    single = np.pad(single, ((0, 0), (0, rows * columns - len(view.slices)), (0, 0)))
    grid = single.reshape(height, rows, columns, width).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width))
