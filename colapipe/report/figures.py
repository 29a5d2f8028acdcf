"""Rows of axial slices as 8-bit PNG pictures, drawn with numpy and Pillow alone.

Every volume comes in through :func:`canonical`, so that its axes run to the Right, to Anterior and
to Superior whatever the order on disk. Slices are drawn in the neurological convention: anterior
up, the patient's left on the left of the picture. Each picture carries its row label and the
letters L and R in its pixels, so that it stays honest when it is copied out of the page.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import SpatialImage
from PIL import Image, ImageDraw, ImageFont

from colapipe.bids.sidecars import INTENSITY_RANGE
from colapipe.report.parts import Picture
from colapipe.slices.intensity import normalise

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

TISSUE_COLOURS: dict[int, tuple[str, tuple[int, int, int]]] = {
    1: ("CSF", (86, 180, 233)),
    2: ("grey matter", (230, 159, 0)),
    3: ("white matter", (0, 158, 115)),
    4: ("lesion", (204, 121, 167)),
}
"""Name and colour of each ``dseg`` label: Okabe and Ito's palette, safe for colour blindness."""

OUTLINE_COLOUR = (240, 228, 66)
# Grey, which the map's own colours never are.
_MAP_OUTLINE = (120, 120, 120)

SLICES_PER_ROW = 7
MARGIN_MM = 6.0
# A slice is worth showing where the brain covers at least this share of its largest slice.
_MIN_AREA = 0.2

# Layout of a row, in pixels.
_LABEL_WIDTH = 116
_BAR_WIDTH = 78
_HEADER = 18

# Anchors of the "inferno" colour map (S. van der Walt and N. Smith, CC0), dark to bright: its
# lightness grows evenly, so that it reads the same in grey print.
_INFERNO = (
    (0, 0, 4),
    (31, 12, 72),
    (85, 15, 109),
    (136, 34, 106),
    (186, 54, 85),
    (227, 89, 51),
    (249, 140, 10),
    (249, 201, 50),
    (252, 255, 164),
)

# How the 256 entries of each palette are used.
_MAP_LEVELS = 208
_GREY_LEVELS = 240


@dataclass(frozen=True)
class View:
    """Which axial slices are drawn, cut to which box, at which size.

    Attributes
    ----------
    box : tuple of int
        ``(x0, x1, y0, y1)``, half-open voxel ranges to the Right and to Anterior.
    slices : tuple of int
        Slice indices, from inferior to superior.
    heights_mm : tuple of float
        World z of each slice at the centre of the box.
    tile : tuple of int
        ``(height, width)`` of one drawn slice in pixels; pixels are square in millimetres.
    """

    box: tuple[int, int, int, int]
    slices: tuple[int, ...]
    heights_mm: tuple[float, ...]
    tile: tuple[int, int]


@dataclass(frozen=True)
class Strip:
    """One row of a figure: the slices of one volume, ready to be coloured.

    Attributes
    ----------
    kind : {"grey", "map"}
        An image in [0, 1] in grey; a map with the shared colour bar.
    label, note : str
        First and second line of the row label, ASCII.
    alt : str
        The words that stand for the picture.
    tiles : ndarray (height, slices * width), float32
        The drawn slices side by side.
    view : View
        Where the slices lie.
    synthetic : bool
        Marks the row label with SYNTHETIC.
    outline : ndarray (height, slices * width), bool, optional
        Pixels of a contour.
    """

    kind: Literal["grey", "map"]
    label: str
    alt: str
    tiles: Floats
    view: View
    note: str = ""
    synthetic: bool = False
    outline: npt.NDArray[np.bool_] | None = None


