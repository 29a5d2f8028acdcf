"""The model grid, the crop and the way back: nothing moves, and what can be exact is exact."""

from __future__ import annotations

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from colapipe.slices import (
    CropBox,
    ModelGrid,
    crop,
    crop_box,
    cropped_affine,
    from_model_grid,
    mask_to_model_grid,
    model_grid,
    paste_back,
    select_slices,
    slices_with_brain,
    to_model_grid,
)

ORIENTATIONS = [
    "".join(pair[flip] for pair, flip in zip(pairs, flips, strict=True))
    for pairs in itertools.permutations(("RL", "AP", "SI"))
    for flips in itertools.product((0, 1), repeat=3)
]


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """Return a rotation about x, then y, then z, angles in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles)):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def oriented_affine(
    codes: str, shape: tuple[int, int, int], zooms: tuple[float, ...] = (1, 1, 1)
) -> np.ndarray:
    """Return an affine for an image stored as ``codes``; shape and zooms in storage order."""
    ornt = axcodes2ornt(codes)
    order = np.argsort(ornt[:, 0])
    ras = np.diag([*np.asarray(zooms, dtype=float)[order], 1.0])
    ras[:3, 3] = (-31.5, 17.25, 40.0)
    # inv_ornt_aff maps indices in RAS order to indices in storage order.
    return ras @ np.linalg.inv(inv_ornt_aff(ornt, shape))


def random_image(shape, affine, seed=0) -> nib.Nifti1Image:
    data = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    return nib.Nifti1Image(data, affine)


def smooth_field(affine: np.ndarray, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Sample a random function of world space that is smooth on the scale of 2 mm.

    A sum of plane waves with the spectrum of white noise after a Gaussian of 2 mm.
    """
    rng = np.random.default_rng(seed)
    waves = rng.normal(0, 1 / (np.sqrt(2) * 2.0), (150, 3))
    phases = rng.uniform(0, 2 * np.pi, 150) + waves @ affine[:3, 3]
    steps = waves @ affine[:3, :3]
    lines = [np.exp(1j * np.outer(steps[:, axis], np.arange(shape[axis]))) for axis in range(3)]
    lines[0] *= np.exp(1j * phases)[:, None]
    return np.einsum("ni,nj,nk->ijk", *lines, optimize=True).real.astype(np.float32)


def ellipsoid(affine: np.ndarray, shape: tuple[int, ...], semi_axes=(22, 26, 20)) -> np.ndarray:
    """Return a brain-like mask at the centre of the field of view."""
    centre = affine @ [*(np.asarray(shape) - 1) / 2, 1]
    indices = np.indices(shape).reshape(3, -1)
    world = (affine[:3, :3] @ indices).T + affine[:3, 3] - centre[:3]
    return (((world / semi_axes) ** 2).sum(axis=1) < 1).reshape(shape)


