"""Inputs and outputs that the nodes of every engine share, so that one can stand for the other."""

from __future__ import annotations

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits


class BrainMaskOutput(TraitedSpec):
    """Of the node that finds the brain."""

    mask_file = File(exists=True, desc="uint8 on the grid of the scan")


class RegisterInput(BaseInterfaceInputSpec):
    """Of the node that aligns a scan with the reference."""

    moving = File(exists=True, mandatory=True)
    reference = File(exists=True, mandatory=True)
    reference_mask = File(exists=True, desc="brain mask of the reference")
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class RegisterOutput(TraitedSpec):
    """Of the node that aligns a scan with the reference."""

    transform = File(exists=True, desc="ITK .txt, moving to reference")
    identity_kept = traits.Bool(desc="the scans were aligned already")


class TissueInput(BaseInterfaceInputSpec):
    """Of the node that makes tissue maps."""

    in_file = File(exists=True, mandatory=True, desc="a scan, bias-corrected or not")
    mask_file = File(exists=True, mandatory=True)
    contrast = traits.Str(mandatory=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class TissueOutput(TraitedSpec):
    """Of the node that makes tissue maps: probabilities on the grid of the scan."""

    csf = File(exists=True)
    gm = File(exists=True)
    wm = File(exists=True)
