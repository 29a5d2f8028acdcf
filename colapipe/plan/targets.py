"""Which contrasts are synthesised for a session, from which, and on which reference grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from colapipe.contrasts import CONTRASTS

ON_REQUEST_ONLY = ("T1ce", "PDw")
"""Contrasts that ``--target auto`` never picks: an injection was not given, or nobody misses it."""


@dataclass(frozen=True)
class Target:
    """A contrast to synthesise.

    Parameters
    ----------
    contrast : str
    sources : tuple of str
        Contrasts given to the model, never the target.
    has_truth : bool
        The real scan exists, and the result is scored against it (``--evaluate``).
    """

    contrast: str
    sources: tuple[str, ...]
    has_truth: bool = False


@dataclass(frozen=True)
class Space:
    """One reference grid of a session, and what happens on it.

    Parameters
    ----------
    reference : str
    contrasts : tuple of str
        Contrasts brought to this grid, the reference first.
    tissue_contrasts : tuple of str
        Contrasts whose brain mask and tissue maps are made (at most two, the reference first).
    targets : tuple of Target
    """

    reference: str
    contrasts: tuple[str, ...]
    tissue_contrasts: tuple[str, ...]
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Request:
    """What the user asked for, as far as it decides about targets.

    Parameters
    ----------
    targets : tuple of str
        ``("auto",)`` or contrasts by name.
    sources : tuple of str
        Contrasts that may be used; empty means all.
    evaluate : bool
    model_contrasts : tuple of str
        Contrasts that the model knows.
    min_sources : int
        The least number of source contrasts that the model needs.
    """

    targets: tuple[str, ...] = ("auto",)
    sources: tuple[str, ...] = ()
    evaluate: bool = False
    model_contrasts: tuple[str, ...] = CONTRASTS
    min_sources: int = 1

    @property
    def automatic(self) -> bool:
        """No target was named."""
        return self.targets == ("auto",)


def in_order(contrasts: Iterable[str]) -> tuple[str, ...]:
    """Return contrasts in order of preference as the reference."""
    present = set(contrasts)
    return tuple(contrast for contrast in CONTRASTS if contrast in present)


def choose_reference(available: Collection[str], target: str | None = None) -> str | None:
    """Return the best available contrast that is not the target, or None if there is none."""
    candidates = [contrast for contrast in in_order(available) if contrast != target]
    return candidates[0] if candidates else None


def choose_targets(
    available: Collection[str],
    elsewhere: Collection[str],
    request: Request,
    unprepared: Collection[str] = (),
) -> tuple[list[Target], list[str], list[str]]:
    """Decide which contrasts to synthesise for one session.

    Parameters
    ----------
    available : collection of str
        Contrasts that this session has.
    elsewhere : collection of str
        Contrasts that other participants of the dataset have.
    request : Request
    unprepared : collection of str, optional
        Contrasts that were acquired, but cannot be used: they are not preprocessed yet.

    Returns
    -------
    targets : list of Target
    notes : list of str
        Why something is skipped.
    errors : list of str
        Named targets that cannot be made.
    """
    allowed = in_order(c for c in available if not request.sources or c in request.sources)
    targets: list[Target] = []
    notes: list[str] = []
    errors: list[str] = []
    for contrast in _candidates(available, elsewhere, request):
        exists = contrast in available
        sources = tuple(c for c in allowed if c != contrast and c in request.model_contrasts)
        if exists and not request.evaluate:
            notes.append(
                f"{contrast} is not synthesised: it exists (--evaluate synthesises and scores it)"
            )
        elif contrast in unprepared:
            notes.append(
                f"{contrast} is not synthesised: it exists, but is not among the preprocessed "
                "files. Run without --synth-only to use it."
            )
        elif len(sources) < request.min_sources:
            message = (
                f"{contrast} cannot be synthesised: the model needs at least "
                f"{request.min_sources} source contrast(s), found "
                f"{', '.join(sources) or 'none'}"
            )
            (notes if request.automatic else errors).append(message)
        else:
            targets.append(Target(contrast, sources, has_truth=exists))
    if request.automatic and not request.evaluate and not targets:
        missing = [c for c in in_order(elsewhere) if c not in {*available, *unprepared}]
        how = _on_request({*available, *unprepared}, elsewhere, allowed, request)
        if not missing:
            notes.append(
                "nothing to synthesise: no contrast that other participants have is missing"
            )
        for contrast in missing:
            if contrast in ON_REQUEST_ONLY:
                notes.append(
                    f"{contrast} is missing, and synthesised only when it is named (--target)"
                )
            elif contrast not in request.model_contrasts:
                notes.append(f"{contrast} is missing, but the model does not know it")
        if how:
            notes.append(how)
    return targets, notes, errors


def _on_request(
    available: Collection[str],
    elsewhere: Collection[str],
    allowed: Sequence[str],
    request: Request,
) -> str:
    """Say how to ask for contrasts that nobody in the dataset has."""
    sources = [contrast for contrast in allowed if contrast in request.model_contrasts]
    absent = [c for c in request.model_contrasts if c not in available and c not in elsewhere]
    usual = [contrast for contrast in in_order(absent) if contrast not in ON_REQUEST_ONLY]
    if not usual or len(sources) < request.min_sources:
        return ""
    more = [contrast for contrast in in_order(absent) if contrast != usual[0]]
    others = f"; it could also make {', '.join(more)}" if more else ""
    return (
        f"nobody has {usual[0]}, which the model can make from {', '.join(sources)}: ask for it "
        f"with --target {usual[0]}{others}"
    )


def _candidates(
    available: Collection[str], elsewhere: Collection[str], request: Request
) -> tuple[str, ...]:
    if not request.automatic:
        return in_order(request.targets)
    missing = [
        contrast
        for contrast in elsewhere
        if contrast not in available and contrast not in ON_REQUEST_ONLY
    ]
    present = list(available) if request.evaluate else []
    return tuple(c for c in in_order(missing + present) if c in request.model_contrasts)


def plan_spaces(
    available: Collection[str], targets: Sequence[Target], sources: Collection[str] = ()
) -> tuple[Space, ...]:
    """Group targets by the reference grid on which they are made.

    Parameters
    ----------
    available : collection of str
        Contrasts that this session has.
    targets : sequence of Target
        Empty for a preprocessing-only run, which brings everything to the best contrast.
    sources : collection of str
        Contrasts that may be used; empty means all.

    Returns
    -------
    tuple of Space
        Empty if no contrast is available.
    """
    allowed = in_order(c for c in available if not sources or c in sources)
    if not targets:
        reference = choose_reference(allowed)
        return (Space(reference, allowed, allowed[:2]),) if reference else ()
    spaces: dict[str, list[Target]] = {}
    for target in targets:
        reference = choose_reference(allowed, target.contrast)
        if reference is None:
            raise ValueError(f"no reference for {target.contrast} among {allowed}")
        spaces.setdefault(reference, []).append(target)
    planned = []
    for reference, here in spaces.items():
        used = {reference, *(source for target in here for source in target.sources)}
        # Tissue maps are made for what may be given to a model here; a scan that is only the truth
        # of a score needs none.
        tissue = (reference, *(c for c in in_order(used) if c != reference))[:2]
        truths = {target.contrast for target in here if target.has_truth}
        others = tuple(c for c in in_order(used | truths) if c != reference)
        planned.append(Space(reference, (reference, *others), tissue, tuple(here)))
    return tuple(planned)
