"""Scans: what a scanner would measure of a simulated head, and the truth behind it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.contrasts import CONTRASTS, TISSUES
from colapipe.phantom.anatomy import FIELD_OF_VIEW, Head, head_grid, make_head, smooth_field
from colapipe.phantom.signals import SEQUENCES, TISSUE_VALUES, Sequence, Tissue, signal

WHITE_MATTER_INTENSITY = 400.0
"""Intensity of white matter in a T1w scan before each scan's own gain; arbitrary units."""


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated subject because it was made that way.

    All images lie on the grid of the reference scan.

    Attributes
    ----------
    reference : str
        The contrast whose grid and position all of this refers to.
    tissues : dict of str to Nifti1Image
        Fractions (X, Y, Z) float32 in [0, 1] of CSF, GM and WM within the brain; WM includes
        what a lesion has replaced.
    brain : Nifti1Image
        (X, Y, Z) uint8.
    lesion : Nifti1Image or None
        (X, Y, Z) uint8, rim and core.
    clean : dict of str to Nifti1Image
        Every contrast, (X, Y, Z) float32, without noise and bias field, in the position of the
        reference and with the gain of the scan.
    moving_to_reference : dict of str to numpy.ndarray
        4x4 float64 of each contrast, RAS+ scanner millimetres: ``x_reference = M @ x_moving``.
    """

    reference: str
    tissues: dict[str, Nifti1Image]
    brain: Nifti1Image
    lesion: Nifti1Image | None
    clean: dict[str, Nifti1Image]
    moving_to_reference: dict[str, np.ndarray]


@dataclass(frozen=True)
class SimulatedSubject:
    """The scans of one subject (contrast to float32 image, intensities >= 0), and the truth."""

    images: dict[str, Nifti1Image]
    truth: Truth


def simulate_subject(
    seed: int,
    contrasts: Iterable[str] = CONTRASTS,
    *,
    subject: int = 1,
    session: int = 1,
    resolution: float = 1.0,
    head: bool = True,
    lesion: bool = False,
    coregistered: bool = False,
    reference: str | None = None,
    noise: float = 0.03,
    bias: float = 0.15,
    sequences: Mapping[str, Sequence] = SEQUENCES,
) -> SimulatedSubject:
    """Simulate the scans of one subject in memory.

    Parameters
    ----------
    seed : int
        Seed of the dataset. The same seed, subject and session give the same head, and the same
        scan of each contrast, whatever else is asked for.
    contrasts : iterable of str
        Which scans to take.
    subject, session : int
        Counted from 1. Sessions share the anatomy; lesions grow by a tenth from one to the next.
    resolution : float
        Voxel size of the anatomy in mm; voxels of the scans are at least this large.
    head : bool
        Simulate the whole head; otherwise the scans are brain-extracted with the true mask.
    lesion : bool
        Put lesions into the white matter.
    coregistered : bool
        Take all scans on one isotropic grid in RAS order without motion or obliqueness.
    reference : str, optional
        The contrast whose grid and position the truth refers to; by default the first of
        ``CONTRASTS`` that is taken.
    noise : float
        Standard deviation of the noise in each of the two channels of the receiver, relative to
        white matter; the magnitude has a Rician distribution.
    bias : float
        Standard deviation of the logarithm of the bias field.
    sequences : mapping of str to Sequence
        Pulse sequence of each contrast, to simulate another protocol.

    Returns
    -------
    SimulatedSubject
        ``images`` by contrast, and ``truth``.

    Raises
    ------
    ValueError
        If a contrast is unknown, there is none, or the reference is not among them.
    MissingToolError
        If nilearn is not installed.
    """
    asked = set(contrasts)
    if not asked or asked - set(CONTRASTS):
        raise ValueError(f"contrasts {sorted(asked)}: expected some of {', '.join(CONTRASTS)}")
    taken = [c for c in CONTRASTS if c in asked]
    reference = taken[0] if reference is None else reference
    if reference not in taken:
        raise ValueError(f"reference {reference}: expected one of {', '.join(taken)}")

    growth = 1.1 ** (session - 1)
    body = make_head(_generator(seed, subject, 0, "head"), resolution, head, lesion, growth)
    values = _own_values(_generator(seed, subject, 0, "tissues"))
    placement = np.eye(4)
    if not coregistered:
        placement = _rigid(_generator(seed, subject, session, "placement"), 5.0, 8.0)
    scans = {
        c: _plan(
            c,
            sequences[c],
            _generator(seed, subject, session, c),
            placement,
            resolution,
            coregistered,
        )
        for c in taken
    }
    images, clean = {}, {}
    for contrast, scan in scans.items():
        measured = np.zeros(body.brain.shape, np.float32)
        for name, fraction in body.tissues.items():
            measured += np.float32(scan.gain * signal(name, scan.sequence, values)) * fraction
        images[contrast] = _acquire(scan, measured, body, noise, bias, extract=not head)
        clean[contrast] = _stored(
            np.abs(_resample(measured, body, scans[reference])), scans[reference]
        )
    return SimulatedSubject(images, _truth(reference, scans, clean, body))


@dataclass(frozen=True)
class _Scan:
    """One planned scan: its grid, and where the head is while it is taken."""

    contrast: str
    sequence: Sequence
    shape: tuple[int, ...]
    affine: np.ndarray  # voxels (right, anterior, superior) to scanner mm
    head_at: np.ndarray  # the subject's own mm to scanner mm
    gain: float
    source: np.random.Generator


def _plan(
    contrast: str,
    sequence: Sequence,
    source: np.random.Generator,
    placement: np.ndarray,
    resolution: float,
    coregistered: bool,
) -> _Scan:
    """Place the grid as the first scan of the session saw the head, and let the head move."""
    motion = _rigid(source, 2.0, 2.0, placement @ [*FIELD_OF_VIEW.mean(axis=1), 1])
    gain = float(np.exp(0.25 * source.standard_normal()))
    gain *= WHITE_MATTER_INTENSITY / signal("WM", SEQUENCES["T1w"])
    if coregistered:
        motion = np.eye(4)
        sequence = replace(sequence, zooms=(resolution,) * 3, stored="RAS")
    elif contrast == "T1w":
        motion = np.eye(4)  # the session's other scans are the ones that moved
    shape, affine = head_grid(_voxels(sequence.zooms, resolution))
    return _Scan(contrast, sequence, shape, placement @ affine, motion @ placement, gain, source)


def _voxels(zooms: tuple[float, float, float], resolution: float) -> tuple[float, ...]:
    """Return the protocol's voxels, enlarged where a coarse anatomy could not fill them."""
    return zooms if resolution <= 1 else tuple(max(zoom, resolution) for zoom in zooms)


