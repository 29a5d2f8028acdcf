"""Planes, contours and edges lie where the anatomy is, on the side they name."""

from __future__ import annotations

import io
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from colapipe.bids.outputs import read_session
from colapipe.report import figures, planes, registration
from colapipe.report.parts import Picture
from colapipe.report.rows import Grid

SHAPE = (40, 48, 36)


def brain() -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[6:34, 6:42, 4:32] = 1
    return mask


def rgba(picture: Picture) -> np.ndarray:
    decoded = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGBA")).astype(int)
    assert decoded.shape == (picture.height, picture.width, 4)
    return decoded


def coloured(drawn: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (drawn[..., :3] == colour).all(axis=2)


def stored(data: np.ndarray, how: str) -> nib.Nifti1Image:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    if how == "oblique":
        angle = np.radians(15)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return nib.Nifti1Image(data, turn)
    change = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(how)))
    return nib.Nifti1Image(data, affine).as_reoriented(change)


@pytest.mark.parametrize("how", ["RAS", "LAS", "LPS", "PSR", "oblique"])
def test_the_left_front_top_of_the_head_is_where_the_letters_say(how: str) -> None:
    corner = np.zeros(SHAPE, dtype=np.float32)
    corner[6:20, 24:42, 18:32] = 1
    mask, affine = figures.canonical(stored(brain(), how))
    volume, _ = figures.canonical(stored(corner, how))
    layout = planes.choose_layout(mask, affine)
    drawn = planes.draw_planes(volume, layout)
    seen = set()
    for cell in layout.cells:
        plane = drawn[cell.place]
        if (plane > 0.5).any():
            rows, columns = np.nonzero(plane > 0.5)
            seen.add(cell.axis)
            # Front (axial) or top (coronal, sagittal) is up.
            assert rows.mean() < cell.height / 2
            # Left is left; on a sagittal plane the front is right.
            assert (columns.mean() > cell.width / 2) == (cell.axis == 0)
    assert seen == {0, 1, 2}
    assert {axis: planes._LETTERS[axis][:2] for axis in seen} == {0: "PA", 1: "LR", 2: "LR"}
    assert {axis: planes._LETTERS[axis][2:] for axis in seen} == {0: "SI", 1: "SI", 2: "AP"}


def test_every_plane_has_its_four_letters_beside_it() -> None:
    layout = planes.choose_layout(brain(), np.eye(4))
    ink = planes.letters(layout)
    for cell in layout.cells:
        assert not ink[cell.place].any()
        rows, columns = cell.place
        for beside in (
            np.s_[rows, columns.start - planes._BAND : columns.start],
            np.s_[rows, columns.stop : columns.stop + planes._BAND],
            np.s_[rows.start - planes._BAND : rows.start, columns],
            np.s_[rows.stop : rows.stop + planes._BAND, columns],
        ):
            assert ink[beside].max() == 255


@pytest.mark.parametrize("zooms", [(1.0, 1.0, 4.0), (3.0, 0.75, 1.0), (1.0, 2.5, 1.0)])
def test_a_round_head_is_round_on_every_plane(zooms: tuple[float, ...]) -> None:
    shape = tuple(round(120 / zoom) for zoom in zooms)
    grid = [(np.arange(n) - (n - 1) / 2) * zoom for n, zoom in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 50**2).astype(np.float32)
    layout = planes.choose_layout(ball, np.diag([*zooms, 1.0]))
    drawn = planes.draw_planes(ball, layout) > 0.5
    for cell in layout.cells:
        rows, columns = np.nonzero(drawn[cell.place])
        assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(1, abs=0.08)


