"""Charts show the numbers they are given, say them in words, and let no text become markup."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from colapipe.bids.outputs import read_session
from colapipe.quality.histograms import TrainingRange, edges, fit_range, histogram
from colapipe.report import charts
from colapipe.report.parts import Drawing
from colapipe.report.rows import Grid

HOSTILE = "<script>alert(1)</script>\"'&\u202e{{ 7*7 }}"
SVG = "{http://www.w3.org/2000/svg}"


def root(drawing: Drawing) -> ElementTree.Element:
    """Parse the chart: it must be well-formed, and hold nothing but shapes and text."""
    parsed = ElementTree.fromstring(str(drawing.svg))
    kinds = {element.tag.removeprefix(SVG) for element in parsed.iter()}
    assert kinds <= {"svg", "text", "line", "rect", "polyline", "polygon", "circle"}
    assert parsed.get("role") == "img"
    assert parsed.get("aria-label") == drawing.alt.replace("\u202e", "\\u202e")
    for element in parsed.iter():
        assert not [name for name in element.attrib if name.startswith("on") or "href" in name]
    return parsed


def shapes(drawing: Drawing, kind: str, style: str = "") -> list[ElementTree.Element]:
    return [
        element for element in root(drawing).iter(SVG + kind) if style in element.get("style", "")
    ]


def points(element: ElementTree.Element) -> np.ndarray:
    return np.array(
        [[float(v) for v in pair.split(",")] for pair in element.get("points", "").split()]
    )


def texts(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in root(drawing).iter(SVG + "text")]


def bell(middle: float, seed: int = 0) -> np.ndarray:
    return histogram(np.random.default_rng(seed).normal(middle, 0.1, 20_000).clip(0, 1))


def training() -> TrainingRange:
    return fit_range([bell(0.5 + 0.005 * seed, seed) for seed in range(20)])


def test_the_area_curve_shades_what_was_synthesised_and_marks_the_threshold() -> None:
    heights = np.arange(-50, 51.0)
    areas = 150 - 0.06 * heights**2
    made = (heights >= -20) & (heights <= 30)
    drawing = charts.area_chart(heights, areas, made, 75.0)
    (shade,) = shapes(drawing, "rect")
    curve, threshold = (points(element) for element in shapes(drawing, "polyline"))
    left, right = float(shade.get("x", 0)), float(shade.get("x", 0)) + float(shade.get("width", 0))
    shaded = (curve[:, 0] >= left) & (curve[:, 0] <= right)
    np.testing.assert_array_equal(shaded, made)
    # The curve crosses the threshold where the areas do (pixels grow downwards).
    np.testing.assert_array_equal(curve[:, 1] <= threshold[0, 1] + 0.05, areas >= 75)
    assert "at most 150 cm² at z = 0 mm" in drawing.alt
    assert "Synthesised: 51 slices, z = -20 to 30 mm." in drawing.alt
    assert f"{(areas >= 75).sum()} slices reach the threshold of 75 cm²" in drawing.alt


def test_two_blocks_of_slices_are_two_shades_and_one_slice_is_no_curve() -> None:
    made = [True, True, False, True, False]
    drawing = charts.area_chart([0, 3, 6, 9, 12], [5, 9, 10, 9, 5], made, 8)
    assert len(shapes(drawing, "rect")) == 2
    assert "z = 0 to 3 mm and z = 9 to 9 mm" in drawing.alt
    with pytest.raises(ValueError, match="two slices"):
        charts.area_chart([0], [5], [True], 8)


def test_a_histogram_has_its_peak_where_the_intensities_are() -> None:
    drawing = charts.histogram_chart("T2w", bell(0.3), training(), synthetic=True, real=bell(0.7))
    mean, real, found = (points(element) for element in shapes(drawing, "polyline"))
    across = np.linspace(58, 520 - 14, 65)
    for curve, middle in ((mean, 0.55), (real, 0.7), (found, 0.3)):
        peak = np.interp(curve[curve[:, 1].argmin(), 0], across, edges())
        assert peak == pytest.approx(middle, abs=0.06)
    assert len(shapes(drawing, "polygon")) == 1
    assert {"SYNTHETIC T2w", "real T2w", "training (n = 20)"} <= set(texts(drawing))
    assert drawing.alt.startswith("Histogram of SYNTHETIC T2w in the brain: mean 0.30")
    assert "out of distribution" in drawing.alt
    usual = charts.histogram_chart("T2w", bell(0.55, 7), training())
    assert "that is usual." in usual.alt
    assert "out of distribution" not in usual.alt
    assert "SYNTHETIC" not in str(usual.svg)


def test_the_key_of_a_histogram_fits_into_the_chart() -> None:
    drawing = charts.histogram_chart("FLAIR", bell(0.3), training(), synthetic=True, real=bell(0.7))
    (last,) = (element for element in shapes(drawing, "text") if element.text == "real FLAIR")
    # Capitals of the widest usual sans-serif fonts are 9 of 13 pixels wide.
    assert float(last.get("x", "nan")) + sum(9 if c.isupper() else 7.5 for c in last.text) < 520


def test_a_model_without_ranges_is_no_judge_of_intensities() -> None:
    drawing = charts.histogram_chart("FLAIR", bell(0.5))
    assert shapes(drawing, "polygon") == []
    assert drawing.remarks == ["The model says nothing of how FLAIR looked in its training."]


def test_bars_are_as_long_as_their_weights() -> None:
    drawing = charts.weights_chart("T2w", {"FLAIR": 0.5, "T1w": 1.5, "T1ce": 1.0})
    widths = [float(bar.get("width", 0)) for bar in shapes(drawing, "rect")]
    assert widths == pytest.approx([1.5 * widths[1], widths[1], 0.5 * widths[1]], rel=1e-2)
    names = [words for words in texts(drawing) if words in ("T1w", "T1ce", "FLAIR")]
    assert names == ["T1w", "T1ce", "FLAIR"]
    assert "FLAIR 0.50, T1w 1.50, T1ce 1.00" in drawing.alt
    assert any("no share of the result" in remark for remark in drawing.remarks)
    even = charts.weights_chart("T2w", {"FLAIR": 0.62, "T1w": 0.65})
    assert "no contrast was favoured" in even.remarks[0]
    with pytest.raises(ValueError, match="finite"):
        charts.weights_chart("T2w", {"T1w": float("nan")})


def test_errors_as_large_as_the_uncertainty_lie_on_the_line() -> None:
    std = np.linspace(0.01, 0.3, 5000)
    drawing = charts.reliability_chart("T2w", std, std)
    line, _ = (points(element) for element in shapes(drawing, "polyline"))
    slope = (line[1, 1] - line[0, 1]) / (line[1, 0] - line[0, 0])
    dots = [(float(d.get("cx", 0)), float(d.get("cy", 0))) for d in shapes(drawing, "circle")]
    assert len(dots) == 10
    for x, y in dots:
        assert y == pytest.approx(line[0, 1] + slope * (x - line[0, 0]), abs=1)
    assert "1.0 times as large" in drawing.remarks[0]
    assert "3.0 times as large" in charts.reliability_chart("T2w", std, 3 * std).remarks[0]
    with pytest.raises(ValueError, match="enough"):
        charts.reliability_chart("T2w", std[:5], std[:5])


def test_hostile_labels_are_text_with_nothing_hidden_in_it() -> None:
    for drawing in (
        charts.histogram_chart(HOSTILE, bell(0.5), training(), synthetic=True, real=bell(0.4)),
        charts.weights_chart(HOSTILE, {HOSTILE: 1.0}),
        charts.reliability_chart(HOSTILE, np.arange(20.0), np.arange(20.0)),
    ):
        root(drawing)
        assert "<script" not in str(drawing.svg)
        assert "\u202e" not in str(drawing.svg)
        assert "\\u202e" in str(drawing.svg)


def test_colours_are_those_of_the_page_and_there_is_no_other_file() -> None:
    svg = str(charts.histogram_chart("T2w", bell(0.3), training(), synthetic=True).svg)
    for name in ("--ink", "--soft", "--line", "--synth"):
        assert f"var({name}, #" in svg
    assert re.findall(r"url|href|https?://(?!www\.w3\.org/2000/svg)", svg) == []


def test_a_synthesis_brings_its_charts(derivatives: Any) -> None:
    derivatives.scans("T1w", "FLAIR", "T2w")
    made = derivatives.scan / derivatives.scan.max() * 1000
    made[:, :, :6] = 0
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], image=made, std=derivatives.mask * 20.0)
    sidecar = derivatives.anat() / "sub-01_space-T1w_desc-synth_T2w.json"
    content = json.loads(sidecar.read_text())
    content["SynthesisModel"]["SourceWeights"] = {
        "T1w": 1.2,
        "FLAIR": "NaN",
        HOSTILE: 1.0,
        "T2w": True,
    }
    sidecar.write_text(json.dumps(content))
    grid = Grid(read_session(None, derivatives.anat()), "T1w", 150, False)
    figure = grid.synthesis("T2w")
    weights, reliability = figure.charts
    # Only a number for a contrast that exists can be a weight.
    assert (
        weights.alt == "Mean weight of each source of the synthesised T2w, from 0 to 2: T1w 1.20."
    )
    assert reliability.title == "Uncertainty and error of T2w"
    (made_of,) = figure.histograms({"FLAIR": training()})
    assert made_of.title == "Intensities of SYNTHETIC T2w"
    assert "The real scan has mean" in made_of.alt
    ranges = grid.histograms({"FLAIR": training()})
    assert [chart.title for chart in ranges] == [
        f"Intensities of {contrast}" for contrast in ("T1w", "T2w", "FLAIR")
    ]
    assert ["participants" in str(chart.svg) for chart in ranges] == [False, False, True]
    area = grid.area()
    assert area is not None
    # Slices are 5 mm apart, and the first lies at -40 mm.
    assert "Synthesised: 12 slices, z = -10 to 45 mm." in area.alt
    voxels = int(derivatives.mask[:, :, 9].sum())
    assert f"at most {voxels * 25 / 100:.0f} cm²" in area.alt


def test_without_a_synthesis_there_is_no_area_curve(derivatives: Any) -> None:
    derivatives.scans("T1w")
    grid = Grid(read_session(None, derivatives.anat()), "T1w", 150, False)
    assert grid.area() is None
    assert [panel.label for panel in grid.scans().panels] == ["T1w"]


def test_what_the_real_scan_does_not_hold_is_no_error(derivatives: Any) -> None:
    derivatives.scans("T1w", "T2w")
    made = derivatives.scan / derivatives.scan.max() * 1000
    derivatives.synthesis("T2w", ["T1w"], image=made, std=derivatives.mask * 20.0)
    cut = np.array(2 * derivatives.scan, dtype=np.float32)
    cut[:, :12] = 0
    derivatives.write("space-T1w_desc-preproc_T2w", cut, {"SkullStripped": True})
    grid = Grid(read_session(None, derivatives.anat()), "T1w", 150, False)
    figure = grid.synthesis("T2w")
    share = round(100 * derivatives.mask[:, :12].sum() / derivatives.mask.sum())
    assert any(f"In {share} % of the brain the real T2w holds no data" in r for r in figure.remarks)
    whole, shown = figure.map_tops[0], np.nanmax(figure.panels[-2].tiles)  # type: ignore[union-attr]
    assert whole < 0.7 * shown
    assert any(f"{share} % of the brain's voxels are black" in c.alt for c in grid.histograms({}))
