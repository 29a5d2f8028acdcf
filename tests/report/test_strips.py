"""Strips of points: places, shapes and what they say."""

from __future__ import annotations

import re

import pytest

from colapipe.quality.outliers import Spread
from colapipe.report.strips import Point, axis_range, draw_axis, draw_strip, ticks

SPREAD = Spread(5.0, 1.0)
LABEL = "Coverage, T2w on T1w"


def points(*values: float, **changes: object) -> list[Point]:
    usual = {"href": "sub-01.html", "outlier": False, **changes}
    return [Point(f"sub-01: {value:g}", value, **usual) for value in values]


def places(svg: str) -> list[float]:
    return [float(place) for place in re.findall(r'<circle cx="([\d.]+)%"', svg)]


def test_points_lie_in_the_order_of_their_values() -> None:
    found = places(draw_strip(LABEL, points(0, 5, 10), SPREAD, (0, 10)))
    assert found == pytest.approx([2.5, 50, 97.5])


def test_the_band_is_what_is_usual_and_the_line_the_median() -> None:
    svg = draw_strip(LABEL, points(5), SPREAD, (0, 10))
    left, width = map(
        float, re.findall(r'<rect class="usual" x="([\d.]+)%"[^>]*?width="([\d.]+)%', svg)[0]
    )
    assert left == pytest.approx(2.5 + 95 * 0.15) and width == pytest.approx(95 * 0.7)
    assert 'class="median" x1="50.00%"' in svg
    assert "usual" not in draw_strip(LABEL, points(5), Spread(5.0, 0.0), (0, 10))


def test_points_of_one_value_are_stacked_and_stay_inside() -> None:
    svg = draw_strip(LABEL, points(*[5.0] * 40), SPREAD, (0, 10))
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', svg)]
    assert len(set(heights)) == 40 and 4 <= min(heights) < max(heights) <= 40


def test_outliers_have_another_shape_and_so_has_what_lies_beyond() -> None:
    diamond = draw_strip(LABEL, points(9, outlier=True), SPREAD, (0, 10))
    right = draw_strip(LABEL, points(90, outlier=True), SPREAD, (0, 10))
    left = draw_strip(LABEL, points(-90, outlier=True), SPREAD, (0, 10))
    assert all("<circle" not in svg for svg in (diamond, right, left))
    shapes = [re.findall(r'<path d="([^"]+)"', svg)[0] for svg in (diamond, right, left)]
    assert len(set(shapes)) == 3
    assert 'x="97.50%"' in right and 'x="2.50%"' in left


def test_a_point_names_its_subject_and_leads_to_the_report() -> None:
    svg = draw_strip(LABEL, points(5, 6), SPREAD, (0, 10))
    assert svg.count('<a href="sub-01.html"') == 2 and 'aria-label="sub-01: 5"' in svg
    assert [int(index) for index in re.findall(r'tabindex="(-?\d)"', svg)] == [0, -1]
    assert f'aria-label="{LABEL}"' in svg
    assert "href" not in draw_strip(LABEL, points(5, href=None), SPREAD, (0, 10))


def test_hostile_names_are_escaped() -> None:
    hostile = Point('"><script>alert(1)</script>\u202e', 5.0, 'x"onload="y', False)
    svg = draw_strip(hostile.name, [hostile], SPREAD, (0, 10))
    assert "<script" not in svg and 'x"onload' not in svg and "\u202e" not in svg
    assert "\\u202e" in svg


def test_the_axis_does_not_follow_what_is_far_away() -> None:
    assert axis_range([SPREAD], [4, 5, 6]) == (4, 6)
    assert axis_range([SPREAD], [4, 5, 6, 1000]) == (4, 17)
    assert axis_range([Spread(5.0, 0.0)], [4, 1000]) == (4, 1000)
    low, high = axis_range([SPREAD], [0, 0])
    assert low < 0 < high


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.93, 1.0), (-3.0, 1200.0), (1.0e-5, 3.0e-5)])
def test_ticks_are_few_and_inside(ends: tuple[float, float]) -> None:
    found = ticks(*ends)
    assert 2 <= len(found) <= 7 and ends[0] <= found[0] < found[-1] <= ends[1] * (1 + 1e-9)
    assert draw_axis(ends).count("<text") == len(found)