def centre_of_view(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return (affine @ [*(np.asarray(shape) - 1) / 2, 1])[:3]


# --- the model grid ------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_1mm_reference_is_only_permuted_and_flipped_and_comes_back_bit_for_bit(codes):
    shape = (7, 10, 13)
    image = random_image(shape, oriented_affine(codes, shape))
    assert "".join(nib.aff2axcodes(image.affine)) == codes
    grid = model_grid(image.affine, shape)
    canonical = nib.as_closest_canonical(image)

    on_grid = to_model_grid(image, grid)
    np.testing.assert_array_equal(on_grid, canonical.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(grid.affine, canonical.affine, atol=1e-12)
    assert on_grid.shape == grid.shape
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")

    back = from_model_grid(on_grid, grid, image)
    np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(image.dataobj))
    np.testing.assert_array_equal(back.affine, image.affine)


@pytest.mark.parametrize(
    ("codes", "angles"),
    [
        *((codes, (0, 0, 0)) for codes in ORIENTATIONS),
        *((codes, (12, 8, -15)) for codes in ("RAS", "LPS", "PSR")),
    ],
)
def test_crop_and_paste_back_restore_grid_affine_and_values(codes, angles):
    shape, zooms = (31, 24, 17), (0.9, 1.3, 2.0)
    affine = oriented_affine(codes, shape, zooms)
    affine[:3] = rotation(angles) @ affine[:3]
    grid = model_grid(affine, shape)
    mask = ellipsoid(grid.affine, grid.shape, (9, 11, 8))
    volume = np.where(mask, random_image(grid.shape, grid.affine).get_fdata(), 0)

    box = crop_box(mask, size=23)
    cut = crop(volume, box)
    assert cut.shape == (23, 23, grid.shape[2])
    np.testing.assert_array_equal(paste_back(cut, box, grid.shape), volume)

    # A voxel of the cropped volume keeps its place in the world.
    voxel = np.argwhere(crop(mask, box))[5]
    in_grid = voxel + np.asarray([*box.start, 0])
    assert cut[tuple(voxel)] == volume[tuple(in_grid)]
    np.testing.assert_allclose(
        cropped_affine(grid.affine, box) @ [*voxel, 1], grid.affine @ [*in_grid, 1], atol=1e-9
    )


def test_the_grid_does_not_depend_on_how_the_reference_is_stored():
    shape, zooms = (30, 41, 13), (0.9, 0.7, 3.1)
    grids = []
    for codes in ORIENTATIONS:
        order = [int(axis) for axis in axcodes2ornt(codes)[:, 0]]
        stored_shape = tuple(shape[axis] for axis in order)
        stored_zooms = tuple(zooms[axis] for axis in order)
        grids.append(model_grid(oriented_affine(codes, stored_shape, stored_zooms), stored_shape))
    for grid in grids:
        assert grid.shape == grids[0].shape
        np.testing.assert_allclose(grid.affine, grids[0].affine, atol=1e-9)


@pytest.mark.parametrize("zooms", [(0.9, 0.9, 0.9), (0.94, 0.94, 1.2), (0.5, 0.43, 4.0), (2, 1, 1)])
def test_the_grid_covers_the_field_of_view_and_shares_its_centre(zooms):
    shape = (41, 38, 22)
    affine = np.eye(4)
    affine[:3, :3] = rotation((5, -11, 20)) * zooms
    affine[:3, 3] = (10, -20, 30)
    grid = model_grid(affine, shape)
    extent, grid_extent = np.multiply(shape, zooms), np.asarray(grid.shape)
    assert (grid_extent >= extent - 0.011).all()
    assert (grid_extent < extent + 1).all()
    np.testing.assert_allclose(
        centre_of_view(grid.affine, grid.shape), centre_of_view(affine, shape), atol=1e-9
    )
    np.testing.assert_allclose(nib.affines.voxel_sizes(grid.affine), 1)


def test_an_oblique_reference_keeps_its_axes():
    shape = (20, 24, 9)
    affine = np.eye(4)
    affine[:3, :3] = rotation((12, 8, -15)) * (0.8, 0.8, 3.0)
    grid = model_grid(affine, shape)
    np.testing.assert_allclose(grid.affine[:3, :3] * (0.8, 0.8, 3.0), affine[:3, :3], atol=1e-12)

    oblique_1mm = np.eye(4)
    oblique_1mm[:3, :3] = rotation((12, 8, -15))
    image = random_image(shape, oblique_1mm)
    grid = model_grid(oblique_1mm, shape)
    np.testing.assert_array_equal(to_model_grid(image, grid), np.asarray(image.dataobj))


def test_voxels_within_a_micrometre_of_1mm_are_kept():
    affine = np.diag([1.0004, 0.9993, 1.0, 1.0])
    shape = (240, 240, 155)
    grid = model_grid(affine, shape)
    assert grid.shape == shape
    np.testing.assert_allclose(grid.affine, affine)


def test_rounding_of_voxel_sizes_adds_no_slice():
    affine = np.diag([*np.float32([0.9375, 0.9375, 1.2]).astype(float), 1.0])
    assert model_grid(affine, (256, 256, 150)).shape == (240, 240, 180)


def test_a_single_slice_is_a_volume():
    image = random_image((20, 20, 1), np.diag([1, 1, 5.0, 1]))
    grid = model_grid(image.affine, image.shape)
    assert grid.shape == (20, 20, 5)
    on_grid = to_model_grid(image, grid)
    for z in range(5):
        np.testing.assert_allclose(on_grid[:, :, z], image.get_fdata()[:, :, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("affine", "shape", "message"),
    [
        (np.diag([1, 1, 0, 1]), (4, 4, 4), "singular"),
        (np.diag([1, 1, np.nan, 1]), (4, 4, 4), "singular"),
        (np.eye(4), (4, 4, 4, 2), "three dimensions"),
    ],
)
def test_an_image_without_geometry_is_refused(affine, shape, message):
    with pytest.raises(ValueError, match=message):
        model_grid(affine, shape)


def test_an_image_on_another_grid_is_refused():
    shape = (10, 11, 12)
    grid = model_grid(np.eye(4), shape)
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    with pytest.raises(ValueError, match="not on the reference grid"):
        to_model_grid(random_image(shape, shifted), grid)
    with pytest.raises(ValueError, match="not on the reference grid"):
        from_model_grid(np.zeros(grid.shape), grid, random_image((10, 11, 13), np.eye(4)))
    with pytest.raises(ValueError, match="expected"):
        from_model_grid(np.zeros((3, 3, 3)), grid, random_image(shape, np.eye(4)))
    with pytest.raises(ValueError, match="expected 0, 1 or 3"):
        to_model_grid(random_image(shape, np.eye(4)), grid, order=2)


# --- resampling ----------------------------------------------------------------------------------

TOLERANCE_CASES = [(0.9, 0.9, 0.9), (0.94, 0.94, 1.2), (0.5, 0.5, 4.0), (0.43, 0.43, 3.3)]


@pytest.fixture(scope="module", params=TOLERANCE_CASES, ids=lambda zooms: "x".join(map(str, zooms)))
def smooth_case(request):
    """A smooth image in [0, 1] and a brain mask, on an oblique LPS-stored grid."""
    zooms = request.param
    shape = tuple(round(60 / zoom) for zoom in zooms)
    affine = np.eye(4)
    affine[:3, :3] = rotation((4, -6, 9)) @ np.diag([-1, -1, 1]) * zooms
    affine[:3, 3] = (28, 31, -33)
    field = smooth_field(affine, shape)
    low, high = float(field.min()), float(field.max())
    image = nib.Nifti1Image((field - low) / (high - low), affine)
    return image, ellipsoid(affine, shape), (low, high)


def test_round_trip_of_a_smooth_image_keeps_the_stated_tolerance(smooth_case):
    image, brain, _ = smooth_case
    grid = model_grid(image.affine, image.shape)
    back = from_model_grid(to_model_grid(image, grid), grid, image)
    error = np.abs(np.asarray(back.dataobj) - np.asarray(image.dataobj))
    assert error[brain].mean() <= 0.001
    assert back.get_data_dtype() == np.float32
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-6)


def test_round_trip_with_a_blank_background_keeps_the_stated_tolerance(smooth_case):
    image, brain, _ = smooth_case
    truth = np.where(brain, np.asarray(image.dataobj), 0)
    grid = model_grid(image.affine, image.shape)
    mask = mask_to_model_grid(nib.Nifti1Image(brain.astype(np.uint8), image.affine), grid)
    errors = []
    for known, known_on_grid in ((brain, mask), (None, None)):
        on_grid = to_model_grid(nib.Nifti1Image(truth, image.affine), grid, mask=known) * mask
        back = from_model_grid(on_grid, grid, image, mask=known_on_grid)
        errors.append(np.abs(np.asarray(back.dataobj) - truth)[brain].mean())
    assert errors[0] <= 0.002
    assert errors[1] > 5 * errors[0]  # what passing the mask is for


def test_round_trip_of_a_mask_keeps_the_stated_overlap(smooth_case):
    image, brain, _ = smooth_case
    grid = model_grid(image.affine, image.shape)
    on_grid = mask_to_model_grid(nib.Nifti1Image(brain.astype(np.uint8), image.affine), grid)
    back = np.asarray(from_model_grid(on_grid, grid, image, order=1).dataobj) >= 0.5
    assert 2 * (back & brain).sum() / (back.sum() + brain.sum()) >= 0.99


def test_values_keep_their_place_in_the_world(smooth_case):
    image, _, (low, high) = smooth_case
    grid = model_grid(image.affine, image.shape)
    truth = (smooth_field(grid.affine, grid.shape) - low) / (high - low)
    on_grid = to_model_grid(image, grid)
    inside = ellipsoid(grid.affine, grid.shape)
    # Thick slices hide detail, so the absolute error depends on them; a shift by one voxel
    # along any axis must always be worse.
    error = np.abs(on_grid - truth)[inside].mean()
    assert error < (0.01 if max(nib.affines.voxel_sizes(image.affine)) < 2 else 0.06)
    for axis, step in itertools.product(range(3), (-1, 1)):
        moved = np.roll(on_grid, step, axis=axis)
        assert np.abs(moved - truth)[inside].mean() > 1.5 * error


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("seed", range(12))
def test_a_marker_stays_where_it_is_for_random_geometry(seed, order):
    rng = np.random.default_rng(seed)
    zooms = rng.uniform(0.6, 2.5, 3)
    shape = tuple(int(n) for n in rng.integers(12, 25, 3))
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation(tuple(rng.uniform(-20, 20, 3))) @ axes * zooms
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    grid = model_grid(affine, shape)

    # A blob whose centre of mass is known, well inside the field of view.
    centre = np.asarray(shape) * rng.uniform(0.4, 0.6, 3)
    world = (affine @ [*centre, 1])[:3]
    positions = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    blob = np.exp(-((positions - world) ** 2).sum(axis=-1) / (2 * 2.5**2)).astype(np.float32)
    image = nib.Nifti1Image(blob, affine)

    def centre_of_mass(data: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        index = (np.indices(data.shape) * data).sum(axis=(1, 2, 3)) / data.sum()
        return (matrix @ [*index, 1])[:3]

    stored = centre_of_mass(blob, affine)
    on_grid = to_model_grid(image, grid, order=order)
    back = from_model_grid(on_grid, grid, image, order=order)
    assert np.linalg.norm(centre_of_mass(on_grid, grid.affine) - stored) < 0.5
    assert np.linalg.norm(centre_of_mass(np.asarray(back.dataobj), back.affine) - stored) < 0.5
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")
    assert back.shape == shape


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "AIL"])
def test_a_marker_voxel_is_exact_at_1mm_and_within_half_a_voxel_otherwise(codes):
    for zooms in ((1, 1, 1), (0.5, 0.9, 4.0)):
        shape = (21, 17, 11)
        affine = oriented_affine(codes, shape, zooms)
        data = np.zeros(shape, dtype=np.float32)
        data[13, 6, 4] = 1
        image = nib.Nifti1Image(data, affine)
        grid = model_grid(affine, shape)
        on_grid = to_model_grid(image, grid, order=1)
        brightest = np.argwhere(on_grid == on_grid.max()).mean(axis=0)
        # The distance in voxels of the reference, along its axes.
        found = np.linalg.inv(affine) @ grid.affine @ [*brightest, 1]
        distance = np.abs(found[:3] - (13, 6, 4)) * np.minimum(zooms, 1)
        assert distance.max() < (1e-6 if zooms == (1, 1, 1) else 0.5)