def test_a_contour_is_the_rim_of_its_region() -> None:
    layout = planes.choose_layout(brain(), np.eye(4))
    inside = planes.draw_planes(brain(), layout, smooth=False) > 0
    line = planes.contour(inside, layout)
    assert not (line & ~inside).any()
    for cell in layout.cells:
        rows, columns = np.nonzero(inside[cell.place])
        rim = np.zeros(inside[cell.place].shape, dtype=bool)
        rim[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        rim[rows.min() + 1 : rows.max(), columns.min() + 1 : columns.max()] = False
        np.testing.assert_array_equal(line[cell.place], rim)
    blank = np.zeros((layout.height, layout.width), np.float32)
    drawn = rgba(planes.draw_mask_contour(blank, brain(), layout, "words"))
    np.testing.assert_array_equal(coloured(drawn, figures.OUTLINE_COLOUR), line)


def test_every_border_of_tissue_has_one_line_and_a_lesion_a_wide_one() -> None:
    labels = brain() * 2
    labels[10:30, 10:38, 8:28] = 3
    labels[14:26, 14:30, 12:24] = 4
    layout = planes.choose_layout(brain(), np.eye(4))
    classes = np.rint(planes.draw_planes(labels, layout, smooth=False))
    lines = planes.tissue_borders(labels, layout)
    cell = layout.cells[1]
    middle = cell.place[0].start + cell.height // 2
    across = {label: int(line[middle, cell.place[1]].sum()) for label, line in lines.items()}
    assert across == {1: 0, 2: 2, 3: 2, 4: 4}
    for label, line in lines.items():
        assert (classes[line] == label).all()
    blank = np.zeros((layout.height, layout.width), np.float32)
    drawn = rgba(planes.draw_tissue_contours(blank, labels, layout, "words"))
    for label, (_, colour) in figures.TISSUE_COLOURS.items():
        np.testing.assert_array_equal(coloured(drawn, colour), lines[label])


def test_a_picture_in_few_bytes_has_fewer_greys_and_the_same_lines() -> None:
    layout = planes.choose_layout(brain(), np.eye(4))
    noise = np.random.default_rng(0).random((layout.height, layout.width), dtype=np.float32)
    fine = planes.draw_mask_contour(noise, brain(), layout, "words", 10**7)
    coarse = planes.draw_mask_contour(noise, brain(), layout, "words", 1)
    assert len(coarse.data) < 0.8 * len(fine.data)
    assert np.abs(rgba(fine) - rgba(coarse))[..., 0].max() < 10
    np.testing.assert_array_equal(
        coloured(rgba(fine), figures.OUTLINE_COLOUR), coloured(rgba(coarse), figures.OUTLINE_COLOUR)
    )


def test_edges_lie_on_the_edges_and_nowhere_else() -> None:
    mask = brain()
    volume = np.where(mask, 0.3, 0).astype(np.float32)
    volume[20:34, 6:42, 4:32] = 0.8
    layout = planes.choose_layout(mask, np.eye(4))
    grey = planes.draw_planes(volume, layout)
    edges = registration.find_edges(grey, layout)
    cell = layout.cells[1]
    plane, found = grey[cell.place], edges[cell.place]
    columns = np.flatnonzero(found[cell.height // 2])
    steps = np.flatnonzero(np.abs(np.diff(plane[cell.height // 2])) > 0.01)
    pixels_per_mm = 1 / layout.pixel_mm
    # An edge of the drawn, interpolated step: within half a voxel of where it is steepest.
    for column in columns:
        assert np.abs(steps - column).min() <= pixels_per_mm
    border = (20 - layout.box[0].start) * pixels_per_mm
    assert np.abs(columns - border).min() <= pixels_per_mm / 2
    assert found.mean() < 0.1


def test_edges_of_nothing_are_nothing_and_the_rest_of_their_picture_is_transparent() -> None:
    layout = planes.choose_layout(brain(), np.eye(4))
    blank = np.zeros((layout.height, layout.width), np.float32)
    assert not registration.find_edges(blank, layout).any()
    edges = np.zeros((layout.height, layout.width), dtype=bool)
    edges[40, 30:50] = True
    drawn = rgba(registration.draw_edges(edges, "words"))
    np.testing.assert_array_equal(drawn[..., 3] > 0, edges)
    assert coloured(drawn, figures.OUTLINE_COLOUR)[edges].all()


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        planes.choose_layout(np.zeros(SHAPE), np.eye(4))


def test_each_scan_is_compared_with_the_reference_at_one_size(derivatives: Any) -> None:
    derivatives.scans("T1w", "FLAIR", "T2w")
    (derivatives.anat() / "sub-01_space-T1w_desc-preproc_FLAIR.nii.gz").write_bytes(b"broken")
    derivatives.synthesis("PDw", ["T1w", "T2w"])
    found = Grid(read_session(None, derivatives.anat()), "T1w", 150, False).comparisons()
    # A broken file is named where its own rows are; a synthesised image was moved by nobody.
    assert [(part.below_name, part.above_name) for part in found] == [("T1w", "T2w")]
    sizes = {(p.width, p.height) for p in (found[0].below, found[0].above, found[0].edges)}
    assert len(sizes) == 1
    assert found[0].above.alt.startswith("T2w on the grid of T1w: planes axial at z = ")
    derivatives.scans("T1w")
    alone = Grid(read_session(None, derivatives.anat()), "T1w", 150, False)
    assert [part.above_name for part in alone.comparisons()] == ["T2w"]
