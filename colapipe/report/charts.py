"""Charts as inline SVG: areas, histograms, weights and how uncertainty and error go together.

They are drawn from plain numbers, in the colours of the page that they stand in (or in those named
here, where a chart stands alone). All text is escaped, and shows hidden characters as codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from colapipe.quality.histograms import TrainingRange, move
from colapipe.report.parts import Drawing

Numbers = Sequence[float] | npt.NDArray[Any]

INK = "var(--ink, #1a2027)"
SOFT = "var(--soft, #515c68)"
LINE = "var(--line, #d5dae0)"
ACCENT = "var(--accent, #0b5cad)"
SYNTHETIC = "var(--synth, #5b2a86)"

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 46
# Mean width of a letter of 13 pixels.
_LETTER = 7.0
# Weights that differ by less say nothing.
_EVEN = 0.1
_NO_TURN = Markup("")
# Share of voxels in the darkest bin that anatomy does not explain.
_MUCH_BLACK = 0.05
# Groups of voxels, from the least to the most uncertain.
_GROUPS = 10


class _Chart:
    """Collects the shapes of one chart, with axes from (x0, y0) to (x1, y1) in its own units."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        height: int = _HEIGHT,
        left: int = _LEFT,
    ) -> None:
        self._x, self._y = x, y
        self._height, self._left = height, left
        self._shapes: list[Markup] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point; those outside the axes are put on their edge."""
        across = np.clip((x - self._x[0]) / (self._x[1] - self._x[0]), 0, 1)
        up = np.clip((y - self._y[0]) / (self._y[1] - self._y[0]), 0, 1)
        inner = _WIDTH - self._left - _RIGHT, self._height - _TOP - _BOTTOM
        return self._left + float(across) * inner[0], self._height - _BOTTOM - float(up) * inner[1]

    def axes(self, x_title: str, y_title: str, x_ticks: bool = True, y_ticks: bool = True) -> None:
        """Draw both axes with their ticks and titles."""
        left, bottom = self.at(self._x[0], self._y[0])
        right, top = self.at(self._x[1], self._y[1])
        if y_ticks:
            for tick in _ticks(*self._y):
                y = self.at(self._x[0], tick)[1]
                self._segment((left, y), (right, y), LINE, 1)
                self.text(left - 8, y + 4, f"{tick:g}", "end", SOFT)
        if x_ticks:
            for tick in _ticks(*self._x):
                x = self.at(tick, self._y[0])[0]
                self._segment((x, bottom), (x, bottom + 5), SOFT, 1)
                self.text(x, bottom + 19, f"{tick:g}", "middle", SOFT)
        self._segment((left, bottom), (right, bottom), SOFT, 1)
        self.text((left + right) / 2, self._height - 8, x_title, "middle", INK)
        if y_title:
            middle = (top + bottom) / 2
            turn = Markup(' transform="rotate(-90 14 {:.1f})"').format(middle)
            self.text(14, middle, y_title, "middle", INK, turn)

    def area(
        self,
        x: Numbers,
        low: Numbers,
        high: Numbers,
        fill: str,
        opacity: float,
    ) -> None:
        """Fill between two curves."""
        points = [self.at(*point) for point in zip(x, high, strict=True)]
        points += [self.at(*point) for point in reversed(list(zip(x, low, strict=True)))]
        self._shapes.append(
            Markup('<polygon points="{}" style="fill:{};fill-opacity:{:g}"/>').format(
                _points(points), fill, opacity
            )
        )

    def curve(
        self,
        x: Numbers,
        y: Numbers,
        colour: str,
        width: float = 2,
        dashes: str = "",
    ) -> None:
        """Draw a line through points."""
        self._shapes.append(
            Markup(
                '<polyline points="{}" style="fill:none;stroke:{};stroke-width:{:g};'
                'stroke-dasharray:{}"/>'
            ).format(
                _points([self.at(*point) for point in zip(x, y, strict=True)]),
                colour,
                width,
                dashes or "none",
            )
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw one point."""
        across, up = self.at(x, y)
        self._shapes.append(
            Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" style="fill:{}"/>').format(
                across, up, colour
            )
        )

    def bar(
        self, x0: float, x1: float, y0: float, y1: float, fill: str, opacity: float = 1
    ) -> None:
        """Fill a rectangle."""
        left, bottom = self.at(x0, y0)
        right, top = self.at(x1, y1)
        self._shapes.append(
            Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '
                'style="fill:{};fill-opacity:{:g}"/>'
            ).format(left, top, right - left, bottom - top, fill, opacity)
        )

    def text(
        self, x: float, y: float, words: str, anchor: str, colour: str, turn: Markup = _NO_TURN
    ) -> None:
        """Write words at a place in pixels."""
        self._shapes.append(
            Markup(
                '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="fill:{}"{}>{}</text>'
            ).format(x, y, anchor, colour, turn, _plain(words))
        )

    def key(self, entries: Sequence[tuple[str, str]]) -> None:
        """Explain colours above the axes, side by side."""
        x = self._left
        for words, colour in entries:
            self._segment((x, 13), (x + 18, 13), colour, 4)
            self.text(x + 24, 17, words, "start", INK)
            x += 44 + round(_LETTER * (len(words) + 0.3 * sum(map(str.isupper, words))))

    def svg(self, alt: str) -> Markup:
        """Return the whole chart."""
        head = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
            'height="{h}" role="img" aria-label="{alt}" style="max-width:100%;height:auto;'
            'font:13px system-ui,sans-serif">'
        ).format(w=_WIDTH, h=self._height, alt=_plain(alt, longest=None))
        return head + Markup("").join(self._shapes) + Markup("</svg>")

    def _segment(
        self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float
    ) -> None:
        self._shapes.append(
            Markup(
                '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" '
                'style="stroke:{};stroke-width:{:g}"/>'
            ).format(*start, *end, colour, width)
        )


