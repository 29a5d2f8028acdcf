"""The page of a group: who to look at first, and how everybody compares, in one HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from colapipe import __version__
from colapipe.files import write_text
from colapipe.quality.gather import SELFCHECK, Group, Row
from colapipe.quality.outliers import FAR, FEWEST
from colapipe.quality.review import (
    AMBER,
    FAILED,
    LIGHT,
    OUTLIER,
    WARNED,
    Review,
    Series,
    is_red,
    is_synthetic,
    number,
    review,
    warnings_in,
)
from colapipe.report.strips import Point, axis_range, draw_axis, draw_strip
from colapipe.report.templates import render

PAGE = "group.html"

# Rows that are shown before one asks for more: enough to see the worst, few enough to open at once.
_ROWS_AT_FIRST = 50

_STATES = {FAILED: "failed", WARNED: "warned", OUTLIER: "outlier", AMBER: "amber"}

# Columns of the table on the page, as far as anybody has a value; the TSV has them all.
_SHOWN = {
    "nmi": "NMI",
    "shift": "Shift, mm",
    "turn": "Turn, degrees",
    "mask_dice": "Mask Dice",
    "coverage": "Coverage",
    "volume_brain": "Brain, mL",
    "clipped_high": "Clipped bright",
    "sd_brain": "Mean SD",
    f"{SELFCHECK}correlation": "Self-check correlation",
    f"{SELFCHECK}displacement": "Self-check off by, mm",
    "psnr": "PSNR",
    "ssim": "SSIM",
}


def build_group_page(out_dir: Path, group: Group) -> Path:
    """Write ``OUT/group.html``.

    Parameters
    ----------
    out_dir : Path
        The derivatives folder; participants whose report is there are linked to it.
    group : Group

    Returns
    -------
    Path
        The page. It is written beside its place and then moved, so that readers never see half.

    Raises
    ------
    OutputError, ReadWriteError
        If the page cannot be written.
    """
    path = out_dir / PAGE
    write_text(path, render("group.html", _context(out_dir, group), script="group.js"))
    return path


def _context(out_dir: Path, group: Group) -> dict[str, Any]:
    """Everything the template shows."""
    found = review(group)
    participants = {row["participant_id"] for row in group.rows}
    links = {
        name: quote(f"{name}.html") for name in participants if (out_dir / f"{name}.html").is_file()
    }
    shown = [name for name in _SHOWN if any(name in row for row in group.rows)]
    synthesised = sorted({row["contrast"] for row in group.rows if is_synthetic(row)})
    contrasts = sorted({row["contrast"] for row in group.rows if "contrast" in row})
    return {
        "version": __version__,
        "facts": _facts(group, found),
        "synthesised": synthesised,
        "problems": group.problems,
        "warnings": group.warnings,
        "headings": [(_SHOWN[name], _meaning(group, name)) for name in shown],
        "rows": [_table_row(group.rows[i], found, i, links, shown) for i in found.order()],
        "with_sessions": any("session_id" in row for row in group.rows),
        "at_first": _ROWS_AT_FIRST,
        "contrasts": contrasts,
        "measures": [
            _measure(group, column, series, links) for column, series in found.measures.items()
        ],
        "made": _made(group.rows),
        "dictionary": [
            (
                column,
                about.get("LongName", ""),
                about.get("Description", ""),
                about.get("Units", ""),
            )
            for column, about in group.columns.items()
        ],
        "far": FAR,
        "fewest": FEWEST,
    }


def _facts(group: Group, found: Review) -> list[tuple[str, int, str]]:
    """What there is and what stands out: name, number, and how it is coloured."""
    images = [row for row in group.rows if "contrast" in row]
    made = sum(is_synthetic(row) for row in images)
    warned = sum(bool(warnings_in(row)) for row in group.rows)
    red = _count_light(group.rows, "red")
    failed = {row["participant_id"] for row in group.rows if "failure" in row}
    sessions = {(row["participant_id"], row.get("session_id")) for row in images}
    return [
        ("participants", len({row["participant_id"] for row in group.rows}), ""),
        ("sessions", len(sessions), ""),
        ("acquired images", len(images) - made, ""),
        ("SYNTHETIC images", made, "synth"),
        ("participants failed", len(failed), "bad" if failed else ""),
        ("images with warnings", warned, "bad" if warned else ""),
        ("self-checks red", red, "bad" if red else ""),
        ("self-checks amber", _count_light(group.rows, "amber"), ""),
        ("images unlike the others", len(found.outliers), "warn" if found.outliers else ""),
    ]


def _count_light(rows: Sequence[Row], light: str) -> int:
    return sum(row.get(LIGHT, "").lower() == light for row in rows)


def _meaning(group: Group, column: str) -> str:
    about = group.columns[column]
    return f"{about.get('LongName', column)}. {about.get('Description', '')}"


def _who(row: Row) -> str:
    """Name a row's participant and session."""
    return " ".join([row["participant_id"], *([row["session_id"]] if "session_id" in row else [])])


