"""Nodes that both engines share: read a scan, settle its brain mask, bring it to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from colapipe.bids.sidecars import write_json
from colapipe.errors import InputFileError, TransformError


class _LoadScanInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="a scan of the raw dataset")


class _LoadScanOutput(TraitedSpec):
    out_file = File(exists=True, desc="3-D float32, same voxels and orientation")


class LoadScan(SimpleInterface):
    """Read and check a scan; everything after this node may trust its input."""

    input_spec = _LoadScanInput
    output_spec = _LoadScanOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan, save_image

        out_file = Path(runtime.cwd) / "scan.nii"
        save_image(load_scan(self.inputs.in_file), out_file)
        self._results["out_file"] = str(out_file)
        return runtime


class _ChooseBrainMaskInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="the scan")
    engine_mask = File(exists=True, desc="the engine's mask; not needed with mode='skip'")
    existing_mask = File(exists=True, desc="a mask that somebody made before, on any grid")
    mode = traits.Enum("auto", "skip", "force", usedefault=True, desc="--skull-strip")
    second_opinion = traits.Bool(
        False, usedefault=True, desc="ask deepbet, too: BET cuts into brains without a skull"
    )


class _ChooseBrainMaskOutput(TraitedSpec):
    mask_file = File(exists=True, desc="uint8 brain mask on the grid of the scan")
    brain_extracted = traits.Bool(desc="the scan came without its skull")
    method = traits.Enum("engine", "support", "existing", desc="where the mask comes from")
    remark = traits.Str(desc="what a user should know of an existing mask; else empty")


class ChooseBrainMask(SimpleInterface):
    """Take the engine's mask, or the scan's own support where its skull is gone already."""

    input_spec = _ChooseBrainMaskInput
    output_spec = _ChooseBrainMaskOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.brainmask import (
            brain_mask,
            has_constant_background,
            is_brain_extracted,
            support_mask,
        )
        from colapipe.anatomy.images import load_scan, save_image
        from colapipe.anatomy.maps import given_mask, load_mask

        scan = load_scan(self.inputs.in_file)
        extracted, method, remark = False, "engine", ""
        if isdefined(self.inputs.existing_mask):
            # Its grid may be another one, as fMRIPrep's is; its place in the scanner is the same.
            mask, remark = given_mask(self.inputs.existing_mask, scan)
            method = "existing"
        elif self.inputs.mode == "skip":
            mask, extracted, method = support_mask(scan), True, "support"
        else:
            mask = load_mask(self.inputs.engine_mask, scan)
            extracted = self.inputs.mode == "auto" and is_brain_extracted(scan, mask)
            if self.inputs.mode == "auto" and not extracted and self.inputs.second_opinion:
                # Only a constant background makes it worth the seconds.
                extracted = has_constant_background(scan) and is_brain_extracted(
                    scan, brain_mask(scan)
                )
            if extracted:
                mask, extracted, method = support_mask(scan), True, "support"
        out_file = Path(runtime.cwd) / "mask.nii.gz"
        save_image(mask, out_file)
        self._results.update(
            mask_file=str(out_file), brain_extracted=extracted, method=method, remark=remark
        )
        return runtime


class _CorrectBiasInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    mask_file = File(exists=True, mandatory=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)


class _CorrectBiasOutput(TraitedSpec):
    out_file = File(exists=True, desc="bias-corrected, 0 outside the mask")


class CorrectBias(SimpleInterface):
    """N4 inside the mask, and nothing outside it."""

    input_spec = _CorrectBiasInput
    output_spec = _CorrectBiasOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.bias import correct_bias
        from colapipe.anatomy.images import load_scan, save_image
        from colapipe.anatomy.maps import apply_mask, load_mask

        scan = load_scan(self.inputs.in_file)
        mask = load_mask(self.inputs.mask_file, scan)
        out_file = Path(runtime.cwd) / "bias_corrected.nii"
        corrected = correct_bias(scan, mask, threads=self.inputs.num_threads)
        save_image(apply_mask(corrected, mask), out_file)
        self._results["out_file"] = str(out_file)
        return runtime


class _ToReferenceInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="the moving scan")
    reference = File(exists=True, mandatory=True)
    transform = File(exists=True, mandatory=True, desc="ITK .txt, moving to reference")


class _ToReferenceOutput(TraitedSpec):
    out_file = File(exists=True, desc="the scan on the reference grid")


class ToReference(SimpleInterface):
    """Resample a scan to the reference grid; voxels that are there already stay what they are."""

    input_spec = _ToReferenceInput
    output_spec = _ToReferenceOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan, save_image
        from colapipe.anatomy.resample import resample
        from colapipe.anatomy.transforms import read_itk

        out_file = Path(runtime.cwd) / "resampled.nii"
        resampled = resample(
            load_scan(self.inputs.in_file),
            load_scan(self.inputs.reference),
            read_itk(self.inputs.transform),
            interpolation="cubic",
        )
        save_image(resampled, out_file)
        self._results["out_file"] = str(out_file)
        return runtime


class _ExistingTransformInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="FSL .mat or ITK .txt, moving to reference")
    moving = File(exists=True, mandatory=True)
    reference = File(exists=True, mandatory=True)


class _ExistingTransformOutput(TraitedSpec):
    transform = File(exists=True, desc="ITK .txt")
    identity_kept = traits.Bool()


class ExistingTransform(SimpleInterface):
    """Read a matrix that somebody made before."""

    input_spec = _ExistingTransformInput
    output_spec = _ExistingTransformOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan
        from colapipe.anatomy.transforms import read_fsl, read_itk, write_itk

        path = Path(self.inputs.in_file)
        try:
            if path.suffix == ".mat":
                moving, reference = load_scan(self.inputs.moving), load_scan(self.inputs.reference)
                matrix = read_fsl(path, moving, reference)
            else:
                matrix = read_itk(path)
        except InputFileError as err:
            # Read or not, a matrix that is not used is no reason to give up: see CheckTransform.
            refuse(Path(runtime.cwd), [f"{err.found}; expected {err.expected}"])
        out_file = Path(runtime.cwd) / "transform.txt"
        write_itk(matrix, out_file)
        self._results.update(
            transform=str(out_file), identity_kept=bool(np.array_equal(matrix, np.eye(4)))
        )
        return runtime


class _CheckTransformInput(BaseInterfaceInputSpec):
    moving = File(exists=True, mandatory=True)
    reference = File(exists=True, mandatory=True)
    reference_mask = File(exists=True, mandatory=True)
    moving_mask = File(exists=True, desc="brain mask of the moving scan, where there is one")
    transform = File(exists=True, mandatory=True, desc="ITK .txt, moving to reference")
    identity_kept = traits.Bool(False, usedefault=True)


class _CheckTransformOutput(TraitedSpec):
    transform = File(exists=True, desc="the same")
    identity_kept = traits.Bool()


class CheckTransform(SimpleInterface):
    """Let a transform pass that can be believed; nothing is made with another one.

    ``verdict.json`` in its folder says what was measured, and why a transform is refused.
    """

    input_spec = _CheckTransformInput
    output_spec = _CheckTransformOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan
        from colapipe.anatomy.maps import load_mask
        from colapipe.anatomy.transform_check import check_transform
        from colapipe.anatomy.transforms import read_itk

        inputs = self.inputs
        reference = load_scan(inputs.reference)
        check = check_transform(
            read_itk(inputs.transform),
            load_scan(inputs.moving),
            reference,
            load_mask(inputs.reference_mask, reference),
            load_mask(inputs.moving_mask) if isdefined(inputs.moving_mask) else None,
        )
        if not check.accepted:
            refuse(Path(runtime.cwd), **check.to_dict())
        write_json(Path(runtime.cwd) / VERDICT, check.to_dict())
        self._results.update(transform=inputs.transform, identity_kept=inputs.identity_kept)
        return runtime


VERDICT = "verdict.json"
"""What a node leaves in its folder where it judges a transform; the run reads it."""


def refuse(cwd: Path, reasons: list[str], **measured: Any) -> NoReturn:
    """Refuse a transform: leave the verdict for the run, and fail.

    Raises
    ------
    TransformError
        Always.
    """
    write_json(cwd / VERDICT, {**measured, "accepted": False, "reasons": reasons})
    raise TransformError(f"this transform is not used: {'; '.join(reasons)}")


class _TissueToReferenceInput(BaseInterfaceInputSpec):
    csf = File(exists=True, mandatory=True)
    gm = File(exists=True, mandatory=True)
    wm = File(exists=True, mandatory=True)
    mask_file = File(exists=True, mandatory=True)
    reference = File(exists=True, mandatory=True)
    transform = File(exists=True, desc="ITK .txt; left out for the reference's own maps")


class _TissueToReferenceOutput(TraitedSpec):
    csf = File(exists=True)
    gm = File(exists=True)
    wm = File(exists=True)
    mask_file = File(exists=True)


class TissueToReference(SimpleInterface):
    """Bring a contrast's brain mask and tissue maps to the reference grid."""

    input_spec = _TissueToReferenceInput
    output_spec = _TissueToReferenceOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import image_like, load_scan, save_image
        from colapipe.anatomy.maps import load_map, load_mask, resample_mask, resample_probabilities
        from colapipe.anatomy.transforms import read_itk

        inputs, cwd = self.inputs, Path(runtime.cwd)
        matrix = read_itk(inputs.transform) if isdefined(inputs.transform) else np.eye(4)
        mask = resample_mask(load_mask(inputs.mask_file), load_scan(inputs.reference), matrix)
        maps = [load_map(path) for path in (inputs.csf, inputs.gm, inputs.wm)]
        tissues = resample_probabilities(maps, mask, matrix)
        images = {name: image_like(tissues[..., k], mask) for k, name in enumerate(_TISSUES)}
        for name, image in {**images, "mask_file": mask}.items():
            self._results[name] = str(cwd / f"{name}.nii.gz")
            save_image(image, self._results[name])
        return runtime


