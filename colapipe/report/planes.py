"""Axial, coronal and sagittal planes of one grid in one picture, and contours drawn on them.

Planes are seen in the neurological convention: the patient's left on the left, anterior up on axial
planes and to the right on sagittal ones, superior up. Letters beside each plane say so in its
pixels. Volumes are in the order of :func:`colapipe.report.figures.canonical`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from colapipe.contrasts import LESION_LABEL
from colapipe.report import figures
from colapipe.report.figures import Bytes, Floats
from colapipe.report.parts import Picture
from colapipe.report.steppers import PICTURE_BYTES

Mask = npt.NDArray[np.bool_]

# Which planes: the axis that is cut (0 sagittal, 1 coronal, 2 axial), and where, as a share of the
# brain's extent. The sagittal one is beside the midline, where there is more brain to see.
_ROWS = (
    ((2, 0.35), (2, 0.55), (2, 0.75)),
    ((1, 0.4), (1, 0.6), (0, 0.44)),
)
# Letters on the left, right, top and bottom of a plane, by the axis that is cut.
_LETTERS = {0: "PASI", 1: "LRSI", 2: "LRAP"}
# Wide letters: pages show two such pictures side by side, at half their size.
_BAND, _LETTER_SIZE = 24, 20
# Between planes, so that each letter is seen to belong to its own.
_GAP = 24
_WIDTH = 960
_LEVELS = (96, 48, 24)
_STRONGEST_FIRST = (LESION_LABEL, 3, 1, 2)


@dataclass(frozen=True)
class Cell:
    """One plane: where it is cut, and where it is drawn.

    Attributes
    ----------
    axis : {0, 1, 2}
        0 for a sagittal plane, 1 for a coronal one, 2 for an axial one.
    index : int
        Voxel index along that axis.
    top, left, height, width : int
        Place in the picture in pixels.
    """

    axis: int
    index: int
    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class Layout:
    """Which planes are drawn, cut to which box, at which size.

    Attributes
    ----------
    box : tuple of slice
        Voxel ranges to the Right, to Anterior and to Superior.
    cells : tuple of Cell
    height, width : int
        Of the whole picture.
    pixel_mm : float
        Edge of a pixel in millimetres.
    words : str
        Where the planes lie.
    """

    box: tuple[slice, slice, slice]
    cells: tuple[Cell, ...]
    height: int
    width: int
    pixel_mm: float
    words: str


def choose_layout(mask: npt.ArrayLike, affine: npt.NDArray[np.float64]) -> Layout:
    """Choose three axial, two coronal and one sagittal plane through a brain.

    Parameters
    ----------
    mask : array_like (X, Y, Z)
        The brain.
    affine : ndarray (4, 4)

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    inside = np.asarray(mask) != 0
    if not inside.any():
        raise ValueError("the brain mask is empty")
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    brain, box = [], []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(inside.any(axis=others))
        pad = math.ceil(figures.MARGIN_MM / zooms[axis])
        brain.append((int(where[0]), int(where[-1])))
        box.append(slice(max(0, brain[axis][0] - pad), brain[axis][1] + 1 + pad))
    box = [slice(part.start, min(part.stop, n)) for part, n in zip(box, inside.shape, strict=True)]
    sizes = [(part.stop - part.start) * zoom for part, zoom in zip(box, zooms, strict=True)]
    widest = max(sum(sizes[_sides(axis)[0]] for axis, _ in row) for row in _ROWS)
    most = max(map(len, _ROWS))
    scale = (_WIDTH - 2 * _BAND * most - _GAP * (most - 1)) / widest
    # The limits keep a broken header (voxels of 1000 mm) from asking for a huge picture.
    pixels = [int(np.clip(round(size * scale), 16, _WIDTH)) for size in sizes]
    cells = []
    top = _BAND
    for row in _ROWS:
        left = _BAND
        for axis, share in row:
            across, up = _sides(axis)
            first, last = brain[axis]
            index = round(first + share * (last - first))
            cells.append(Cell(axis, index, top, left, pixels[up], pixels[across]))
            left += pixels[across] + 2 * _BAND + _GAP
        top += max(cell.height for cell in cells[-len(row) :]) + 2 * _BAND + _GAP
    width = max(cell.left + cell.width for cell in cells) + _BAND
    return Layout(
        box=(box[0], box[1], box[2]),
        cells=tuple(cells),
        height=top - _BAND - _GAP,
        width=width,
        pixel_mm=1 / scale,
        words=_in_words(cells, affine, brain),
    )


def _sides(axis: int) -> tuple[int, int]:
    """The axes that run to the right and up on a plane."""
    return {0: (1, 2), 1: (0, 2), 2: (0, 1)}[axis]


def _in_words(
    cells: list[Cell], affine: npt.NDArray[np.float64], brain: list[tuple[int, int]]
) -> str:
    """Say where the planes lie, in world millimetres at the middle of the brain."""
    parts = []
    for axis, name, letter in ((2, "axial", "z"), (1, "coronal", "y"), (0, "sagittal", "x")):
        at = []
        for cell in cells:
            if cell.axis == axis:
                voxel = [sum(ends) / 2 for ends in brain]
                voxel[axis] = cell.index
                at.append(f"{(affine @ [*voxel, 1.0])[axis]:.0f}")
        parts.append(f"{name} at {letter} = {', '.join(at)} mm")
    return "planes " + "; ".join(parts)


