"""Heads: the MNI152 brain, deformed for each subject, inside a head of simple shells.

The brain is the symmetric ICBM 2009a template [1]_ that comes in nilearn's wheel (brain-extracted
T1, grey and white matter maps, 1 mm). Averages of 152 people show few sulci, so fluid is read from
the darkness of the T1 map. Everything outside the brain is made of distances: fluid, skull with
marrow, fat, muscle, skin, eyes, airways and the spinal canal. Nobody's face is in it.

References
----------
.. [1] Fonov et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage
   2011; 54:313-327. Copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal
   Neurological Institute, McGill University.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from colapipe.errors import MissingToolError

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]

FIELD_OF_VIEW = np.array([[-96.0, 96.0], [-132.0, 100.0], [-104.0, 104.0]])
"""Box that holds every head: first and last millimetre towards right, anterior, superior."""

CORD_LEVEL = -66.0
"""Height, mm, below which the template's brain stem is continued as a spinal cord."""

_SHELL_GRID = 2.0  # mm; the shells are smooth, and distances on this grid are quick
_PERIOD = 300.0  # mm; smooth fields are cosine series over a box this long


@dataclass(frozen=True)
class Template:
    """The template and what is derived from it, on their own grids.

    Attributes
    ----------
    maps : dict of str to numpy.ndarray
        ``wm`` and ``csf`` (X, Y, Z) float32 in [0, 1], 1 mm, inside the template's brain.
    affine : numpy.ndarray
        4x4 of the maps, voxels to MNI millimetres.
    distances : dict of str to numpy.ndarray
        Signed distances in mm, negative inside, on a 2 mm grid: ``brain``, ``inner`` (inner
        table of the skull) and ``skin``.
    distance_affine : numpy.ndarray
        4x4 of the distances.
    """

    maps: dict[str, np.ndarray]
    affine: np.ndarray
    distances: dict[str, np.ndarray]
    distance_affine: np.ndarray


@dataclass(frozen=True)
class Head:
    """The tissues of one subject on an isotropic grid along right, anterior and superior.

    Attributes
    ----------
    tissues : dict of str to numpy.ndarray
        Volume fractions (X, Y, Z) float32 in [0, 1], by the names of the signal table. What is
        missing to 1 is bone or air.
    brain : numpy.ndarray
        (X, Y, Z) bool, the brain with the fluid between its folds, without the spinal cord.
    affine : numpy.ndarray
        4x4, voxels to the subject's own millimetres.
    """

    tissues: dict[str, np.ndarray]
    brain: np.ndarray
    affine: np.ndarray


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template from nilearn's wheel; nothing is downloaded.

    Raises
    ------
    MissingToolError
        If nilearn is not installed.
    """
    try:
        from nilearn import datasets
    except ImportError as error:
        raise MissingToolError(
            "The simulated anatomy needs nilearn, which is not installed. "
            'Install it with: pip install "colapipe[demo]"'
        ) from error
    t1_image = datasets.load_mni152_template(resolution=1)
    affine = np.asarray(t1_image.affine, dtype=np.float64)
    t1, gm, wm = (
        np.asarray(image.dataobj, dtype=np.float32)
        for image in (
            t1_image,
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
        )
    )
    brain = t1 > 0
    sure_gm = float(np.median(t1[brain & (gm > 0.95) & (wm < 0.02)]))
    sure_wm = float(np.median(t1[wm > 0.98]))
    # A voxel darker than its mixture of GM and WM holds fluid; ventricles are about 0.25.
    sure_csf = float(np.median(t1[brain & (gm + wm < 0.2)]))
    csf = (sure_gm + (sure_wm - sure_gm) * wm - t1) / (sure_gm - sure_csf)
    maps = {"wm": np.where(brain, wm, 0), "csf": np.where(brain, np.clip(csf, 0, 1), 1)}
    maps = {name: values.astype(np.float32) for name, values in maps.items()}
    distances, distance_affine = _shells(brain, affine)
    return Template(maps, affine, distances, distance_affine)


def _shells(brain: np.ndarray, affine: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Grow a skull and a skin around the brain; return signed distances to them."""
    low, high = FIELD_OF_VIEW[:, 0] - 20, FIELD_OF_VIEW[:, 1] + 20
    x, y, z = np.meshgrid(
        *(np.arange(a, b, _SHELL_GRID) for a, b in zip(low, high, strict=True)),
        indexing="ij",
        sparse=True,
    )
    grid = np.diag([_SHELL_GRID] * 3 + [1.0])
    grid[:3, 3] = low
    shape = np.broadcast_shapes(x.shape, y.shape, z.shape)
    to_template = np.linalg.inv(affine) @ grid
    inside = ndimage.affine_transform(
        brain.astype(np.float32), to_template[:3, :3], to_template[:3, 3], shape, order=1
    )

    def signed(mask: np.ndarray) -> np.ndarray:
        outside = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
        distance = ndimage.gaussian_filter(outside * _SHELL_GRID, 1.0)
        return np.asarray(distance, dtype=np.float32)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        parts = ((x - centre[0]) / radii[0], (y - centre[1]) / radii[1], (z - centre[2]) / radii[2])
        return np.asarray(sum(part**2 for part in parts) < 1)

    def closed(mask: np.ndarray, radius: float) -> np.ndarray:
        grown = ndimage.distance_transform_edt(~mask) * _SHELL_GRID <= radius
        return np.asarray(ndimage.distance_transform_edt(grown) * _SHELL_GRID > radius)

    own = inside > 0.5
    # The canal goes on where the template's brain stem ends; the cord hangs at (0, -46) there.
    canal = ((x / 11) ** 2 + ((y + 46) / 11) ** 2 < 1) & (z < CORD_LEVEL + 6)
    inner = closed(own, 8) | canal
    around_skull = ndimage.distance_transform_edt(~closed(own, 30)) * _SHELL_GRID <= 14
    neck = ((x / 58) ** 2 + ((y + 22) / 68) ** 2 < 1) & (z < -45)
    face = ellipsoid((0, 38, -62), (60, 58, 62))
    skin = ndimage.gaussian_filter((around_skull | neck | face).astype(np.float32), 3) > 0.5
    return {"brain": signed(closed(own, 5)), "inner": signed(inner), "skin": signed(skin)}, grid


