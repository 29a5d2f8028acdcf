"""The word that was meant is guessed from spelling, case and what other tools call it."""

from __future__ import annotations

import pytest

from colapipe.contrasts import CONTRASTS
from colapipe.suggest import closest, did_you_mean


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        *(("T1", "T1w"), ("t2W", "T2w"), ("T1c", "T1ce"), ("T1-Gd", "T1ce"), ("T1post", "T1ce")),
        *(("flair", "FLAIR"), ("T2FLAIR", "FLAIR"), ("PD", "PDw"), ("ce-T1w", "T1ce")),
        *(("bold", None), ("", None)),
    ],
)
def test_contrasts(word: str, meant: str | None) -> None:
    assert closest(word, CONTRASTS) == meant


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("no", ("auto", "skip", "force"), "skip"),
        ("False", ("on", "off"), "off"),
        ("GPU", ("auto", "cpu", "cuda"), "cuda"),
        ("dpm", ("ddim", "ddpm", "dpm-solver++"), "dpm-solver++"),
        ("--derivative", ("--dry-run", "--derivatives"), "--derivatives"),
        ("built-in", ("fsl", "builtin"), "builtin"),
    ],
)
def test_choices(word: str, known: tuple[str, ...], meant: str) -> None:
    assert did_you_mean(word, known) == f" Did you mean {meant}?"
