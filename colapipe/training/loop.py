"""Two stages of training: the autoencoder, if it is a learned one, then the diffusion.

Every iteration draws its random numbers from the seed and its own number, and the state that is
saved is complete: a run that was killed and resumed ends with the same bits on the same machine.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.coladiff.autoencoder import KLAutoencoder, kl_divergence
from colapipe.coladiff.checkpoint import make_metadata, save_checkpoint, write_safetensors
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.contrasts import CONTRASTS
from colapipe.errors import UsageError
from colapipe.training.batches import Batch, fixed_batch, training_batch
from colapipe.training.ema import EMA
from colapipe.training.slices import SliceStore
from colapipe.training.split import Split

STATE_FILE = "state.safetensors"
MODEL_FILE = "model.safetensors"
LOG_FILE = "log.tsv"


@dataclass(frozen=True)
class Settings:
    """What a training run is asked to do.

    Parameters
    ----------
    iterations : int
        Of the diffusion stage.
    autoencoder_iterations : int
        Of the first stage; unused where the latent needs no training.
    batch_size : int
    learning_rate : float
        Reached after a warm-up of 200 iterations, then falling to 0 as a cosine.
    ema : float
        Rate of the moving average that becomes the model.
    drop : float
        Probability that a source is left out.
    bfloat16 : bool
        Run the layers in bfloat16, and keep weights and losses in float32: 1.4 times faster on
        CPUs and GPUs that know it.
    seed : int
    """

    iterations: int = 20_000
    autoencoder_iterations: int = 5_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    ema: float = 0.999
    drop: float = 0.3
    bfloat16: bool = False
    seed: int = 0


def diffusion_loss(network: CoLaDiffNetwork, batch: Batch, generator: torch.Generator) -> Tensor:
    """Return the loss of a batch at random times: the error of the image that kappa_0 gives.

    The paper's loss (Eq. 3) weighs the error of kappa_0 by abar_t / (1 - abar_t), which leaves
    the first steps of a short sampler untrained (4e-5 at T). Here every time weighs the same, the
    error is that of the image inside the brain, and half of the batch is at T, where every
    sampler starts and where a one-step sampler ends.
    """
    count = len(batch.truth)
    T = network.schedule.timesteps
    t = torch.randint(1, T + 1, (count,), generator=generator)
    t = torch.where(torch.rand(count, generator=generator) < 0.5, T, t)
    conditions = network.condition(batch.contrasts, batch.available, batch.tissues, batch.target)
    kappa_0 = network.encode(batch.truth)
    eps = torch.randn(kappa_0.shape, generator=generator)
    estimate, _ = network.predict(network.schedule.add_noise(kappa_0, eps, t), t, conditions)
    brain = batch.mask.sum()
    finished = network.finish(estimate, conditions)
    loss = ((finished - batch.truth).abs() * batch.mask).sum() / brain
    # The chain of a sampler runs through kappa_0, so that must be right before the refinement too,
    # and in the background as well: a background that was wrong at one step made the brain too
    # bright at the next.
    decoded = network.decode(estimate)
    weight = 0.5 * batch.mask + 0.1 * (1 - batch.mask)
    chain: Tensor = ((decoded - batch.truth).abs() * weight).sum() / brain
    return loss + chain


def autoencoder_loss(
    autoencoder: KLAutoencoder, batch: Batch, generator: torch.Generator
) -> Tensor:
    """Return L1 of the reconstruction plus 1e-6 KL, on the truth and the sources together."""
    images = torch.cat([batch.truth, batch.contrasts[batch.available][:, None]])
    mu, log_variance = autoencoder.distribution(images)
    noise = torch.randn(mu.shape, generator=generator)
    decoded = autoencoder.decode(mu + (0.5 * log_variance).exp() * noise)
    return F.l1_loss(decoded, images) + 1e-6 * kl_divergence(mu, log_variance)


@torch.no_grad()
def latent_statistics(
    network: CoLaDiffNetwork, store: SliceStore, slices: int = 400
) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each latent channel over training slices."""
    total = torch.zeros(2, network.configuration.latent_channels, dtype=torch.float64)
    count = 0
    for position in np.linspace(0, len(store) - 1, min(slices, len(store))).astype(int):
        sample = store.read(int(position))
        images = [
            sample.contrasts[CONTRASTS.index(contrast)]
            for contrast in network.configuration.contrasts
            if contrast in sample.available
        ]
        stacked = torch.from_numpy(np.stack(images))[:, None] * 2 - 1
        # Where the networks look: without most of the background.
        latent = network.autoencoder.encode(stacked[..., 32:-32, 16:-16]).double()
        total[0] += latent.sum(dim=(0, 2, 3))
        total[1] += latent.square().sum(dim=(0, 2, 3))
        count += latent[:, 0].numel()
    mean = total[0] / count
    std = (total[1] / count - mean.square()).clamp_min(1e-8).sqrt()
    return [round(float(v), 6) for v in mean], [round(float(v), 6) for v in std]


