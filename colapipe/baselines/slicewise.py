"""What all baselines share: they take and return what :meth:`CoLaDiff.synthesise` does.

A baseline makes one image, the same each time: it has no steps, no noise and no samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from colapipe.coladiff.arguments import (
    FloatArray,
    UnsuitableModelError,
    Volume,
    check_task,
    read_volume,
)
from colapipe.coladiff.checkpoint import FORMAT_VERSION, CheckpointError, load_checkpoint
from colapipe.coladiff.layout import frozen
from colapipe.coladiff.model import Synthesis, resolve_device
from colapipe.coladiff.window import Window, in_windows, part_of


class Synthesiser(Protocol):
    """What every model is to those who use one: a CoLa-Diff, or a baseline.

    Attributes
    ----------
    metadata : dict
        The description of its checkpoint.
    contrasts : tuple of str
        The contrasts that it knows, as sources and as targets.
    """

    metadata: dict[str, Any]

    @property
    def contrasts(self) -> tuple[str, ...]: ...

    def synthesise(
        self,
        contrasts: Mapping[str, npt.ArrayLike],
        target: str,
        steps: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        *,
        mask: npt.ArrayLike | None = None,
        tissues: Mapping[str, npt.ArrayLike] | None = None,
        slice_ids: Sequence[int] | None = None,
        batch_size: int = 8,
        rows: Sequence[int] | None = None,
        sampler: str | None = None,
        tissue_source: str | None = None,
        participant: str = "",
        session: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Synthesis: ...


def make_metadata(
    kind: str,
    contrasts: Sequence[str],
    configuration: Mapping[str, Any],
    *,
    name: str,
    training_data: str,
    licence: str,
    preset: str = "",
    min_sources: int = 1,
    split_sha256: str | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Return the description that the checkpoint of a baseline carries.

    Parameters
    ----------
    kind : str
        One of :data:`colapipe.coladiff.checkpoint.BASELINES`.
    contrasts : sequence of str
        Slots of the sources, and possible targets.
    configuration : mapping
        What its class needs to build it.
    name, preset : str
        What the model is called; ``preset`` is the kind if empty.
    training_data, licence, min_sources, split_sha256
        See :func:`colapipe.coladiff.checkpoint.make_metadata`.
    """
    return {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "name": name,
        "preset": preset or kind,
        "configuration": dict(configuration),
        "contrasts": list(contrasts),
        "min_sources": min_sources,
        "defaults": {"sampler": "none", "steps": 1, "samples": 1, "sampled_steps": 1},
        "calibration": None,
        "training_data": training_data,
        "split_sha256": split_sha256,
        "licence": licence,
        **extra,
    }