def area_chart(
    heights_mm: Numbers,
    areas_cm2: Numbers,
    synthesised: Sequence[bool] | npt.NDArray[np.bool_],
    threshold_cm2: float,
) -> Drawing:
    """Draw how much brain each axial slice holds, and which slices were synthesised.

    Parameters
    ----------
    heights_mm : sequence of float
        World z of each slice, ascending.
    areas_cm2 : sequence of float
        Area of the brain mask in each slice.
    synthesised : sequence of bool
        Slices that hold synthesised voxels.
    threshold_cm2 : float
        Area from which a slice is selected for training and for scores.

    Raises
    ------
    ValueError
        If there are fewer than two slices.
    """
    heights, areas = np.asarray(heights_mm, dtype=float), np.asarray(areas_cm2, dtype=float)
    made = np.asarray(synthesised, dtype=bool)
    if len(heights) < 2:
        raise ValueError("an area curve needs two slices")
    above = areas >= threshold_cm2
    top = 1.1 * max(float(areas.max()), threshold_cm2)
    chart = _Chart((float(heights[0]), float(heights[-1])), (0, top))
    half = float(np.diff(heights).mean()) / 2
    for first, last in _runs(made):
        chart.bar(heights[first] - half, heights[last] + half, 0, top, SYNTHETIC, 0.18)
    chart.axes("height z (mm)", "brain area (cm²)")
    chart.curve(heights, areas, ACCENT)
    chart.curve((heights[0], heights[-1]), (threshold_cm2, threshold_cm2), INK, 1.5, "6 4")
    chart.key([("brain", ACCENT), ("synthesised", SYNTHETIC), ("threshold", INK)])
    ranges = [f"z = {heights[first]:.0f} to {heights[last]:.0f} mm" for first, last in _runs(made)]
    alt = (
        f"Brain area of {len(heights)} axial slices, at most {areas.max():.0f} cm² at z = "
        f"{heights[areas.argmax()]:.0f} mm. Synthesised: {made.sum()} slices"
        f"{', ' + ' and '.join(ranges) if ranges else ''}. {above.sum()} slices reach the "
        f"threshold of {threshold_cm2:.0f} cm²."
    )
    remarks = [
        f"Shaded: the {made.sum()} slices that hold synthesised voxels. The {above.sum()} slices "
        f"with at least {threshold_cm2:.0f} cm² of brain (15 % of the model's window of 224 mm x "
        "224 mm) are like those that models are trained and scored on; the others are not."
    ]
    return Drawing("Brain area by slice", chart.svg(alt), alt, remarks, "area")