def draw_planes(volume: npt.ArrayLike, layout: Layout, smooth: bool = True) -> Floats:
    """Draw the planes of a volume, 0 between them.

    Parameters
    ----------
    volume : array_like (X, Y, Z)
    layout : Layout
    smooth : bool
        Linear interpolation between voxels; without it the nearest voxel (for labels).

    Returns
    -------
    ndarray (layout.height, layout.width), float32
    """
    voxels = np.asarray(volume)
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    drawn = np.zeros((layout.height, layout.width), dtype=np.float32)
    for cell in layout.cells:
        cut: list[slice | int] = list(layout.box)
        cut[cell.axis] = cell.index
        # Columns run to the Right (or to Anterior), and the first row is the highest.
        plane = voxels[tuple(cut)].T[::-1]
        image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
        drawn[cell.place] = np.asarray(image.resize((cell.width, cell.height), method))
    return drawn


def letters(layout: Layout) -> Bytes:
    """Draw the letters of the sides beside each plane: ink from 0 (nothing) to 255.

    Returns
    -------
    ndarray (layout.height, layout.width), uint8
    """
    canvas = Image.new("L", (layout.width, layout.height))
    draw = ImageDraw.Draw(canvas)
    for cell in layout.cells:
        middle = cell.left + cell.width // 2, cell.top + cell.height // 2
        right, bottom = cell.left + cell.width, cell.top + cell.height
        half = _BAND // 2
        places = (
            (cell.left - half, middle[1]),
            (right + half, middle[1]),
            (middle[0], cell.top - half),
            (middle[0], bottom + half),
        )
        for letter, place in zip(_LETTERS[cell.axis], places, strict=True):
            draw.text(place, letter, fill=255, font=figures.font(_LETTER_SIZE), anchor="mm")
    return np.asarray(canvas, dtype=np.uint8)


def contour(drawn: Mask, layout: Layout) -> Mask:
    """Return the pixels of each plane that lie inside a region and touch its outside."""
    edge = np.zeros(drawn.shape, dtype=bool)
    for cell in layout.cells:
        inside = drawn[cell.place]
        padded = np.pad(inside, 1)
        surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        edge[cell.place] = inside & ~surrounded
    return edge


def draw_mask_contour(
    grey: Floats, mask: npt.ArrayLike, layout: Layout, alt: str, most_bytes: int = PICTURE_BYTES
) -> Picture:
    """Draw the contour of a brain mask on a scan.

    Parameters
    ----------
    grey : ndarray (layout.height, layout.width)
        The scan as :func:`draw_planes` returns it, in [0, 1].
    mask : array_like (X, Y, Z)
    layout : Layout
    alt : str
    most_bytes : int
        There are as many levels of grey as fit into them.
    """
    drawn = draw_planes(np.asarray(mask) != 0, layout, smooth=False) > 0.5
    lines = [(contour(drawn, layout), figures.OUTLINE_COLOUR)]
    return _coloured(grey, layout, lines, alt, most_bytes)


def draw_tissue_contours(
    grey: Floats, labels: npt.ArrayLike, layout: Layout, alt: str, most_bytes: int = PICTURE_BYTES
) -> Picture:
    """Draw the borders of the tissue classes on a scan, in the colours of ``TISSUE_COLOURS``.

    Parameters
    ----------
    grey : ndarray (layout.height, layout.width)
    labels : array_like (X, Y, Z)
        1 CSF, 2 grey matter, 3 white matter, 4 lesion.
    layout : Layout
    alt : str
    most_bytes : int
    """
    borders = tissue_borders(labels, layout)
    lines = [(line, figures.TISSUE_COLOURS[label][1]) for label, line in borders.items()]
    return _coloured(grey, layout, lines, alt, most_bytes)


def tissue_borders(labels: npt.ArrayLike, layout: Layout) -> dict[int, Mask]:
    """Return the line of each class, so that every border has one.

    It is that of the stronger class: lesion (twice as wide), white matter, CSF. Grey matter lies
    between, and has a line only towards the outside of the brain.
    """
    drawn = np.rint(draw_planes(labels, layout, smooth=False))
    lines = {}
    stronger = np.zeros(drawn.shape, dtype=bool)
    for label in _STRONGEST_FIRST:
        inside = drawn == label
        line = contour(inside | stronger, layout) & inside
        if label == LESION_LABEL:
            line |= contour(inside & ~line, layout)
        lines[label] = line
        stronger |= inside
    return lines


def draw_greys(grey: Floats, layout: Layout) -> Bytes:
    """Turn planes in [0, 1] into pixels, with the letters of the sides; (height, width) uint8."""
    pixels = np.rint(np.clip(grey, 0.0, 1.0) * 255).astype(np.uint8)
    return np.maximum(pixels, letters(layout))


def _coloured(
    grey: Floats,
    layout: Layout,
    lines: list[tuple[Mask, tuple[int, int, int]]],
    alt: str,
    most_bytes: int,
) -> Picture:
    """Encode greys with coloured lines on them as PNG, in which colours are exact.

    Fewer levels of grey take fewer bytes.
    """
    pixels = draw_greys(grey, layout)
    for levels in _LEVELS:
        index = np.rint(pixels / 255 * (levels - 1)).astype(np.uint8)
        ramp = np.rint(np.linspace(0, 255, levels))[:, None].repeat(3, axis=1)
        for number, (line, _) in enumerate(lines):
            index[line] = levels + number
        palette = np.vstack([ramp, *(np.array(colour)[None] for _, colour in lines)])
        picture = Image.fromarray(index).convert("P")
        picture.putpalette(palette.astype(np.uint8).tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=9)
        if buffer.tell() <= most_bytes:
            break
    return Picture(buffer.getvalue(), layout.width, layout.height, alt)