def test_a_thick_slice_is_the_mean_of_what_it_covers():
    reference = nib.Nifti1Image(np.zeros((8, 8, 5), np.float32), np.diag([1, 1, 4.0, 1]))
    grid = model_grid(reference.affine, reference.shape)
    assert grid.shape == (8, 8, 20)
    thin = np.random.default_rng(1).random(grid.shape, dtype=np.float32)
    for order in (1, 3):
        thick = np.asarray(from_model_grid(thin, grid, reference, order=order).dataobj)
        np.testing.assert_allclose(thick, thin.reshape(8, 8, 5, 4).mean(axis=3), atol=1e-6)


def test_thick_slices_come_back_as_they_were():
    image = random_image((8, 8, 5), np.diag([1, 1, 4.0, 1]))
    grid = model_grid(image.affine, image.shape)
    smooth = np.clip(np.asarray(image.dataobj), 60, 140)
    # Two outliers leave room, so that clipping to the range does not touch the rest.
    smooth[0, 0, 0], smooth[7, 7, 4] = 0, 300
    image = nib.Nifti1Image(smooth, image.affine)
    back = from_model_grid(to_model_grid(image, grid), grid, image)
    inner = np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(np.asarray(back.dataobj)[inner], smooth[inner], rtol=1e-4)