@torch.no_grad()
def validate(network: CoLaDiffNetwork, store: SliceStore, every: int = 12) -> dict[str, float]:
    """Return the PSNR inside the brain of one-step synthesis of each target from all others.

    The mean over participants of the PSNR of their slices together (data range 1).
    """
    contrasts = network.configuration.contrasts
    scores: dict[str, list[float]] = {}
    for name in store.entries:
        positions = [i for i, (owner, _) in enumerate(store.index) if owner == name]
        positions = positions[min(every, len(positions)) // 2 :: every]
        samples = [store.read(position) for position in positions]
        known = [contrast for contrast in contrasts if contrast in store.entries[name]["contrasts"]]
        for target in known:
            sources = [contrast for contrast in known if contrast != target]
            batch = fixed_batch(samples, contrasts, target, sources)
            conditions = network.condition(
                batch.contrasts, batch.available, batch.tissues, batch.target
            )
            generator = torch.Generator().manual_seed(0)
            shape = network.encode(batch.truth).shape
            t = torch.full((shape[0],), network.schedule.timesteps)
            estimate, _ = network.predict(torch.randn(shape, generator=generator), t, conditions)
            error = (network.finish(estimate, conditions) - batch.truth) / 2 * batch.mask
            mse = float(error.square().sum() / batch.mask.sum())
            scores.setdefault(target, []).append(-10 * math.log10(max(mse, 1e-10)))
    return {target: sum(values) / len(values) for target, values in scores.items()}


class Trainer:
    """A resumable run in a folder of its own.

    Parameters
    ----------
    folder : Path
        Gets the state, the log and the model.
    configuration : Configuration
    settings : Settings
    train, validation : SliceStore
    description : dict
        Entries of the model's metadata: name, preset, training_data, licence.
    split : Split
    report : callable
        Told how it goes.
    """

    def __init__(
        self,
        folder: Path,
        configuration: Configuration,
        settings: Settings,
        train: SliceStore,
        validation: SliceStore,
        description: dict[str, Any],
        split: Split,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.configuration, self.settings = folder, configuration, settings
        self.train, self.validation = train, validation
        self.description, self.split, self.report = description, split, report
        torch.manual_seed(settings.seed)
        self.network = CoLaDiffNetwork(configuration).channels_last()
        self.stage = "autoencoder" if configuration.latent == "kl" else "diffusion"
        self._start_stage()
        if (folder / STATE_FILE).is_file():
            self._resume()
        elif self.stage == "diffusion":
            self.network.set_latent_statistics(*latent_statistics(self.network, train))

    def _start_stage(self) -> None:
        """Set up what the stage trains; the autoencoder is frozen in the second."""
        for name, parameter in self.network.named_parameters():
            of_autoencoder = name.startswith("autoencoder.")
            parameter.requires_grad_(of_autoencoder == (self.stage == "autoencoder"))
        self.iteration, self.seconds = 0, 0.0
        self.trained = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.Adam(
            self.trained.values(), lr=self.settings.learning_rate, betas=(0.9, 0.99)
        )
        self.ema = EMA(self.network, self.settings.ema)

    def total(self) -> int:
        """Return the iterations of the present stage."""
        if self.stage == "autoencoder":
            return self.settings.autoencoder_iterations
        return self.settings.iterations

    def run(self, save_every: int = 500, max_seconds: float = math.inf) -> bool:
        """Train until done, or for ``max_seconds`` of CPU time; say whether it is done."""
        started = time.process_time()
        while True:
            while self.iteration < self.total():
                before = time.process_time()
                loss = self._step()
                self.seconds += time.process_time() - before
                out_of_time = time.process_time() - started > max_seconds
                if self.iteration % save_every == 0 or self.iteration == self.total():
                    self._report(loss)
                    self.save()
                elif out_of_time:
                    self.save()
                if out_of_time:
                    return False
            if self.stage == "diffusion":
                return True
            self._take_average()
            self.stage = "diffusion"
            self.network.set_latent_statistics(*latent_statistics(self.network, self.train))
            self._start_stage()
            self.save()

    def _step(self) -> float:
        settings = self.settings
        progress = self.iteration / self.total()
        rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * min(1.0, (self.iteration + 1) / 200)
        batch = training_batch(
            self.train,
            self.configuration.contrasts,
            settings.batch_size,
            settings.seed,
            self.iteration,
            settings.drop,
        )
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.iteration)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            if isinstance(self.network.autoencoder, KLAutoencoder) and self.stage == "autoencoder":
                loss = autoencoder_loss(self.network.autoencoder, batch, generator)
            else:
                loss = diffusion_loss(self.network, batch, generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.ema.update(self.network)
        self.iteration += 1
        return float(loss.detach())

    def _report(self, loss: float) -> None:
        scores: dict[str, float] = {}
        if self.stage == "diffusion" and len(self.validation):
            with _averaged(self.network, self.ema):
                scores = validate(self.network, self.validation)
        columns = {
            "stage": self.stage,
            "iteration": str(self.iteration),
            "loss": f"{loss:.5f}",
            "cpu_seconds": f"{self.seconds:.0f}",
            **{
                f"psnr_{contrast}": f"{scores[contrast]:.3f}" if contrast in scores else "n/a"
                for contrast in self.configuration.contrasts
            },
        }
        log = self.folder / LOG_FILE
        if not log.is_file():
            log.write_text("\t".join(columns) + "\n", encoding="utf-8")
        with log.open("a", encoding="utf-8") as stream:
            stream.write("\t".join(columns.values()) + "\n")
        left = self.seconds / max(1, self.iteration) * (self.total() - self.iteration)
        words = "  ".join(f"{key} {value}" for key, value in columns.items())
        self.report(f"{words}  CPU time left {left / 60:.0f} min")

    def _take_average(self) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(self.ema.average[name])

    def save(self) -> None:
        """Write the state, from which the run goes on, and the model as it is now."""
        tensors = {f"ema.{name}": tensor for name, tensor in self.ema.state().items()}
        for name, parameter in self.network.named_parameters():
            tensors[f"network.{name}"] = parameter.detach()
        for name, parameter in self.trained.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.reshape(1) if value.ndim == 0 else value
        mean = [float(v) for v in self.network.latent_mean.flatten()]
        std = [float(v) for v in self.network.latent_std.flatten()]
        header = {
            "stage": self.stage,
            "iteration": self.iteration,
            "seconds": self.seconds,
            "updates": self.ema.updates,
            "latent": {"mean": mean, "std": std},
            "run": self._identity(),
        }
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_safetensors(self.folder / STATE_FILE, tensors, {"training": json.dumps(header)})
        if self.stage == "diffusion":
            metadata = make_metadata(
                self.configuration,
                latent_mean=mean,
                latent_std=std,
                split_sha256=self.split.sha256,
                iterations=self.iteration,
                **self.description,
            )
            averaged = {name: tensor.detach() for name, tensor in self.ema.state().items()}
            save_checkpoint(self.folder / MODEL_FILE, averaged, metadata, half=True)

    def _identity(self) -> dict[str, Any]:
        return {
            "configuration": self.configuration.to_dict(),
            "settings": asdict(self.settings),
            "split": self.split.sha256,
        }

    def _resume(self) -> None:
        from safetensors import safe_open

        path = self.folder / STATE_FILE
        with safe_open(path, framework="pt") as stream:
            header = json.loads(stream.metadata()["training"])
            if header["run"] != self._identity():
                raise UsageError(
                    f"{path}: belongs to a run with another configuration, other settings or "
                    "another split; repeat its options, or choose another --out"
                )
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if header["stage"] != self.stage:
            self.stage = header["stage"]
            self._start_stage()
        self.iteration, self.seconds = header["iteration"], header["seconds"]
        self.network.set_latent_statistics(header["latent"]["mean"], header["latent"]["std"])
        self.ema.updates = header["updates"]
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(tensors[f"network.{name}"])
                self.ema.average[name].copy_(tensors[f"ema.{name}"])
        for name, parameter in self.trained.items():
            if f"adam.step.{name}" in tensors:
                self.optimiser.state[parameter] = {
                    "step": tensors[f"adam.step.{name}"].reshape(()),
                    "exp_avg": _like(tensors[f"adam.exp_avg.{name}"], parameter),
                    "exp_avg_sq": _like(tensors[f"adam.exp_avg_sq.{name}"], parameter),
                }
        self.report(f"going on at iteration {self.iteration} of the {self.stage} stage")


def _like(tensor: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return ``tensor`` with the strides of ``parameter``: the same bits need the same layout."""
    return torch.empty_like(parameter).copy_(tensor)


class _averaged:
    """A context in which a network has the averaged parameters."""

    def __init__(self, network: nn.Module, ema: EMA) -> None:
        self.network, self.ema = network, ema

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.network.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.ema.average[name])
            self.ema.average[name].copy_(kept)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *exception: object) -> None:
        self._swap()
