"""Sheets to step through show the right slice, on the right side, in the right colour and size."""

from __future__ import annotations

import io
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from colapipe.bids.outputs import read_session
from colapipe.report import figures, steppers
from colapipe.report.parts import Picture, Stepper
from colapipe.report.rows import Grid
from colapipe.report.steppers import Budget
from colapipe.slices.intensity import normalise

PLENTY = Budget(1, 1, 10**9)
SHAPE = (40, 48, 30)
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def pixels(picture: Picture) -> np.ndarray:
    decoded = np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))
    assert decoded.shape == (picture.height, picture.width, 3)
    return decoded


def tile(stepper_or_view: Any, sheet: np.ndarray, number: int) -> np.ndarray:
    """One tile, found as the page finds it: by columns and the size of a tile."""
    height, width = stepper_or_view.tile
    columns = (
        stepper_or_view.columns
        if isinstance(stepper_or_view, Stepper)
        else steppers.columns_of(stepper_or_view)
    )
    row, column = divmod(number, columns)
    return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


def brain() -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[8:32, 8:40, 2:28] = 1
    return mask


def stored(data: np.ndarray, how: str) -> nib.Nifti1Image:
    """A head stored in another order of axes, or (``oblique``) turned by 20 degrees."""
    image = nib.Nifti1Image(data, AFFINE)
    if how == "oblique":
        angle = np.radians(20)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return nib.Nifti1Image(data, turn @ AFFINE)
    change = ornt_transform(io_orientation(AFFINE), axcodes2ornt(tuple(how)))
    return image.as_reoriented(change)


@pytest.mark.parametrize("how", ["RAS", "LAS", "LPS", "PSR", "oblique"])
def test_a_mark_on_the_left_front_is_on_the_left_top_of_its_own_tile(how: str) -> None:
    mark = np.zeros(SHAPE, dtype=np.float32)
    mark[9:13, 34:39, 20] = 1
    inside, affine = figures.canonical(stored(brain(), how))
    volume, _ = figures.canonical(stored(mark, how))
    view = steppers.native_view(inside, affine, PLENTY)
    sheet = pixels(steppers.grey_sheet(volume, view, "words", PLENTY))[..., 1]
    for number, z in enumerate(view.slices):
        drawn = tile(view, sheet, number) > 128
        assert drawn.any() == (z == 20)
        if drawn.any():
            rows, columns = np.nonzero(drawn)
            assert columns.max() < view.tile[1] / 2
            assert rows.max() < view.tile[0] / 2


def test_tiles_hold_one_pixel_per_voxel() -> None:
    volume = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    view = steppers.native_view(brain(), AFFINE, PLENTY)
    x0, x1, y0, y1 = view.box
    assert view.tile == (y1 - y0, x1 - x0)
    tiles = figures.draw_tiles(volume, view)
    for number, z in enumerate(view.slices):
        drawn = tiles[:, number * view.tile[1] : (number + 1) * view.tile[1]]
        np.testing.assert_array_equal(drawn, volume[x0:x1, y0:y1, z].T[::-1])


