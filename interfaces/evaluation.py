"""The node that scores a synthesised contrast against the real one (``--evaluate``)."""

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


class _ScoreInput(BaseInterfaceInputSpec):
    target = traits.Str(mandatory=True)
    mean = File(exists=True, mandatory=True, desc="synthesised, on the model grid, in [0, 1]")
    truth = File(exists=True, mandatory=True, desc="the real scan, on the model grid, in [0, 1]")
    mask_file = File(exists=True, mandatory=True)
    csf = File(exists=True, mandatory=True)
    gm = File(exists=True, mandatory=True)
    wm = File(exists=True, mandatory=True)
    lesion = File(exists=True)
    slices = traits.List(traits.Int(), mandatory=True, desc="the slices that were synthesised")


class _ScoreOutput(TraitedSpec):
    scores = File(exists=True, desc="JSON: one row per region")


class Score(SimpleInterface):
    """Compare a synthesised contrast with the real one that the model never saw."""

    input_spec = _ScoreInput
    output_spec = _ScoreOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.anatomy.maps import load_array
        from colapipe.quality.scores import score_synthesis

        given = self.inputs
        rows = score_synthesis(
            load_array(given.mean),
            load_array(given.truth),
            load_array(given.mask_file) > 0,
            tissues={
                name.upper(): load_array(getattr(given, name)) for name in ("csf", "gm", "wm")
            },
            lesion=load_array(given.lesion) > 0 if isdefined(given.lesion) else None,
            slices=list(given.slices),
        )
        rows = [{"target": given.target, **row} for row in rows]
        out_file = Path(runtime.cwd) / "scores.json"
        out_file.write_text(json.dumps(rows, default=plain), encoding="utf-8")
        self._results["scores"] = str(out_file)
        return runtime


def plain(value: Any) -> Any:
    """Turn a numpy number into one that JSON knows."""
    return value.item() if isinstance(value, np.generic) else str(value)
