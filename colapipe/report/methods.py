"""The methods paragraph that users may copy, and the papers it cites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REFERENCES = {
    "coladiff": "Jiang L, Mao Y, Wang X, Chen X, Li C. CoLa-Diff: Conditional Latent Diffusion "
    "Model for Multi-modal MRI Synthesis. MICCAI 2023, LNCS 14229, 398-408. "
    "doi:10.1007/978-3-031-43999-5_38",
    "nipype": "Gorgolewski K, Burns CD, Madison C, et al. Nipype: a flexible, lightweight and "
    "extensible neuroimaging data processing framework in Python. Front Neuroinform 2011;5:13. "
    "doi:10.3389/fninf.2011.00013",
    "bids": "Gorgolewski KJ, Auer T, Calhoun VD, et al. The brain imaging data structure, a format "
    "for organizing and describing outputs of neuroimaging experiments. Sci Data 2016;3:160044. "
    "doi:10.1038/sdata.2016.44",
    "fsl": "Jenkinson M, Beckmann CF, Behrens TEJ, Woolrich MW, Smith SM. FSL. NeuroImage "
    "2012;62(2):782-790. doi:10.1016/j.neuroimage.2011.09.015",
    "bet": "Smith SM. Fast robust automated brain extraction. Hum Brain Mapp 2002;17(3):143-155. "
    "doi:10.1002/hbm.10062",
    "flirt": "Jenkinson M, Bannister P, Brady M, Smith S. Improved optimization for the robust and "
    "accurate linear registration and motion correction of brain images. NeuroImage "
    "2002;17(2):825-841. doi:10.1006/nimg.2002.1132",
    "zhang": "Zhang Y, Brady M, Smith S. Segmentation of brain MR images through a hidden Markov "
    "random field model and the expectation-maximization algorithm. IEEE Trans Med Imaging "
    "2001;20(1):45-57. doi:10.1109/42.906424",
    "deepbet": "Fisch L, Zumdick S, Barkhau C, et al. deepbet: Fast brain extraction of "
    "T1-weighted MRI using Convolutional Neural Networks. Comput Biol Med 2024;179:108845. "
    "doi:10.1016/j.compbiomed.2024.108845",
    "simpleitk": "Lowekamp BC, Chen DT, Ibanez L, Blezek D. The design of SimpleITK. "
    "Front Neuroinform 2013;7:45. doi:10.3389/fninf.2013.00045",
    "mattes": "Mattes D, Haynor DR, Vesselle H, Lewellen TK, Eubank W. PET-CT image registration "
    "in the chest using free-form deformations. IEEE Trans Med Imaging 2003;22(1):120-128. "
    "doi:10.1109/TMI.2003.809072",
    "conformal": "Angelopoulos AN, Bates S. A gentle introduction to conformal prediction and "
    "distribution-free uncertainty quantification. arXiv:2107.07511, 2021.",
    "n4": "Tustison NJ, Avants BB, Cook PA, et al. N4ITK: improved N3 bias correction. "
    "IEEE Trans Med Imaging 2010;29(6):1310-1320. doi:10.1109/TMI.2010.2046908",
}
"""Citation of every method that a run can use."""

_ENGINES = {
    "fsl": (
        "Brains were extracted with BET {bet}, scans of one session were registered rigidly to the "
        "reference with FLIRT {flirt}, and tissue classes were estimated with FAST {zhang}, all of "
        "FSL{version} {fsl}. Intensity bias was corrected with N4 {n4} in SimpleITK {simpleitk}.",
    ),
    "builtin": (
        "Preprocessing used the built-in engine{version}: brains were extracted with deepbet "
        "{deepbet}, scans of one session were registered rigidly to the reference by maximising "
        "Mattes mutual information {mattes} in SimpleITK {simpleitk}, intensity bias was corrected "
        "with N4 {n4}, and tissue classes were estimated with a hidden Markov random field fitted "
        "by expectation-maximisation {zhang}.",
    ),
}


@dataclass(frozen=True)
class Methods:
    """The paragraphs with numbered citations, and the references in that order."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it as plain text."""
        numbered = [f"[{number}] {entry}" for number, entry in enumerate(self.references, 1)]
        return "\n\n".join([*self.paragraphs, "\n".join(numbered)])


def methods(
    run: Mapping[str, Any],
    synthesised: Sequence[str] = (),
    levels: Mapping[str, float | None] | None = None,
) -> Methods:
    """Write the methods text for one run.

    Parameters
    ----------
    run : mapping
        The description of a run as :func:`colapipe.report.page.build_subject_report` takes it;
        ``version``, ``engine``, ``engine_version`` and ``model`` are read.
    synthesised : sequence of str
        Contrasts that were synthesised; none means that only preprocessing is described.
    levels : mapping, optional
        Contrasts with an uncertainty map to the level of their calibrated intervals; None where it
        is not calibrated.

    Returns
    -------
    Methods
    """
    cited: list[str] = []

    def cite(key: str) -> str:
        if key not in cited:
            cited.append(key)
        return f"[{cited.index(key) + 1}]"

    class Cite(dict[str, str]):
        """Numbers a reference when the text first names it."""

        def __missing__(self, key: str) -> str:
            return cite(key)

    version = run.get("version") or "of unknown version"
    opening = (
        f"MRI scans in a BIDS dataset {cite('bids')} were processed with colapipe {version}, "
        f"a workflow built on Nipype {cite('nipype')}."
    )
    engine = str(run.get("engine") or "")
    engine_version = run.get("engine_version")
    words = _ENGINES.get(engine, ("Preprocessing used the engine {engine}{version}.",))[0]
    preparation = words.format_map(
        Cite(version=f" {engine_version}" if engine_version else "", engine=engine or "unknown")
    )
    paragraphs = [f"{opening} {preparation}"]
    if synthesised:
        model = run.get("model") or {}
        name = model.get("name") or "an unnamed model"
        sha256 = model.get("sha256")
        weights = f" (weights sha256 {sha256})" if sha256 else ""
        contrasts = _join(synthesised)
        paragraphs.append(
            f"{contrasts} images were synthesised from the other contrasts of the same session "
            f"with {name}{weights}, an implementation of the conditional latent diffusion model "
            f"CoLa-Diff {cite('coladiff')}. No image of the synthesised contrast, and no mask or "
            "tissue map computed from one, was given to the model. Synthesised images are "
            "predictions in arbitrary units, not measurements."
        )
        if levels:
            paragraphs[-1] += f" {_uncertainty(levels, cite)}"
    return Methods(tuple(paragraphs), tuple(REFERENCES[key] for key in cited))


def _uncertainty(levels: Mapping[str, float | None], cite: Callable[[str], str]) -> str:
    """Say in one sentence what the standard deviations are, and which are calibrated."""
    parts = ["Uncertainty is given as the standard deviation over samples of the model"]
    for level in sorted({level for level in levels.values() if level is not None}):
        contrasts = _join([name for name, found in levels.items() if found == level])
        parts.append(
            f"that of {contrasts} was turned into {100 * level:g} % intervals by split conformal "
            f"calibration on other participants {cite('conformal')}"
        )
    if raw := [name for name, found in levels.items() if found is None]:
        parts.append(f"that of {_join(raw)} is not calibrated")
    return "; ".join(parts) + "."


def _join(words: Sequence[str]) -> str:
    """Join as a sentence does: "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
