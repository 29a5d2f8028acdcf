"""Nodes that put results under their final BIDS name, each with its sidecar, only when complete."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    TraitedSpec,
    isdefined,
    traits,
)

from colapipe.bids import sidecars
from colapipe.bids.names import derivative_path
from colapipe.contrasts import TISSUES
from colapipe.files import write_bytes
from colapipe.interfaces.published import Published


class _SaveInput(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True)
    participant = traits.Str(mandatory=True)
    session = traits.Either(None, traits.Str, usedefault=True)
    contrast = traits.Str(mandatory=True)
    reference = traits.Str(mandatory=True)
    sources = traits.List(traits.Str(), desc="BIDS URIs of what the files were made from")
    spatial_reference = traits.Str(desc="BIDS URI of the reference scan")
    engine = traits.Str()
    engine_version = traits.Str()


class _SaveOutput(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True))
    written = traits.Str(desc="differs for each time that the files were written")


class _Save(Published):
    """What all of them share: names, and the list of files written."""

    output_spec = _SaveOutput

    def _list_outputs(self) -> dict[str, Any]:
        return {**super()._list_outputs(), "written": uuid.uuid4().hex}

    def _path(self, extension: str = ".nii.gz", suffix: str | None = None, **entities: Any) -> Path:
        given = self.inputs
        relative = derivative_path(given.participant, given.session, suffix, extension, **entities)
        return Path(given.out_dir) / relative

    def _common(self) -> dict[str, Any]:
        given = self.inputs
        return {
            "sources": list(given.sources),
            "spatial_reference": given.spatial_reference,
            "engine": given.engine,
            "engine_version": given.engine_version,
        }

    def _publish(self, in_file: str, path: Path, sidecar: dict[str, Any]) -> None:
        # The sidecar first: an image never stands there without the words that belong to it.
        sidecars.write_json(path.with_name(path.name.partition(".")[0] + ".json"), sidecar)
        publish_image(Path(in_file), path)
        self._results.setdefault("out_files", []).append(str(path))


class _SaveContrastInput(_SaveInput):
    in_file = File(exists=True, mandatory=True)
    transform = File(exists=True, desc="ITK .txt; not for the reference itself")
    identity_kept = traits.Bool(False, usedefault=True)
    moving = File(exists=True, desc="the scan on its own grid")
    reference_scan = File(exists=True)


_TRANSFORMS = (".json", ".mat", ".txt")


class SaveContrast(_Save):
    """Save a preprocessed contrast, and the transform that brought it to the reference."""

    input_spec = _SaveContrastInput

    def _run_interface(self, runtime: Any) -> Any:
        given = self.inputs
        moved = isdefined(given.transform)
        content = sidecars.preproc(
            given.contrast,
            given.reference,
            resampled=moved and not given.identity_kept,
            **self._common(),
        )
        path = self._path(contrast=given.contrast, space=given.reference, desc="preproc")
        if moved:
            names = {"from_": given.contrast, "to": given.reference, "mode": "image"}
            paths = [self._path(extension, "xfm", **names) for extension in _TRANSFORMS]
            self._results["out_files"] = publish_transform(given, paths, self._common())
        self._publish(given.in_file, path, content)
        return runtime


class _SaveLesionInput(_SaveInput):
    in_file = File(exists=True, mandatory=True)
    drawn_on = traits.Str(desc="the contrast on whose grid the mask came")
    mask_remark = traits.Str("", usedefault=True, desc="what a user should know of the mask given")


class SaveLesion(_Save):
    """Save the lesion mask on the reference grid."""

    input_spec = _SaveLesionInput

    def _run_interface(self, runtime: Any) -> Any:
        given = self.inputs
        content = sidecars.lesion_mask(
            given.reference,
            sources=list(given.sources),
            spatial_reference=given.spatial_reference,
        )
        content["DrawnOn"] = given.drawn_on
        content.update(_remarks(given.mask_remark))
        path = self._path(suffix="mask", label="lesion", space=given.reference)
        self._publish(given.in_file, path, content)
        return runtime


class _SaveTissueInput(_SaveInput):
    mask_file = File(exists=True, mandatory=True)
    csf = File(exists=True, mandatory=True)
    gm = File(exists=True, mandatory=True)
    wm = File(exists=True, mandatory=True)
    dseg = File(exists=True, mandatory=True)
    mask_method = traits.Str(desc="engine, support or existing")
    mask_remark = traits.Str("", usedefault=True, desc="what a user should know of the mask given")
    lesion = traits.Bool(False, usedefault=True, desc="the dseg has lesions as label 4")


class SaveTissue(_Save):
    """Save brain mask, tissue probabilities and labels, named for their source contrast."""

    input_spec = _SaveTissueInput

    def _run_interface(self, runtime: Any) -> Any:
        given = self.inputs
        source = {"space": given.reference, "desc": f"from{given.contrast}"}
        about = (given.contrast, given.reference)
        mask = sidecars.brain_mask(*about, **self._common())
        mask["Method"] = _MASK_METHODS[given.mask_method]
        mask.update(_remarks(given.mask_remark))
        self._publish(given.mask_file, self._path(suffix="mask", label="brain", **source), mask)
        for tissue in TISSUES:
            self._publish(
                getattr(given, tissue.lower()),
                self._path(suffix="probseg", label=tissue, **source),
                sidecars.probseg(tissue, *about, **self._common()),
            )
        table = sidecars.dseg_table(lesion=given.lesion)
        sidecars.write_text(self._path(".tsv", "dseg", **source), table)
        labels = sidecars.dseg(*about, lesion=given.lesion, **self._common())
        self._publish(given.dseg, self._path(suffix="dseg", **source), labels)
        return runtime


def _remarks(remark: str) -> dict[str, list[str]]:
    return {"Remarks": [remark]} if remark else {}


_MASK_METHODS = {
    "engine": "computed by the engine",
    "support": "voxels above zero of a scan that was brain-extracted already",
    "existing": "taken from a derivative dataset",
}


class _SaveSynthesisInput(_SaveInput):
    mean = File(exists=True, mandatory=True)
    std = File(exists=True)
    info = File(exists=True, mandatory=True)
    geometry = File(exists=True, mandatory=True)
    lesion_conditioning = traits.Bool(False, usedefault=True)


_STD = "synthstd"


class SaveSynthesis(_Save):
    """Save a synthesised contrast and its standard deviation, labelled as what they are."""

    sidecars_are_annotated = True  # with warnings, by SaveQuality

    input_spec = _SaveSynthesisInput

    def _run_interface(self, runtime: Any) -> Any:
        given = self.inputs
        geometry = json.loads(Path(given.geometry).read_text(encoding="utf-8"))
        grid = geometry["grid"]
        # Neither an image nor a sidecar may stand beside the spread of an earlier image's samples.
        for extension in (".nii.gz", ".json"):
            old = self._path(extension, contrast=given.contrast, space=given.reference, desc=_STD)
            old.unlink(missing_ok=True)
        for in_file, desc, describe in (
            (given.mean, "synth", sidecars.synth),
            (given.std, _STD, sidecars.synthstd),
        ):
            if not isdefined(in_file):
                continue
            content = describe(
                given.contrast,
                given.reference,
                info=json.loads(Path(given.info).read_text(encoding="utf-8")),
                sources=list(given.sources),
                spatial_reference=given.spatial_reference,
                tissue_source=given.reference,
                lesion_conditioning=given.lesion_conditioning,
                model_grid=(grid["shape"], grid["affine"]),
            )
            content["SynthesizedSlices"]["VoxelsOutsideCrop"] = geometry["box"]["clipped"]
            path = self._path(contrast=given.contrast, space=given.reference, desc=desc)
            self._publish(in_file, path, content)
        return runtime


class _SaveScoresInput(_SaveInput):
    contrast = traits.Str("", usedefault=True, desc="not used: a table is of all targets")
    scores = InputMultiObject(File(exists=True), mandatory=True)


class SaveScores(_Save):
    """Save the scores of all targets of a reference grid as one table."""

    input_spec = _SaveScoresInput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.bids.tables import write_table
        from colapipe.quality.scores import describe_columns

        given = self.inputs
        rows = [
            row
            for path in given.scores
            for row in json.loads(Path(path).read_text(encoding="utf-8"))
        ]
        names = {"suffix": "qc", "space": given.reference, "desc": "synth"}
        table = self._path(".tsv", **names)
        who = {"participant_id": f"sub-{given.participant}"}
        if given.session:
            who["session_id"] = f"ses-{given.session}"
        rows = [{**who, **row} for row in rows]
        write_table(table, rows, describe_columns(rows))
        self._results["out_files"] = [str(table)]
        return runtime


class _SaveSelfCheckInput(_SaveInput):
    contrast = traits.Str("", usedefault=True, desc="not used: a table is of all contrasts")
    rows = File(exists=True, mandatory=True, desc="JSON of `Judge`")


class SaveSelfCheck(_Save):
    """Save what the self-check of a reference grid found as one table."""

    input_spec = _SaveSelfCheckInput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.quality.selfcheck_table import write_selfcheck

        rows = json.loads(Path(self.inputs.rows).read_text(encoding="utf-8"))
        table = self._path(".tsv", suffix="qc", space=self.inputs.reference, desc="selfcheck")
        write_selfcheck(table, rows)
        self._results["out_files"] = [str(table)]
        return runtime


def publish_image(source: Path, path: Path) -> None:
    """Put an image under its final name in one step, compressed if that name says so."""
    from colapipe.anatomy.images import save_image
    from colapipe.anatomy.maps import load_map

    if source.name.endswith(".nii.gz"):
        write_bytes(path, source.read_bytes())
    else:
        save_image(load_map(source), path)


def publish_transform(given: Any, paths: list[Path], common: dict[str, Any]) -> list[str]:
    """Write a transform in FSL's and ITK's format, after the sidecar that names both grids.

    Parameters
    ----------
    given : trait input of `SaveContrast`
    paths : list of Path
        Sidecar, FSL ``.mat``, ITK ``.txt``.
    common : dict
        What all sidecars hold.
    """
    from colapipe.anatomy.images import grid_of, load_scan
    from colapipe.anatomy.transforms import read_itk, write_fsl, write_itk

    moving, reference = load_scan(given.moving), load_scan(given.reference_scan)
    matrix = read_itk(given.transform)
    content = sidecars.xfm(
        given.contrast,
        given.reference,
        moving_grid=grid_of(moving),
        reference_grid=grid_of(reference),
        moving_to_reference=matrix,
        identity_kept=given.identity_kept,
        **{key: value for key, value in common.items() if key != "spatial_reference"},
    )
    sidecar, mat, txt = paths
    sidecars.write_json(sidecar, content)
    write_fsl(matrix, mat, moving, reference)
    write_itk(matrix, txt)
    return [str(path) for path in paths]
