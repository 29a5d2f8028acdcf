"""The methods paragraph that users may copy, and the papers it cites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from colapipe.report.references import REFERENCES

_ENGINES = {
    "fsl": (
        "Brains were extracted with BET {smith2002bet}, scans of one session were registered "
        "rigidly to the reference with FLIRT {jenkinson2002flirt}, and tissue classes were "
        "estimated with FAST {zhang2001hmrf}, all of FSL{version} {jenkinson2012fsl}. Intensity "
        "bias was corrected with N4 {tustison2010n4} in SimpleITK {lowekamp2013simpleitk}.",
    ),
    "builtin": (
        "Preprocessing used the built-in engine{version}: brains were extracted with deepbet "
        "{fisch2024deepbet}, scans of one session were registered rigidly to the reference by "
        "maximising Mattes mutual information {mattes2003registration} in SimpleITK "
        "{lowekamp2013simpleitk}, intensity bias was corrected with N4 {tustison2010n4}, and "
        "tissue classes were estimated with a hidden Markov random field fitted by "
        "expectation-maximisation {zhang2001hmrf}.",
    ),
}


@dataclass(frozen=True)
class Methods:
    """The paragraphs with numbered citations, and the keys of what they cite in that order."""

    paragraphs: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """The references as text, in the order of their numbers."""
        return tuple(REFERENCES[key].text for key in self.keys)

    @property
    def text(self) -> str:
        """All of it as plain text."""
        numbered = [f"[{number}] {entry}" for number, entry in enumerate(self.references, 1)]
        return "\n\n".join([*self.paragraphs, "\n".join(numbered)])

    @property
    def bibtex(self) -> str:
        """The references as a ``.bib`` file, in the order of their numbers."""
        return "\n".join(REFERENCES[key].bibtex(key) for key in self.keys)


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
        f"MRI scans in a BIDS dataset {cite('gorgolewski2016bids')} were processed with colapipe "
        f"{version}, a workflow built on Nipype {cite('gorgolewski2011nipype')}."
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
            f"CoLa-Diff {cite('jiang2023coladiff')}. No image of the synthesised contrast, and no "
            "mask or tissue map computed from one, was given to the model. Synthesised images are "
            "predictions in arbitrary units, not measurements."
        )
        if levels:
            paragraphs[-1] += f" {_uncertainty(levels, cite)}"
    return Methods(tuple(paragraphs), tuple(cited))


def _uncertainty(levels: Mapping[str, float | None], cite: Callable[[str], str]) -> str:
    """Say in one sentence what the standard deviations are, and which are calibrated."""
    parts = ["Uncertainty is given as the standard deviation over samples of the model"]
    for level in sorted({level for level in levels.values() if level is not None}):
        contrasts = _join([name for name, found in levels.items() if found == level])
        parts.append(
            f"that of {contrasts} was turned into {100 * level:g} % intervals by split conformal "
            f"calibration on other participants {cite('angelopoulos2021conformal')}"
        )
    if raw := [name for name, found in levels.items() if found is None]:
        parts.append(f"that of {_join(raw)} is not calibrated")
    return "; ".join(parts) + "."


def _join(words: Sequence[str]) -> str:
    """Join as a sentence does: "a", "a and b", "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
