"""The state of a run on disk: one safetensors file, complete, replaced as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colapipe.coladiff.checkpoint import write_safetensors
from colapipe.errors import UsageError

STATE_FILE = "state.safetensors"


def save_state(
    folder: Path,
    header: dict[str, Any],
    network: nn.Module,
    average: dict[str, Tensor],
    optimisers: dict[str, tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]],
) -> None:
    """Write weights, their average, the optimisers' moments and ``header`` (JSON)."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in average.items()}
    for key, (optimiser, trained) in optimisers.items():
        for name, parameter in trained.items():
            for moment, value in optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{moment}.{name}"] = value.reshape(value.shape or (1,))
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    write_safetensors(folder / STATE_FILE, contiguous, {"training": json.dumps(header)})


def stored_header(folder: Path) -> dict[str, Any]:
    """Return the header of a run's state; ``run`` in it says what run it is."""
    from safetensors import safe_open

    with safe_open(folder / STATE_FILE, framework="pt") as stream:
        header: dict[str, Any] = json.loads(stream.metadata()["training"])
    return header


def read_header(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the header of a run's state, after checking that the run is the same.

    Raises
    ------
    UsageError
        If the state belongs to a run with another configuration, other settings or another split.
    """
    header = stored_header(folder)
    if header["run"] != json.loads(json.dumps(identity)):
        raise UsageError(
            f"{folder / STATE_FILE}: belongs to a run with another configuration, other settings "
            "or another split; repeat its options, or choose another --out"
        )
    return header


def load_state(
    folder: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimisers: dict[str, tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]],
) -> None:
    """Put back what :func:`save_state` wrote."""
    from safetensors.torch import load_file

    tensors = load_file(folder / STATE_FILE)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(tensors[f"network.{name}"])
        for name, tensor in average.items():
            tensor.copy_(tensors[f"ema.{name}"])
    for key, (optimiser, trained) in optimisers.items():
        for name, parameter in trained.items():
            if f"adam.{key}.step.{name}" in tensors:
                optimiser.state[parameter] = {
                    "step": tensors[f"adam.{key}.step.{name}"].reshape(()),
                    "exp_avg": _like(tensors[f"adam.{key}.exp_avg.{name}"], parameter),
                    "exp_avg_sq": _like(tensors[f"adam.{key}.exp_avg_sq.{name}"], parameter),
                }


def _like(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return ``tensor`` with the strides of ``parameter``: the same bits need the same layout."""
    return torch.empty_like(parameter).copy_(tensor)
