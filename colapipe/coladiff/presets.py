"""Named configurations.

``paper``: as published. ``tiny``: bundled and made for CPUs. ``ldm``: the plain latent diffusion
model that has the latent of ``tiny`` and none of CoLa-Diff's four parts. ``nano``: for tests.
"""

from __future__ import annotations

from pathlib import Path

from colapipe.coladiff.configuration import Configuration

# No transformer over the conditions: it takes 0.4 million parameters and brought nothing
# (docs/results.md, Ablations).
TINY = Configuration(injection="concat")

PAPER = Configuration(
    neighbours=0,
    intensity="range",
    latent="kl",
    latent_channels=4,
    autoencoder_channels=(64, 128, 256),
    autoencoder_blocks=2,
    prediction="epsilon",
    variance="learned",
    channels=(128, 256, 256, 512),
    blocks=4,
    attention=(False, True, True, True),
    embedding=512,
    upsampling="transposed",
    gate="sigmoid",
    scf_largest=28,
    injection="decoder",
    transformer_blocks=4,
    transformer_width=256,
    refinement=0,
)
"""What the paper and its Fig. 1 say, and what the specification settles where they are silent."""

NANO = Configuration(
    neighbours=1,
    channels=(8, 16),
    attention=(False, True),
    heads=2,
    embedding=16,
    structure_channels=2,
    transformer_blocks=1,
    transformer_width=8,
    refinement=4,
)

PRESETS: dict[str, Configuration] = {
    "paper": PAPER,
    "tiny": TINY,
    "ldm": TINY.plain(),
    "nano": NANO,
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