def _table_row(
    row: Row, found: Review, index: int, links: Mapping[str, str], shown: Sequence[str]
) -> dict[str, Any]:
    verdict = found.verdicts[index]
    far = found.outliers.get(index, ())
    return {
        "who": row["participant_id"],
        "href": links.get(row["participant_id"]),
        "session": row.get("session_id", ""),
        "reference": row.get("reference", ""),
        "contrast": row.get("contrast", ""),
        "synthetic": is_synthetic(row),
        "light": row.get(LIGHT, ""),
        "states": " ".join(_states(row, verdict.urgency, far)),
        "reasons": verdict.reasons,
        "cells": [(_short(row.get(name)), name in far) for name in shown],
    }


def _states(row: Row, urgency: int, far: Sequence[str]) -> list[str]:
    """The choices of the filter that a row belongs to."""
    states = [_STATES[urgency]] if urgency in _STATES else ["fine"]
    states += ["red"] if is_red(row) else []
    states += ["outlier"] if far and urgency != OUTLIER else []
    states += ["first"] if urgency <= OUTLIER else []
    return states


def _short(text: str | None) -> str:
    value = number(text)
    return f"{value:.4g}" if value is not None else (text or "")


def _measure(
    group: Group, column: str, series: Sequence[Series], links: Mapping[str, str]
) -> dict[str, Any]:
    """The strips of one measure."""
    about = group.columns[column]
    ends = axis_range(
        [one.spread for one in series], [value for one in series for _, value in one.values]
    )
    return {
        "column": column,
        "title": about.get("LongName") or column,
        "units": about.get("Units", ""),
        "description": about.get("Description", ""),
        "strips": [
            {
                "contrast": one.contrast,
                "reference": one.reference,
                "synthetic": one.synthetic,
                "count": len(one.values),
                "median": f"{one.spread.median:.4g}",
                "outliers": sum(one.spread.is_outlier(value) for _, value in one.values),
                "svg": draw_strip(
                    _label(one, about.get("LongName") or column),
                    _points(group.rows, one, links),
                    one.spread,
                    ends,
                ),
            }
            for one in series
        ],
        "axis": draw_axis(ends),
        "outliers": sum(one.spread.is_outlier(v) for one in series for _, v in one.values),
    }


def _label(series: Series, measure: str) -> str:
    """Say in one line what a strip is of."""
    synthetic = "SYNTHETIC " if series.synthetic else ""
    grid = f" on {series.reference}" if series.reference != series.contrast else ""
    return f"{measure}, {synthetic}{series.contrast}{grid}, median {series.spread.median:.4g}"


def _points(rows: Sequence[Row], series: Series, links: Mapping[str, str]) -> list[Point]:
    return [
        Point(
            f"{_who(rows[index])}: {value:.4g}",
            value,
            links.get(rows[index]["participant_id"]),
            series.spread.is_outlier(value),
        )
        for index, value in series.values
    ]


def _made(rows: Sequence[Row]) -> list[tuple[int, dict[str, str]]]:
    """How synthetic images were made, and how many in each way."""
    names = ("contrast", "sources", "model", "weights_sha256", "sampler", "steps", "samples")
    ways = Counter(
        tuple(row.get(name, "not recorded") for name in names) for row in rows if is_synthetic(row)
    )
    return [(count, dict(zip(names, way, strict=True))) for way, count in ways.most_common()]
