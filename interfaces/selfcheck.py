"""Nodes of the self-check: what fails in them is a word in its table, and no failure of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from colapipe.contrasts import CONTRASTS
from colapipe.errors import ParticipantError
from colapipe.interfaces.evaluation import plain
from colapipe.interfaces.slices import read_geometry
from colapipe.interfaces.synthesis import Synthesise


class _SpreadSlicesInput(BaseInterfaceInputSpec):
    geometry = File(exists=True, mandatory=True)


class _SpreadSlicesOutput(TraitedSpec):
    slices = traits.List(traits.Int())


class SpreadSlices(SimpleInterface):
    """Choose the few slices that a self-check synthesises."""

    input_spec = _SpreadSlicesInput
    output_spec = _SpreadSlicesOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.quality.selfcheck import spread_slices

        self._results["slices"] = spread_slices(read_geometry(self.inputs.geometry).with_brain)
        return runtime


class _LeaveOutOutput(TraitedSpec):
    mean = File(exists=True, desc="(224, 224, Z) float32 in [0, 1]; missing after a problem")
    problem = traits.Str(desc="why there is no image; empty if there is one")


class LeaveOut(Synthesise):
    """Synthesise a contrast that exists from the others; say so if that does not work."""

    output_spec = _LeaveOutOutput

    def _run_interface(self, runtime: Any, *args: Any, **kwargs: Any) -> Any:
        problem = Path(runtime.cwd) / "problem.txt"
        problem.unlink(missing_ok=True)
        try:
            return super()._run_interface(runtime, *args, **kwargs)
        except ParticipantError as err:
            problem.write_text(f"could not be synthesised: {err}", encoding="utf-8")
            runtime.returncode = 0
            return runtime

    def _list_outputs(self) -> dict[str, str]:
        # Called by Nipype in the node's folder.
        problem = Path("problem.txt")
        if problem.exists():
            return {"problem": problem.read_text(encoding="utf-8")}
        return {"problem": "", "mean": str(Path("mean.nii.gz").absolute())}


class _JudgeBase(BaseInterfaceInputSpec):
    checks = traits.List(traits.Dict(), mandatory=True, desc="of colapipe.plan.checks")
    mask_file = File(exists=True, mandatory=True, desc="of the reference, on the model grid")
    second_mask = File(exists=True, desc="for the reference itself")
    reference = traits.Str(mandatory=True)
    slices = traits.List(traits.Int(), mandatory=True)
    weights_sha256 = traits.Str(mandatory=True)
    model = traits.Str(mandatory=True, nohash=True, desc="path of the checkpoint")


# An input for each contrast, so that one that could not be synthesised leaves no gap in a list.
_JudgeInput = type(
    "_JudgeInput",
    (_JudgeBase,),
    {
        "__module__": __name__,  # a process that receives the node looks the class up by its name
        **{f"real_{contrast}": File(exists=True) for contrast in CONTRASTS},
        **{f"synthetic_{contrast}": File(exists=True) for contrast in CONTRASTS},
        **{f"problem_{contrast}": traits.Str() for contrast in CONTRASTS},
    },
)


class _JudgeOutput(TraitedSpec):
    rows = File(exists=True, desc="JSON: one row per contrast")


class Judge(SimpleInterface):
    """Compare the contrasts of a session with their syntheses, and judge each."""

    input_spec = _JudgeInput
    output_spec = _JudgeOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.quality.selfcheck_table import check_session
        from colapipe.quality.stored import read_model_quality
        from colapipe.run.model import read_model

        pairs, problems = _one_by_one(self.inputs.checks, self._problem, self._pair)
        try:
            quality = read_model_quality(read_model(Path(self.inputs.model)).metadata)
            rows = check_session(pairs, problems, quality)
        except Exception as err:  # Whatever it is, the synthesis itself has nothing to do with it.
            words = f"the self-check failed: {type(err).__name__}: {err}"
            rows = [
                {"contrast": check["contrast"], "light": "n/a", "reasons": words}
                for check in self.inputs.checks
            ]
        out_file = Path(runtime.cwd) / "rows.json"
        out_file.write_text(json.dumps(rows, default=plain), encoding="utf-8")
        self._results["rows"] = str(out_file)
        return runtime

    def _problem(self, check: dict[str, Any]) -> str:
        met = getattr(self.inputs, f"problem_{check['contrast']}")
        return str(check["problem"] or (met if isdefined(met) else ""))

    def _pair(self, check: dict[str, Any]) -> Any:
        from colapipe.anatomy.maps import load_array
        from colapipe.quality.selfcheck import Pair

        contrast = check["contrast"]
        mask = load_array(self.inputs.mask_file) > 0
        if contrast == self.inputs.reference:
            mask &= load_array(self.inputs.second_mask) > 0
        return Pair(
            load_array(getattr(self.inputs, f"real_{contrast}")),
            load_array(getattr(self.inputs, f"synthetic_{contrast}")),
            mask,
            tuple(self.inputs.slices),
            tuple(check["sources"]),
        )


def _one_by_one(
    checks: Iterable[dict[str, Any]],
    problem_of: Callable[[dict[str, Any]], str],
    pair_of: Callable[[dict[str, Any]], Any],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what can be judged by contrast, and why the other contrasts cannot be.

    One scan of no use does not keep the others from being judged.
    """
    pairs: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for check in checks:
        problem = problem_of(check)
        try:
            if not problem:
                pairs[check["contrast"]] = pair_of(check)
        except Exception as err:
            problem = f"could not be compared: {err}"
        if problem:
            problems[check["contrast"]] = problem
    return pairs, problems