def test_fine_voxels_are_averaged_not_skipped():
    """Noise at 0.5 mm keeps its mean and loses its variance; picking voxels would keep both."""
    noise = random_image((40, 40, 10), np.diag([0.5, 0.5, 1, 1]))
    grid = model_grid(noise.affine, noise.shape)
    for order in (1, 3):
        on_grid = to_model_grid(noise, grid, order=order)
        expected = np.asarray(noise.dataobj).reshape(20, 2, 20, 2, 10).mean(axis=(1, 3))
        np.testing.assert_allclose(on_grid, expected, atol=1e-3)


@pytest.mark.parametrize("zooms", TOLERANCE_CASES)
def test_probabilities_stay_probabilities(zooms):
    shape = (30, 26, 12)
    rng = np.random.default_rng(3)
    tissues = rng.dirichlet([0.3, 0.3, 0.3], shape).astype(np.float32)
    affine = np.diag([*zooms, 1.0])
    grid = model_grid(affine, shape)
    maps = [to_model_grid(nib.Nifti1Image(tissues[..., k], affine), grid, 1) for k in range(3)]
    assert min(m.min() for m in maps) >= 0
    np.testing.assert_allclose(sum(maps), 1, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
def test_a_constant_stays_constant_and_the_range_is_kept(order):
    affine = np.diag([0.7, 1.3, 3.1, 1])
    grid = model_grid(affine, (20, 15, 9))
    flat = nib.Nifti1Image(np.full((20, 15, 9), 7.0, np.float32), affine)
    np.testing.assert_allclose(to_model_grid(flat, grid, order=order), 7, rtol=1e-6)
    step = np.zeros((20, 15, 9), np.float32)
    step[8:] = 1
    on_grid = to_model_grid(nib.Nifti1Image(step, affine), grid, order=order)
    assert on_grid.min() >= 0
    assert on_grid.max() <= 1


def test_labels_stay_labels():
    labels = np.random.default_rng(4).choice(np.array([0, 1, 3, 4], np.uint8), (20, 15, 9))
    image = nib.Nifti1Image(labels, np.diag([0.7, 1.3, 3.1, 1]))
    grid = model_grid(image.affine, image.shape)
    on_grid = to_model_grid(image, grid, order=0)
    assert on_grid.dtype == np.uint8
    assert set(np.unique(on_grid)) <= {0, 1, 3, 4}
    back = from_model_grid(on_grid, grid, image, order=0)
    assert back.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(back.dataobj))) <= {0, 1, 3, 4}


