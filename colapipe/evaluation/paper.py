"""What the CoLa-Diff paper reports, to stand beside our own figures, never to be ranked with them.

Jiang et al., "CoLa-Diff: conditional latent diffusion model for multi-modal MRI synthesis", MICCAI
2023, LNCS 14229, pp. 398-408: Table 1 in section 3.1 (mean and standard deviation in the test set)
and Table 2 in section 3.2, with all digits as printed. PSNR in dB, SSIM in percent.
"""

from __future__ import annotations

from typing import NamedTuple

REFERENCE = (
    "Jiang et al., CoLa-Diff, MICCAI 2023, LNCS 14229, pp. 398-408, "
    "doi 10.1007/978-3-031-43999-5_38"
)

NOT_COMPARABLE = (
    "Figures of different papers are not comparable: other participants, another choice of slices, "
    "another normalisation of intensities, and the background, which alone is worth 3.5 to 6 dB, "
    "move PSNR by more than the models of one table differ. Compare the rows that were scored here "
    "with each other, and the paper's rows with each other."
)


class Published(NamedTuple):
    """One cell of the paper's tables.

    Attributes
    ----------
    model : str
    dataset : str
        ``BraTS 2018`` or ``IXI``.
    target : str
    sources : tuple of str
    psnr, ssim : float
        In dB and percent.
    psnr_sd, ssim_sd : float or None
        Table 2 has none.
    """

    model: str
    dataset: str
    target: str
    sources: tuple[str, ...]
    psnr: float
    psnr_sd: float | None
    ssim: float
    ssim_sd: float | None


_BRATS = (
    ("T1w", ("T2w", "T1ce", "FLAIR")),
    ("T2w", ("T1w", "T1ce", "FLAIR")),
    ("T1ce", ("T1w", "T2w", "FLAIR")),
    ("FLAIR", ("T1w", "T2w", "T1ce")),
)
_IXI = (
    ("PDw", ("T1w", "T2w")),
    ("T1w", ("T2w", "PDw")),
    ("T2w", ("T1w", "PDw")),
)

# Per task: PSNR, its standard deviation, SSIM, its standard deviation.
_TABLE_1_BRATS = {
    "MM-GAN": (
        (25.78, 2.16, 90.67, 1.45),
        (26.11, 1.62, 90.58, 1.39),
        (26.30, 1.91, 91.22, 2.08),
        (24.09, 2.14, 88.32, 1.98),
    ),
    "Hi-Net": (
        (27.42, 2.58, 93.46, 1.75),
        (25.64, 2.01, 92.59, 1.42),
        (27.02, 1.26, 93.35, 1.34),
        (25.87, 2.82, 91.22, 2.13),
    ),
    "ProvoGAN": (
        (27.79, 4.42, 93.51, 3.16),
        (26.72, 2.87, 92.98, 3.91),
        (29.26, 2.50, 93.96, 2.34),
        (25.64, 2.77, 90.42, 3.13),
    ),
    "LDM": (
        (24.55, 2.62, 88.34, 2.51),
        (24.79, 2.67, 88.47, 2.60),
        (25.61, 2.48, 89.18, 2.55),
        (23.12, 3.16, 86.90, 3.24),
    ),
    "CoLa-Diff": (
        (28.26, 3.13, 93.65, 3.02),
        (28.33, 2.27, 93.80, 2.75),
        (29.35, 2.40, 94.18, 2.46),
        (26.68, 2.74, 91.89, 3.11),
    ),
}
_TABLE_1_IXI = {
    "MM-GAN": (
        (30.61, 1.64, 95.42, 1.90),
        (27.32, 1.70, 92.35, 1.58),
        (30.87, 1.75, 94.68, 1.42),
    ),
    "Hi-Net": (
        (31.79, 2.26, 96.51, 2.03),
        (28.89, 1.43, 93.78, 1.31),
        (32.58, 1.85, 96.54, 1.74),
    ),
    "ProvoGAN": (
        (29.93, 3.11, 94.62, 2.40),
        (24.21, 2.63, 90.46, 3.58),
        (29.19, 3.04, 94.08, 3.87),
    ),
    "LDM": (
        (27.36, 2.48, 91.52, 2.39),
        (24.19, 2.51, 88.75, 2.47),
        (27.04, 2.31, 91.23, 2.24),
    ),
    "CoLa-Diff": (
        (32.24, 2.95, 96.95, 2.26),
        (30.20, 2.38, 94.49, 2.15),
        (32.86, 2.83, 96.57, 2.27),
    ),
}

TABLE_1 = tuple(
    Published(model, dataset, target, sources, *figures)
    for dataset, tasks, table in (
        ("BraTS 2018", _BRATS, _TABLE_1_BRATS),
        ("IXI", _IXI, _TABLE_1_IXI),
    )
    for model, row in table.items()
    for (target, sources), figures in zip(tasks, row, strict=True)
)
"""All contrasts but the target to the target."""

_T2W = ("T2w", ("T1w", "T1ce", "FLAIR"))

TABLE_2_ABLATION = tuple(
    Published(f"CoLa-Diff without {part}", "BraTS 2018", *_T2W, psnr, None, ssim, None)
    for part, psnr, ssim in (
        ("modified latent diffusion network", 27.1074, 90.1268),
        ("structural guidance", 27.7542, 91.4865),
        ("auto-weight adaptation", 26.3896, 89.7129),
        ("similar cooperative filtering", 27.9753, 92.1584),
    )
)
"""Each of the four parts removed in turn."""

TABLE_2_SOURCES = tuple(
    Published("CoLa-Diff", dataset, "T2w", sources, psnr, None, ssim, None)
    for dataset, sources, psnr, ssim in (
        ("BraTS 2018", ("T1w",), 26.6355, 91.7438),
        ("BraTS 2018", ("T1w", "T1ce"), 27.3089, 92.9772),
        ("BraTS 2018", ("T1w", "T1ce", "FLAIR"), 28.3126, 93.7041),
        ("IXI", ("T1w",), 32.1640, 96.0253),
        ("IXI", ("T1w", "PDw"), 32.8721, 96.5932),
    )
)
"""T2w from ever more sources."""
