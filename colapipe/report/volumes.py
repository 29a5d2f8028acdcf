"""The volumes on the grid of one reference: read, checked and scaled for drawing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from colapipe.bids.outputs import OutputFile, SessionFiles
from colapipe.contrasts import CONTRASTS
from colapipe.report import figures
from colapipe.report.figures import Floats
from colapipe.slices.intensity import normalise

Mask = npt.NDArray[np.bool_]

UNDRAWABLE = (
    *(OSError, EOFError, OverflowError, ValueError, zlib.error),
    *(HeaderDataError, ImageFileError),
)
"""What reading or drawing a broken image can raise; the page then says so instead of a picture."""


class Volumes:
    """Reads what lies on the grid of one reference.

    Volumes are not kept, but for the brain masks: together they would fill the memory.

    Parameters
    ----------
    files : SessionFiles
    space : str
        Reference contrast whose grid this is.
    show_head : bool
        Show also what lies outside the brain mask.

    Attributes
    ----------
    affine : ndarray (4, 4)
        Of all volumes, once the first is read.
    """

    def __init__(self, files: SessionFiles, space: str, show_head: bool) -> None:
        self.space = space
        self.preproc = files.preproc.get(space, {})
        self._masks_found = files.masks.get(space, {})
        self._show_head = show_head
        # Set by the first file that is read; all others must agree.
        self._shape: tuple[int, ...] | None = None
        self.affine: npt.NDArray[np.float64] = np.eye(4)
        self._masks: dict[str, Mask] = {}

    def load(self, derivative: OutputFile) -> Floats:
        """Read a file in display order.

        Raises
        ------
        ValueError
            If it is on another grid than the others, or no image.
        """
        image = nib.load(derivative.path)
        if not isinstance(image, SpatialImage):
            raise ValueError("it is not an image")
        volume, affine = figures.canonical(image)
        if self._shape is None:
            self._shape, self.affine = volume.shape, affine
        if volume.shape != self._shape or not np.allclose(affine, self.affine, atol=1e-2):
            raise ValueError("it is not on the grid of the other files")
        return volume

    def scan(self, contrast: str, mask: Mask) -> Floats:
        """Read an acquired contrast in [0, 1], black outside the mask unless the head is shown."""
        voxels = self.load(self.preproc[contrast])
        shown, (low, high) = normalise(voxels, mask)
        if self._show_head:
            shown = np.clip((voxels - low) / (high - low), 0.0, 1.0)
        return shown

    def mask_for(self, target: str) -> Mask:
        """Return a brain mask that does not come from ``target``: the reference's if there is one.

        Without a mask file the support of a brain-extracted scan serves.

        Raises
        ------
        ValueError
            If there is none.
        """
        for source in by_preference(self._masks_found, first=self.space):
            if source != target:
                return self._mask(self._masks_found[source])
        for source in by_preference(self.preproc, first=self.space):
            derivative = self.preproc[source]
            extracted = derivative.sidecar.get("SkullStripped") is not False
            if source != target and (extracted or self._show_head):
                return self._mask(derivative)
        raise ValueError("there is no brain mask, and only brain-extracted images are shown")

    def _mask(self, derivative: OutputFile) -> Mask:
        name = derivative.path.name
        if name not in self._masks:
            self._masks[name] = self.load(derivative) != 0
        return self._masks[name]


def by_preference(contrasts: Iterable[str], first: str | None = None) -> list[str]:
    """Sort contrasts by preference as a reference, ``first`` before all; unknown names last."""
    ranks = {contrast: rank for rank, contrast in enumerate(CONTRASTS)}
    return sorted(contrasts, key=lambda name: (name != first, ranks.get(name, len(ranks)), name))
