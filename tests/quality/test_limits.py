"""Each number beyond its limit is a warning, each within is none, and no number is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from colapipe.quality.columns import COLUMNS
from colapipe.quality.limits import LIMITS, NO_LIMIT, Limit, warning_of_light, warnings_of

USUAL = {
    "contrast": "T2w",
    "synthetic": False,
    "coverage": 0.99,
    "mask_dice": 0.95,
    "shift": 18.0,
    "turn": 15.0,
    "alike": 0.95,
    "alike_with": "T1w",
    "volume_brain": 1300.0,
    "volume_csf": 250.0,
    "volume_gm": 550.0,
    "volume_wm": 500.0,
    "clipped_low": 0.001,
    "clipped_high": 0.001,
}


def beyond() -> list[tuple[Limit, float]]:
    """Every end of every limit, a little beyond."""
    ends = [(limit, limit.low * 0.99) for limit in LIMITS if limit.low is not None]
    return ends + [(limit, limit.high * 1.01) for limit in LIMITS if limit.high is not None]


def test_every_column_has_a_limit_or_a_reason() -> None:
    limited = {limit.column for limit in LIMITS}
    assert limited | set(NO_LIMIT) == set(COLUMNS)
    assert not limited & set(NO_LIMIT)
    assert all(NO_LIMIT.values())


def test_a_usual_scan_has_no_warning() -> None:
    assert warnings_of(USUAL) == []


@pytest.mark.parametrize(("limit", "value"), beyond())
def test_a_number_beyond_its_limit_is_said_alone(limit: Limit, value: float) -> None:
    def row(value: float) -> dict[str, object]:
        if limit.of == "synthetic":
            return {"contrast": "T2w", "synthetic": True, limit.column: value}
        whole = USUAL[limit.share_of] if limit.share_of else 1
        changed = USUAL | {limit.column: value * whole}
        if limit.column == "volume_brain":  # The tissues keep their shares.
            tissues = ("volume_csf", "volume_gm", "volume_wm")
            changed |= {name: USUAL[name] * value / USUAL["volume_brain"] for name in tissues}
        return changed

    [warning] = warnings_of(row(value))
    assert "expected" in warning and "Look at" in warning
    assert "; " not in warning
    within = limit.low if limit.low is not None and value < limit.low else limit.high
    assert warnings_of(row(within)) == []


def test_limits_of_scans_do_not_hold_for_synthetic_images() -> None:
    made = {"contrast": "T2w", "synthetic": True, "coverage": 0.3, "clipped_high": 0.05}
    assert warnings_of(made) == []


def test_the_numbers_stand_in_the_words_with_their_units() -> None:
    [cut] = warnings_of(USUAL | {"coverage": 0.663})
    assert cut.startswith("it covers 66 % of the brain (expected at least 90 %)")
    [large] = warnings_of({"contrast": "T1w", "synthetic": False, "volume_brain": 9400.0})
    assert "9.40 litres (expected 0.70 to 2.20 litres)" in large


def test_a_brain_of_nothing_is_said() -> None:
    empty = {"contrast": "T1w", "synthetic": False, "volume_brain": 0.0, "volume_gm": 0.0}
    assert len(warnings_of(empty)) == 1


@pytest.mark.parametrize(
    ("light", "reasons", "said"),
    [
        ("red", "turned by 8 degrees", "self-check red: turned by 8 degrees"),
        ("amber", "less alike", None),
        ("green", "", None),
        ("n/a", "cannot be checked: the model needs at least 1 other contrast(s)", None),
        ("n/a", "not calibrated for T1w from T2w", None),
        ("n/a", "could not be compared: the mask is empty", "not done: could not be compared"),
        ("n/a", "could not be synthesised: killed", "not done: could not be synthesised"),
    ],
)
def test_lights(light: str, reasons: str, said: str | None) -> None:
    found = warning_of_light({"contrast": "T1w", "light": light, "reasons": reasons})
    assert found is None if said is None else said in str(found)


def test_the_manual_names_every_limit() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    rows = [line for line in manual.splitlines() if line.lstrip().startswith("| `")]
    for limit in LIMITS:
        of_column = [row for row in rows if f"`{limit.column}`" in row]
        assert any(f"| {limit.expected} |" in row for row in of_column), limit