def canonical(image: SpatialImage) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return the voxels with axes to the Right, Anterior and Superior, and their affine.

    Parameters
    ----------
    image : SpatialImage
        Any storage order, three-dimensional; trailing axes of length one are dropped.

    Returns
    -------
    volume : ndarray (X, Y, Z), float32
    affine : ndarray (4, 4)
        Voxel to world RAS millimetres of the reordered volume.

    Raises
    ------
    ValueError
        If the image is not three-dimensional.
    """
    ras = nib.as_closest_canonical(image)
    volume = np.asarray(ras.dataobj, dtype=np.float32)
    while volume.ndim > 3 and volume.shape[-1] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise ValueError(f"has {volume.ndim} dimensions where 3 were expected")
    if ras.affine is None:
        raise ValueError("has no affine, so left and right are unknown")
    return volume, np.asarray(ras.affine, dtype=np.float64)


def choose_view(
    mask: npt.ArrayLike,
    affine: npt.NDArray[np.float64],
    tile_width: int = 150,
    count: int = SLICES_PER_ROW,
) -> View:
    """Choose slices evenly through a brain, and the box and scale they are drawn at.

    Parameters
    ----------
    mask : array_like (X, Y, Z)
        The brain, in the order of :func:`canonical`.
    affine : ndarray (4, 4)
        Of the mask; gives the voxel size, so that anisotropic voxels keep their proportions.
    tile_width : int
        Width of one drawn slice in pixels.
    count : int
        Slices wanted; fewer where the brain has fewer.

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    inside = np.asarray(mask) != 0
    areas = inside.sum(axis=(0, 1))
    if not areas.any():
        raise ValueError("the brain mask is empty")
    worth = np.flatnonzero(areas >= _MIN_AREA * areas.max())
    chosen = np.unique(np.round(np.linspace(worth[0], worth[-1], count)).astype(int))
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    x0, x1 = _extent(inside.any(axis=(1, 2)), MARGIN_MM / zooms[0])
    y0, y1 = _extent(inside.any(axis=(0, 2)), MARGIN_MM / zooms[1])
    millimetres_per_pixel = (x1 - x0) * zooms[0] / tile_width
    # A tall limit keeps a broken header (voxels of 1000 mm) from asking for a huge picture.
    height = round((y1 - y0) * zooms[1] / millimetres_per_pixel)
    height = int(np.clip(height, tile_width // 3, tile_width * 3))
    middle = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)
    heights_mm = tuple(float((affine @ [*middle, z, 1.0])[2]) for z in chosen)
    return View((x0, x1, y0, y1), tuple(int(z) for z in chosen), heights_mm, (height, tile_width))


def _extent(occupied: npt.NDArray[np.bool_], margin: float) -> tuple[int, int]:
    """First and one past the last occupied index, widened by ``margin`` voxels."""
    where = np.flatnonzero(occupied)
    pad = math.ceil(margin)
    return max(0, int(where[0]) - pad), min(occupied.size, int(where[-1]) + 1 + pad)


def draw_tiles(volume: npt.ArrayLike, view: View, smooth: bool = True) -> Floats:
    """Draw the slices of ``view`` side by side, anterior up, the patient's left on the left.

    Parameters
    ----------
    volume : array_like (X, Y, Z)
        In the order of :func:`canonical`.
    view : View
        Slices, box and size.
    smooth : bool
        Linear interpolation between voxels; without it the nearest voxel (for labels).

    Returns
    -------
    ndarray (tile height, slices * tile width), float32
    """
    voxels = np.asarray(volume)
    x0, x1, y0, y1 = view.box
    height, width = view.tile
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    tiles = []
    for z in view.slices:
        # Columns run to the Right, so the patient's left comes first; the first row is the most
        # anterior one.
        plane = voxels[x0:x1, y0:y1, z].T[::-1]
        drawn = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
        tiles.append(np.asarray(drawn.resize((width, height), method)))
    return np.hstack(tiles)


def draw_outline(mask: npt.ArrayLike, view: View) -> npt.NDArray[np.bool_]:
    """Draw the contour of a mask: its pixels that touch a pixel outside it; bool."""
    height, width = view.tile
    inside = draw_tiles(np.asarray(mask) != 0, view, smooth=False) > 0.5
    # Each tile is handled alone, so that a brain cut by its tile does not touch the next one.
    tiles = inside.reshape(height, len(view.slices), width)
    padded = np.pad(tiles, ((1, 1), (0, 0), (1, 1)))
    surrounded = (
        padded[:-2, :, 1:-1] & padded[2:, :, 1:-1] & padded[1:-1, :, :-2] & padded[1:-1, :, 2:]
    )
    return (tiles & ~surrounded).reshape(inside.shape)


def covered_mask(synthesised: npt.ArrayLike, mask: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return the mask without the axial slices in which nothing was synthesised; bool."""
    inside = np.asarray(mask) != 0
    return inside & (np.asarray(synthesised) != 0).any(axis=(0, 1))[None, None, :]


def own_scale(synthesised: npt.ArrayLike, mask: npt.ArrayLike) -> Floats:
    """Return a synthesised image in [0, 1] as the model made it; 0 outside the mask.

    It leaves the app in 0 to 1000, which stands for the range that real scans are normalised to: a
    bright or dark one stays so, as in its scores.

    Parameters
    ----------
    synthesised, mask : array_like (X, Y, Z)
    """
    low, high = INTENSITY_RANGE
    scaled = np.clip((np.asarray(synthesised, dtype=np.float32) - low) / (high - low), 0, 1)
    return np.where(np.asarray(mask) != 0, scaled, np.float32(0))


def error_map(shown: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike) -> Floats:
    """Absolute difference to the normalised real scan, in [0, 1]; 0 outside the mask.

    The root of its mean square in the brain is what the score's PSNR on the own scale stands for.

    Parameters
    ----------
    shown : array_like (X, Y, Z)
        The synthesised image, as :func:`own_scale` returns it.
    truth : array_like (X, Y, Z)
        The real scan in its own units; it goes through
        :func:`colapipe.slices.intensity.normalise`.
    mask : array_like (X, Y, Z)

    Raises
    ------
    ValueError
        If the truth cannot be normalised, or the shapes differ.
    """
    difference: Floats = np.abs(np.asarray(shown) - normalise(truth, mask)[0])
    return difference


def shared_limit(values: Sequence[float]) -> float:
    """Round the largest of ``values`` up to a number that reads well, at least 0.05.

    Parameters
    ----------
    values : sequence of float
        The upper ends of the maps that share one colour bar, as shares of the intensity range.
    """
    largest = max(values, default=0.0)
    steps = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
    return next((step for step in steps if largest <= step), float(math.ceil(largest)))


def render(strip: Strip, limit: float = 1.0, header: bool = False) -> Picture:
    """Render one row as a PNG of 8 bits per pixel.

    Parameters
    ----------
    strip : Strip
        The row.
    limit : float
        Value at the top of the colour bar of a map; larger values get its last colour.
    header : bool
        Write each slice's height in millimetres above it.
    """
    height, width = strip.view.tile
    top = _HEADER if header else 0
    shape = (height + top, _LABEL_WIDTH + strip.tiles.shape[1] + _BAR_WIDTH)
    index = np.zeros(shape, dtype=np.uint8)
    body = np.s_[top:, _LABEL_WIDTH : _LABEL_WIDTH + strip.tiles.shape[1]]
    text = _Text(shape)
    text.row_label(strip, top)
    for number, z in enumerate(strip.view.heights_mm):
        left = _LABEL_WIDTH + number * width
        text.write(left + 12, shape[0] - 4, "L", "ls")
        text.write(left + width - 12, shape[0] - 4, "R", "rs")
        if header:
            text.write(left + width // 2, 13, f"z = {z:.0f} mm", "ms")

    if strip.kind == "map":
        scaled = np.clip(strip.tiles / limit, 0.0, 1.0)
        index[body] = np.rint(scaled * (_MAP_LEVELS - 1)).astype(np.uint8)
        bar = np.s_[top + 14 : shape[0] - 14, shape[1] - _BAR_WIDTH + 14 : shape[1] - 48]
        index[bar] = np.rint(np.linspace(_MAP_LEVELS - 1, 0, height - 28))[:, None]
        for share, y in ((1.0, top + 14), (0.5, top + height // 2), (0.0, shape[0] - 14)):
            text.write(shape[1] - 42, y, f"{limit * share:.3g}", "lm")
        first, palette = _MAP_LEVELS + 1, _map_palette()
    else:
        grey = np.rint(np.clip(strip.tiles, 0.0, 1.0) * (_GREY_LEVELS - 1)).astype(np.uint8)
        index[body] = grey
        first, palette = _GREY_LEVELS + 1, _grey_palette()
    if strip.outline is not None:
        index[body][strip.outline] = first - 1

    written = text.pixels()
    ink = first + (written.astype(np.uint16) * (255 - first) // 255).astype(np.uint8)
    index = np.where(written > 0, ink, index)
    picture = Image.fromarray(index).convert("P")
    picture.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return Picture(buffer.getvalue(), shape[1], shape[0], strip.alt)


class _Text:
    """The lettering of one row, kept apart from the palette of the picture."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._canvas = Image.new("L", (shape[1], shape[0]))
        self._draw = ImageDraw.Draw(self._canvas)

    def write(self, x: int, y: int, text: str, anchor: str, size: int = 13, ink: int = 255) -> None:
        """Write ``text`` with Pillow's two-letter ``anchor`` at (x, y)."""
        self._draw.text((x, y), text, fill=ink, font=font(size), anchor=anchor)

    def row_label(self, strip: Strip, top: int) -> None:
        """Write the label of a row on its left: black on white where it is synthetic."""
        self.write(8, top + 20, strip.label, "ls", size=17)
        if strip.synthetic:
            self._draw.rectangle((6, top + 27, _LABEL_WIDTH - 8, top + 46), fill=255)
            # 1, not 0: 0 means "nothing written here".
            self.write(_LABEL_WIDTH // 2 - 1, top + 42, "SYNTHETIC", "ms", size=14, ink=1)
        self.write(8, top + (62 if strip.synthetic else 40), strip.note, "ls")

    def pixels(self) -> Bytes:
        """The ink, 0 (nothing) to 255."""
        return np.asarray(self._canvas, dtype=np.uint8)


@functools.lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: nothing has to be installed."""
    return ImageFont.load_default(size=size)


def _ramp(colour: tuple[int, int, int], length: int) -> Bytes:
    """Black to ``colour`` in ``length`` steps; (length, 3) uint8."""
    return np.rint(np.linspace((0, 0, 0), colour, length)).astype(np.uint8)


def _grey_palette() -> Bytes:
    rest = 256 - _GREY_LEVELS - 1
    return np.vstack(
        [_ramp((255, 255, 255), _GREY_LEVELS), [OUTLINE_COLOUR], _ramp((255, 255, 255), rest)]
    ).astype(np.uint8)


def map_colours(levels: int) -> Bytes:
    """Return the colours of a map, dark to bright, and after them that of its outline.

    Returns
    -------
    ndarray (levels + 1, 3), uint8
    """
    anchors = np.array(_INFERNO, dtype=float)
    at = np.linspace(0, len(anchors) - 1, levels)
    colours = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.vstack([np.rint(np.stack(colours, axis=1)), [_MAP_OUTLINE]]).astype(np.uint8)


def _map_palette() -> Bytes:
    rest = 256 - _MAP_LEVELS - 1
    return np.vstack([map_colours(_MAP_LEVELS), _ramp((255, 255, 255), rest)])