def smooth_field(axes: Axes, generator: np.random.Generator, scale: float) -> np.ndarray:
    """Draw a smooth random field with mean 0 and a standard deviation of about 1.

    Parameters
    ----------
    axes : tuple of 3 numpy.ndarray
        Coordinates in mm along each axis, within 150 mm of 0. The field is a function of them,
        so a coarse and a fine grid see the same field.
    generator : numpy.random.Generator
        Source of the coefficients.
    scale : float
        Standard deviation, in mm, of the Gaussian that would smooth white noise to this field.

    Returns
    -------
    numpy.ndarray
        (X, Y, Z) float32.
    """
    count = math.ceil(3 * _PERIOD / (math.pi * scale))
    order = np.arange(count)
    weight = np.exp(-0.5 * (math.pi * order * scale / _PERIOD) ** 2)
    field = generator.standard_normal((count, count, count))
    for coordinates in axes:
        basis = np.cos(np.pi * np.outer(order, (coordinates + _PERIOD / 2) / _PERIOD))
        # Cosines have a mean square of one half, but for the constant one.
        expected = weight[0] ** 2 + 0.5 * np.sum(weight[1:] ** 2)
        basis *= (weight / math.sqrt(expected))[:, None]
        # Consume the first axis and append the new one: after three turns the order is x, y, z.
        field = np.tensordot(field, basis.astype(np.float32), axes=(0, 0))
    return np.asarray(field, dtype=np.float32)