def stack_sources(images: Mapping[str, Tensor], contrasts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Put source images into a network's slots.

    Parameters
    ----------
    images : mapping of str to Tensor, shape (batch, H, W), in [0, 1]
    contrasts : sequence of str
        The slots.

    Returns
    -------
    stacked : Tensor, shape (batch, M, H, W)
        In [-1, 1]; 0 for a contrast that is missing.
    available : Tensor, shape (batch, M), bool
    """
    first = next(iter(images.values()))
    slots = [
        images[name] * 2 - 1 if name in images else torch.zeros_like(first) for name in contrasts
    ]
    bits = torch.tensor([name in images for name in contrasts], device=first.device)
    return torch.stack(slots, dim=1), bits.expand(len(first), -1)


class SlicewiseModel(ABC):
    """A model that makes each slice from the same slice of its sources, in one go.

    Parameters
    ----------
    metadata : dict
        The description of its checkpoint.
    device : torch.device
    """

    kind: ClassVar[str]
    multiple: int = 1
    """Slices must have a height and width that this divides."""

    def __init__(self, metadata: dict[str, Any], device: torch.device) -> None:
        self.metadata, self.device = metadata, device

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The contrasts that the model knows, as sources and as targets."""
        return tuple(self.metadata["contrasts"])

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> Self:
        """Load a checkpoint of this kind; parameters and errors are those of ``CoLaDiff.load``."""
        where = resolve_device(device)
        tensors, metadata = load_checkpoint(Path(path), (cls.kind,))
        try:
            return cls._from_tensors(tensors, metadata, where)
        except (RuntimeError, ValueError, KeyError, TypeError) as err:
            first = " ".join(str(err).split())[:200]
            raise CheckpointError(
                f"{path}: its tensors do not fit its configuration ({first})"
            ) from err

    @classmethod
    @abstractmethod
    def _from_tensors(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
    ) -> Self:
        """Build the model; what does not fit may raise any of the errors that ``load`` expects."""

    def _check(self, known: Sequence[str], target: str) -> None:  # noqa: B027 - most can
        """Raise ``UnsuitableModelError`` where the model cannot make ``target`` from ``known``."""

    def _inputs(self, volume: Volume) -> dict[str, FloatArray]:
        """Return what ``_predict`` is given of a participant: the sources, or what else it needs.

        May raise ``UnsuitableModelError`` where that is not there.
        """
        return volume.images

    @abstractmethod
    def _predict(self, images: dict[str, Tensor], target: str) -> Tensor:
        """Return the target (n, h, w) from ``_inputs`` (n, h, w); all about [0, 1]."""

    def synthesise(
        self,
        contrasts: Mapping[str, npt.ArrayLike],
        target: str,
        steps: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        *,
        mask: npt.ArrayLike | None = None,
        tissues: Mapping[str, npt.ArrayLike] | None = None,
        slice_ids: Sequence[int] | None = None,
        batch_size: int = 8,
        rows: Sequence[int] | None = None,
        sampler: str | None = None,
        tissue_source: str | None = None,
        participant: str = "",
        session: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Synthesis:
        """Synthesise a contrast; see :meth:`colapipe.coladiff.CoLaDiff.synthesise`.

        ``rows`` names the slices (indices of the first axis) to make, all by default; the others
        stay 0. ``steps``, ``seed``, ``sampler``, ``participant`` and ``session`` change nothing,
        nor do ``tissues`` but for the class means; ``std`` is always None.

        Raises
        ------
        UnsuitableModelError
            If the model does not know the target, needs other sources or tissue maps, or is asked
            for samples.
        ValueError
            If the target is among the sources or is where the tissues came from, or a shape or
            range is wrong.
        MemoryError
            If not even one slice fits into memory.
        """
        if samples is not None and samples != 1:
            raise UnsuitableModelError(
                f"{self.metadata['name']} ({self.kind}) makes one image, the same each time; it "
                f"has no {samples} samples. Ask for one"
            )
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        fewest = int(self.metadata["min_sources"])
        known = check_task(contrasts, target, tissue_source, self.contrasts, fewest)
        self._check(known, target)
        volume = read_volume(
            {name: contrasts[name] for name in known}, self.multiple, mask, tissues, slice_ids
        )
        images, inside, ids = self._inputs(volume), volume.inside, volume.ids

        mean = np.zeros(inside.shape, dtype=np.float32)
        wanted = set(range(len(inside)) if rows is None else rows)

        def work(window: Window, together: Sequence[int]) -> None:
            part = part_of(together, window)
            here = torch.from_numpy(inside[part])
            cut = {
                name: (torch.from_numpy(values[part]).clamp(0, 1) * here).to(self.device)
                for name, values in images.items()
            }
            image = self._predict(cut, target).clamp(0, 1).cpu() * here
            mean[part] = image.numpy()

        with torch.inference_mode():
            used = in_windows(inside, sorted(wanted), batch_size, work, progress)
        info = {
            "target": target,
            "contrasts": known,
            "ignored": sorted(set(contrasts) - set(known)),
            "sampler": "none",
            "steps": 1,
            "samples": 1,
            "seed": seed,
            "slices": [ids[row] for row in sorted(wanted)],
            "device": str(self.device),
            "precision": "float32",
            "batch_size": used,
            "auto_weights": None,
        }
        return Synthesis(mean, None, info)


class NetworkModel(SlicewiseModel):
    """A trained network.

    Parameters
    ----------
    network : nn.Module
        Of the type that ``build`` names, whose first argument is the number of contrasts.
    metadata : dict
        ``configuration`` holds the other arguments.
    device : torch.device
    """

    build: ClassVar[type[nn.Module]]

    def __init__(self, network: nn.Module, metadata: dict[str, Any], device: torch.device) -> None:
        super().__init__(metadata, device)
        self.network = frozen(network, device)

    @classmethod
    def _from_tensors(
        cls, tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
    ) -> Self:
        network = cls.build(len(metadata["contrasts"]), **metadata["configuration"])
        network.load_state_dict(tensors)
        return cls(network, metadata, device)