def test_what_lies_outside_the_mask_has_no_influence():
    image = random_image((24, 24, 8), np.diag([0.8, 0.8, 3, 1]))
    brain = ellipsoid(image.affine, image.shape, (6, 7, 8))
    wild = np.where(brain, np.asarray(image.dataobj), 1e6).astype(np.float32)
    grid = model_grid(image.affine, image.shape)
    mask = mask_to_model_grid(nib.Nifti1Image(brain.astype(np.uint8), image.affine), grid)
    expected = to_model_grid(image, grid, order=1, mask=brain)
    out = to_model_grid(nib.Nifti1Image(wild, image.affine), grid, order=1, mask=brain)
    np.testing.assert_array_equal(out[mask > 0], expected[mask > 0])
    with pytest.raises(ValueError, match="mask is empty"):
        to_model_grid(image, grid, mask=np.zeros(image.shape))


def test_inputs_are_left_alone_and_nothing_is_shared():
    image = random_image((6, 7, 8), np.eye(4))
    before = np.asarray(image.dataobj).copy()
    grid = model_grid(image.affine, image.shape)
    for order in (0, 3):
        out = to_model_grid(image, grid, order=order)
        out[:] = -1
        on_grid = before.copy()
        back = from_model_grid(on_grid, grid, image, order=order)
        np.asarray(back.dataobj)[:] = -2
        np.testing.assert_array_equal(on_grid, before)
    np.testing.assert_array_equal(np.asarray(image.dataobj), before)


