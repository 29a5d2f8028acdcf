"""What FSL's programs have to be given, and what FAST's classes mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.anatomy.images import image_like
from colapipe.anatomy.tissue import order_classes
from colapipe.contrasts import intensity_order
from colapipe.errors import ParticipantError

# The edge of the brain and the skull help; jaw, neck and scalp move. On six pairs of clinical scans
# this margin left more mutual information in the brain than whole heads or brains alone, and as
# much as no margin.
_MARGIN_MM = 10.0

_MEDIAN = 1000.0
# FAST works on the logarithm, where vessels, bone and air at the rim of a brain mask lie so far
# out that they become a class, and white matter loses its own. Where fluid is bright, the darkest
# tenth is lifted to what is brighter; where fluid is dark, it is only kept away from zero.
_LIFTED_PERCENT = 10
_DARKEST_FLUID = 0.1  # of the median


def registration_weight(mask: Nifti1Image) -> Nifti1Image:
    """Return where FLIRT shall look: the brain and what lies within 10 mm of it.

    Parameters
    ----------
    mask : Nifti1Image
        Brain mask, every value above 0 is inside.

    Returns
    -------
    Nifti1Image
        uint8 on the grid of ``mask``.
    """
    zooms = np.linalg.norm(mask.affine[:3, :3], axis=0)
    distance = ndimage.distance_transform_edt(np.asarray(mask.dataobj) <= 0, sampling=zooms)
    return image_like((distance <= _MARGIN_MM).astype(np.uint8), mask)


def image_for_fast(scan: Nifti1Image, mask: Nifti1Image, contrast: str) -> Nifti1Image:
    """Scale a scan to a median of 1000 in the brain, and lift what is too dark to be tissue.

    FAST takes the image where it is above 0 for the brain, and works on ``log(image + 1)``, so
    that its result depends on the units of the scan.

    Parameters
    ----------
    scan : Nifti1Image
        In any units.
    mask : Nifti1Image
        Brain mask on the same grid.
    contrast : str
        One of ``CONTRASTS``.

    Returns
    -------
    Nifti1Image
        float32, above 0 everywhere inside the mask, 0 outside.

    Raises
    ------
    ParticipantError
        If the mask is empty, or half of the brain or more is not above 0.
    """
    data, inside = np.asarray(scan.dataobj), np.asarray(mask.dataobj) > 0
    median = float(np.median(data[inside])) if inside.any() else 0.0
    if median <= 0:
        raise ParticipantError(
            f"FAST cannot segment this {contrast}: its median intensity in the brain mask of "
            f"{np.count_nonzero(inside)} voxels is {median:g}, expected a positive one. "
            "Check the scan and its mask."
        )
    if intensity_order(contrast)[0] == "CSF":
        darkest = _DARKEST_FLUID * median
    else:
        darkest = max(float(np.percentile(data[inside], _LIFTED_PERCENT)), _DARKEST_FLUID * median)
    lifted = np.maximum(data, darkest) * (_MEDIAN / median)
    return image_like(np.where(inside, lifted, 0).astype(np.float32), scan)


def tissues_from_classes(
    classes: Sequence[np.ndarray], brain: Nifti1Image, contrast: str
) -> list[np.ndarray]:
    """Name FAST's classes by what they look like; ``-t 2`` reverses their numbers.

    Parameters
    ----------
    classes : sequence of 3 numpy.ndarray
        (X, Y, Z) fraction of each class, in any order.
    brain : Nifti1Image
        What FAST was given, 0 outside the brain.
    contrast : str
        One of ``CONTRASTS``.

    Returns
    -------
    list of numpy.ndarray
        CSF, GM and WM, (X, Y, Z) float32 in [0, 1], with sum 1 inside and 0 outside the brain.

    Raises
    ------
    ParticipantError
        If a class is empty, so that there are not three tissues.
    """
    data = np.asarray(brain.dataobj)
    inside = data > 0
    fractions = [np.where(inside, np.clip(fraction, 0, 1), 0) for fraction in classes]
    amounts = [float(fraction.sum()) for fraction in fractions]
    if min(amounts) <= 0:
        raise ParticipantError(
            f"FAST finds {sum(amount > 0 for amount in amounts)} tissues in this {contrast}, "
            "expected 3. Check that the scan shows a brain and that its mask fits."
        )
    means = [float((fraction * data).sum() / fraction.sum()) for fraction in fractions]
    total = np.maximum(sum(fractions), np.finfo(np.float32).tiny)
    return [
        (fractions[index] / total).astype(np.float32) for index in order_classes(means, contrast)
    ]
