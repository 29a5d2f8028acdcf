"""Strips of points as inline SVG: one point for each subject, along the values of one measure.

Places along the strip are percentages, so that a strip fills the width it is given, on a phone as
on a wall; sizes of points are in pixels and stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from colapipe.quality.outliers import Spread
from colapipe.report.text import visible

_HEIGHT = 44
_AXIS_HEIGHT = 24
_MIDDLE = _HEIGHT / 2
# Points nearer to each other than this share of the strip are stacked.
_NEAR = 0.9
_STEP = 6.0
_MARGIN = 2.5
# An axis that reaches farther than this many deviations would press what is usual into one dot.
_REACH = 12.0
_TICKS = 6


@dataclass(frozen=True)
class Point:
    """One subject.

    Attributes
    ----------
    name : str
        Said when it is pointed at.
    value : float
    href : str or None
        Where it leads.
    outlier : bool
    """

    name: str
    value: float
    href: str | None
    outlier: bool


def axis_range(spreads: Sequence[Spread], values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: those of the values, but not far beyond what is usual."""
    low, high = min(values), max(values)
    if all(spread.deviation for spread in spreads):
        low = max(low, min(s.median - _REACH * s.deviation for s in spreads))
        high = min(high, max(s.median + _REACH * s.deviation for s in spreads))
    if high <= low:
        margin = abs(low) * 0.05 or 1.0
        low, high = low - margin, high + margin
    return low, high


def draw_strip(
    label: str, points: Sequence[Point], spread: Spread, ends: tuple[float, float]
) -> Markup:
    """Draw the points of one series.

    Parameters
    ----------
    label : str
        What the points are, for those who cannot see where the strip stands.
    points : sequence of Point
        From the least to the largest value; one of them can be reached by the tabulator key, the
        others from there by the arrow keys.
    spread : Spread
        What is usual: a band, and a line at the median.
    ends : tuple of float
        Values at both ends of the axis. Points beyond are drawn there, as triangles.
    """
    shapes = []
    if spread.deviation:
        left, right = _place(spread.low, ends), _place(spread.high, ends)
        shapes.append(
            Markup('<rect class="usual" x="{:.2f}%" y="3" width="{:.2f}%" height="{}"/>').format(
                left, max(right - left, 0.2), _HEIGHT - 6
            )
        )
    middle = _place(spread.median, ends)
    shapes.append(
        Markup('<line class="median" x1="{0:.2f}%" x2="{0:.2f}%" y1="3" y2="{1}"/>').format(
            middle, _HEIGHT - 3
        )
    )
    heights = _stacked([_place(point.value, ends) for point in points])
    for number, (point, y) in enumerate(zip(points, heights, strict=True)):
        shapes.append(_point(point, y, ends, focus=number == 0))
    return Markup('<svg class="strip" height="{}" role="group" aria-label="{}">{}</svg>').format(
        _HEIGHT, visible(label), Markup("").join(shapes)
    )


def draw_axis(ends: tuple[float, float]) -> Markup:
    """Draw the axis that strips of the same ends share."""
    shapes = [Markup('<line class="axis" x1="0%" x2="100%" y1="1" y2="1"/>')]
    shapes += [
        Markup(
            '<line class="axis" x1="{0:.2f}%" x2="{0:.2f}%" y1="1" y2="6"/>'
            '<text x="{0:.2f}%" y="20">{1:g}</text>'
        ).format(_place(tick, ends), tick)
        for tick in ticks(*ends)
    ]
    return Markup('<svg class="strip" height="{}" aria-hidden="true">{}</svg>').format(
        _AXIS_HEIGHT, Markup("").join(shapes)
    )


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two values, at most six.

    Examples
    --------
    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / (_TICKS - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(
        factor for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= rough * 0.999
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _place(value: float, ends: tuple[float, float]) -> float:
    """Return the place of a value in percent of the strip."""
    low, high = ends
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return _MARGIN + (100 - 2 * _MARGIN) * share


def _stacked(places: Sequence[float]) -> list[float]:
    """Return heights that keep points at nearly the same place apart: middle, above, below, ..."""
    groups: dict[int, list[int]] = {}
    for index, place in enumerate(places):
        groups.setdefault(int(place / _NEAR), []).append(index)
    heights = [_MIDDLE] * len(places)
    room = _MIDDLE - 5
    for group in groups.values():
        step = min(_STEP, 2 * room / max(len(group) - 1, 1))
        for number, index in enumerate(group):
            side = 1 if number % 2 else -1
            heights[index] = _MIDDLE + side * ((number + 1) // 2) * step
    return heights


def _point(point: Point, y: float, ends: tuple[float, float], focus: bool) -> Markup:
    low, high = ends
    x = _place(point.value, ends)
    if point.value > high or point.value < low:
        path = "M-5-6L6 0-5 6z" if point.value > high else "M5-6L-6 0 5 6z"
    else:
        path = "M0-6L6 0 0 6-6 0z" if point.outlier else ""
    if path:
        shape = Markup('<svg x="{:.2f}%" y="{:.1f}" class="far"><path d="{}"/></svg>').format(
            x, y, path
        )
    else:
        shape = Markup('<circle cx="{:.2f}%" cy="{:.1f}" r="4"/>').format(x, y)
    link = Markup(' href="{}"').format(point.href) if point.href else Markup(' role="img"')
    return Markup('<a{} tabindex="{}" aria-label="{}">{}</a>').format(
        link, 0 if focus else -1, visible(point.name), shape
    )
