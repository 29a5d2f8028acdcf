"""The training loop: batches, optimisers, moving average, log, and exact resume.

Every iteration draws its random numbers from the seed and its own number, and the state that is
saved is complete: a run that was killed and resumed ends with the same bits on the same machine.
Several processes (``torchrun``) share each batch and train as one would.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from colapipe.coladiff.checkpoint import save_checkpoint
from colapipe.coladiff.layout import channels_last
from colapipe.training.augment import Augmentation
from colapipe.training.batches import training_batch
from colapipe.training.ema import EMA, averaged
from colapipe.training.processes import Processes
from colapipe.training.recipes import Recipe
from colapipe.training.split import Split
from colapipe.training.state import STATE_FILE, load_state, read_header, save_state
from colapipe.training.store import SliceStore
from colapipe.training.validation import save_pictures, validate

MODEL_FILE = "model.safetensors"
LOG_FILE = "log.tsv"
PICTURES = "pictures"

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.float32,  # of weights and losses; the layers run in bfloat16
    "float64": torch.float64,
}


@dataclass(frozen=True)
class Settings:
    """What a training run is asked to do.

    Parameters
    ----------
    iterations : int
        Of the last stage.
    autoencoder_iterations : int
        Of the first stage; unused where the latent needs no training.
    batch_size : int
        Of all processes together.
    learning_rate : float
        Reached after a warm-up of 200 iterations, then constant or falling to 0 as a cosine.
    constant_rate : bool
        The paper's; a cosine is better for short runs.
    ema : float
        Rate of the moving average that becomes the model.
    drop : float
        Probability that a source is left out.
    precision : {"float32", "bfloat16", "float64"}
        bfloat16 keeps weights and losses in float32: 1.4 times faster on CPUs and GPUs that know
        it.
    seed : int
    augmentation : Augmentation
    """

    iterations: int = 20_000
    autoencoder_iterations: int = 5_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    constant_rate: bool = False
    ema: float = 0.999
    drop: float = 0.3
    precision: str = "float32"
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


class Trainer:
    """A resumable run in a folder of its own.

    Parameters
    ----------
    folder : Path
        Gets the state, the log, the pictures and the model.
    recipe : Recipe
        What is trained.
    settings : Settings
    train, validation : SliceStore
    description : dict
        Entries of the model's metadata: name, preset, training_data, licence.
    split : Split
    report : callable
        Told how it goes.
    processes : Processes, optional
        This process among others that train together; alone by default.
    device : torch.device, optional
    log : callable, optional
        ``log(stage, iteration, figures)``: told the same figures as the log file.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        settings: Settings,
        train: SliceStore,
        validation: SliceStore,
        description: dict[str, Any],
        split: Split,
        report: Callable[[str], None] = lambda line: None,
        processes: Processes | None = None,
        device: torch.device | None = None,
        log: Callable[[str, int, dict[str, float]], None] = lambda stage, iteration, figures: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.recipe, self.settings = folder, recipe, settings
        self.train, self.validation = train, validation
        self.description, self.split, self.report, self.log = description, split, report, log
        self.processes = processes or Processes()
        self.device = device or torch.device("cpu")
        self.share = self.processes.share(settings.batch_size)
        recipe.network.to(self.device, PRECISIONS[settings.precision])
        channels_last(recipe.network)
        self.stage = recipe.stages[0]
        resumed = (folder / STATE_FILE).is_file()
        header = read_header(folder, self._identity()) if resumed else None
        if header is not None:
            self.stage = header["stage"]
        self._start_stage(fresh=header is None)
        if header is not None:
            self.iteration, self.seconds = header["iteration"], header["seconds"]
            self.ema.updates = header["updates"]
            load_state(folder, recipe.network, self.ema.average, self._optimised())
            recipe.restore(header["found"])
            self.report(f"going on at iteration {self.iteration} of the {self.stage} stage")

    def _start_stage(self, fresh: bool) -> None:
        """Set up what the stage trains."""
        if fresh:
            self.recipe.start(self.stage, self.train)
        self.objectives = self.recipe.objectives(self.stage)
        self.iteration, self.seconds = 0, 0.0
        self.trained = {
            key: {n: p for n, p in objective.trained.named_parameters() if p.requires_grad}
            for key, objective in self.objectives.items()
        }
        self.optimisers = {
            key: torch.optim.Adam(
                trained.values(), lr=self.settings.learning_rate, betas=self.recipe.betas
            )
            for key, trained in self.trained.items()
        }
        self.losses: dict[str, nn.Module] = {
            key: DistributedDataParallel(objective) if self.processes.count > 1 else objective
            for key, objective in self.objectives.items()
        }
        self.ema = EMA(self.recipe.network, self.settings.ema)

    def _optimised(self) -> dict[str, tuple[torch.optim.Optimizer, dict[str, nn.Parameter]]]:
        return {key: (self.optimisers[key], self.trained[key]) for key in self.optimisers}

    @property
    def in_last_stage(self) -> bool:
        """Whether what is trained now is the model itself, not what it needs before."""
        return self.stage == self.recipe.stages[-1]

    def total(self) -> int:
        """Return the iterations of the present stage."""
        if self.in_last_stage:
            return self.settings.iterations
        return self.settings.autoencoder_iterations

    def run(self, save_every: int = 500, max_seconds: float = math.inf) -> bool:
        """Train until done, or for ``max_seconds`` of CPU time; say whether it is done."""
        started = time.process_time()
        while True:
            while self.iteration < self.total():
                losses, seconds = self._timed_step()
                self.seconds += seconds
                out_of_time = self.processes.any(time.process_time() - started > max_seconds)
                if self.iteration % save_every == 0 or self.iteration == self.total():
                    self._report(losses)
                    self.save()
                elif out_of_time:
                    self.save()
                if out_of_time:
                    return self.in_last_stage and self.iteration >= self.total()
            if self.in_last_stage:
                return True
            self._take_average()
            self.stage = self.recipe.stages[self.recipe.stages.index(self.stage) + 1]
            self._start_stage(fresh=True)
            self.save()

    def skip_to_last_stage(self) -> None:
        """Leave out what comes before the last stage: for a rehearsal, not for a run."""
        self.stage = self.recipe.stages[-1]
        self._start_stage(fresh=True)

    def step_times(self, count: int) -> list[float]:
        """Do some iterations and return the CPU seconds of each."""
        return [self._timed_step()[1] for _ in range(count)]

    def _timed_step(self) -> tuple[dict[str, float], float]:
        before = time.process_time()
        return self._step(), time.process_time() - before

    def learning_rate(self) -> float:
        """Return the rate of the next iteration."""
        rate = self.settings.learning_rate * min(1.0, (self.iteration + 1) / 200)
        if self.settings.constant_rate:
            return rate
        return rate * 0.5 * (1 + math.cos(math.pi * self.iteration / self.total()))

    def _step(self) -> dict[str, float]:
        settings = self.settings
        self.recipe.progress = self.iteration / self.total()
        batch = training_batch(
            self.train,
            self.recipe.preparation,
            settings.batch_size,
            settings.seed,
            self.iteration,
            settings.drop,
            settings.augmentation,
            self.share,
            self.processes.largest,
            self.recipe.choose,
        ).to(self.device, PRECISIONS[settings.precision])
        found: dict[str, float] = {}
        for key, loss_module in self.losses.items():
            optimiser = self.optimisers[key]
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate()
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"
            ):
                loss: Tensor = loss_module(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(self.trained[key].values(), 1.0)
            optimiser.step()
            found[key] = float(loss.detach())
        self.ema.update(self.recipe.network)
        self.iteration += 1
        return found

    def _report(self, losses: dict[str, float]) -> None:
        losses = {key: self.processes.mean(value) for key, value in losses.items()}
        if not self.processes.first:
            return
        scores: dict[str, float] = {}
        if self.in_last_stage and len(self.validation):
            with averaged(self.recipe.network, self.ema):
                scores = validate(self.recipe, self.validation, self.device)
                save_pictures(
                    self.recipe,
                    self.validation,
                    self.folder / PICTURES / f"{self.iteration:07d}.png",
                    self.device,
                )
        figures = {f"loss_{key}": value for key, value in losses.items()}
        figures["cpu_seconds"] = self.seconds
        figures |= {f"psnr_{contrast}": score for contrast, score in scores.items()}
        self.log(self.stage, self.iteration, figures)
        columns = {
            "stage": self.stage,
            "iteration": str(self.iteration),
            "loss": " ".join(f"{value:.9g}" for value in losses.values()),
            "cpu_seconds": f"{self.seconds:.0f}",
            **{
                f"psnr_{contrast}": f"{scores[contrast]:.3f}" if contrast in scores else "n/a"
                for contrast in self.recipe.preparation.contrasts
            },
        }
        path = self.folder / LOG_FILE
        if not path.is_file():
            path.write_text("\t".join(columns) + "\n", encoding="utf-8")
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\t".join(columns.values()) + "\n")
        left = self.seconds / max(1, self.iteration) * (self.total() - self.iteration)
        words = "  ".join(f"{key} {value}" for key, value in columns.items())
        self.report(f"{words}  CPU time left {left / 60:.0f} min")

    def _take_average(self) -> None:
        with torch.no_grad():
            for name, parameter in self.recipe.network.named_parameters():
                parameter.copy_(self.ema.average[name])

    def save(self) -> None:
        """Write the state, from which the run goes on, and the model as it is now."""
        if not self.processes.first:
            return
        header = {
            "stage": self.stage,
            "iteration": self.iteration,
            "seconds": self.seconds,
            "updates": self.ema.updates,
            "found": self.recipe.found(),
            "run": self._identity(),
        }
        save_state(self.folder, header, self.recipe.network, self.ema.average, self._optimised())
        if self.in_last_stage:
            metadata = self.recipe.metadata(
                split_sha256=self.split.sha256,
                iterations=self.iteration,
                cpu_seconds=round(self.seconds),
                settings=asdict(self.settings),
                **self.description,
            )
            with averaged(self.recipe.network, self.ema):
                save_checkpoint(
                    self.folder / MODEL_FILE, self.recipe.tensors(), metadata, half=True
                )

    def _identity(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.identity(),
            "settings": asdict(self.settings),
            "split": self.split.sha256,
        }
