"""The reference and a scan that was moved to it, to be laid over each other.

Volumes are drawn by :mod:`colapipe.report.planes`.
"""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from colapipe.report import figures
from colapipe.report.figures import Floats
from colapipe.report.parts import Comparison, Picture
from colapipe.report.planes import Layout, draw_greys
from colapipe.report.steppers import PICTURE_BYTES, webp

Mask = npt.NDArray[np.bool_]

# Edges are those of structures of about this size, and the strongest of them.
_BLUR_MM = 1.2
_STRONGEST = 80


def draw_picture(
    grey: Floats, layout: Layout, alt: str, most_bytes: int = PICTURE_BYTES
) -> Picture:
    """Encode the planes of a scan, with the letters of the sides, as WebP.

    Parameters
    ----------
    grey : ndarray (layout.height, layout.width)
        In [0, 1], as :func:`colapipe.report.planes.draw_planes` returns it.
    layout : Layout
    alt : str
    most_bytes : int
        The quality is the best within them.
    """
    return webp(draw_greys(grey, layout), alt, most_bytes)


def compare(
    reference: Picture, edges: Picture, moved: Picture, reference_name: str, moved_name: str
) -> Comparison:
    """Put the reference, its edges and a moved scan together; their sizes are equal."""
    return Comparison(
        title=f"{moved_name} on {reference_name}",
        below=reference,
        above=moved,
        edges=edges,
        below_name=reference_name,
        above_name=moved_name,
    )


def draw_edges(edges: Mask, alt: str) -> Picture:
    """Encode edges as a PNG that is transparent elsewhere."""
    picture = Image.fromarray(edges.astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, *figures.OUTLINE_COLOUR])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=0, bits=1, compress_level=9)
    height, width = edges.shape
    return Picture(buffer.getvalue(), width, height, alt)


def find_edges(grey: Floats, layout: Layout) -> Mask:
    """Find the strongest edges of a scan, one pixel wide.

    Gradients of the blurred image, kept where they are largest along their own direction (Canny,
    IEEE Trans. Pattern Anal. Mach. Intell. 8, 1986, without the hysteresis).

    Parameters
    ----------
    grey : ndarray (layout.height, layout.width)
    layout : Layout

    Returns
    -------
    ndarray of the same shape, bool
    """
    found = np.zeros(grey.shape, dtype=bool)
    for cell in layout.cells:
        plane = grey[cell.place]
        blurred = _blur(plane, _BLUR_MM / layout.pixel_mm)
        up, right = np.gradient(blurred)
        strength = np.hypot(up, right)
        inside = plane > 0
        if not inside.any():
            continue
        kept = strength >= max(np.percentile(strength[inside], _STRONGEST), 1e-6)
        # Neighbours along the gradient, rounded to one of eight.
        angle = np.rint(np.arctan2(up, right) / (math.pi / 4)).astype(int) % 4
        padded = np.pad(strength, 1)
        height, width = plane.shape
        for turn, (down, across) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
            ahead = padded[1 + down : 1 + down + height, 1 + across : 1 + across + width]
            behind = padded[1 - down : 1 - down + height, 1 - across : 1 - across + width]
            # One of two equal neighbours is enough.
            kept &= (angle != turn) | ((strength > behind) & (strength >= ahead))
        found[cell.place] = kept
    return found


def _blur(image: Floats, sigma: float) -> Floats:
    """Convolve with a Gaussian, whose standard deviation is in pixels."""
    reach = max(1, math.ceil(3 * sigma))
    at = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    weights /= weights.sum()
    blurred = image
    for axis in (0, 1):
        padding = [(reach, reach) if axis == other else (0, 0) for other in (0, 1)]
        padded = np.pad(blurred, padding, mode="edge")
        length = image.shape[axis]
        blurred = np.zeros(image.shape, dtype=np.float32)
        for weight, start in zip(weights, range(2 * reach + 1), strict=True):
            blurred += np.float32(weight) * padded.take(range(start, start + length), axis=axis)
    return blurred