def test_the_way_back_keeps_the_codes_of_the_reference():
    image = random_image((10, 11, 12), oriented_affine("PSR", (10, 11, 12), (0.9, 0.9, 1.2)))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 4)
    grid = model_grid(image.affine, image.shape)
    back = from_model_grid(to_model_grid(image, grid), grid, image)
    assert int(back.header["qform_code"]) == 1
    assert int(back.header["sform_code"]) == 4
    assert back.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(back.get_qform(), image.get_qform(), atol=1e-6)


def test_the_same_input_gives_the_same_bytes():
    image = random_image((20, 21, 9), np.diag([0.7, 0.8, 3.1, 1]))
    grid = model_grid(image.affine, image.shape)
    assert to_model_grid(image, grid).tobytes() == to_model_grid(image, grid).tobytes()


# --- the crop ------------------------------------------------------------------------------------


def test_the_box_is_centred_on_the_brain():
    mask = np.zeros((240, 250, 5))
    mask[40:180, 30:210, 1:4] = 1
    box = crop_box(mask)
    assert box == CropBox((110 - 112, 120 - 112), 224, 0)
    inside = np.argwhere(crop(mask, box))
    assert inside.min(axis=0)[:2].tolist() == [42, 22]
    assert (223 - inside.max(axis=0)[:2]).tolist() == [42, 22]


@pytest.mark.parametrize("shape", [(240, 240, 3), (182, 218, 3), (223, 225, 3), (60, 61, 3)])
@pytest.mark.parametrize("corner", [(0, 0), (-1, 0), (0, -1), (-1, -1)])
def test_brains_near_the_border_are_cropped_and_restored(shape, corner):
    mask = np.zeros(shape, dtype=np.uint8)
    x, y = (slice(0, 51) if side == 0 else slice(-51, None) for side in corner)
    mask[x, y] = 1
    volume = random_image(shape, np.eye(4)).get_fdata() * mask
    box = crop_box(mask)
    cut = crop(volume, box)
    assert cut.shape == (224, 224, shape[2])
    assert box.clipped == 0
    np.testing.assert_array_equal(paste_back(cut, box, shape), volume)
    np.testing.assert_array_equal(crop(paste_back(cut, box, shape), box), cut)


def test_a_brain_wider_than_the_box_is_counted_as_clipped():
    mask = np.zeros((12, 30, 4), dtype=np.uint8)
    mask[3:9, 2:27, 1:3] = 1
    box = crop_box(mask, size=20)
    assert box.clipped == (25 - 20) * 6 * 2
    assert mask.sum() - crop(mask, box).sum() == box.clipped
    assert box.to_dict()["clipped"] == box.clipped


def test_a_box_outside_the_grid_is_empty():
    volume = np.ones((10, 10, 2))
    box = CropBox((-30, 4), 8)
    assert not crop(volume, box).any()
    assert not paste_back(np.ones((8, 8, 2)), box, volume.shape).any()


def test_paste_back_fills_the_rest():
    pasted = paste_back(np.ones((4, 4, 2)), CropBox((1, 2), 4), (10, 10, 2), fill=np.nan)
    assert np.isnan(pasted).sum() == 200 - 32
    assert (pasted[1:5, 2:6] == 1).all()


def test_a_crop_of_another_size_is_not_pasted():
    with pytest.raises(ValueError, match="expected"):
        paste_back(np.ones((4, 5, 2)), CropBox((0, 0), 4), (10, 10, 2))
    with pytest.raises(ValueError, match="expected"):
        paste_back(np.ones((4, 4, 3)), CropBox((0, 0), 4), (10, 10, 2))


