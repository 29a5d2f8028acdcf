"""The built-in engine's three jobs as nodes: brain mask, rigid registration, tissue maps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    CommandLineInputSpec,
    File,
    SimpleInterface,
    isdefined,
    traits,
)

from colapipe.errors import TransformError
from colapipe.interfaces.anatomy import refuse
from colapipe.interfaces.commands import OwnCommand, python_command
from colapipe.interfaces.engine_specs import (
    BrainMaskOutput,
    RegisterInput,
    RegisterOutput,
    TissueInput,
    TissueOutput,
)


class _BrainMaskInput(CommandLineInputSpec):
    in_file = File(exists=True, mandatory=True, argstr="%s", position=0)
    out_file = File("mask.nii.gz", usedefault=True, argstr="%s", position=1)
    num_threads = traits.Int(1, usedefault=True, nohash=True, argstr="--threads %d", position=2)


class BrainMask(OwnCommand):
    """deepbet, in a process of its own, so that torch's memory goes when the mask is there."""

    _cmd = python_command("colapipe.anatomy.brainmask")
    input_spec = _BrainMaskInput
    output_spec = BrainMaskOutput

    def _list_outputs(self) -> dict[str, str]:
        return {"mask_file": str(Path(self.inputs.out_file).absolute())}


class Register(SimpleInterface):
    """Rigid registration with SimpleITK."""

    input_spec = RegisterInput
    output_spec = RegisterOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan
        from colapipe.anatomy.maps import load_mask
        from colapipe.anatomy.registration import register_rigid
        from colapipe.anatomy.transform_check import first_accepted
        from colapipe.anatomy.transforms import write_itk

        moving, reference = load_scan(self.inputs.moving), load_scan(self.inputs.reference)
        given = self.inputs.reference_mask
        mask = load_mask(given, reference) if isdefined(given) else None

        def register(wide: bool) -> np.ndarray:
            threads = self.inputs.num_threads
            result = register_rigid(moving, reference, mask, threads, wide=wide)
            return result.moving_to_reference

        attempts = [partial(register, wide) for wide in (False, True)]
        try:
            matrix = first_accepted(attempts, moving, reference, mask)
        except TransformError as err:
            refuse(Path(runtime.cwd), [str(err)])
        out_file = Path(runtime.cwd) / "transform.txt"
        write_itk(matrix, out_file)
        self._results.update(
            transform=str(out_file), identity_kept=bool(np.array_equal(matrix, np.eye(4)))
        )
        return runtime


class Tissue(SimpleInterface):
    """Tissue probabilities by a hidden Markov random field."""

    input_spec = TissueInput
    output_spec = TissueOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import image_like, load_scan, save_image
        from colapipe.anatomy.maps import load_mask
        from colapipe.anatomy.tissue import segment_tissue

        scan = load_scan(self.inputs.in_file)
        maps = segment_tissue(scan, load_mask(self.inputs.mask_file, scan), self.inputs.contrast)
        for index, name in enumerate(("csf", "gm", "wm")):
            self._results[name] = str(Path(runtime.cwd) / f"{name}.nii.gz")
            save_image(image_like(maps[..., index], scan), self._results[name])
        return runtime
