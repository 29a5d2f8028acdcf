"""The columns of the quality table: the one dictionary of what each number means."""

from __future__ import annotations

from typing import Any

from colapipe.slices.intensity import PERCENTILES

REGIONS = {
    "brain": "the brain mask",
    "csf": "cerebrospinal fluid",
    "gm": "grey matter",
    "wm": "white matter",
    "lesion": "lesions",
}
"""Where uncertainty is averaged, by the part that stands in a column's name."""

_VOLUMES = {
    "brain": ("Brain volume", "Volume of the brain mask that was computed from this contrast."),
    "csf": (
        "Volume of cerebrospinal fluid",
        "Volume of the tissue label CSF that was computed from this contrast.",
    ),
    "gm": (
        "Volume of grey matter",
        "Volume of the tissue label GM that was computed from this contrast.",
    ),
    "wm": (
        "Volume of white matter",
        "Volume of the tissue label WM that was computed from this contrast.",
    ),
    "lesion": (
        "Lesion volume",
        "Volume of the lesion mask that was given, on the row of the reference: it was drawn with "
        "all contrasts in view.",
    ),
}

_CLIPPED = (
    f"of an acquired contrast, the percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of its "
    "brain, where the intensity normalisation clips; of a synthetic one, the ends of its scale. "
    f"Near {PERCENTILES[0] / 100:g} in a scan without saturation"
)

COLUMNS: dict[str, dict[str, Any]] = {
    "contrast": {
        "LongName": "Contrast",
        "Description": "The contrast that the row is about, on the grid that space- names.",
    },
    "synthetic": {
        "LongName": "Synthetic",
        "Description": "Whether the image was synthesised. With --evaluate a contrast has two "
        "rows: the real scan and the synthetic image.",
        "Levels": {
            "true": "A model made the image; nobody acquired it",
            "false": "The image was acquired",
        },
    },
    "nmi": {
        "LongName": "Normalised mutual information with the reference",
        "Description": "Registration cost at the final alignment: (H(A) + H(B)) / H(A, B) of the "
        "moved contrast and the reference, 32 x 32 bins, where both have data in the brain "
        "(Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0). 1: they tell nothing of each "
        "other; 2: each follows from the other. To be compared within one pair of contrasts only.",
    },
    "identity_kept": {
        "LongName": "Identity kept",
        "Description": "Whether the scan lay on the reference's grid and was aligned already, so "
        "that it was not moved.",
        "Levels": {"true": "Not moved", "false": "Moved by a rigid transform"},
    },
    "shift": {
        "LongName": "Shift",
        "Description": "How far the registration moved the middle of the scan.",
        "Units": "mm",
    },
    "turn": {
        "LongName": "Turn",
        "Description": "Angle by which the registration turned the scan.",
        "Units": "degree",
    },
    "mask_dice": {
        "LongName": "Overlap of brain masks",
        "Description": "Dice coefficient of the brain masks computed from this contrast and from "
        "the reference, once both are on one grid. 1: the same voxels.",
    },
    "coverage": {
        "LongName": "Coverage",
        "Description": "Share of the reference's brain where the image has data: where an "
        "acquired scan is above 0.002 of its brightest voxels, or in the slices that were "
        "synthesised. Low where a field of view was cut.",
    },
    "alike": {
        "LongName": "Correlation with the most alike contrast",
        "Description": "Largest correlation (Pearson's) with another acquired contrast on the "
        "grid, inside the brain and away from its rim, after a blur by 2 mm (standard deviation) "
        "that hides what resampling changes. Near 1: the same scan under two names.",
    },
    "alike_with": {
        "LongName": "Most alike contrast",
        "Description": "The contrast that 'alike' is about.",
    },
    **{
        f"volume_{region}": {"LongName": name, "Description": words, "Units": "mL"}
        for region, (name, words) in _VOLUMES.items()
    },
    "clipped_low": {
        "LongName": "Share clipped at the dark end",
        "Description": "Share of the brain's voxels with data that are at or below the low end of "
        f"the range: {_CLIPPED}.",
    },
    "clipped_high": {
        "LongName": "Share clipped at the bright end",
        "Description": "Share of the brain's voxels with data that are at or above the high end "
        f"of the range: {_CLIPPED}.",
    },
    **{
        f"sd_{region}": {
            "LongName": f"Uncertainty in {words}",
            "Description": f"Mean standard deviation between samples in {words}, in the units of "
            "the synthetic image (0 to 1000). A small one says that the samples agree, not that "
            "they are right.",
        }
        for region, words in REGIONS.items()
    },
    "interval_level": {
        "LongName": "Level of the intervals",
        "Description": "Part of a brain's voxels expected inside their interval, on average over "
        "participants like those of the calibration; n/a where the uncertainty is not calibrated.",
    },
    **{
        f"interval_{region}": {
            "LongName": f"Half-width of the interval in {words}",
            "Description": "Mean half-width of the calibrated interval around the synthetic "
            f"image in {words}, in its units (0 to 1000); n/a where it is not calibrated.",
        }
        for region, words in REGIONS.items()
    },
    "slices": {
        "LongName": "Slices synthesised",
        "Description": "Axial slices of 1 mm that were synthesised.",
    },
    "warnings": {
        "LongName": "Warnings",
        "Description": "What must not be missed about this contrast, joined by '; ': numbers and "
        "lights beyond their limits, files that could not be used, and a scan that was taken out, "
        "which has a row without numbers. What is about the whole session is on the row of the "
        "reference.",
    },
}
"""Every column of ``*_desc-quality_qc.tsv``, in order, described as BIDS asks."""

TEXT_COLUMNS = ("contrast", "alike_with", "warnings")
BOOLEAN_COLUMNS = ("synthetic", "identity_kept")
COUNT_COLUMNS = ("slices",)
"""Columns that do not hold a fraction; all others do."""