def head_grid(zooms: tuple[float, ...]) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and 4x4 affine of a grid of such voxels that covers every head."""
    size = np.asarray(zooms, dtype=np.float64)
    counts = np.ceil(np.diff(FIELD_OF_VIEW, axis=1)[:, 0] / size).astype(int)
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = FIELD_OF_VIEW.mean(axis=1) - (counts - 1) * size / 2
    return tuple(int(n) for n in counts), affine


def make_head(
    generator: np.random.Generator,
    resolution: float = 1.0,
    head: bool = True,
    lesion: bool = False,
    growth: float = 1.0,
) -> Head:
    """Deform the template into a new subject.

    Parameters
    ----------
    generator : numpy.random.Generator
        Everything about this subject is drawn from it, in the same order at any resolution.
    resolution : float
        Voxel size in mm.
    head : bool
        Build the tissues around the brain too.
    lesion : bool
        Put hyperintensities into the white matter, the largest with a core that takes up
        gadolinium.
    growth : float
        Factor on the lesions' radii, for later sessions.
    """
    template = load_template()
    counts, affine = head_grid((resolution,) * 3)
    centre = FIELD_OF_VIEW.mean(axis=1)
    x, y, z = (f + resolution * np.arange(n) for f, n in zip(affine[:3, 3], counts, strict=True))
    axes: Axes = (x, y, z)
    centred: Axes = (x - centre[0], y - centre[1], z - centre[2])

    # One source for each part, so that no option changes what another part looks like.
    generator, for_lesions, for_surroundings = generator.spawn(3)
    size = generator.normal(1.0, 0.03, 3)
    points = []
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        shift = 3.0 * smooth_field(centred, generator, 30.0)
        shift += 1.0 * smooth_field(centred, generator, 10.0)
        points.append(axes[axis].astype(np.float32).reshape(shape) / np.float32(size[axis]) + shift)

    def distance(name: str) -> np.ndarray:
        return _sample(template.distances[name], template.distance_affine, points)

    # The subarachnoid space keeps the skull off the brain by a little more than the hull does.
    inner = distance("inner") - 1.0 if head else distance("brain")
    near = inner < 2  # only here can there be brain or fluid
    inside = [p[near] for p in points]
    in_brain = _sample(template.distances["brain"], template.distance_affine, inside) < 0
    inside[2] = np.maximum(inside[2], CORD_LEVEL)
    wm = _sample(_for(resolution, "wm"), template.affine, inside)
    csf = _sample(_for(resolution, "csf"), template.affine, inside, outside=1.0)
    # Subjects differ in the width of their sulci and ventricles, overall and from place to place.
    border = (
        0.42
        + 0.04 * generator.standard_normal()
        + 0.05 * smooth_field(centred, generator, 25.0)[near]
    )
    csf = _sharpen(csf - border + 0.5, 6.0)
    wm = _sharpen(wm + 0.04 * smooth_field(centred, generator, 12.0)[near], 6.0) * (1 - csf)

    tissues = {name: np.zeros(counts, np.float32) for name in ("CSF", "GM", "WM")}
    # Only the fluid fades into the skull: folds of the cortex end before it.
    within = np.clip(0.5 - inner[near] / resolution, 0, 1)
    tissues["CSF"][near], tissues["WM"][near] = csf * within, wm * within
    tissues["GM"][near] = (1 - csf - wm) * within
    brain = np.zeros(counts, bool)
    brain[near] = in_brain
    if lesion:
        tissues |= _draw_lesions(for_lesions, growth, axes, tissues["WM"])
    if head:
        skin = distance("skin")
        tissues |= _surroundings(for_surroundings, centred, points, inner, skin, resolution)
        tissues["CSF"] += tissues.pop("vitreous")
    else:
        for values in tissues.values():
            values *= brain
    return Head(tissues, brain, affine)


def _sharpen(fraction: np.ndarray, gain: float) -> np.ndarray:
    """Steepen the blurred border of an averaged map around one half, keeping 0 and 1."""
    fraction = np.clip(fraction, 0, 1)
    powered = fraction**gain
    return powered / (powered + (1 - fraction) ** gain)


@lru_cache(maxsize=8)
def _for(resolution: float, name: str) -> np.ndarray:
    """Return a template map blurred to what voxels of this size can show."""
    values = load_template().maps[name]
    if resolution <= 1:
        return values
    return np.asarray(ndimage.gaussian_filter(values, 0.4 * math.sqrt(resolution**2 - 1)))


def _sample(
    values: np.ndarray, affine: np.ndarray, points: list[np.ndarray], outside: float | None = None
) -> np.ndarray:
    """Interpolate linearly at points in mm; ``affine`` has no rotation."""
    voxels = [(p - affine[i, 3]) / affine[i, i] for i, p in enumerate(points)]
    mode = "nearest" if outside is None else "constant"
    return np.asarray(
        ndimage.map_coordinates(values, voxels, np.float32, order=1, mode=mode, cval=outside or 0.0)
    )


def _draw_lesions(
    generator: np.random.Generator, growth: float, axes: Axes, wm: np.ndarray
) -> dict[str, np.ndarray]:
    """Turn balls of white matter into lesions, in place; return the fractions of rim and core."""
    candidates = generator.uniform((-45, -80, 0), (45, 50, 50), (2000, 3))
    radii = np.sort(generator.uniform(2.5, 5.0, 5))[::-1] * np.array([1.8, 1, 1, 1, 1]) * growth
    first = np.array([a[0] for a in axes])
    step = axes[0][1] - axes[0][0]
    index = np.rint((candidates - first) / step).astype(int)
    # The candidates with most white matter around them, forty ranks apart to spread them out.
    deep = ndimage.uniform_filter(wm, max(1, round(6 / step)))[tuple(index.T)]
    centres = candidates[np.argsort(-deep, kind="stable")[: len(radii) * 40 : 40]]
    rim, core = np.zeros_like(wm), np.zeros_like(wm)
    x, y, z = np.ix_(*axes)
    wobble = 1.5 * smooth_field(axes, generator, 4.0)
    for k, ((cx, cy, cz), radius) in enumerate(zip(centres, radii, strict=True)):
        away = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) + wobble
        np.maximum(rim, np.clip(0.5 - (away - radius) / max(step, 1.5), 0, 1), out=rim)
        if k == 0:
            core = np.clip(0.5 - (away - 0.5 * radius) / max(step, 1.5), 0, 1)
    rim *= wm
    core = (core * rim).astype(np.float32)
    wm -= rim
    return {"lesion": rim - core, "core": core}


def _surroundings(
    generator: np.random.Generator,
    axes: Axes,
    points: list[np.ndarray],
    inner: np.ndarray,
    skin: np.ndarray,
    resolution: float,
) -> dict[str, np.ndarray]:
    """Fill the space between the inner table of the skull and the skin."""

    def under(distance: np.ndarray) -> np.ndarray:
        """Return the part of a voxel that lies on the negative side of a surface."""
        return np.clip(0.5 - distance / resolution, 0, 1)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        scaled = [(p - c) / r for p, c, r in zip(place, centre, radii, strict=True)]
        reach = np.sqrt(sum(s**2 for s in scaled))
        return under((reach - 1) * min(radii))

    shell = (inner > -3) & (skin < 2)
    place = [p[shell] for p in points]
    thickness = 6.5 + 1.0 * smooth_field(axes, generator, 30.0)[shell]
    streaks = smooth_field(axes, generator, 5.0)[shell]
    inner, depth = inner[shell], -skin[shell]

    outside_skull = under(thickness - inner) * under(-depth)
    marrow = under(inner - 0.7 * thickness) * under(0.3 * thickness - inner) * under(-depth)
    layer = under(2.0 - depth) * under(depth - 6.0)
    fat = np.maximum(layer, under(6.0 - depth) * np.clip(0.2 + 0.6 * streaks, 0, 1))
    muscle = 1 - fat

    # Eyes in fat, and the airways: nose and throat.
    orbits = ellipsoid((33, 62, -42), (20, 26, 19)) + ellipsoid((-33, 62, -42), (20, 26, 19))
    eyes = ellipsoid((33, 70, -42), (12, 12, 12)) + ellipsoid((-33, 70, -42), (12, 12, 12))
    air = np.maximum(ellipsoid((0, 66, -60), (13, 26, 20)), ellipsoid((0, 14, -90), (11, 9, 42)))
    orbits, eyes = orbits * outside_skull, eyes * under(-depth)
    muscle, fat = (t * outside_skull * (1 - orbits) * (1 - air) for t in (muscle, fat))
    fat = fat + (orbits * outside_skull * (1 - air) + 0.6 * marrow) * (1 - eyes)

    # The superior sagittal sinus, which shines after gadolinium.
    x, y, z = place
    sinus = under(np.abs(x) - 4.0) * under(-inner) * under(inner - 4.0) * (z > 5) * (y < 55)
    filled = {"muscle": muscle * (1 - eyes), "fat": fat, "blood": sinus, "vitreous": eyes}
    tissues = {}
    for name, values in filled.items():
        full = np.zeros(shell.shape, np.float32)
        full[shell] = values * (1 - sinus) if name != "blood" else values
        tissues[name] = full
    return tissues
