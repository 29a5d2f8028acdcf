"""The figures of a report as files of their own, under ``sub-X/figures``, for papers and slides."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from colapipe.bids.names import parse_name
from colapipe.contrasts import CONTRASTS
from colapipe.files import write_bytes
from colapipe.report.parts import Comparison, Drawing, Picture
from colapipe.report.session import GridBlock, Session

SUFFIXES = (".png", ".svg")
KINDS = ("registration", "mask", "tissue", "area", "scans", "intensities")
"""What a figure of scans shows, as its name says; those of synthetic images begin with synth."""


def write_figures(out_dir: Path, participant: str, sessions: Sequence[Session]) -> list[Path]:
    """Write the figures of a page, and delete those of an earlier page that are no more.

    Parameters
    ----------
    out_dir : Path
    participant : str
        Label without ``sub-``.
    sessions : sequence of Session
        Drawn, with their rows rendered.

    Returns
    -------
    list of Path
        ``sub-X/figures/sub-X[_ses-Y][_ce-gadolinium]_space-R_desc-<what>_<contrast>.{png,svg}``.
    """
    folder = out_dir / f"sub-{participant}" / "figures"
    written = []
    for session in sessions:
        start = f"sub-{participant}"
        start += "" if session.label is None else f"_ses-{session.label}"
        for grid in session.grids:
            for contrast, what, suffix, content in _files_of(grid):
                agent = "_ce-gadolinium" if contrast == "T1ce" else ""
                kind = "T1w" if contrast == "T1ce" else contrast
                name = f"{start}{agent}_space-{grid.space}_desc-{what}_{kind}{suffix}"
                write_bytes(folder / name, content)
                written.append(folder / name)
    for path in folder.glob(f"sub-{participant}_*"):
        if _is_figure(path) and path not in written:
            path.unlink()
    return written


def _is_figure(path: Path) -> bool:
    """Say whether a file is named as the figures of a page are; others are somebody's own."""
    try:
        name = parse_name(path)
    except ValueError:
        return False
    what = name.get("desc") or ""
    mine = what in KINDS or what.startswith("synth")
    return path.suffix in SUFFIXES and mine and name.get("space") in CONTRASTS


def _files_of(grid: GridBlock) -> Iterator[tuple[str, str, str, bytes]]:
    """Contrast, what is shown, extension and content of each figure of a grid."""
    for comparison in grid.comparisons:
        yield comparison.above_name, "registration", ".png", _with_edges(comparison)
    contours = zip(grid.anatomy.contours, grid.anatomy.pictures, strict=True)
    for (kind, source), picture in contours:
        yield source, kind, ".png", picture.data
    if grid.area is not None:
        yield grid.space, "area", ".svg", _svg(grid.area)
    if grid.scans is not None and grid.scans.pictures:
        yield grid.space, "scans", ".png", _stacked(grid.scans.pictures)
    for synthesis in grid.syntheses:
        if synthesis.figure.pictures:
            yield synthesis.contrast, "synth", ".png", _stacked(synthesis.figure.pictures)
        for drawing in synthesis.histograms:
            yield synthesis.contrast, f"synth{drawing.kind}", ".svg", _svg(drawing)
        for drawing in synthesis.figure.charts:
            yield synthesis.contrast, f"synth{drawing.kind}", ".svg", _svg(drawing)
    for drawing in grid.histograms:
        yield drawing.contrast, drawing.kind, ".svg", _svg(drawing)


def _svg(drawing: Drawing) -> bytes:
    return str(drawing.svg).encode("utf-8")


def _stacked(pictures: Sequence[Picture]) -> bytes:
    """Put the rows of a figure below each other."""
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)))
    top = 0
    for picture in pictures:
        whole.paste(Image.open(io.BytesIO(picture.data)).convert("RGB"), (0, top))
        top += picture.height
    return _png(whole)


def _with_edges(comparison: Comparison) -> bytes:
    """Lay the edges of the reference over the scan that was moved to it."""
    whole = Image.open(io.BytesIO(comparison.above.data)).convert("RGB")
    edges = Image.open(io.BytesIO(comparison.edges.data)).convert("RGBA")
    whole.paste(edges, (0, 0), edges)
    return _png(whole)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