def _resample(volume: np.ndarray, body: Head, scan: _Scan) -> np.ndarray:
    """Measure a volume of the head on the grid of a scan, thick voxels as averages."""
    to_body = np.linalg.inv(scan.head_at @ body.affine) @ scan.affine
    if volume.shape == scan.shape and np.allclose(to_body, np.eye(4), atol=1e-6):
        return volume
    parts = max(1, round(np.linalg.norm(scan.affine[:3, 2]) / body.affine[0, 0]))
    total = np.zeros(scan.shape, np.float32)
    for part in range(parts):
        offset = to_body[:3, 3] + to_body[:3, 2] * ((part + 0.5) / parts - 0.5)
        total += ndimage.affine_transform(
            volume, to_body[:3, :3], offset, scan.shape, np.float32, order=1
        )
    return total / np.float32(parts)


def _acquire(
    scan: _Scan, measured: np.ndarray, body: Head, noise: float, bias: float, extract: bool
) -> Nifti1Image:
    """Take the scan: the coil's sensitivity, two noisy channels, the magnitude."""
    data = _resample(measured, body, scan)
    centred = [
        (np.arange(n) - (n - 1) / 2) * zoom
        for n, zoom in zip(scan.shape, np.linalg.norm(scan.affine[:3, :3], axis=0), strict=True)
    ]
    field = smooth_field((centred[0], centred[1], centred[2]), scan.source, 50.0)
    deviation = np.float32(noise * scan.gain * abs(signal("WM", scan.sequence)))
    real = data * np.exp(np.float32(bias) * field)
    real += deviation * scan.source.standard_normal(scan.shape, dtype=np.float32)
    imaginary = deviation * scan.source.standard_normal(scan.shape, dtype=np.float32)
    magnitude = np.hypot(real, imaginary)
    if extract:
        magnitude *= _resample(body.brain.astype(np.float32), body, scan) > 0.5
    return _stored(magnitude, scan)