@pytest.mark.parametrize("zooms", [(1.0, 2.5, 4.0), (3.0, 0.75, 1.0), (0.5, 0.5, 3.0)])
def test_a_round_head_is_round_whatever_the_voxels(zooms: tuple[float, ...]) -> None:
    shape = tuple(round(120 / zoom) for zoom in zooms)
    grid = [(np.arange(n) - (n - 1) / 2) * zoom for n, zoom in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 50**2).astype(np.float32)
    view = steppers.native_view(ball, np.diag([*zooms, 1.0]), PLENTY)
    sheet = pixels(steppers.grey_sheet(ball, view, "words", PLENTY))[..., 1]
    middle = tile(view, sheet, len(view.slices) // 2)
    rows, columns = np.nonzero(middle > 128)
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(1, abs=0.06)


def test_greys_are_what_they_were_but_for_what_nobody_sees() -> None:
    x, y, z = np.indices(SHAPE)
    volume = ((np.sin(x / 4) + np.cos(y / 5) + np.sin(z / 3)) / 6 + 0.5).astype(np.float32)
    view = steppers.native_view(brain(), AFFINE, PLENTY)
    sheet = pixels(steppers.grey_sheet(volume, view, "words", PLENTY)).astype(int)
    tiles = figures.draw_tiles(volume, view)
    for number in range(len(view.slices)):
        wanted = tiles[:, number * view.tile[1] : (number + 1) * view.tile[1]] * 255
        found = tile(view, sheet, number)
        assert np.abs(found - wanted[..., None]).max() < 16
        assert np.abs(found - wanted[..., None]).mean() < 2


def test_a_map_has_the_colours_of_its_bar_and_a_ring_around_its_region() -> None:
    inside = brain()
    values = np.zeros(SHAPE, dtype=np.float32)
    values[10, 30, 15], values[12, 30, 15] = 0.1, 0.9
    view = steppers.native_view(inside, AFFINE, PLENTY)
    tiles, ring = steppers.map_tiles(values, inside, view)
    sheet = pixels(steppers.map_sheet(tiles, ring, view, 0.2, "words", PLENTY))
    bar = pixels(steppers.colour_bar(0.2))[0]
    drawn = tile(view, sheet, view.slices.index(15))
    row, column = view.box[3] - 1 - 30, 10 - view.box[0]
    np.testing.assert_array_equal(drawn[row, column], bar[round(0.5 * (len(bar) - 1))])
    np.testing.assert_array_equal(drawn[row, column + 2], bar[-1])
    np.testing.assert_array_equal(drawn[row, column + 1], bar[0])
    grey = (drawn == drawn[..., :1]).all(axis=2) & (drawn[..., 0] > 60)
    region = figures.draw_tiles(inside, view, smooth=False)[:, : view.tile[1]] > 0
    assert grey.any()
    assert not (grey & region).any()


@pytest.mark.parametrize("edge", [60, 180, 300])
def test_four_targets_of_two_sessions_stay_within_the_page(edge: int) -> None:
    rng = np.random.default_rng(3)
    x, y, z = np.meshgrid(*3 * [np.linspace(-1, 1, edge)[:, None, None][:, 0, 0]], indexing="ij")
    x, y, z = (part[:, :, :: max(1, edge // 40)] for part in (x, y, z))
    inside = x**2 + y**2 + z**2 < 0.9
    grain = rng.random(inside.shape, dtype=np.float32)
    image = (0.5 + 0.2 * np.sin(9 * x) * np.cos(7 * y) + 0.1 * grain).astype(np.float32) * inside
    budget = Budget(greys=16, maps=16)
    view = steppers.native_view(inside, np.diag([1.0, 1.0, 3.0, 1.0]), budget)
    assert len(view.slices) >= 8
    grey = steppers.grey_sheet(image, view, "words", budget)
    error = steppers.map_sheet(
        *steppers.map_tiles(0.1 * grain * inside, inside, view), view, 0.1, "words", budget
    )
    assert 16 * (len(grey.data) + len(error.data)) <= steppers.PAGE_BYTES


@pytest.mark.parametrize(("slices", "shown"), [(39, 39), (140, 32)])
def test_thick_slices_are_all_shown_and_thin_ones_evenly(slices: int, shown: int) -> None:
    view = steppers.native_view(np.ones((30, 30, slices)), np.eye(4), PLENTY)
    assert len(view.slices) == shown
    assert (view.slices[0], view.slices[-1]) == (0, slices - 1)
    assert np.ptp(np.diff(view.slices)) <= 1


def test_few_slices_are_each_shown_once_and_no_brain_is_refused() -> None:
    mask = np.zeros((20, 20, 5))
    mask[5:15, 5:15, 1:4] = 1
    assert steppers.native_view(mask, AFFINE, PLENTY).slices == (1, 2, 3)
    with pytest.raises(ValueError, match="empty"):
        steppers.native_view(np.zeros(SHAPE), AFFINE, PLENTY)


def test_it_opens_where_the_lesion_is_largest_or_else_the_brain() -> None:
    view = steppers.native_view(brain(), AFFINE, PLENTY)
    covered, lesion = brain(), np.zeros(SHAPE)
    covered[:10, :, :] = 0
    covered[:, :, 12] = brain()[:, :, 12]
    lesion[12:15, 20:22, 22] = 1
    assert view.slices[steppers.first_slice(view, covered)] == 12
    assert view.slices[steppers.first_slice(view, covered, lesion)] == 22
    assert view.slices[steppers.first_slice(view, covered, np.zeros(SHAPE))] == 12


def stepper_of(derivatives: Any, contrast: str, limit: float = 0.2) -> Stepper:
    files = read_session(None, derivatives.anat())
    budget = steppers.plan_budget([files])
    stepper = Grid(files, "T1w", 150, False, budget).synthesis(contrast).stepper(limit, budget)
    assert stepper is not None
    return stepper


def test_a_stepper_has_sources_then_the_synthesis_the_truth_and_the_maps(derivatives: Any) -> None:
    derivatives.scans("T1w", "FLAIR", "T2w")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], std=derivatives.mask * 20.0)
    stepper = stepper_of(derivatives, "T2w")
    assert [(p.label, p.kind, p.synthetic) for p in stepper.panels] == [
        ("T1w", "grey", False),
        ("FLAIR", "grey", False),
        ("T2w", "grey", True),
        ("T2w", "grey", False),
        ("Error", "map", False),
        ("Uncertainty", "map", False),
    ]
    assert [p.note for p in stepper.panels][:4] == ["source", "source", "synthesised", "real scan"]
    assert stepper.panels[2].sheet.alt.startswith("SYNTHETIC T2w")
    assert len({(p.sheet.width, p.sheet.height) for p in stepper.panels}) == 1
    assert stepper.panels[0].sheet.width == stepper.columns * stepper.tile[1]
    assert list(stepper.heights_mm) == sorted(stepper.heights_mm)


def test_the_error_of_a_perfect_synthesis_is_the_colour_of_zero(derivatives: Any) -> None:
    derivatives.scans("T1w", "T2w")
    perfect = 1000 * normalise(derivatives.scan, derivatives.mask)[0]
    derivatives.synthesis("T2w", ["T1w"], image=perfect)
    sheet = pixels(stepper_of(derivatives, "T2w").panels[-1].sheet)
    colours = {tuple(colour) for colour in sheet.reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 4), (120, 120, 120)}


def test_targets_share_the_sheets_of_their_sources(derivatives: Any) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    derivatives.synthesis("T1ce", ["T1w", "FLAIR"])
    files = read_session(None, derivatives.anat())
    budget = steppers.plan_budget([files])
    assert (budget.greys, budget.maps) == (4, 0)
    grid = Grid(files, "T1w", 150, False, budget)
    first, second = (grid.synthesis(name).stepper(0.1, budget) for name in ("T2w", "T1ce"))
    assert first is not None and second is not None
    assert first.panels[0].sheet is second.panels[0].sheet
    assert first.heights_mm == second.heights_mm


def test_only_slices_that_were_synthesised_can_be_stepped_to(derivatives: Any) -> None:
    made = np.array(derivatives.scan)
    made[:, :, :9] = 0
    derivatives.scans("T1w")
    derivatives.synthesis("T2w", ["T1w"], image=made)
    stepper = stepper_of(derivatives, "T2w")
    # Slices are 5 mm apart, and the first lies at -40 mm.
    assert min(stepper.heights_mm) == pytest.approx(9 * 5 - 40)