def test_data_type_and_further_axes_survive_the_crop():
    volume = np.arange(6 * 7 * 2 * 3, dtype=np.int16).reshape(6, 7, 2, 3)
    box = CropBox((-1, -2), 12)
    cut = crop(volume, box)
    assert cut.dtype == np.int16
    assert cut.shape == (12, 12, 2, 3)
    np.testing.assert_array_equal(paste_back(cut, box, volume.shape[:3]), volume)


def test_an_empty_mask_has_no_box():
    with pytest.raises(ValueError, match="empty"):
        crop_box(np.zeros((5, 5, 5)))


def test_boxes_and_grids_survive_json():
    box = CropBox((-3, 8), 224, 17)
    assert CropBox.from_dict(json.loads(json.dumps(box.to_dict()))) == box
    grid = model_grid(oriented_affine("PSR", (20, 21, 22), (0.94, 0.94, 1.2)), (20, 21, 22))
    again = ModelGrid.from_dict(json.loads(json.dumps(grid.to_dict())))
    assert again.shape == grid.shape
    np.testing.assert_array_equal(again.affine, grid.affine)


# --- slices --------------------------------------------------------------------------------------


def test_slices_are_selected_by_the_area_of_brain():
    mask = np.zeros((224, 224, 5), dtype=np.uint8)
    flat = mask.reshape(-1, 5)
    for z, area in enumerate((0, 1, 7526, 7527, 224 * 224)):
        flat[:area, z] = 1
    assert select_slices(mask) == [3, 4]  # 15 % of 224 x 224 is 7526.4
    assert select_slices(mask, min_fraction=0.5) == [4]
    assert slices_with_brain(mask) == [1, 2, 3, 4]


def test_slice_indices_are_plain_numbers():
    mask = np.ones((4, 4, 3))
    assert json.dumps(select_slices(mask)) == json.dumps(slices_with_brain(mask)) == "[0, 1, 2]"


# --- the whole way -------------------------------------------------------------------------------


def test_reference_to_crop_and_back_is_exact_at_1mm():
    shape = (40, 52, 46)
    affine = oriented_affine("PSR", shape)
    brain = ellipsoid(affine, shape, (12, 14, 10))
    image = nib.Nifti1Image(np.where(brain, random_image(shape, affine).get_fdata(), 0), affine)
    mask = nib.Nifti1Image(brain.astype(np.uint8), affine)
    grid = model_grid(affine, shape)
    on_grid, mask_on_grid = to_model_grid(image, grid, mask=brain), mask_to_model_grid(mask, grid)
    box = crop_box(mask_on_grid)
    cut = crop(on_grid * mask_on_grid, box)
    pasted = paste_back(cut, box, grid.shape)
    back = from_model_grid(pasted, grid, image, mask=mask_on_grid)
    np.testing.assert_array_equal(
        np.asarray(back.dataobj) * brain, np.asarray(image.dataobj).astype(np.float32)
    )


REAL_SCANS = {
    "brats_raw/sub-Brats182013201/anat/sub-Brats182013201_T1w.nii.gz": 0.0,
    "openms_mni/sub-ms07/anat/sub-ms07_T1w.nii.gz": 0.0,
    "ixi_t1/sub-IXI296native/anat/sub-IXI296native_T1w.nii.gz": 0.01,
    "openms_native/sub-mslong01/ses-01/anat/sub-mslong01_ses-01_T1w.nii.gz": 0.01,
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL_SCANS, ids=lambda name: name.split("/")[0])
def test_real_scans_come_back_exactly_at_1mm_and_within_one_percent_otherwise(shared_data, name):
    """Noise finer than 1 mm is lost, so the tolerance is wider than for a smooth image."""
    image = nib.load(shared_data / name)
    grid = model_grid(image.affine, image.shape)
    back = np.asarray(from_model_grid(to_model_grid(image, grid), grid, image).dataobj)
    scan = image.get_fdata(dtype=np.float32)
    head = scan > np.percentile(scan[scan > 0], 10)
    low, high = np.percentile(scan[head], (0.1, 99.9))
    assert np.abs(back - scan)[head].mean() <= REAL_SCANS[name] * (high - low)
    if REAL_SCANS[name] == 0:
        np.testing.assert_array_equal(back, scan)
