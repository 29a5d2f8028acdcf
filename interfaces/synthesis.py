"""CoLa-Diff as a node: a command line around ``colapipe-model synth``, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    CommandLineInputSpec,
    File,
    InputMultiObject,
    TraitedSpec,
    isdefined,
    traits,
)

from colapipe.errors import ParticipantError
from colapipe.interfaces.commands import OwnCommand, python_command
from colapipe.request import Request

_GPU_WORDS = ("CUDA", "cuda", "cuDNN", "CUDNN", "CUBLAS", "NVIDIA")


class GPUError(ParticipantError):
    """The GPU that was given cannot be used; nothing says that the CPU could not do it."""


class _SynthesiseInput(CommandLineInputSpec):
    participant = traits.Str(mandatory=True)
    session = traits.Either(None, traits.Str, usedefault=True)
    target = traits.Str(mandatory=True)
    source_names = traits.List(traits.Str(), mandatory=True)
    sources = InputMultiObject(File(exists=True), mandatory=True, desc="as source_names, cropped")
    mask_file = File(exists=True, mandatory=True)
    csf = File(exists=True, mandatory=True)
    gm = File(exists=True, mandatory=True)
    wm = File(exists=True, mandatory=True)
    lesion = File(exists=True, desc="given only with --lesion-conditioning")
    tissue_source = traits.Str(mandatory=True, desc="contrast that mask and tissue maps come from")
    slices = traits.List(traits.Int(), mandatory=True)
    # The weights' content decides the result, not the place where the file lies.
    weights_sha256 = traits.Str(mandatory=True)
    model = traits.Str(mandatory=True, nohash=True, desc="path of the checkpoint")
    sampler = traits.Either(None, traits.Str, usedefault=True)
    steps = traits.Either(None, traits.Int, usedefault=True)
    samples = traits.Either(None, traits.Int, usedefault=True)
    seed = traits.Int(0, usedefault=True)
    device = traits.Str("auto", usedefault=True, nohash=True)
    use_gpu = traits.Bool(False, usedefault=True, nohash=True)
    num_threads = traits.Int(1, usedefault=True, nohash=True)
    batch_size = traits.Int(8, usedefault=True, nohash=True)


class _SynthesiseOutput(TraitedSpec):
    mean = File(exists=True, desc="(224, 224, Z) float32 in [0, 1]")
    std = File(exists=True, desc="standard deviation over the samples; two samples or more")
    info = File(exists=True, desc="JSON: what was run, with which weights, on what")


class Synthesise(OwnCommand):
    """Synthesise one contrast of one session."""

    _cmd = python_command("colapipe.cli.model", "synth")
    input_spec = _SynthesiseInput
    output_spec = _SynthesiseOutput

    def _run_interface(self, runtime: Any, *args: Any, **kwargs: Any) -> Any:
        _request(self.inputs, Path(runtime.cwd)).write(Path(runtime.cwd, "request.json"))
        runtime = super()._run_interface(runtime, *args, **kwargs)
        runtime.gpu_memory_gb = gpu_memory_gb(Path(runtime.cwd) / "info.json")
        return runtime

    @property
    def cmdline(self) -> str:
        return f"{self._cmd} request.json"

    def _failure(self, code: int, words: str) -> ParticipantError:
        on_gpu = self.inputs.use_gpu and any(word in words for word in _GPU_WORDS)
        return GPUError(words) if on_gpu else super()._failure(code, words)

    def _list_outputs(self) -> dict[str, str]:
        # Called by Nipype in the node's folder.
        outputs = {
            name: Path(name + ext).absolute()
            for name, ext in (("mean", ".nii.gz"), ("std", ".nii.gz"), ("info", ".json"))
        }
        return {name: str(path) for name, path in outputs.items() if path.exists()}


def _request(inputs: Any, cwd: Path) -> Request:
    tissues = {"CSF": inputs.csf, "GM": inputs.gm, "WM": inputs.wm}
    if isdefined(inputs.lesion):
        tissues["lesion"] = inputs.lesion
    return Request(
        model=inputs.model,
        participant=inputs.participant,
        session=inputs.session,
        target=inputs.target,
        contrasts=dict(zip(inputs.source_names, inputs.sources, strict=True)),
        mask=inputs.mask_file,
        tissues=tissues,
        tissue_source=inputs.tissue_source,
        slices=tuple(inputs.slices),
        sampler=inputs.sampler,
        steps=inputs.steps,
        samples=inputs.samples,
        seed=inputs.seed,
        # The node sees one GPU, whatever its number is outside.
        device="cuda" if inputs.use_gpu else inputs.device,
        threads=inputs.num_threads,
        batch_size=inputs.batch_size,
        mean=cwd / "mean.nii.gz",
        std=cwd / "std.nii.gz",
        info=cwd / "info.json",
    )


def gpu_memory_gb(info: Path) -> float | None:
    """Return the most GPU memory that a synthesis held, or None for one on the CPU."""
    peak = json.loads(info.read_text(encoding="utf-8")).get("peak_gpu_memory_bytes")
    return None if peak is None else peak / 1024**3


def may_leave_gpu(node: Any) -> bool:
    """Say whether the user left it to the app where a node synthesises (``--device auto``)."""
    return bool(node.inputs.device == "auto")


def leave_gpu(node: Any, threads: int) -> None:
    """Let a node of this interface use the CPU, with this many threads."""
    node.inputs.use_gpu = False
    node.inputs.device = "cpu"
    node.inputs.num_threads = node.n_procs = threads
