"""Plan a session again after transforms of it were refused: without them, or without a contrast.

The targets stay what they were. A contrast that is taken out is there, and not missing: it is no
longer a source, a reference or the truth of a score, and it is not synthesised in its own place
unless that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from colapipe.errors import ScanWarning
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Target, in_order, plan_spaces


@dataclass(frozen=True)
class RefusedTransform:
    """A transform that was refused.

    Attributes
    ----------
    moving, reference : str
        Contrasts.
    reasons : tuple of str
        Why, in words.
    reference_to_blame : bool
        The reference shows no brain that anything could be aligned with.
    """

    moving: str
    reference: str
    reasons: tuple[str, ...]
    reference_to_blame: bool = False


def plan_again(
    plan: SessionPlan,
    refused: Sequence[RefusedTransform],
    *,
    min_sources: int = 1,
    sources: Sequence[str] = (),
) -> SessionPlan:
    """Plan a session without the transforms that were refused.

    A transform that was given is dropped, and the engine registers the scan instead. A scan that
    the engine could not register is taken out; where none of two or more could be registered to
    one reference, or the reference shows no brain, the reference is.

    Parameters
    ----------
    plan : SessionPlan
    refused : sequence of RefusedTransform
        At least one.
    min_sources : int
        The least number of sources that the model needs.
    sources : sequence of str
        Contrasts that may be used (``--source``); empty means all.

    Returns
    -------
    SessionPlan
        With a warning for whatever was dropped or taken out, and an error for a target that can no
        longer be made.
    """
    given = [entry for entry in refused if _given(plan, entry)]
    for entry in given:
        plan = _without_given_transform(plan, entry)
    computed = [entry for entry in refused if entry not in given]
    taken_out: dict[str, str] = {}
    for space in plan.spaces:
        here = [entry for entry in computed if entry.reference == space.reference]
        others = set(space.contrasts) - {space.reference}
        none_fits = len(others) > 1 and others == {entry.moving for entry in here}
        if none_fits or any(entry.reference_to_blame for entry in here):
            why = "; ".join(f"{entry.moving}: {', '.join(entry.reasons)}" for entry in here)
            taken_out[space.reference] = f"no other scan could be registered to it ({why})"
        else:
            for entry in here:
                why = ", ".join(entry.reasons)
                words = f"it could not be registered to the {entry.reference} ({why})"
                taken_out.setdefault(entry.moving, words)
    return _without_contrasts(plan, taken_out, min_sources, sources) if taken_out else plan


def _given(plan: SessionPlan, entry: RefusedTransform) -> bool:
    derivatives = plan.derivatives
    return derivatives is not None and bool(derivatives.matrix(entry.moving, entry.reference))


def _without_given_transform(plan: SessionPlan, entry: RefusedTransform) -> SessionPlan:
    if plan.derivatives is None:
        raise ValueError(f"{plan.label} has no derivatives")
    matrix = plan.derivatives.matrix(entry.moving, entry.reference)
    left = tuple(other for other in plan.derivatives.matrices if other is not matrix)
    warning = ScanWarning(
        entry.moving,
        f"{matrix.path if matrix else ''}: this transform from {entry.moving} to "
        f"{entry.reference} was given and is not used ({', '.join(entry.reasons)}); expected one "
        "that aligns the two scans. They were registered anew; check which scans it belongs to.",
    )
    return replace(
        plan,
        derivatives=replace(plan.derivatives, matrices=left),
        warnings=(*plan.warnings, warning),
    )


def _without_contrasts(
    plan: SessionPlan, taken_out: dict[str, str], min_sources: int, sources: Sequence[str]
) -> SessionPlan:
    present = {contrast for space in plan.spaces for contrast in space.contrasts}
    left = in_order(present - set(taken_out))
    warnings = [
        ScanWarning(contrast, f"{_file(plan, contrast)} is not used: {why}. Look at both scans.")
        for contrast, why in taken_out.items()
    ]
    targets: list[Target] = []
    errors: list[str] = []
    for target in plan.targets:
        remaining = tuple(source for source in target.sources if source in left)
        if len(remaining) < min_sources:
            errors.append(
                f"{plan.label}: {target.contrast} cannot be synthesised: the model needs at least "
                f"{min_sources} source contrast(s), and of {', '.join(target.sources)} only "
                f"{', '.join(remaining) or 'none'} can be used. "
                + " ".join(warning.message for warning in warnings)
            )
            continue
        has_truth = target.has_truth and target.contrast in left
        targets.append(Target(target.contrast, remaining, has_truth))
    only_prepared = not plan.targets
    return replace(
        plan,
        spaces=plan_spaces(left, targets, sources) if targets or only_prepared else (),
        warnings=(*plan.warnings, *warnings),
        errors=(*plan.errors, *errors),
    )


def _file(plan: SessionPlan, contrast: str) -> str:
    scan = plan.scans.get(contrast)
    return str(scan.path) if scan else contrast
