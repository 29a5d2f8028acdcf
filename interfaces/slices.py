"""Nodes between the reference grid and the model's 1 mm axial slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

SYNTHETIC_SCALE = 1000.0
"""Synthesised intensities leave the app as 0..1000, in arbitrary units."""


class _PlanSlicesInput(BaseInterfaceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the reference grid")
    which = traits.Enum("all", "selected", usedefault=True, desc="--slices")
    most = traits.Int(desc="no more slices than these, from the middle (--sloppy)")


class _PlanSlicesOutput(TraitedSpec):
    geometry = File(exists=True, desc="JSON: grid, crop box, selected slices, slices to synthesise")
    mask_file = File(exists=True, desc="brain mask on the model grid")
    slices = traits.List(traits.Int(), desc="slices to synthesise")


class PlanSlices(SimpleInterface):
    """Lay the model grid over the reference, and choose crop and slices."""

    input_spec = _PlanSlicesInput
    output_spec = _PlanSlicesOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.maps import load_mask
        from colapipe.slices.record import plan_geometry

        geometry, mask = plan_geometry(load_mask(self.inputs.mask_file))
        slices = geometry.with_brain if self.inputs.which == "all" else geometry.selected
        if isdefined(self.inputs.most):
            # Neighbours, because a thick slice of the reference needs all that it covers.
            first = max(0, len(slices) - self.inputs.most) // 2
            slices = slices[first : first + self.inputs.most]
        cwd = Path(runtime.cwd)
        content = {**geometry.to_dict(), "synthesised": slices}
        (cwd / "geometry.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        _save(mask.astype(np.uint8), geometry.affine, cwd / "mask.nii.gz")
        self._results.update(
            geometry=str(cwd / "geometry.json"),
            mask_file=str(cwd / "mask.nii.gz"),
            slices=[int(index) for index in slices],
        )
        return runtime


class _CropInput(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="volume on the reference grid")
    geometry = File(exists=True, mandatory=True)
    mask_file = File(exists=True, desc="brain mask on the model grid; not for a brain mask")
    kind = traits.Enum("contrast", "probability", "mask", mandatory=True)


class _CropOutput(TraitedSpec):
    out_file = File(exists=True, desc="(224, 224, Z) float32 in [0, 1], 0 outside the brain")


class Crop(SimpleInterface):
    """Bring one volume to the model grid; contrasts are normalised inside the brain."""

    input_spec = _CropInput
    output_spec = _CropOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.maps import load_array, load_map
        from colapipe.slices.present import (
            present_contrast,
            present_mask,
            present_probability,
        )

        geometry, image = read_geometry(self.inputs.geometry), load_map(self.inputs.in_file)
        mask: Any = True
        if isdefined(self.inputs.mask_file):
            mask = load_array(self.inputs.mask_file) > 0
        if self.inputs.kind == "contrast":
            cropped = present_contrast(image, geometry, mask)
        elif self.inputs.kind == "probability":
            cropped = present_probability(image, geometry, mask)
        else:
            cropped = np.where(mask, present_mask(image, geometry), 0).astype(np.float32)
        out_file = Path(runtime.cwd) / "cropped.nii.gz"
        _save(cropped, geometry.affine, out_file)
        self._results["out_file"] = str(out_file)
        return runtime


class _PasteBackInput(BaseInterfaceInputSpec):
    mean = File(exists=True, mandatory=True)
    std = File(exists=True)
    geometry = File(exists=True, mandatory=True)
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the reference grid")
    model_mask = File(exists=True, mandatory=True, desc="brain mask on the model grid")
    slices = traits.List(traits.Int(), mandatory=True, desc="the slices that were synthesised")


class _PasteBackOutput(TraitedSpec):
    mean = File(exists=True, desc="on the reference grid, 0..1000")
    std = File(exists=True, desc="on the reference grid, 0..1000")


class PasteBack(SimpleInterface):
    """Bring the synthesised slices back to the reference grid."""

    input_spec = _PasteBackInput
    output_spec = _PasteBackOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.images import image_like, save_image
        from colapipe.anatomy.maps import load_array, load_mask
        from colapipe.slices.record import paste_to_reference

        geometry = read_geometry(self.inputs.geometry)
        mask = load_mask(self.inputs.mask_file)
        made = load_array(self.inputs.model_mask) > 0
        skipped = np.setdiff1d(np.arange(made.shape[2]), self.inputs.slices)
        made[:, :, skipped] = False
        covered = paste_to_reference(made, geometry, mask, order=1) >= 0.5
        inside = (np.asarray(mask.dataobj) > 0) & covered
        for name in ("mean", "std"):
            in_file = getattr(self.inputs, name)
            if not isdefined(in_file):
                continue
            volume = paste_to_reference(load_array(in_file), geometry, mask, mask=made)
            volume = np.where(inside, np.clip(volume, 0, 1) * SYNTHETIC_SCALE, 0)
            out_file = Path(runtime.cwd) / f"{name}.nii.gz"
            save_image(image_like(volume.astype(np.float32), mask), out_file)
            self._results[name] = str(out_file)
        return runtime


def read_geometry(path: str) -> Any:
    """Read the JSON that `PlanSlices` wrote."""
    from colapipe.slices.record import Geometry

    return Geometry.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def _save(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    from nibabel import Nifti1Image

    from colapipe.anatomy.images import save_image

    save_image(Nifti1Image(volume, affine), path)
