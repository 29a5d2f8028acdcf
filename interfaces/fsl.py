"""FSL's BET, FLIRT and FAST as nodes with the same inputs and outputs as the built-in engine's.

The programs get float32 NIfTI files that this app wrote itself, by short names in the node's
folder: FSL's scripts break on spaces, and its programs on types and headers that the app reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces import fsl
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    CommandLine,
    File,
    SimpleInterface,
    isdefined,
    traits,
)
from nipype.interfaces.fsl.preprocess import FLIRTInputSpec

from colapipe.errors import MissingToolError, ParticipantError, TransformError
from colapipe.interfaces.anatomy import refuse
from colapipe.interfaces.engine_specs import (
    BrainMaskOutput,
    RegisterInput,
    RegisterOutput,
    TissueInput,
    TissueOutput,
)
from colapipe.run.failures import describe_exit
from colapipe.run.fsl import find_fsl

# FLIRT starts from the headers and searches around them: all that a head turns between two scans.
# Its own default, 90 degrees, takes 1.4 to 1.5 times as long and ends within 0.04 mm of it.
_SEARCH_DEGREES = [-30, 30]
# From 2 mm to 1 mm, from the pose that FLIRT starts with. Its own schedule begins at 8 mm and tries
# perturbed poses at 4 mm: 60 CPU-s instead of 12 on 0.6 x 0.6 x 3.3 mm, and ends within 0.04 mm.
_REFINEMENT = """\
setoption boundguess 1
setscale 2
setoption smoothing 2
clear U
clear UA
setrow UA 1 0 0 0  0 1 0 0  0 0 1 0  0 0 0 1
optimise 6 UA 0.0 0.0 0.0 0.0 0.0 0.0 0.0 rel 2
sort U
clear UB
copy U UB
setscale 1
setoption smoothing 1
clear U
optimise 6 UB:1 0.0 0.0 0.0 0.0 0.0 0.0 0.0 rel 1
sort U
"""
_REFINEMENT_FILE = "refinement.sch"
_FAST_TYPE = {"T1w": 1, "T1ce": 1, "T2w": 2, "FLAIR": 2, "PDw": 3}


class _Program:
    """Mixed into Nipype's class of a program: run the FSL that the app found, write ``.nii.gz``
    whatever the user's FSLOUTPUTTYPE says, and fail where, and only where, the program does.

    Nipype itself goes on after a failure, except for BET, where any word on stderr is one.
    """

    cmd: str  # Nipype's
    inputs: Any
    _output_type = "NIFTI_GZ"
    _terminal_output = "allatonce"

    def _run_interface(self, runtime: Any) -> Any:
        found = find_fsl()
        if found is None:
            raise MissingToolError(
                f"FSL's {self.cmd} is not here. Set FSLDIR to the folder of FSL, or choose "
                "the built-in engine (--engine builtin)."
            )
        self.inputs.environ.update(found.environment())
        runtime = CommandLine._run_interface(self, runtime)
        if runtime.returncode != 0:
            said = f"{runtime.stdout or ''}\n{runtime.stderr or ''}".split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "none")
            raise ParticipantError(
                f"FSL's `{runtime.cmdline}` in {runtime.cwd} "
                f"{describe_exit(runtime.returncode)[1]}; its last words: {last}"
            )
        return runtime


class BET(_Program, fsl.BET):
    """Brain extraction."""


class _FLIRTInput(FLIRTInputSpec):
    out_file = File(desc="not written: the app resamples, and only once")


class FLIRT(_Program, fsl.FLIRT):
    """Linear registration that writes its matrix alone."""

    input_spec = _FLIRTInput


def rigid_flirt(
    moving: str, reference: str, start: str, result: str, weight: str | None = None
) -> FLIRT:
    """Set FLIRT up as this app needs it: rigid, by mutual information, from a start of ours.

    Without a weight it searches around the start, in whole heads. With one it goes down from the
    start, and looks where the weight is: a search would end where no more than a corner of the
    weight meets the scan, for FLIRT's weighted mutual information grows without limit there (-3.2
    on a scan of 5.5 mm slices, -0.376 where both are aligned).
    """
    # A start in a file, not -usesqform: FLIRT 5.0.9 scales that one twice if voxels are smaller
    # than 0.75 mm.
    common = {
        "in_file": moving,
        "reference": reference,
        "in_matrix_file": start,
        "out_matrix_file": result,
        "dof": 6,
        "cost": "mutualinfo",
    }
    if weight is not None:
        return FLIRT(**common, no_search=True, ref_weight=weight, schedule=_REFINEMENT_FILE)
    ranges = {f"searchr_{axis}": _SEARCH_DEGREES for axis in "xyz"}
    return FLIRT(**common, cost_func="mutualinfo", **ranges)


class FAST(_Program, fsl.FAST):
    """Tissue segmentation."""


class _Versioned(BaseInterfaceInputSpec):
    fsl_version = traits.Str(desc="found here; being hashed, it makes another FSL compute anew")


class _Node(SimpleInterface):
    """A job of the engine, done by FSL."""

    def __init__(self, **inputs: Any) -> None:
        super().__init__(**inputs)
        if (found := find_fsl()) is not None:
            self.inputs.fsl_version = found.version


class _BrainMaskInput(_Versioned):
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc="FSL uses one")
    in_file = File(exists=True, mandatory=True, desc="a scan, with its skull")


class BrainMask(_Node):
    """BET with its own defaults; no `-R`, which needs the program `dc`."""

    input_spec = _BrainMaskInput
    output_spec = BrainMaskOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan, save_image
        from colapipe.anatomy.maps import load_mask

        cwd, scan = Path(runtime.cwd), load_scan(self.inputs.in_file)
        save_image(scan, cwd / "scan.nii")
        BET(in_file="scan.nii", out_file="brain", mask=True, no_output=True).run(cwd=str(cwd))
        mask = load_mask(cwd / "brain_mask.nii.gz", scan)
        if not np.any(mask.dataobj):
            raise ParticipantError(f"{self.inputs.in_file}: BET finds no brain in this scan")
        self._results["mask_file"] = str(cwd / "mask.nii.gz")
        save_image(mask, self._results["mask_file"])
        return runtime


class _RegisterInput(RegisterInput, _Versioned):
    """FSL uses one thread."""


class Register(_Node):
    """FLIRT, six degrees of freedom, mutual information: whole heads first, then near the brain.

    What is refused is tried once more, from where the built-in engine's wide search ends.
    """

    input_spec = _RegisterInput
    output_spec = RegisterOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan
        from colapipe.anatomy.maps import load_mask
        from colapipe.anatomy.registration import aligned_at_identity, search_pose
        from colapipe.anatomy.transform_check import first_accepted
        from colapipe.anatomy.transforms import write_itk

        cwd, mask, threads = Path(runtime.cwd), None, self.inputs.num_threads
        moving, reference = load_scan(self.inputs.moving), load_scan(self.inputs.reference)
        if isdefined(self.inputs.reference_mask):
            mask = load_mask(self.inputs.reference_mask, reference)
        matrix = np.eye(4)
        kept = aligned_at_identity(moving, reference, mask, threads=threads)
        if not kept:
            flirt = _Flirt(cwd, moving, reference, mask)
            attempts = (
                lambda: flirt.refine(flirt.search()),
                lambda: flirt.refine(search_pose(moving, reference, mask, threads)),
            )
            try:
                matrix = first_accepted(attempts, moving, reference, mask)
            except TransformError as err:
                refuse(cwd, [str(err)])
        write_itk(matrix, cwd / "transform.txt")
        self._results.update(transform=str(cwd / "transform.txt"), identity_kept=kept)
        return runtime


class _Flirt:
    """FLIRT on two scans, in a folder of its own; matrices are moving to reference, RAS+ mm."""

    def __init__(self, cwd: Path, moving: Any, reference: Any, mask: Any) -> None:
        from colapipe.anatomy.for_fsl import registration_weight
        from colapipe.anatomy.images import save_image

        self._cwd, self._moving, self._reference = cwd, moving, reference
        self._weight = None if mask is None else "weight.nii"
        save_image(moving, cwd / "moving.nii")
        save_image(reference, cwd / "reference.nii")
        if mask is not None:
            save_image(registration_weight(mask), cwd / "weight.nii")
            (cwd / _REFINEMENT_FILE).write_text(_REFINEMENT, encoding="ascii")

    def search(self) -> np.ndarray:
        """Search around where the headers say."""
        return self._run(np.eye(4), "searched", None)

    def refine(self, start: np.ndarray) -> np.ndarray:
        """Go down from a pose, near the brain; without a mask of it there is nothing to refine."""
        return start if self._weight is None else self._run(start, "refined", self._weight)

    def _run(self, start: np.ndarray, name: str, weight: str | None) -> np.ndarray:
        from colapipe.anatomy.transforms import read_fsl, write_fsl

        files = (f"{name}_from.mat", f"{name}.mat")
        write_fsl(start, self._cwd / files[0], self._moving, self._reference)
        rigid_flirt("moving.nii", "reference.nii", *files, weight).run(cwd=str(self._cwd))
        return read_fsl(self._cwd / files[1], self._moving, self._reference)


class _TissueInput(TissueInput, _Versioned):
    """FSL uses one thread."""


class Tissue(_Node):
    """FAST with three classes, named by what they look like: ``-t 2`` reverses their numbers."""

    input_spec = _TissueInput
    output_spec = TissueOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.for_fsl import image_for_fast, tissues_from_classes
        from colapipe.anatomy.images import image_like, load_scan, save_image
        from colapipe.anatomy.maps import load_array, load_mask

        cwd, contrast = Path(runtime.cwd), self.inputs.contrast
        scan = load_scan(self.inputs.in_file)
        brain = image_for_fast(scan, load_mask(self.inputs.mask_file, scan), contrast)
        save_image(brain, cwd / "brain.nii")
        FAST(
            in_files="brain.nii",
            out_basename="fast",
            img_type=_FAST_TYPE[contrast],
            number_classes=3,
        ).run(cwd=str(cwd))
        classes = [load_array(cwd / f"fast_pve_{index}.nii.gz") for index in range(3)]
        tissues = tissues_from_classes(classes, brain, contrast)
        for name, tissue in zip(("csf", "gm", "wm"), tissues, strict=True):
            self._results[name] = str(cwd / f"{name}.nii.gz")
            save_image(image_like(tissue, scan), self._results[name])
        return runtime