def _stored(data: np.ndarray, scan: _Scan) -> Nifti1Image:
    """Make an image of data on a scan's grid, its axes in the order in which it is stored."""
    image = Nifti1Image(data, scan.affine)
    wanted = nib.orientations.axcodes2ornt(scan.sequence.stored)
    # Start from the axes as planned: the closest canonical ones of an oblique grid are the same.
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), wanted)
    )
    result = Nifti1Image(np.asarray(turned.dataobj), turned.affine)
    result.set_sform(turned.affine, code=1)
    result.set_qform(turned.affine, code=1)
    result.header.set_xyzt_units("mm")
    return result


def _truth(name: str, scans: dict[str, _Scan], clean: dict[str, Nifti1Image], body: Head) -> Truth:
    reference = scans[name]
    lesion = body.tissues.get("lesion", 0) + body.tissues.get("core", 0)
    fractions = {t: _resample(body.tissues[t], body, reference) for t in TISSUES}
    brain = _resample(body.brain.astype(np.float32), body, reference) > 0.5
    mask = None
    if isinstance(lesion, np.ndarray):
        lesion = _resample(lesion, body, reference)
        fractions["WM"] = fractions["WM"] + lesion
        mask = _stored((lesion > 0.5).astype(np.uint8), reference)
    total = np.maximum(sum(fractions.values()), 1e-6)
    tissues = {t: _stored(values / total * brain, reference) for t, values in fractions.items()}
    matrices = {c: reference.head_at @ np.linalg.inv(scan.head_at) for c, scan in scans.items()}
    matrices[name] = np.eye(4)  # exactly, where the product is off by rounding
    return Truth(name, tissues, _stored(brain.astype(np.uint8), reference), mask, clean, matrices)


def _own_values(source: np.random.Generator) -> dict[str, Tissue]:
    """Vary relaxation times between subjects, as published standard deviations do."""
    own = {}
    for name, tissue in TISSUE_VALUES.items():
        t1, t2, pd = np.exp(source.normal(0, (0.03, 0.04, 0.01)))
        own[name] = Tissue(tissue.t1 * t1, tissue.t2 * t2, tissue.pd * pd)
    # Only gadolinium tells the core of a lesion from its rim.
    return own | {"core": own["lesion"]}


def _generator(seed: int, subject: int, session: int, purpose: str) -> np.random.Generator:
    """Return a source of its own for every purpose, so that no option shifts another's draws."""
    return np.random.default_rng([seed, subject, session, zlib.crc32(purpose.encode())])


def _rigid(
    source: np.random.Generator,
    degrees: float,
    millimetres: float,
    centre: np.ndarray | None = None,
) -> np.ndarray:
    """Draw a rigid 4x4 transform about ``centre``, each angle and shift up to the given size."""
    angles = np.radians(source.uniform(-degrees, degrees, 3))
    matrix = np.eye(4)
    for axis, angle in enumerate(angles):
        turn = np.eye(4)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    around = np.zeros(3) if centre is None else np.asarray(centre)[:3]
    matrix[:3, 3] = around - matrix[:3, :3] @ around
    matrix[:3, 3] += source.uniform(-millimetres, millimetres, 3)
    return matrix
