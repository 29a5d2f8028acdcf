"""Rigid registration of one contrast to another by mutual information.

A search over poses at 16 mm finds the basin; ITK's registration by Mattes mutual information [1]_
descends in it at 8, 4 and 1.5 mm.

References
----------
.. [1] Mattes et al., IEEE Transactions on Medical Imaging 22(1):120-128, 2003.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage, optimize

from colapipe.anatomy.images import same_grid
from colapipe.anatomy.itk import LPS, from_itk, itk_threads, to_itk
from colapipe.errors import ParticipantError, TransformError

IDENTITY_TOLERANCE_MM = 0.5
"""Scans on one grid keep the identity if the optimum moves the brain by less than this on average.

Calibrated on 11 pairs of scans of four patients that were aligned before: the optimum lay 0.06 to
0.34 mm from the identity. All 11 are kept, and none of the same scans after a shift by 1 mm along
one axis or a turn by 1 degree about one axis. One tolerance of the cost itself would not do: the
rise of the cost for the same displacement differs by a factor of 2.5 between these pairs.
"""

# Spacing of the levels, mm.
_SEARCH, _COARSE, _MIDDLE, _FINE = 16.0, 8.0, 4.0, 1.5
# The part of the mask's voxels that the metric looks at. At 1.5 mm, 60 000 points pin the six
# parameters as well as all of them do, and their jitter takes away the metric's preference for
# poses in which the voxels of both images coincide.
_SAMPLED = {_MIDDLE: 1.0, _FINE: 0.12}
_SEED = 1
_BINS = 32
# The outline of the brain tells most about its place. On the pairs of scans above, the optimum
# wandered off by 0.5 mm on average without a margin, by 0.2 mm with this one or a wider one.
_MARGIN_MM = 6.0
_ITERATIONS = 100
# Bright fat and vessels must not take the bins from the brain.
_WINDOW_PERCENTILES = (0.5, 99.5)

# The search: shifts of aligned centres of mass, then turns about the best of them.
_SHIFTS_MM = (np.arange(-30, 31, 10), np.arange(-30, 31, 10), np.arange(-60, 61, 10))
_TURNS_DEGREES = np.arange(-36, 37, 12)
# The same for a second attempt, which takes some 20 s.
_WIDE_SHIFTS_MM = (np.arange(-60, 61, 12), np.arange(-60, 61, 12), np.arange(-90, 91, 15))
_WIDE_TURNS_DEGREES = np.arange(-72, 73, 12)
_SMALL_SHIFT_MM = 8.0
# Where a turn by 1 radian moves the brain by as many mm.
_RADIUS_MM = 60.0
_KEPT = {_SEARCH: 8, _COARSE: 2}
_DISTINCT_MM = {_SEARCH: 8.0, _COARSE: 4.0}


@dataclass(frozen=True)
class RigidRegistration:
    """Where a moving image lies in the space of a reference.

    Attributes
    ----------
    moving_to_reference : numpy.ndarray
        4x4 float64, RAS+ mm: ``x_reference = moving_to_reference @ x_moving``.
    cost, cost_at_identity : float
        Negative mutual information (nats) at the optimum and at the identity. The latter is NaN
        where the images have no common field of view.
    identity_kept : bool
        The images share a grid and were aligned already: the matrix is exactly the identity.
    """

    moving_to_reference: np.ndarray
    cost: float
    cost_at_identity: float
    identity_kept: bool


def register_rigid(
    moving: Nifti1Image,
    reference: Nifti1Image,
    reference_mask: Nifti1Image | None = None,
    threads: int = 1,
    *,
    wide: bool = False,
) -> RigidRegistration:
    """Find the rigid transform that aligns ``moving`` with ``reference``.

    Parameters
    ----------
    moving, reference : Nifti1Image
        (X, Y, Z) scans of any contrasts and grids, with or without skull; the other may differ.
    reference_mask : Nifti1Image, optional
        Brain mask on the grid of ``reference``: alignment is judged there and 6 mm around it.
    threads : int
        Threads of ITK. The result depends on nothing else than the images and this number.
    wide : bool
        Search among larger turns and shifts, from 70 degrees and 60 mm apart; slow.

    Returns
    -------
    RigidRegistration
        Found from up to 30 degrees and 30 mm apart, or from where the headers say. Images that
        share a grid keep the identity if the optimum is within `IDENTITY_TOLERANCE_MM` of it.

    Raises
    ------
    TransformError
        If the images have no structure in common.
    """
    with itk_threads(threads):
        scene = _Scene(moving, reference, reference_mask)
        identity = np.eye(4)
        on_one_grid = same_grid(moving, reference)
        matrix = None
        if on_one_grid:
            matrix = _refine(scene, identity)
        if matrix is None or not _keeps_identity(scene, matrix):
            searched = scene.optimise(_FINE, _search(scene, wide=wide))
            if matrix is None or scene.cost(searched) < scene.cost(matrix):
                matrix = searched
        kept = on_one_grid and _keeps_identity(scene, matrix)
        return RigidRegistration(
            moving_to_reference=identity if kept else matrix,
            cost=scene.cost(matrix),
            cost_at_identity=scene.cost(identity),
            identity_kept=kept,
        )


def aligned_at_identity(
    moving: Nifti1Image,
    reference: Nifti1Image,
    reference_mask: Nifti1Image | None = None,
    threads: int = 1,
) -> bool:
    """Tell, without a search, whether two scans on one grid are aligned as they are.

    The same decision as `register_rigid` takes; False for scans on different grids.
    """
    if not same_grid(moving, reference):
        return False
    with itk_threads(threads):
        scene = _Scene(moving, reference, reference_mask)
        matrix = _refine(scene, np.eye(4))
        return matrix is not None and _keeps_identity(scene, matrix)


def _keeps_identity(scene: _Scene, matrix: np.ndarray) -> bool:
    return scene.distance(matrix, np.eye(4)) < IDENTITY_TOLERANCE_MM


def _refine(scene: _Scene, start: np.ndarray) -> np.ndarray | None:
    """Descend from a pose that may be right; None if the images do not meet there."""
    try:
        return scene.optimise(_FINE, scene.optimise(_MIDDLE, start))
    except _NoOverlapError:
        return None


def search_pose(
    moving: Nifti1Image,
    reference: Nifti1Image,
    reference_mask: Nifti1Image | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Search widely for a pose that another program can start from, true to some millimetres.

    Parameters and errors are those of `register_rigid`.

    Returns
    -------
    numpy.ndarray
        4x4 ``moving_to_reference``, RAS+ mm.
    """
    with itk_threads(threads):
        return _search(_Scene(moving, reference, reference_mask), wide=True)