_TISSUES = ("csf", "gm", "wm")


class _LabelTissueInput(BaseInterfaceInputSpec):
    csf = File(exists=True, mandatory=True)
    gm = File(exists=True, mandatory=True)
    wm = File(exists=True, mandatory=True)
    mask_file = File(exists=True, mandatory=True)
    lesion = File(exists=True, desc="lesion mask on the same grid: label 4")


class _LabelTissueOutput(TraitedSpec):
    dseg = File(exists=True, desc="labels 1 CSF, 2 GM, 3 WM, 4 lesion")


class LabelTissue(SimpleInterface):
    """Label each voxel with its likeliest tissue.

    A node of its own: what knows of lesions must not stand between a scan and a synthesis.
    """

    input_spec = _LabelTissueInput
    output_spec = _LabelTissueOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import image_like, save_image
        from colapipe.anatomy.maps import load_array, load_mask
        from colapipe.anatomy.tissue import labels

        inputs = self.inputs
        mask = load_mask(inputs.mask_file)
        tissues = np.stack([load_array(getattr(inputs, name)) for name in _TISSUES], axis=-1)
        lesion = load_array(inputs.lesion) > 0 if isdefined(inputs.lesion) else None
        self._results["dseg"] = str(Path(runtime.cwd) / "dseg.nii.gz")
        dseg = labels(tissues, np.asarray(mask.dataobj) > 0, lesion)
        save_image(image_like(dseg, mask), self._results["dseg"])
        return runtime


class _LesionToReferenceInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="a lesion mask, labels, or probabilities")
    reference = File(exists=True, mandatory=True)
    transform = File(exists=True, desc="of the contrast on whose grid the mask was drawn")


class _LesionToReferenceOutput(TraitedSpec):
    out_file = File(exists=True, desc="uint8 on the reference grid")
    remark = traits.Str(desc="what a user should know of the mask; else empty")


class LesionToReference(SimpleInterface):
    """Bring a lesion mask to the reference grid."""

    input_spec = _LesionToReferenceInput
    output_spec = _LesionToReferenceOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import load_scan, save_image
        from colapipe.anatomy.maps import given_mask
        from colapipe.anatomy.transforms import read_itk

        transform = self.inputs.transform
        matrix = read_itk(transform) if isdefined(transform) else np.eye(4)
        reference = load_scan(self.inputs.reference)
        lesion, remark = given_mask(self.inputs.in_file, reference, matrix, may_be_empty=True)
        out_file = Path(runtime.cwd) / "lesion.nii.gz"
        save_image(lesion, out_file)
        self._results.update(out_file=str(out_file), remark=remark)
        return runtime
