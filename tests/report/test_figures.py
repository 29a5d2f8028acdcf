"""Figures say what they show: sides, proportions, scales and colours."""

from __future__ import annotations

import io

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image, ImageDraw

from colapipe.report import figures
from colapipe.report.figures import Strip, View
from colapipe.slices.intensity import normalise

SHAPE = (20, 24, 16)


def stored_as(data: np.ndarray, axcodes: str) -> nib.Nifti1Image:
    """The same head with its voxels stored in another order, and the affine that says so."""
    ras = nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    change = ornt_transform(io_orientation(ras.affine), axcodes2ornt(tuple(axcodes)))
    image = ras.as_reoriented(change)
    assert "".join(nib.aff2axcodes(image.affine)) == axcodes
    return image


def marked_head() -> tuple[np.ndarray, np.ndarray]:
    """A box of a brain, and a mark at its left, front and top."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2:18, 2:22, 2:14] = 1
    mark = np.zeros(SHAPE, dtype=np.float32)
    mark[3:6, 18:21, 11:14] = 1
    return mask, mark


def pixels(strip: Strip, **options: object) -> np.ndarray:
    """The rendered row as (height, width, 3) RGB."""
    picture = figures.render(strip, **options)  # type: ignore[arg-type]
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"))


def strip_of(tiles: np.ndarray, view: View, kind: str = "map", **more: object) -> Strip:
    return Strip(kind, "Row", "words", tiles, view, **more)  # type: ignore[arg-type]


@pytest.fixture
def view() -> View:
    return figures.choose_view(marked_head()[0], np.diag([2.0, 2.0, 2.0, 1.0]), tile_width=80)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "LAS", "PSR", "SAL"])
def test_the_left_front_top_of_the_head_is_drawn_left_up_last(axcodes: str) -> None:
    mask, mark = marked_head()
    inside, affine = figures.canonical(stored_as(mask, axcodes))
    volume, _ = figures.canonical(stored_as(mark, axcodes))
    view = figures.choose_view(inside, affine, tile_width=80)
    drawn = figures.draw_tiles(volume, view)
    height, width = view.tile
    rows, columns = np.nonzero(drawn > 0.5)
    tile = columns // width
    # Slices run upwards, so the mark near the top is only in the last tiles.
    assert tile.min() >= len(view.slices) - 2
    assert tile.max() == len(view.slices) - 1
    assert (columns % width).max() < width / 2
    assert rows.max() < height / 2


@pytest.mark.parametrize(("letter", "anchor"), [("L", "left"), ("R", "right")])
def test_the_letters_stand_on_the_sides_they_name(view: View, letter: str, anchor: str) -> None:
    height, width = view.tile
    row = pixels(strip_of(np.zeros((height, width * len(view.slices)), np.float32), view, "grey"))
    glyph = trimmed(drawn_letter(letter))
    for number in range(len(view.slices)):
        start = figures._LABEL_WIDTH + number * width
        tile = row[:, start : start + width, 0]
        half = tile[:, : width // 2] if anchor == "left" else tile[:, width // 2 :]
        # The ink in that half is this one letter and nothing else.
        found = trimmed(half > 127)
        assert found.shape == glyph.shape
        assert (found == glyph).mean() > 0.9


def drawn_letter(letter: str) -> np.ndarray:
    canvas = Image.new("L", (40, 40))
    ImageDraw.Draw(canvas).text((10, 30), letter, fill=255, font=figures.font(13), anchor="ls")
    return np.asarray(canvas) > 127


def trimmed(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(ink)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_world_heights_belong_to_the_slices() -> None:
    mask, _ = marked_head()
    affine = np.array([[2.0, 0, 0, -20], [0, 2, 0, -24], [0, 0, 3, -30], [0, 0, 0, 1]], dtype=float)
    view = figures.choose_view(mask, affine)
    assert view.heights_mm == pytest.approx([3 * z - 30 for z in view.slices])


@pytest.mark.parametrize("zooms", [(1.0, 1.0, 1.0), (1.0, 2.5, 4.0), (3.0, 0.75, 1.0)])
def test_a_round_head_is_drawn_round_whatever_the_voxels(zooms: tuple[float, ...]) -> None:
    shape = tuple(round(120 / zoom) for zoom in zooms)
    grid = [(np.arange(n) - (n - 1) / 2) * zoom for n, zoom in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*grid, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 50**2).astype(np.float32)
    view = figures.choose_view(ball, np.diag([*zooms, 1.0]), tile_width=150)
    middle = figures.draw_tiles(ball, view)[:, 3 * 150 : 4 * 150] > 0.5
    rows, columns = np.nonzero(middle)
    drawn = (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
    assert drawn == pytest.approx(1, abs=0.06)


def test_fewer_slices_than_wanted_are_each_drawn_once() -> None:
    mask = np.zeros((20, 20, 3))
    mask[5:15, 5:15] = 1
    assert figures.choose_view(mask, np.eye(4)).slices == (0, 1, 2)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        figures.choose_view(np.zeros(SHAPE), np.eye(4))


def test_a_four_dimensional_image_is_refused_unless_it_has_one_volume() -> None:
    one = nib.Nifti1Image(np.zeros((4, 5, 6, 1), np.float32), np.eye(4))
    assert figures.canonical(one)[0].shape == (4, 5, 6)
    with pytest.raises(ValueError, match="4 dimensions"):
        figures.canonical(nib.Nifti1Image(np.zeros((4, 5, 6, 2), np.float32), np.eye(4)))


def test_the_error_is_exactly_zero_where_both_are_equal() -> None:
    mask = marked_head()[0]
    truth = np.random.default_rng(1).random(SHAPE) * 800
    shown = normalise(truth, mask)[0]
    assert not figures.error_map(shown, truth, mask).any()
    # The units of a real scan are arbitrary: a gain and an offset are no error.
    assert figures.error_map(shown, 2 * truth + 30, mask).max() == pytest.approx(0, abs=1e-5)
    shown[10, 10, 5] += 0.5
    error = figures.error_map(shown, truth, mask)
    assert error[10, 10, 5] == pytest.approx(0.5)
    assert np.count_nonzero(error) == 1


def test_a_synthesised_image_keeps_its_brightness() -> None:
    mask = np.zeros((2, 2, 2), dtype=bool)
    mask[0] = True
    made = np.array([[[0, 250], [1000, 1200]], [[500, 500], [500, 500]]])
    np.testing.assert_array_equal(
        figures.own_scale(made, mask), [[[0, 0.25], [1, 1]], [[0, 0], [0, 0]]]
    )


def test_slices_that_were_not_synthesised_are_left_out_of_the_comparison() -> None:
    mask = marked_head()[0]
    made = np.ones(SHAPE) * mask
    made[:, :, :6] = 0
    covered = figures.covered_mask(made, mask)
    assert not covered[:, :, :6].any()
    np.testing.assert_array_equal(covered[:, :, 6:], mask[:, :, 6:] != 0)


@pytest.mark.parametrize(
    ("values", "limit"),
    [([], 0.05), ([0.001], 0.05), ([0.07, 0.12], 0.15), ([0.9], 1.0), ([2.3], 3.0)],
)
def test_maps_share_the_limit_of_the_largest(values: list[float], limit: float) -> None:
    assert figures.shared_limit(values) == limit


def test_equal_values_have_equal_colours_in_all_maps(view: View) -> None:
    height, width = view.tile
    quiet, loud = (np.zeros((height, width * len(view.slices)), np.float32) for _ in range(2))
    quiet[20, 30] = loud[20, 30] = 0.08
    loud[20, 50] = 0.9
    left = figures._LABEL_WIDTH
    first, second = (
        pixels(strip_of(quiet, view), limit=0.2),
        pixels(strip_of(loud, view), limit=0.2),
    )
    np.testing.assert_array_equal(first[20, left + 30], second[20, left + 30])
    assert first[20, left + 30].any()
    # Beyond the limit: the brightest colour, the one at the top of the bar.
    np.testing.assert_array_equal(second[20, left + 50], figures._INFERNO[-1])
    bar = second[:, -figures._BAR_WIDTH + 20]
    np.testing.assert_array_equal(bar[14], figures._INFERNO[-1])
    np.testing.assert_array_equal(bar[height - 15], figures._INFERNO[0])
    np.testing.assert_array_equal(first[:, -figures._BAR_WIDTH :], second[:, -figures._BAR_WIDTH :])


def test_a_picture_of_a_map_has_a_bar_and_of_a_scan_has_none(view: View) -> None:
    tiles = np.zeros((view.tile[0], view.tile[1] * len(view.slices)), np.float32)
    assert pixels(strip_of(tiles, view))[:, -figures._BAR_WIDTH :].max() > 200
    assert pixels(strip_of(tiles, view, "grey"))[:, -figures._BAR_WIDTH :].max() == 0


def test_grey_values_keep_their_order_from_black_to_white(view: View) -> None:
    tiles = np.zeros((view.tile[0], view.tile[1] * len(view.slices)), np.float32)
    tiles[20, :40] = np.linspace(0, 1, 40)
    left = figures._LABEL_WIDTH
    row = pixels(strip_of(tiles, view, "grey"))[20, left : left + 40].astype(int)
    assert (row == row[:, :1]).all()
    assert (np.diff(row[:, 0]) > 0).all()
    assert (row[0, 0], row[-1, 0]) == (0, 255)


def test_only_a_synthetic_row_has_the_label_that_says_so(view: View) -> None:
    tiles = np.zeros((view.tile[0], view.tile[1] * len(view.slices)), np.float32)
    label = np.s_[: view.tile[0], : figures._LABEL_WIDTH]
    marked = pixels(strip_of(tiles, view, "grey", synthetic=True))[label]
    plain = pixels(strip_of(tiles, view, "grey"))[label]
    assert (marked == 255).all(axis=2).sum() > 1000
    assert (plain == 255).all(axis=2).sum() < 200


def test_the_contour_is_the_edge_of_the_mask_and_inside_it(view: View) -> None:
    mask = marked_head()[0]
    outline = figures.draw_outline(mask, view)
    inside = figures.draw_tiles(mask, view, smooth=False) > 0.5
    assert outline.any()
    assert not (outline & ~inside).any()
    assert outline.sum() < 0.2 * inside.sum()