def _search(scene: _Scene, *, wide: bool = False) -> np.ndarray:
    """Find the basin of the optimum: rate many poses at 16 mm, go on from the best of them."""
    rating = _Rating(scene.levels[_SEARCH])
    aligned = nib.affines.from_matvec(np.eye(3), rating.fixed_mass - rating.moving_mass)
    shifted = [np.eye(4)]
    for shift in itertools.product(*(_WIDE_SHIFTS_MM if wide else _SHIFTS_MM)):
        shifted.append(nib.affines.from_matvec(np.eye(3), shift) @ aligned)
    shifted = sorted(shifted, key=rating, reverse=True)

    turns = [
        _turn(np.radians(angles), scene.centre)
        for angles in itertools.product(_WIDE_TURNS_DEGREES if wide else _TURNS_DEGREES, repeat=3)
    ]
    small = _SMALL_SHIFT_MM * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    poses = [
        nib.affines.from_matvec(np.eye(3), shift) @ turn @ pose
        for pose in scene.distinct(shifted, 2 * _SMALL_SHIFT_MM, 3)
        for turn in turns
        for shift in small
    ]
    # The headers of one session are nearly right more often than not: they are always tried.
    candidates = [np.eye(4), *sorted(poses, key=rating, reverse=True)]
    coarse = _Rating(scene.levels[_COARSE])
    climbed = [
        coarse.climb(pose, scene.centre)
        for pose in scene.distinct(candidates, _DISTINCT_MM[_SEARCH], _KEPT[_SEARCH])
    ]
    descended = []
    for pose in scene.distinct(
        sorted(climbed, key=coarse, reverse=True), _DISTINCT_MM[_COARSE], _KEPT[_COARSE]
    ):
        try:
            descended.append(scene.optimise(_MIDDLE, pose))
        except _NoOverlapError:
            continue
    if not descended:
        raise TransformError(
            "two scans of this participant could not be registered: they have no structure "
            "in common. Check that both show the whole brain, and that both belong together."
        )
    return min(descended, key=lambda pose: scene.cost_times_seen(_MIDDLE, pose))


