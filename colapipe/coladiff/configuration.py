"""What a CoLa-Diff is made of: one frozen dataclass, stored in every checkpoint.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

TISSUE_CHANNELS = ("CSF", "GM", "WM", "lesion")
"""Channels of the structural guidance, in order. A class that is not given is a zero channel."""

CHOICES = {
    "intensity": ("range", "robust"),
    "latent": ("haar", "kl"),
    "prediction": ("epsilon", "x0", "v"),
    "variance": ("fixed", "learned"),
    "latent_net": ("plain", "cola"),
    "receptive_field": ("stem", "down"),
    "upsampling": ("nearest", "transposed"),
    "density": ("off", "voxel"),
    "gate": ("off", "sigmoid", "tanh"),
    "scf": ("off", "dwt", "full"),
    "injection": ("concat", "decoder", "both"),
}
"""Entries that are one of a few words."""


class ConfigurationError(ValueError):
    """A configuration that describes no CoLa-Diff; the message names the entry."""


@dataclass(frozen=True)
class Configuration:
    """Everything that the shapes of the parameters and the equations depend on.

    The paper's four ablations are ``latent_net="plain"``, ``structure=False``, ``gate="off"`` and
    ``scf="off"``; with all four it is a plain latent diffusion model (:meth:`plain`).

    Parameters
    ----------
    contrasts : tuple of str
        The contrasts that the model knows. Each is a slot for a source and a possible target.
    neighbours : int
        Slices on either side that are shown of each source besides the slice itself.
    intensity : {"range", "robust"}
        How sources in [0, 1] are put to the network: ``range`` as [-1, 1]; ``robust`` by the
        median and the interquartile range of the brain, which a bright lesion hardly moves.
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
    autoencoder_blocks : int
        Residual blocks per width.
    prediction : {"epsilon", "x0", "v"}
        What the denoiser puts out. The paper predicts epsilon (Eq. 3).
    variance : {"fixed", "learned"}
        Of the reverse process (Eq. 6); ``learned`` interpolates between beta and its posterior.
    channels : tuple of int
        Widths of the denoiser, one per resolution.
    blocks : int
        Residual blocks per resolution.
    attention : tuple of bool
        Whether a resolution has self-attention, one per entry of ``channels``.
    heads : int
        Of every attention.
    embedding : int
        Width of the embedding of time, availability and target.
    latent_net : {"plain", "cola"}
        ``cola``: residual blocks with kernels 1-3-1 on the way down, fusion of two receptive
        fields, and a transformer over the conditions. ``plain``: two 3x3 convolutions per block,
        conditions concatenated.
    receptive_field : {"stem", "down"}
        Where receptive fields are fused: as in the paper's Fig. 1, or on the whole way down.
    upsampling : {"nearest", "transposed"}
        ``transposed``: 2x2 convolutions, as in Fig. 1.
    structure : bool
        Whether tissue maps and densities are conditions (structural guidance).
    structure_channels : int
        z_s: channels of the encoded tissue maps.
    density : {"off", "voxel"}
        Class-conditional densities of each source's intensities, beside the tissue maps.
    gate : {"off", "sigmoid", "tanh"}
        Auto-weight adaptation (Eqs. 7-10); ``sigmoid`` as published.
    scf : {"off", "dwt", "full"}
        Similar cooperative filtering of the skip connections (Eq. 4); ``dwt`` without block
        matching.
    scf_wavelet : str
        An orthogonal wavelet of pywavelets.
    scf_largest : int
        Bands with a longer side than this are not block-matched.
    scf_noise_aware : bool
        Scale the thresholds by the noise of the step.
    injection : {"concat", "decoder", "both"}
        How the conditions reach the denoiser: concatenated to kappa_t, or into the way up as in
        Fig. 1. A plain latent network concatenates.
    transformer_blocks, transformer_width : int
        N and the width d of the transformer over the conditions.
    refinement : int
        Width of the convolutions that give the decoded image the detail of the sources at full
        resolution; 0 for none.
    zero_terminal_snr : bool
        Rescale the schedule so that kappa_T is pure noise; not for epsilon.
    timesteps, beta_start, beta_end : int, float, float
        T and the linear schedule of beta.
    """

    contrasts: tuple[str, ...] = ("T1w", "T2w", "T1ce", "FLAIR", "PDw")
    neighbours: int = 1
    intensity: str = "robust"
    latent: str = "haar"
    downsampling: int = 4
    latent_channels: int = 16
    autoencoder_channels: tuple[int, ...] = (16, 32, 64)
    autoencoder_blocks: int = 1
    prediction: str = "x0"
    variance: str = "fixed"
    channels: tuple[int, ...] = (64, 96, 128, 128)
    blocks: int = 1
    attention: tuple[bool, ...] = (False, False, True, True)
    heads: int = 4
    embedding: int = 128
    latent_net: str = "cola"
    receptive_field: str = "stem"
    upsampling: str = "nearest"
    structure: bool = True
    structure_channels: int = 8
    density: str = "voxel"
    gate: str = "tanh"
    scf: str = "full"
    scf_wavelet: str = "haar"
    scf_largest: int = 14
    scf_noise_aware: bool = False
    injection: str = "both"
    transformer_blocks: int = 2
    transformer_width: int = 64
    refinement: int = 16
    zero_terminal_snr: bool = False
    timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        if not self.contrasts or len(set(self.contrasts)) != len(self.contrasts):
            raise ConfigurationError("'contrasts' must name each contrast once")
        for name, words in CHOICES.items():
            if getattr(self, name) not in words:
                raise ConfigurationError(
                    f"{name!r} is {getattr(self, name)!r}; known are {list(words)}"
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
        sizes = (
            self.blocks,
            self.autoencoder_blocks,
            self.heads,
            self.embedding,
            self.structure_channels,
            self.transformer_width,
            self.timesteps,
        )
        if min(sizes) < 1 or min(self.refinement, self.neighbours, self.transformer_blocks) < 0:
            raise ConfigurationError("sizes must be positive")
        widths = [
            width for width, attends in zip(self.channels, self.attention, strict=True) if attends
        ]
        if any(width % self.heads for width in (*widths, self.transformer_width)):
            raise ConfigurationError("'heads' must divide the widths that have attention")
        if not 0.0 < self.beta_start <= self.beta_end < 1.0:
            raise ConfigurationError("'beta_start' and 'beta_end' must rise within (0, 1)")
        if self.prediction == "epsilon" and self.zero_terminal_snr:
            raise ConfigurationError("'zero_terminal_snr' leaves no epsilon to predict at T")
        if self.variance == "learned" and self.prediction != "epsilon":
            raise ConfigurationError("a learned 'variance' needs the prediction epsilon")

    def plain(self) -> Configuration:
        """Return the latent diffusion model of the same latent: all four parts of CoLa-Diff off."""
        return replace(self, latent_net="plain", structure=False, gate="off", scf="off")

    @property
    def slab(self) -> int:
        """Slices that are shown of each source."""
        return 2 * self.neighbours + 1

    @property
    def concatenates(self) -> bool:
        """Whether the conditions are concatenated to kappa_t."""
        return self.latent_net == "plain" or self.injection != "decoder"

    @property
    def attends_to_conditions(self) -> bool:
        """Whether a transformer passes the conditions to the way up."""
        return (
            self.latent_net == "cola" and self.injection != "concat" and self.transformer_blocks > 0
        )

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
