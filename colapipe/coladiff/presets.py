"""Named configurations: ``tiny``, which is bundled and made for CPUs, and ``nano``, for tests."""

from __future__ import annotations

from pathlib import Path

from colapipe.coladiff.configuration import Configuration

PRESETS: dict[str, Configuration] = {
    "tiny": Configuration(),
    "nano": Configuration(
        downsampling=4,
        channels=(8, 16),
        attention=(False, False),
        embedding=16,
        structure_channels=2,
        refinement=4,
    ),
}


def write_nano_checkpoint(
    path: Path,
    contrasts: tuple[str, ...] = ("T1w", "T2w", "T1ce", "FLAIR", "PDw"),
    *,
    min_sources: int = 1,
    steps: int = 2,
    samples: int = 1,
    sampled_steps: int | None = None,
    seed: int = 0,
) -> Path:
    """Write an untrained model of a few thousand parameters, in a second: for tests and trials.

    Its images mean nothing, but everything around them works as with a real model.

    Parameters
    ----------
    path : Path
        The ``.safetensors`` file to write.
    contrasts : tuple of str
    min_sources, steps, samples, sampled_steps : int
        As in a checkpoint's description.
    seed : int
        Of the random weights.

    Returns
    -------
    Path
        ``path``.
    """
    from dataclasses import replace

    import torch

    from colapipe.coladiff.checkpoint import make_metadata, save_checkpoint
    from colapipe.coladiff.network import CoLaDiffNetwork

    configuration = replace(PRESETS["nano"], contrasts=tuple(contrasts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CoLaDiffNetwork(configuration)
        # Layers that start at zero would make the output constant: nothing would depend on
        # anything, and tests could not tell right from wrong.
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    mean = [0.0] * configuration.latent_channels
    std = [1.0] * configuration.latent_channels
    metadata = make_metadata(
        configuration,
        name="cola-nano",
        preset="nano",
        latent_mean=mean,
        latent_std=std,
        training_data="none: random weights for tests",
        licence="Apache-2.0",
        min_sources=min_sources,
        steps=steps,
        samples=samples,
        sampled_steps=sampled_steps,
    )
    save_checkpoint(path, network.state_dict(), metadata)
    return path