def histogram_chart(
    label: str,
    shares: npt.ArrayLike,
    training: TrainingRange | None = None,
    synthetic: bool = False,
    real: npt.ArrayLike | None = None,
) -> Drawing:
    """Draw the intensities of one image in the brain against those of the training data.

    Parameters
    ----------
    label : str
        The contrast.
    shares : array_like, (bins,)
        Share of the brain's voxels in each bin from 0 to 1 after the intensity normalisation.
    training : TrainingRange, optional
        Of this contrast, if the model carries one.
    synthetic : bool
    real : array_like, (bins,), optional
        The real scan of a synthesised contrast.
    """
    found = np.asarray(shares, dtype=float)
    edges = np.linspace(0, 1, len(found) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    colour = SYNTHETIC if synthetic else ACCENT
    name = f"SYNTHETIC {label}" if synthetic else label
    truth = None if real is None else np.asarray(real, dtype=float)
    # The first and the last bin hold what was clipped: they may leave the picture.
    tallest = [found[1:-1].max()]
    if truth is not None:
        tallest.append(truth[1:-1].max())
    if training is not None:
        tallest.append(training.high[1:-1].max())
    top = 100 * 1.08 * max(max(tallest), 1e-3)
    chart = _Chart((0, 1), (0, top))
    chart.axes("normalised intensity", "voxels in the brain (%)")
    key = [(name, colour)]
    mode = middles[found.argmax()]
    words = [f"Histogram of {name} in the brain: mean {found @ middles:.2f}, most at {mode:.2f}."]
    remarks = []
    if training is not None:
        middle = (training.bins[:-1] + training.bins[1:]) / 2
        chart.area(middle, 100 * training.low, 100 * training.high, SOFT, 0.3)
        chart.curve(middle, 100 * training.mean, SOFT, 1.5, "6 4")
        key.append((f"training (n = {training.participants})", SOFT))
        if len(found) == len(training.mean):
            remarks.append(_against(name, found, training))
            words += remarks
    else:
        remarks.append(f"The model says nothing of how {_plain(label)} looked in its training.")
    if found[0] > _MUCH_BLACK:
        black = f"{100 * found[0]:.0f} % of the brain's voxels are black: a part may lie outside "
        remarks.append(f"{black}the field of view.")
        words.append(remarks[-1])
    if truth is not None:
        chart.curve(middles, 100 * truth, INK, 1.5)
        key.append((f"real {label}", INK))
        words.append(f"The real scan has mean {truth @ middles:.2f}.")
    chart.curve(middles, 100 * found, colour, 2.5)
    chart.key(key)
    alt = " ".join(words)
    return Drawing(f"Intensities of {name}", chart.svg(alt), alt, remarks, "intensities", label)


def _against(name: str, found: npt.NDArray[np.float64], training: TrainingRange) -> str:
    """Say how far a histogram is from the mean one of the training participants."""
    distance = move(found, training.mean)
    start = f"{name} is {distance:.3f} from the mean histogram of the training participants"
    if training.limit is None:
        return f"{start} (no limit is known: too few participants)."
    if distance > training.limit:
        return f"{start}, more than the {training.limit:.3f} that is usual: out of distribution."
    return f"{start}, within the {training.limit:.3f} that is usual."


def weights_chart(target: str, weights: Mapping[str, float]) -> Drawing:
    """Draw by what the network multiplied the latent of each source contrast.

    Parameters
    ----------
    target : str
        What was synthesised.
    weights : mapping of str to float
        The mean gate of each source's channels over the slices (Jiang et al., MICCAI 2023, Eq. 10;
        ``SynthesisModel.SourceWeights`` of the sidecar), from 0 to 2.

    Raises
    ------
    ValueError
        If there are none, or one is not a finite number.
    """
    values = {str(name): float(value) for name, value in weights.items()}
    if not values or not all(math.isfinite(value) for value in values.values()):
        raise ValueError("weights must be finite numbers, and there must be one at least")
    height = 34 * len(values) + _BOTTOM + _TOP
    chart = _Chart((0, 2), (0, len(values)), height, left=90)
    chart.axes("mean weight", "", y_ticks=False)
    for row, (name, value) in enumerate(sorted(values.items(), key=lambda item: -item[1])):
        base = len(values) - row
        chart.bar(0, value, base - 0.82, base - 0.18, ACCENT)
        right, y = chart.at(value, base - 0.5)
        chart.text(82, y + 4, _plain(name, 10), "end", INK)
        chart.text(right + 6, y + 4, f"{value:.2f}", "start", INK)
    chart.curve((1, 1), (0, len(values)), INK, 1.5, "6 4")
    listed = ", ".join(f"{_plain(name)} {value:.2f}" for name, value in values.items())
    alt = f"Mean weight of each source of the synthesised {target}, from 0 to 2: {listed}."
    spread = max(values.values()) - min(values.values())
    remarks = [
        "By what the network multiplies the encoded features of each source before it uses them: "
        "1 (dashed) leaves them as they are, less turns them down. It is a mean over the features "
        "of a contrast and over all slices.",
        "It is no share of the result and no proof that a contrast mattered: later layers can undo "
        "a weight, and a source with a low one may still decide a voxel. Compare weights within "
        "one image only. What a contrast is worth is told by leaving it out (the self-check).",
    ]
    if len(values) > 1 and spread < _EVEN:
        remarks.insert(0, f"The weights differ by {spread:.2f} only: no contrast was favoured.")
    title = f"Weights of the sources of {target}"
    return Drawing(title, chart.svg(alt), alt, remarks, "weights", target)


def reliability_chart(contrast: str, std: npt.ArrayLike, error: npt.ArrayLike) -> Drawing:
    """Draw the error that was found where the uncertainty was said to be small, or large.

    Parameters
    ----------
    contrast : str
        What was synthesised.
    std, error : array_like, same shape
        Standard deviation between samples and absolute error of the brain's voxels, both as a
        share of the intensity range.

    Raises
    ------
    ValueError
        If there are fewer than ten voxels.
    """
    deviations = np.asarray(std, dtype=np.float64).ravel()
    errors = np.asarray(error, dtype=np.float64).ravel()
    if deviations.size != errors.size or deviations.size < _GROUPS:
        raise ValueError("uncertainty and error need the same voxels, and enough of them")
    order = np.argsort(deviations, kind="stable")
    said = [float(part.mean()) for part in np.array_split(deviations[order], _GROUPS)]
    found = [float(np.sqrt((part**2).mean())) for part in np.array_split(errors[order], _GROUPS)]
    top = 1.15 * max(*said, *found, 1e-3)
    chart = _Chart((0, top), (0, top))
    chart.axes("standard deviation between samples", "error (RMS)")
    chart.curve((0, top), (0, top), SOFT, 1.5, "6 4")
    chart.curve(said, found, SYNTHETIC, 1.5)
    for point in zip(said, found, strict=True):
        chart.dot(*point, SYNTHETIC)
    ratio = math.sqrt((errors**2).mean() / max((deviations**2).mean(), 1e-12))
    alt = (
        f"Error of the synthetic {contrast} by standard deviation, {_GROUPS} groups of voxels: "
        f"from {found[0]:.3f} where the deviation is {said[0]:.3f} to {found[-1]:.3f} where it is "
        f"{said[-1]:.3f}."
    )
    remarks = [
        "Each point is a tenth of the brain's voxels, from the least to the most uncertain. On the "
        "dashed line the error is as large as the samples differ; over the whole brain it is "
        f"{ratio:.1f} times as large."
    ]
    title = f"Uncertainty and error of {contrast}"
    return Drawing(title, chart.svg(alt), alt, remarks, "uncertainty", contrast)


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    padded = np.concatenate([[False], flags, [False]])
    changes = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(first), int(last) - 1) for first, last in changes.reshape(-1, 2)]


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers within a range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _plain(words: str, longest: int | None = 60) -> str:
    """Show characters that hide or reorder text as their codes; cut what is too long."""
    seen = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in words)
    if longest is not None and len(seen) > longest:
        seen = seen[: longest - 1] + "…"
    return seen
