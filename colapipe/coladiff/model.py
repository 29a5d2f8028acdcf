"""A trained CoLa-Diff that synthesises slices: the Python interface, on arrays.

Images are stacks of axial slices, (slices, 224, 224), float32 in [0, 1], 1 mm, x to the right and
y to the front (:func:`colapipe.slices.intensity.normalise` makes them of a scan):

>>> import numpy as np
>>> from colapipe.coladiff import CoLaDiff
>>> from colapipe.weights import bundled_model_path
>>> model = CoLaDiff.load(bundled_model_path())
>>> x, y = np.mgrid[-112:112, -112:112]
>>> brain = np.stack([(x / 65) ** 2 + (y / 80) ** 2 < 1] * 3)
>>> t1w = np.where(brain, 0.6 + 0.2 * np.cos(x / 9) * np.sin(y / 7), 0).astype(np.float32)
>>> mean, std, info = model.synthesise({"T1w": t1w}, "T2w", steps=2, samples=2, seed=1)
>>> mean.shape, mean.dtype, float(mean[~brain].max())
((3, 224, 224), dtype('float32'), 0.0)
>>> info["contrasts"], info["samples"], info["steps"]
(['T1w'], 2, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from colapipe.coladiff.arguments import (
    BoolArray,
    FloatArray,
    UnsuitableModelError,
    check_task,
    read_volume,
)
from colapipe.coladiff.checkpoint import CheckpointError, load_checkpoint
from colapipe.coladiff.conditions import Conditions
from colapipe.coladiff.configuration import TISSUE_CHANNELS, Configuration
from colapipe.coladiff.density import class_histograms
from colapipe.coladiff.density import densities as to_densities
from colapipe.coladiff.intensity import find_scale, put_to_scale
from colapipe.coladiff.layout import frozen
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.samplers import SAMPLERS
from colapipe.coladiff.sampling import check_sampling
from colapipe.coladiff.seeds import image_seed, noise
from colapipe.coladiff.uncertainty import RunningStatistics
from colapipe.coladiff.window import Part, Window, in_windows, part_of

__all__ = ["CoLaDiff", "DeviceError", "Synthesis", "UnsuitableModelError", "resolve_device"]


class DeviceError(ValueError):
    """The device that is asked for is not there."""


class Synthesis(NamedTuple):
    """What :meth:`CoLaDiff.synthesise` returns.

    Attributes
    ----------
    mean : ndarray, (slices, height, width), float32 in [0, 1]
        0 outside the mask.
    std : ndarray of the same shape, or None
        Unbiased standard deviation over the samples; None for a single sample.
    info : dict
        What was done: target, contrasts, sampler, steps, samples, seed, slices, device,
        precision, batch_size.
    """

    mean: FloatArray
    std: FloatArray | None
    info: dict[str, Any]


def resolve_device(device: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` names.

    Raises
    ------
    DeviceError
        If it is another word, or a GPU that is not there.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if device == "auto":
        return torch.device("cuda")
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise DeviceError(f"unknown device {device!r}; choose auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise DeviceError(f"{device} is asked for, but PyTorch finds no CUDA GPU; choose cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise DeviceError(
            f"{device} is asked for, but there are only {torch.cuda.device_count()} GPUs here"
        )
    return torch.device(device)


class CoLaDiff:
    """A trained model.

    Parameters
    ----------
    network : CoLaDiffNetwork
    metadata : dict
        The description of its checkpoint.
    device : torch.device
    """

    def __init__(
        self, network: CoLaDiffNetwork, metadata: dict[str, Any], device: torch.device
    ) -> None:
        self.network = frozen(network, device)
        self.metadata, self.device = metadata, device

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> CoLaDiff:
        """Load a checkpoint.

        Parameters
        ----------
        path : Path
            A ``.safetensors`` file of colapipe.
        device : str
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

        Raises
        ------
        CheckpointError
            If the file is not a model of colapipe.
        DeviceError
            If the device is not there.
        OSError
            If the file cannot be read.
        """
        where = resolve_device(device)
        tensors, metadata = load_checkpoint(Path(path))
        configuration = Configuration.from_dict(metadata["configuration"])
        latent = metadata["latent"]
        network = CoLaDiffNetwork(configuration, latent["mean"], latent["std"])
        try:
            network.load_state_dict(tensors)
        except RuntimeError as err:
            first = " ".join(str(err).split())[:200]
            raise CheckpointError(
                f"{path}: its tensors do not fit its configuration ({first})"
            ) from err
        return cls(network, metadata, where)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The contrasts that the model knows, as sources and as targets."""
        return self.network.configuration.contrasts

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
        """Synthesise a contrast, slice by slice.

        Parameters
        ----------
        contrasts : dict of array_like, (slices, 224, 224), float32 in [0, 1]
            The sources, normalised, 0 outside the brain; axes (slice, Right, Anterior). Contrasts
            that the model does not know are left out, and ``info["ignored"]`` names them.
        target : str
            The contrast to make.
        steps, samples : int, optional
            Steps of the sampler and images per slice; the checkpoint's defaults, which may have
            more steps for several samples than for one.
        seed : int
            Of the dataset.
        mask : array_like, (slices, 224, 224), optional
            The brain, from a source: every value above 0. By default, where a source is above 0.
        tissues : dict of array_like, (slices, 224, 224) in [0, 1], optional
            Probability maps ``CSF``, ``GM``, ``WM`` and ``lesion``, from a source. Each may be
            left out.
        slice_ids : sequence of int, optional
            What the slices are called when their noise is drawn, and which are neighbours: those
            whose numbers differ by 1. 0, 1, 2 ... by default.
        batch_size : int
            Slices at a time; halved where memory runs out.
        rows : sequence of int, optional
            The slices to make (indices of the first axis), all by default; the others stay 0. Give
            the whole volume also where only some slices are wanted: its intensity scale and its
            densities are measured over all slices, and neighbours are looked at.
        sampler : str, optional
            A name of :data:`~colapipe.coladiff.samplers.SAMPLERS`; the checkpoint's default.
        tissue_source : str, optional
            The contrast that the tissue maps and the mask came from; refused if it is the target.
        participant, session : str
            Part of the seed of each image.
        progress : callable, optional
            Called with the number of slices done and of all.

        Returns
        -------
        Synthesis
            ``(mean, std, info)``.

        Raises
        ------
        UnsuitableModelError
            If the model does not know the target, or needs more sources.
        ValueError
            If the target is among the sources or is where the tissues came from, or a shape,
            range or option is wrong.
        MemoryError
            If not even one slice fits into memory.
        """
        known = check_task(
            contrasts, target, tissue_source, self.contrasts, self.metadata["min_sources"]
        )
        images, inside, maps, ids = read_volume(
            {name: contrasts[name] for name in known},
            self.network.configuration.multiple,
            mask,
            tissues,
            slice_ids,
        )
        defaults = self.metadata["defaults"]
        samples = defaults["samples"] if samples is None else samples
        if steps is None:
            steps = defaults["steps" if samples == 1 else "sampled_steps"]
        sampler = defaults["sampler"] if sampler is None else sampler
        check_sampling(self.network.configuration, sampler, steps)
        if samples < 1 or batch_size < 1:
            raise ValueError("samples and batch_size must be at least 1")
        times = SAMPLERS[sampler].times(self.network.schedule, steps)

        mean = np.zeros(inside.shape, dtype=np.float32)
        std = np.zeros(inside.shape, dtype=np.float32) if samples > 1 else None
        chosen = list(range(len(ids))) if rows is None else list(rows)
        gates: list[Tensor] = []

        def draw(rows: Sequence[int], sample: int, window: Window, step: int) -> Tensor:
            """Return noise for each slice: of its start for step 0, fresh from step 1."""
            drawn = [draw_one(row, sample, window, step) for row in rows]
            return torch.stack(drawn).to(self.device)

        def draw_one(row: int, sample: int, window: Window, step: int) -> Tensor:
            number = image_seed(seed, participant, session, target, ids[row], sample, step)
            factor = self.network.configuration.downsampling
            z = self.network.configuration.latent_channels
            # Drawn for the whole slice, so that a position's noise does not depend on the window.
            whole = noise(number, (z, inside.shape[1] // factor, inside.shape[2] // factor))
            (top, bottom), (left, right) = window
            return whole[:, top // factor : bottom // factor, left // factor : right // factor]

        case = self._prepare(images, maps, inside, ids)

        def work(window: Window, rows: Sequence[int]) -> None:
            part = part_of(rows, window)
            conditions = self._conditions(case, target, part)
            if conditions.gates is not None:
                gates.append(conditions.gates.float().cpu())
            statistics = RunningStatistics()
            here = torch.from_numpy(inside[part]).to(self.device)
            for sample in range(samples):
                kappa_0 = SAMPLERS[sampler].sample(
                    lambda kappa, t: self.network.predict(
                        kappa, torch.full((len(kappa),), t, device=kappa.device), conditions
                    ),
                    draw(rows, sample, window, 0),
                    self.network.schedule,
                    times,
                    lambda step, sample=sample: draw(rows, sample, window, step + 1),
                )
                image = self.network.finish(kappa_0, conditions)[:, 0]
                statistics.update((((image + 1) / 2).clamp(0, 1) * here).cpu().numpy())
            mean[part] = statistics.mean
            if std is not None and statistics.std is not None:
                std[part] = statistics.std

        with torch.inference_mode():
            used = in_windows(inside, chosen, batch_size, work, progress)
        info = {
            "target": target,
            "contrasts": known,
            "ignored": sorted(set(contrasts) - set(known)),
            "sampler": sampler,
            "steps": steps,
            "samples": samples,
            "seed": seed,
            "slices": [ids[row] for row in chosen],
            "device": str(self.device),
            "precision": "float32",
            "batch_size": used,
            "auto_weights": _mean_gates(gates, self.contrasts),
        }
        return Synthesis(mean, std, info)

    def reconstruct(
        self, images: npt.ArrayLike, mask: npt.ArrayLike | None = None, batch_size: int = 8
    ) -> FloatArray:
        """Return what is left of images after the autoencoder alone: D(E(x)), in [0, 1].

        A latent that blurs is a ceiling for every synthesis (before the refinement, which sees
        the sources and may give detail back). The images are seen, so this is no synthesis.

        Parameters
        ----------
        images : array_like, (slices, 224, 224), float32 in [0, 1]
            Of any contrast, normalised.
        mask : array_like, (slices, 224, 224), optional
            The brain: every value above 0. By default, where an image is above 0.
        batch_size : int
            Slices at a time; halved where memory runs out.

        Returns
        -------
        ndarray, (slices, 224, 224), float32 in [0, 1]
            0 outside the mask.

        Raises
        ------
        ValueError
            If a shape, range or option is wrong.
        MemoryError
            If not even one slice fits into memory.
        """
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        volume = read_volume({"images": images}, self.network.configuration.multiple, mask)
        truth, inside = volume.images["images"], volume.inside
        found = np.zeros(truth.shape, dtype=np.float32)

        def work(window: Window, rows: Sequence[int]) -> None:
            part = part_of(rows, window)
            here = torch.from_numpy(inside[part]).to(self.device)
            image = torch.from_numpy(truth[part]).to(self.device).clamp(0, 1) * here
            # In [-1, 1] and -1 outside the brain: as the autoencoder was shown its images.
            decoded = self.network.decode(self.network.encode((image * 2 - 1)[:, None]))[:, 0]
            found[part] = (((decoded + 1) / 2).clamp(0, 1) * here).cpu().numpy()

        with torch.inference_mode():
            in_windows(inside, None, batch_size, work)
        return found

    def _prepare(
        self,
        images: dict[str, FloatArray],
        maps: dict[str, FloatArray],
        inside: BoolArray,
        ids: list[int],
    ) -> _Case:
        """Measure what belongs to the volume: scales, densities, and who is whose neighbour."""
        configuration = self.network.configuration
        bound = self.network.bound
        mask = torch.from_numpy(inside)
        blank = torch.zeros(mask.shape)
        tissues = torch.stack(
            [
                torch.from_numpy(maps[name]).clamp(0, 1) * mask if name in maps else blank
                for name in TISSUE_CHANNELS
            ]
        )
        scaled, densities = {}, {}
        for name, values in images.items():
            image = torch.from_numpy(values).clamp(0, 1)
            scale = find_scale(values[inside], configuration.intensity)
            scaled[name] = put_to_scale(image, mask, scale, bound)
            if configuration.structure and configuration.density == "voxel":
                unit = (scaled[name] / bound + 1) / 2
                densities[name] = to_densities(class_histograms(unit, tissues, mask))
        rows = {number: row for row, number in enumerate(ids)}
        slab = [
            [rows.get(number + offset, rows[number]) for number in ids]
            for offset in range(-configuration.neighbours, configuration.neighbours + 1)
        ]
        return _Case(scaled, densities, tissues, mask, slab)

    def _conditions(self, case: _Case, target: str, part: Part) -> Conditions:
        """Encode the conditions of some slices, inside their window."""
        rows, top, left = part
        slab = [[of_slice[row] for row in rows] for of_slice in case.slab]

        def cut(values: Tensor, rows: list[int]) -> Tensor:
            return values[rows, top, left].to(self.device)

        shape = (len(rows), len(slab), *case.inside[0, top, left].shape)
        blank = torch.zeros(shape, device=self.device)
        contrasts = torch.stack(
            [
                torch.stack([cut(case.contrasts[name], rows) for rows in slab], dim=1)
                if name in case.contrasts
                else blank
                for name in self.contrasts
            ],
            dim=1,
        )
        bits = torch.tensor([name in case.contrasts for name in self.contrasts])
        available = bits.to(self.device).expand(len(rows), -1)
        tissues = torch.stack([cut(tissue, rows) for tissue in case.tissues], dim=1)
        index = torch.full((len(rows),), self.contrasts.index(target), device=self.device)
        densities = None
        if case.densities:
            first = next(iter(case.densities.values()))
            densities = torch.stack(
                [case.densities.get(name, torch.zeros_like(first)) for name in self.contrasts]
            )
            densities = densities.to(self.device).expand(len(rows), -1, -1, -1)
        return self.network.condition(contrasts, available, tissues, index, densities)


class _Case(NamedTuple):
    """All slices of one synthesis, ready for the network."""

    contrasts: dict[str, Tensor]  # (slices, H, W) in [-bound, bound]
    densities: dict[str, Tensor]  # (4, bins)
    tissues: Tensor  # (4, slices, H, W) in [0, 1]
    inside: Tensor  # (slices, H, W), bool
    slab: list[list[int]]  # for each place in the slab, the row that each slice has there


def _mean_gates(gates: list[Tensor], contrasts: Sequence[str]) -> dict[str, float] | None:
    """Return the mean weight that auto-weight adaptation gave each available contrast."""
    if not gates:
        return None
    mean = torch.cat(gates).mean(dim=0)
    return {
        name: round(float(value), 4)
        for name, value in zip(contrasts, mean, strict=True)
        if not torch.isnan(value)
    }
