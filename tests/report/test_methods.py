"""The methods text cites what was used, and nothing else."""

from __future__ import annotations

import re

import pytest

from colapipe.report.methods import methods


@pytest.mark.parametrize(
    ("engine", "used", "unused"),
    [
        ("fsl", ("BET", "FLIRT", "FAST", "N4"), ("deepbet", "Mattes")),
        ("builtin", ("deepbet", "SimpleITK", "N4"), ("FLIRT", "BET ", "FSL")),
    ],
)
def test_the_engine_decides_what_is_cited(
    engine: str, used: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    text = methods({"version": "0.1.0", "engine": engine, "engine_version": "6.0.7"}, ["T2w"]).text
    assert all(word in text for word in used)
    assert not any(word in text for word in unused)
    assert "6.0.7" in text


def test_every_number_in_the_text_is_a_reference_in_order() -> None:
    described = methods({"engine": "fsl", "model": {"name": "m", "sha256": "ab"}}, ["T2w", "T1ce"])
    body = "\n".join(described.paragraphs)
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", body)]
    assert list(dict.fromkeys(numbers)) == list(range(1, len(described.references) + 1))
    assert "T2w and T1ce images were synthesised" in body
    assert "with m (weights sha256 ab)" in body


def test_the_text_says_which_uncertainties_are_calibrated() -> None:
    levels = {"T2w": 0.9, "FLAIR": None, "T1ce": 0.9}
    described = methods({"engine": "fsl"}, ["T2w", "T1ce", "FLAIR"], levels)
    assert "that of T2w and T1ce was turned into 90 % intervals" in described.text
    assert "that of FLAIR is not calibrated." in described.text
    assert any("conformal prediction" in entry for entry in described.references)
    plain = methods({"engine": "fsl"}, ["T2w"]).text
    assert "standard deviation" not in plain and "conformal" not in plain


def test_without_a_synthesis_the_model_is_not_cited() -> None:
    assert "CoLa-Diff" not in methods({"engine": "builtin"}).text


def test_an_unknown_engine_is_named_and_its_braces_stay_text() -> None:
    assert "the engine {x} 1{y}." in methods({"engine": "{x}", "engine_version": "1{y}"}).text
