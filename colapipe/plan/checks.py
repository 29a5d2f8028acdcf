"""Which contrasts of a session are checked, from what, and why not: from names alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from colapipe.plan.targets import Space, in_order


@dataclass(frozen=True)
class Check:
    """A contrast that exists and is to be synthesised from the others.

    Attributes
    ----------
    contrast : str
    sources : tuple of str
        Never the contrast itself, nor a named target of ``--evaluate``.
    tissue_source : str
        The contrast that mask and tissue maps come from, never the contrast itself.
    problem : str
        Why it cannot be done; empty if it can.
    """

    contrast: str
    sources: tuple[str, ...]
    tissue_source: str
    problem: str = ""


def choose_space(spaces: Sequence[Space], hidden: Collection[str]) -> Space | None:
    """Return the reference grid on which a session is checked: that of the best reference.

    Parameters
    ----------
    spaces : sequence of Space
    hidden : collection of str
        Named targets of ``--evaluate``, which must not reach a check: not as a grid, either.
    """
    best = in_order(space.reference for space in spaces if space.reference not in hidden)
    return next((space for space in spaces if best and space.reference == best[0]), None)


def plan_checks(
    space: Space,
    hidden: Collection[str],
    with_tissue: Collection[str],
    allowed: Collection[str],
    known: Collection[str],
    min_sources: int,
) -> list[Check]:
    """Plan the self-check of one reference grid.

    Parameters
    ----------
    space : Space
    hidden : collection of str
        Named targets of ``--evaluate``.
    with_tissue : collection of str
        Contrasts with brain mask and tissue maps on this grid.
    allowed : collection of str
        Contrasts that may be sources (``--source``); empty means all.
    known : collection of str
        Contrasts that the model knows.
    min_sources : int
        The least number of sources that it needs.

    Returns
    -------
    list of Check
        One for each contrast that is there, in order of preference.
    """
    present = [c for c in in_order(space.contrasts) if c in known and c not in hidden]
    tissues = [c for c in in_order(with_tissue) if c not in hidden]
    # The reference's own come first: the contrasts were cut by its mask.
    tissues.sort(key=lambda contrast: contrast != space.reference)
    checks = []
    for contrast in present:
        sources = tuple(c for c in present if c != contrast and (not allowed or c in allowed))
        maps = next((c for c in tissues if c != contrast), "")
        problem = ""
        if len(sources) < min_sources:
            problem = (
                f"cannot be checked: the model needs at least {min_sources} other contrast(s), "
                f"found {', '.join(sources) or 'none'}"
            )
        elif not maps:
            problem = (
                "cannot be checked: brain mask and tissue maps of another contrast are missing, "
                "and its own must not be used"
            )
        checks.append(Check(contrast, sources, maps, problem))
    return checks
