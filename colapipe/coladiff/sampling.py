"""Which samplers there are and how many steps each takes; known without torch."""

from __future__ import annotations

from colapipe.coladiff.configuration import Configuration

SAMPLER_NAMES = ("ddim", "ddpm", "dpm-solver++", "fastdpm-step", "fastdpm-var")
"""The keys of :data:`colapipe.coladiff.samplers.SAMPLERS`."""


def check_sampling(configuration: Configuration, sampler: str, steps: int) -> None:
    """Refuse a sampler, or a number of steps, that a model cannot be run with.

    Parameters
    ----------
    configuration : Configuration
        Of the model.
    sampler : str
    steps : int

    Raises
    ------
    ValueError
        With what was expected.
    """
    if sampler not in SAMPLER_NAMES:
        raise ValueError(f"unknown sampler {sampler!r}; known are {', '.join(SAMPLER_NAMES)}")
    if not 1 <= steps <= configuration.timesteps:
        raise ValueError(f"steps must be between 1 and {configuration.timesteps}, not {steps}")
    if sampler == "fastdpm-var" and configuration.zero_terminal_snr:
        raise ValueError(
            "fastdpm-var needs a schedule that ends with some signal left, and this model's ends "
            "without any; the other samplers do not"
        )
