"""Brain masks: from a network where there is a head, from the support where there is a brain.

``python -m colapipe.anatomy.brainmask IN OUT [--threads N]`` makes a mask in a process of its
own, so that the caller never holds the network and its libraries in memory.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Image
from scipy import ndimage

from colapipe.anatomy.images import image_like, load_scan, save_image
from colapipe.errors import ColapipeError, ParticipantError

_PROBABILITY = 0.5
# What follows was measured on 25 scans, 9 with skull and 16 without, of four sources. All 25 have
# air that is exactly zero; it covers 76 to 85 % of the border of those with skull.
_CONSTANT_BORDER = 0.5
# Less than this part of the intensity range counts as background: ringing of an interpolation.
_RINGING = 1e-3
# Where the skull is, if there is one. The support fills 2 % of this shell at most without skull,
# 94 % at least with it.
_SHELL_MM = (4.0, 10.0)
_SHELL_FILLED = 0.3
# A field of view that was cut after extraction leaves 73 % of the network's mask.
_BRAIN_FILLED = 0.5
_COARSE_MM = 2.0


def brain_mask(image: Nifti1Image, threads: int = 1) -> Nifti1Image:
    """Segment the brain with deepbet [1]_, on the CPU, with the weights of its wheel.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) scan of any contrast, in any storage order, with or without a skull.
    threads : int
        Threads of torch.

    Returns
    -------
    Nifti1Image
        uint8, 1 in the brain, on the grid of ``image``; one component, without holes.

    Raises
    ------
    ParticipantError
        If no brain is found.

    References
    ----------
    .. [1] Fisch et al., Computers in Biology and Medicine 179:108845, 2024.
    """
    # Only the network's own module: deepbet's window would need a display.
    import torch
    from deepbet.bet import BrainExtraction

    to_ras = nib.io_orientation(image.affine)
    data = np.asarray(image.dataobj, dtype=np.float32)
    canonical = np.ascontiguousarray(nib.apply_orientation(data, to_ras))
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            # deepbet's weights are TorchScript, which torch loads with a word to its developers.
            warnings.filterwarnings("ignore", "`torch.jit.load`", DeprecationWarning)
            network = BrainExtraction(no_gpu=True)
        probability = network.run_model(canonical)
    except (AssertionError, ValueError) as error:
        # deepbet asserts that its first, coarse mask is not empty.
        raise _no_brain() from error
    finally:
        torch.set_num_threads(threads_before)
    mask = largest_component(probability > _PROBABILITY)
    if not mask.any():
        raise _no_brain()
    mask = ndimage.binary_fill_holes(mask)
    from_ras = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), to_ras)
    return image_like(nib.apply_orientation(mask, from_ras).astype(np.uint8), image)


def has_constant_background(image: Nifti1Image) -> bool:
    """Tell whether one exact value covers most of the border: the cheap test before a network.

    Scans straight from a scanner can pass it too, for some write exact zeros into the air.
    """
    return _background(np.asarray(image.dataobj))[1] >= _CONSTANT_BORDER


def is_brain_extracted(image: Nifti1Image, engine_mask: Nifti1Image) -> bool:
    """Tell whether a scan came without its skull.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) scan.
    engine_mask : Nifti1Image
        Brain mask of ``image`` by an engine, on its grid.

    Returns
    -------
    bool
        True if one exact value covers the border of the scan, the rest of it fills the engine's
        mask, and the shell where the skull would be is empty. Zeroed air around a head, or a
        removed face, leave that shell filled.
    """
    if not has_constant_background(image):
        return False
    support = np.asarray(support_mask(image).dataobj) > 0
    brain = np.asarray(engine_mask.dataobj) > 0
    zooms = np.linalg.norm(image.affine[:3, :3], axis=0)
    steps = np.maximum(np.rint(_COARSE_MM / zooms).astype(int), 1)
    coarse = tuple(slice(None, None, step) for step in steps)
    support, brain = support[coarse], brain[coarse]
    if not brain.any():
        return False
    distance = ndimage.distance_transform_edt(~brain, sampling=zooms * steps)
    shell = (distance > _SHELL_MM[0]) & (distance <= _SHELL_MM[1])
    filled = support[shell].mean() if shell.any() else 0.0
    return bool(filled < _SHELL_FILLED and support[brain].mean() > _BRAIN_FILLED)


def support_mask(image: Nifti1Image) -> Nifti1Image:
    """Mask what an extracted brain fills: everything that is not background.

    Parameters
    ----------
    image : Nifti1Image
        (X, Y, Z) brain-extracted scan. Its background is the most frequent value of its border;
        values below it, as interpolation leaves them, belong to the brain.

    Returns
    -------
    Nifti1Image
        uint8 on the grid of ``image``, one component, without holes.

    Raises
    ------
    ParticipantError
        If there is nothing but background.
    """
    data = np.asarray(image.dataobj, dtype=np.float32)
    background, _ = _background(data)
    distance = np.abs(data - background)
    foreground = distance > _RINGING * np.percentile(distance[distance > 0], 99)
    mask = ndimage.binary_fill_holes(largest_component(foreground))
    if not mask.any():
        raise _no_brain()
    return image_like(mask.astype(np.uint8), image)


def _background(data: np.ndarray) -> tuple[float, float]:
    """Return the most frequent value on the six faces, and the part of them that it covers."""
    faces = np.concatenate(
        [np.take(data, index, axis).ravel() for axis in range(3) for index in (0, -1)]
    )
    values, counts = np.unique(faces, return_counts=True)
    return float(values[counts.argmax()]), float(counts.max() / faces.size)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest face-connected component of a (X, Y, Z) bool array."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _no_brain() -> ParticipantError:
    return ParticipantError(
        "no brain was found in the scan. Check that it is an anatomical scan of a head and that "
        "its orientation in the header is right."
    )


def main(arguments: list[str] | None = None) -> int:
    """Make a brain mask from the command line; errors go to stderr in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m colapipe.anatomy.brainmask", description="Segment the brain in a scan."
    )
    parser.add_argument("scan", type=Path, help="NIfTI scan")
    parser.add_argument("mask", type=Path, help="NIfTI mask to write, on the grid of the scan")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    options = parser.parse_args(arguments)
    try:
        save_image(brain_mask(load_scan(options.scan), options.threads), options.mask)
    except ColapipeError as error:
        message = str(error)
        if str(options.scan) not in message:
            message = f"{options.scan}: {message}"
        print(message, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
