"""Compare a step of the bundled model with a step of the authors' published configuration.

    python benchmarks/published_configuration.py                # the bundled model, on one thread
    python benchmarks/published_configuration.py --model model.safetensors --threads 2

Prints two Markdown tables: CPU seconds of a step per slice, and of a volume of 80 slices. The
authors' public code diffuses in pixel space with the U-Net of guided diffusion (Dhariwal and
Nichol, 2021): 128 channels, 4 residual blocks per resolution, multipliers 1, 1, 2, 2, 4, 4,
attention with 4 heads on maps that are 8, 16 and 32 times smaller than the slice, scale-shift norm,
residual blocks that resample; and T = 1000 steps. It is written here from that description, with
random weights, which take the same time. The paper samples faster than that, but does not say with
how many steps; 10 is an example.

Both run in one process on the same threads, in turns, so that what else the machine does meets
both, with the same memory layout and allocator. CPU seconds are those of all threads. Slices are
224 x 224 for both, though the bundled model looks at the brain's window only, which is smaller in
most slices. The model's step is its denoiser's; conditions, decoding and drawing noise are the
rest. The volume is reckoned from slices: the published configuration takes days for one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colapipe.cli.process import keep_freed_memory
from colapipe.coladiff.model import CoLaDiff
from colapipe.weights import bundled_model_path

SIZE, SLICES, BATCH = 224, 80, 8
PUBLISHED_STEPS = (1000, 10)
STEPS = (1, 4)
GROUPS = 32
CONDITIONS = 4
"""Of the published configuration: three contrasts and the tissue map, stacked on x_t."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the embedding as scale and shift, after resampling if asked."""

    def __init__(
        self, before: int, after: int, embedding: int, resample: Callable[[Tensor], Tensor] | None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = nn.GroupNorm(GROUPS, before)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, 2 * after)
        self.norm_out = nn.GroupNorm(GROUPS, after)
        self.conv_out = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.norm_in(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_in(h)
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.conv_out(F.silu(self.norm_out(h) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over all positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, -1, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        out: Tensor = x + self.out(mixed.reshape(x.shape))
        return out


class PublishedUNet(nn.Module):
    """The denoiser of the authors' public configuration, from (x_t and conditions, t).

    Parameters
    ----------
    channels : int
        Of the first resolution; a multiple of 32.
    multipliers : tuple of int
        Of the channels, one per resolution.
    blocks : int
        Residual blocks per resolution; one more on the way up.
    attention : tuple of int
        How many times smaller than the slice a map is that has attention.
    heads : int
    """

    def __init__(
        self,
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        blocks: int = 4,
        attention: tuple[int, ...] = (8, 16, 32),
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.channels, embedding = channels, 4 * channels
        self.time = nn.Sequential(
            nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.stem = nn.Conv2d(1 + CONDITIONS, channels, 3, padding=1)

        def stage(before: int, after: int, factor: int) -> nn.ModuleList:
            layers: list[nn.Module] = [ResidualBlock(before, after, embedding, None)]
            if factor in attention:
                layers.append(Attention(after, heads))
            return nn.ModuleList(layers)

        def halve(x: Tensor) -> Tensor:
            return F.avg_pool2d(x, 2)

        def double(x: Tensor) -> Tensor:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")

        widths = [channels * multiplier for multiplier in multipliers]
        self.down, kept, before = nn.ModuleList(), [channels], channels
        for level, width in enumerate(widths):
            for _ in range(blocks):
                self.down.append(stage(before, width, 2**level))
                kept.append(width)
                before = width
            if level < len(widths) - 1:
                self.down.append(nn.ModuleList([ResidualBlock(width, width, embedding, halve)]))
                kept.append(width)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(before, before, embedding, None),
                Attention(before, heads),
                ResidualBlock(before, before, embedding, None),
            ]
        )
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for index in range(blocks + 1):
                layers = stage(before + kept.pop(), width, 2**level)
                before = width
                if level > 0 and index == blocks:
                    layers.append(ResidualBlock(width, width, embedding, double))
                self.up.append(layers)
        self.norm = nn.GroupNorm(GROUPS, before)
        # x_0 and its learned variance.
        self.out = nn.Conv2d(before, 2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the prediction (batch, 2, H, W) of ``x`` (batch, 5, H, W) at times (batch,)."""
        half = self.channels // 2
        rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=x.device) / half)
        angles = t[:, None] * rates
        embedding = self.time(torch.cat([angles.cos(), angles.sin()], dim=1))
        h = self.stem(x)
        kept = [h]
        for layers in self.down:
            for layer in layers:
                h = layer(h, embedding)
            kept.append(h)
        for layer in self.middle:
            h = layer(h, embedding)
        for layers in self.up:
            h = torch.cat([h, kept.pop()], dim=1)
            for layer in layers:
                h = layer(h, embedding)
        prediction: Tensor = self.out(F.silu(self.norm(h)))
        return prediction


class Stopwatch:
    """A function that notes the CPU seconds of each of its calls."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.seconds = work, list[float]()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        result = self.work(*args, **kwargs)
        self.seconds.append(time.process_time() - start)
        return result


def make_slices(model: CoLaDiff) -> dict[str, Any]:
    """Return arguments of :meth:`CoLaDiff.synthesise` for a batch that fills the largest window."""
    x, y = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    disc = (x / 106) ** 2 + (y / 110) ** 2 < 1
    mask = np.broadcast_to(disc, (BATCH, SIZE, SIZE))
    rng = np.random.default_rng(0)
    *sources, target = model.contrasts
    return {
        "contrasts": {name: rng.random(mask.shape, np.float32) * mask for name in sources},
        "mask": mask,
        "tissues": {name: mask / np.float32(3) for name in ("CSF", "GM", "WM")},
        "target": target,
        "batch_size": BATCH,
        "samples": 1,
    }


def summary(seconds: Sequence[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle:.3g} ({low:.3g} to {high:.3g}; {len(seconds)})"


def count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=bundled_model_path(), help="default: bundled")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)

    model = CoLaDiff.load(options.model)
    slices = make_slices(model)
    denoiser = Stopwatch(model.network.predict)
    model.network.predict = denoiser
    synthesis = Stopwatch(lambda: model.synthesise(**slices, steps=max(STEPS)))

    torch.manual_seed(0)
    unet = PublishedUNet().to(memory_format=torch.channels_last).eval()
    x = torch.randn(1, 1 + CONDITIONS, SIZE, SIZE).to(memory_format=torch.channels_last)
    published = Stopwatch(lambda: unet(x, torch.tensor([500.0])))

    rest = []
    with torch.inference_mode():
        for run in range(1 + options.runs):
            published()
            before = len(denoiser.seconds)
            synthesis()
            rest.append((synthesis.seconds[-1] - sum(denoiser.seconds[before:])) / BATCH)
            if run == 0:  # the first run sets up memory and kernels
                for seconds in (published.seconds, synthesis.seconds, denoiser.seconds, rest):
                    seconds.clear()
    ours = [seconds / BATCH for seconds in denoiser.seconds]

    name = model.metadata["name"]
    ratio = statistics.median(published.seconds) / statistics.median(ours)
    print(
        f"{options.threads} thread(s), PyTorch {torch.__version__}, {SIZE} x {SIZE}, "
        f"{time.strftime('%Y-%m-%d')}; medians (range; number of runs)\n"
    )
    print("| | parameters | CPU s per slice |\n|---|---|---|")
    print(f"| published, a step | {count(unet)} | {summary(published.seconds)} |")
    print(f"| {name}, a step | {count(model.network.denoiser)} | {summary(ours)} |")
    print(f"| {name}, conditions and decoding | | {summary(rest)} |")
    print(f"\nA step of the published configuration takes {ratio:.0f} times as long.\n")

    volumes = [
        ("published", steps, SLICES * steps * statistics.median(published.seconds))
        for steps in PUBLISHED_STEPS
    ]
    volumes += [
        (name, steps, SLICES * (steps * statistics.median(ours) + statistics.median(rest)))
        for steps in STEPS
    ]
    print(f"| {SLICES} slices | steps | CPU s | times faster |\n|---|---|---|---|")
    for who, steps, seconds in volumes:
        print(f"| {who} | {steps} | {seconds:,.1f} | {volumes[0][2] / seconds:,.0f} |")


if __name__ == "__main__":
    main()