def _turn(angles: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rotate about a point, by angles about x, y and z."""
    rotation = nib.eulerangles.euler2mat(*angles[::-1])
    return np.asarray(nib.affines.from_matvec(rotation, centre - rotation @ centre))


class _NoOverlapError(Exception):
    """The metric has nothing to compare at this pose."""


@dataclass(frozen=True)
class _Level:
    """Both images at one resolution; ``inside`` tells the reference's voxels that count."""

    fixed: np.ndarray
    fixed_affine: np.ndarray
    inside: np.ndarray
    moving: np.ndarray
    moving_affine: np.ndarray


class _Scene:
    """Two images at several resolutions, and the metric between them.

    Poses are 4x4 ``moving_to_reference`` matrices in RAS+ mm throughout.
    """

    def __init__(
        self, moving: Nifti1Image, reference: Nifti1Image, mask: Nifti1Image | None
    ) -> None:
        fixed = np.asarray(reference.dataobj, dtype=np.float32)
        other = np.asarray(moving.dataobj, dtype=np.float32)
        brain = _foreground(fixed) if mask is None else np.asarray(mask.dataobj) > 0
        if not brain.any():
            raise ParticipantError("the brain mask of the reference is empty.")
        brain = brain.astype(np.float32)
        fixed_affine, moving_affine = reference.affine, moving.affine
        self.levels: dict[float, _Level] = {}
        for spacing in (_FINE, _MIDDLE, _COARSE, _SEARCH):
            brain, _ = _downsample(brain, fixed_affine, spacing)
            fixed, fixed_affine = _downsample(fixed, fixed_affine, spacing)
            other, moving_affine = _downsample(other, moving_affine, spacing, fill=True)
            zooms = np.linalg.norm(fixed_affine[:3, :3], axis=0)
            to_brain = ndimage.distance_transform_edt(brain <= brain.max() / 2, sampling=zooms)
            inside = to_brain <= max(_MARGIN_MM, 2 * spacing)
            self.levels[spacing] = _Level(fixed, fixed_affine, inside, other, moving_affine)
        fine = self.levels[_FINE]
        points = nib.affines.apply_affine(fine.fixed_affine, np.argwhere(fine.inside)[::101])
        self.centre = points.mean(axis=0)
        self._points = points
        self._images = {
            spacing: (
                to_itk(_windowed(level.fixed, level.fixed[level.inside]), level.fixed_affine),
                to_itk(level.moving, level.moving_affine),
                to_itk(level.inside.astype(np.uint8), level.fixed_affine),
            )
            for spacing, level in self.levels.items()
            if spacing in _SAMPLED
        }

    def distance(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return how far two poses move the brain apart on average, mm."""
        apart = nib.affines.apply_affine(np.linalg.inv(one), self._points)
        apart = nib.affines.apply_affine(other, apart) - self._points
        return float(np.linalg.norm(apart, axis=1).mean())

    def distinct(self, poses: Iterable[np.ndarray], apart: float, count: int) -> list[np.ndarray]:
        """Take the first ``count`` poses that are at least ``apart`` mm from each other."""
        kept: list[np.ndarray] = []
        for pose in poses:
            if all(self.distance(pose, other) > apart for other in kept):
                kept.append(pose)
                if len(kept) == count:
                    break
        return kept

    def optimise(self, spacing: float, start: np.ndarray) -> np.ndarray:
        """Descend to the nearest optimum of the mutual information at one level."""
        transform = self._transform(start)
        method, moving = self._prepared(spacing, transform)
        # Steps start at one voxel, and end at 1 µm.
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,
            minStep=1e-3,
            numberOfIterations=_ITERATIONS,
            gradientMagnitudeTolerance=1e-5,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        try:
            method.Execute(self._images[spacing][0], moving)
        except RuntimeError as error:
            raise _NoOverlapError from error
        return self._matrix(transform)

    def cost(self, pose: np.ndarray, spacing: float = _FINE) -> float:
        """Return the negative mutual information at a pose, NaN where the images do not meet."""
        try:
            method, moving = self._prepared(spacing, self._transform(pose))
            return float(method.MetricEvaluate(self._images[spacing][0], moving))
        except (RuntimeError, _NoOverlapError):
            return float("nan")

    def cost_times_seen(self, spacing: float, pose: np.ndarray) -> float:
        """Return the cost, weakened by the part of the brain outside the moving image.

        Without that, a pose that leaves but a corner of the brain in view may look best.
        """
        cost = self.cost(pose, spacing)
        return cost * self._seen(spacing, self._transform(pose))[1] if np.isfinite(cost) else 0.0

    def _prepared(
        self, spacing: float, transform: sitk.Transform
    ) -> tuple[sitk.ImageRegistrationMethod, sitk.Image]:
        """Set up the metric at one level; the pose tells which intensities are the brain's."""
        _, moving, mask = self._images[spacing]
        values, seen = self._seen(spacing, transform)
        if seen < 0.05 or values.min() == values.max():
            raise _NoOverlapError
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetMetricFixedMask(mask)
        if _SAMPLED[spacing] < 1:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(_SAMPLED[spacing], _SEED)
        method.SetInitialTransform(transform, inPlace=True)
        low, high = np.percentile(values, _WINDOW_PERCENTILES)
        return method, sitk.Clamp(moving, sitk.sitkFloat32, float(low), float(high))

    def _seen(self, spacing: float, transform: sitk.Transform) -> tuple[np.ndarray, float]:
        """Return the moving image's intensities in the mask, and the part of it that it covers."""
        fixed, moving, _ = self._images[spacing]
        outside = float(self.levels[spacing].moving.min()) - 1e6
        values = from_itk(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, outside))
        inside = values[self.levels[spacing].inside]
        seen = inside[inside > outside / 2] if outside < 0 else inside
        return seen, seen.size / inside.size

    def _transform(self, pose: np.ndarray) -> sitk.Euler3DTransform:
        """ITK's transform maps points of the reference to the moving image, in LPS."""
        points = LPS @ np.linalg.inv(pose) @ LPS
        centre = LPS[:3, :3] @ self.centre
        transform = sitk.Euler3DTransform()
        transform.SetCenter(centre.tolist())
        transform.SetMatrix(points[:3, :3].ravel().tolist(), 1e-6)
        transform.SetTranslation((points[:3, :3] @ centre + points[:3, 3] - centre).tolist())
        return transform

    def _matrix(self, transform: sitk.Euler3DTransform) -> np.ndarray:
        rotation = np.reshape(transform.GetMatrix(), (3, 3))
        centre = LPS[:3, :3] @ self.centre
        offset = np.array(transform.GetTranslation()) + centre - rotation @ centre
        points = nib.affines.from_matvec(rotation, offset)
        return np.asarray(np.linalg.inv(LPS @ points @ LPS))


class _Rating:
    """Mutual information of small images by a plain histogram: 0.1 ms a pose at 16 mm, 0.5 at 8."""

    bins = 16

    def __init__(self, level: _Level) -> None:
        values = level.fixed[level.inside]
        self._fixed = self._binned(values, *np.percentile(values, (1, 99)))
        self._points = nib.affines.apply_affine(level.fixed_affine, np.argwhere(level.inside)).T
        self._moving = level.moving
        self._range = (float(level.moving.min()), float(np.percentile(level.moving, 99)))
        self._to_voxels = np.linalg.inv(level.moving_affine)
        self.fixed_mass = _centre_of_mass(level.fixed, level.fixed_affine)
        self.moving_mass = _centre_of_mass(level.moving, level.moving_affine)

    def __call__(self, pose: np.ndarray) -> float:
        """Return the mutual information (nats) times the part of the reference in view."""
        to_voxels = self._to_voxels @ np.linalg.inv(pose)
        at = to_voxels[:3, :3] @ self._points + to_voxels[:3, 3:]
        values = ndimage.map_coordinates(self._moving, at, order=1, cval=np.nan)
        seen = np.isfinite(values)
        if seen.mean() < 0.3:
            return 0.0
        pairs = self._fixed[seen] * self.bins + self._binned(values[seen], *self._range)
        joint = np.bincount(pairs, minlength=self.bins**2).reshape(self.bins, -1) / pairs.size
        independent = joint.sum(axis=1)[:, None] * joint.sum(axis=0)
        some = joint > 0
        return float((joint[some] * np.log(joint[some] / independent[some])).sum() * seen.mean())

    def climb(self, start: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """Return the best pose near a start, by Powell's method: no gradients.

        At 8 mm the gradient misleads: on 0.6 x 0.6 x 5.5 mm a descent by it ended 11 to 25 mm away
        from the optimum from starts that were within 8 mm of it, this ends within 4 mm.
        """

        def pose(change: np.ndarray) -> np.ndarray:
            turn = _turn(change[3:] / _RADIUS_MM, centre)
            return np.asarray(nib.affines.from_matvec(np.eye(3), change[:3]) @ turn @ start)

        found = optimize.minimize(
            lambda change: -self(pose(change)),
            np.zeros(6),
            method="Powell",
            options={"xtol": 0.5, "ftol": 1e-4, "maxfev": 600, "direc": 8.0 * np.eye(6)},
        )
        return pose(found.x)

    def _binned(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        scaled = (values - low) * (self.bins / max(high - low, 1e-12))
        return np.clip(scaled, 0, self.bins - 1).astype(np.intp)


def _centre_of_mass(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the centre of everything brighter than air, in mm; every voxel weighs the same.

    Weighing by intensity would move it by 10 mm between contrasts.
    """
    low, high = np.percentile(data, (2, 98))
    filled = ndimage.binary_fill_holes(data > low + 0.1 * (high - low))
    if not filled.any():
        # Nothing stands out, as in a cube that fills its whole field of view.
        filled = np.ones(data.shape, dtype=bool)
    return np.asarray(nib.affines.apply_affine(affine, np.argwhere(filled).mean(axis=0)))


def _foreground(data: np.ndarray) -> np.ndarray:
    """Separate head from air by Otsu's threshold."""
    return np.asarray(from_itk(sitk.OtsuThreshold(to_itk(data, np.eye(4)), 0, 1)) > 0)


def _windowed(data: np.ndarray, values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, _WINDOW_PERCENTILES)
    return np.asarray(np.clip(data, np.float32(low), np.float32(high)))


def _downsample(
    data: np.ndarray, affine: np.ndarray, spacing: float, fill: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth to a resolution and sample to voxels of that size.

    Axes that are coarser already stay as they are, so that thin pixels do not bring their noise;
    with ``fill`` they are interpolated by a cubic spline. The moving image needs that: between
    slices of 4 mm the gradient that ITK descends by contradicts the metric, which it interpolates
    linearly: started at FLIRT's pose, the descent ended 1.6 mm away from it at a higher cost.
    """
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    # What is missing to a full width at half maximum of one voxel of the new spacing.
    sigma = np.sqrt(np.maximum(spacing**2 - zooms**2, 0)) / (2 * np.sqrt(2 * np.log(2))) / zooms
    step = spacing / zooms
    order = 3 if fill and step.min() < 1 else 1
    if not fill:
        step = np.maximum(step, 1)
    counts = np.maximum(np.rint(np.array(data.shape) / step), 1).astype(int)
    offset = ((np.array(data.shape) - 1) - (counts - 1) * step) / 2
    smooth = ndimage.gaussian_filter(data, sigma, truncate=3)
    sampled = ndimage.affine_transform(
        smooth, step, offset, tuple(counts), order=order, mode="nearest"
    )
    return sampled, np.asarray(affine @ nib.affines.from_matvec(np.diag(step), offset))
