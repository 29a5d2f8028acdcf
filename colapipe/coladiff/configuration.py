"""What a CoLa-Diff is made of: one frozen dataclass, stored in every checkpoint.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

TISSUE_CHANNELS = ("CSF", "GM", "WM", "lesion")
"""Channels of the structural guidance, in order. A class that is not given is a zero channel."""

PREDICTIONS = ("epsilon", "x0", "v")
LATENTS = ("haar", "kl")


class ConfigurationError(ValueError):
    """A configuration that describes no CoLa-Diff; the message names the entry."""


@dataclass(frozen=True)
class Configuration:
    """Everything that the shapes of the parameters and the equations depend on.

    Parameters
    ----------
    contrasts : tuple of str
        The contrasts that the model knows. Each is a slot for a source and a possible target.
    latent : {"haar", "kl"}
        ``kl``: the learned autoencoder (section 2 of the paper, E and D in its Fig. 1).
        ``haar``: orthonormal Haar wavelets of the same grid, which lose nothing.
    downsampling : int
        f: an image of 224x224 has a latent of 224/f x 224/f. A power of two.
    latent_channels : int
        z. The Haar latent needs f * f.
    autoencoder_channels : tuple of int
        Widths of the learned autoencoder, one per halving of the grid and one before. Unused by
        ``haar``.
    prediction : {"epsilon", "x0", "v"}
        What the denoiser puts out. The paper predicts epsilon (Eq. 3).
    channels : tuple of int
        Widths of the denoiser, one per resolution.
    blocks : int
        Residual blocks per resolution.
    attention : tuple of bool
        Whether a resolution has self-attention, one per entry of ``channels``.
    embedding : int
        Width of the embedding of time, availability and target.
    structure_channels : int
        z_s: channels of the encoded tissue maps.
    refinement : int
        Width of the convolutions that give the decoded image the detail of the sources at full
        resolution; 0 for none.
    timesteps, beta_start, beta_end : int, float, float
        T and the linear schedule of beta.
    """

    contrasts: tuple[str, ...] = ("T1w", "T2w", "T1ce", "FLAIR", "PDw")
    latent: str = "haar"
    downsampling: int = 4
    latent_channels: int = 16
    autoencoder_channels: tuple[int, ...] = (16, 32, 64)
    prediction: str = "x0"
    channels: tuple[int, ...] = (64, 96, 128, 128)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, False, True, True)
    embedding: int = 128
    structure_channels: int = 8
    refinement: int = 16
    timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        if not self.contrasts or len(set(self.contrasts)) != len(self.contrasts):
            raise ConfigurationError("'contrasts' must name each contrast once")
        if self.latent not in LATENTS:
            raise ConfigurationError(f"'latent' is {self.latent!r}; known are {list(LATENTS)}")
        if self.prediction not in PREDICTIONS:
            raise ConfigurationError(
                f"'prediction' is {self.prediction!r}; known are {list(PREDICTIONS)}"
            )
        if self.downsampling < 1 or self.downsampling & (self.downsampling - 1):
            raise ConfigurationError("'downsampling' must be a power of two")
        if self.latent == "haar" and self.latent_channels != self.downsampling**2:
            raise ConfigurationError("'latent_channels' of a Haar latent is downsampling squared")
        if self.latent == "kl" and 2 ** (len(self.autoencoder_channels) - 1) != self.downsampling:
            raise ConfigurationError("'autoencoder_channels' does not fit 'downsampling'")
        if not self.channels or len(self.attention) != len(self.channels):
            raise ConfigurationError("'attention' needs one entry per entry of 'channels'")
        if any(width % 8 for width in self.channels):
            raise ConfigurationError("'channels' must be multiples of 8")
        sizes = (self.blocks, self.embedding, self.structure_channels, self.timesteps)
        if min(sizes) < 1 or self.refinement < 0:
            raise ConfigurationError("sizes must be positive")
        if not 0.0 < self.beta_start <= self.beta_end < 1.0:
            raise ConfigurationError("'beta_start' and 'beta_end' must rise within (0, 1)")

    @property
    def multiple(self) -> int:
        """Slices must have a height and width that this divides."""
        return self.downsampling

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON knows them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Configuration:
        """Build a configuration from JSON, refusing unknown entries and wrong types.

        Raises
        ------
        ConfigurationError
            If an entry is unknown, missing or of the wrong type.
        """
        known = {field.name: field for field in fields(cls)}
        if unknown := sorted(set(entries) - set(known)):
            raise ConfigurationError(f"unknown entries {unknown}")
        if missing := sorted(set(known) - set(entries)):
            raise ConfigurationError(f"missing entries {missing}")
        values: dict[str, Any] = {}
        for name, field in known.items():
            value, default = entries[name], field.default
            if isinstance(default, tuple):
                kind = type(default[0])
                if not isinstance(value, list | tuple) or any(
                    type(item) is not kind for item in value
                ):
                    raise ConfigurationError(f"{name!r} must be a list of {kind.__name__}")
                values[name] = tuple(value)
            else:
                if type(default) is float and type(value) is int:
                    value = float(value)
                if type(value) is not type(default):
                    raise ConfigurationError(f"{name!r} must be {type(default).__name__}")
                values[name] = value
        return cls(**values)
