"""Mistakes on a command line are answered in two lines, with the word that was meant."""

from __future__ import annotations

import pytest

from colapipe.cli import demo, model
from colapipe.cli.parser import parse_settings

PLACES = ("in", "out", "participant")
TRAIN = ("train", "--data", "d", "--out", "o", "--split", "s")


def parse(command: str, *words: str) -> None:
    if command == "colapipe":
        parse_settings(words)
    else:
        {"colapipe-model": model.main, "colapipe-demo": demo.main}[command](words)


@pytest.mark.parametrize(
    ("command", "words", "meant"),
    [
        ("colapipe", (*PLACES, "--participants-label", "01"), "--participant-label"),
        ("colapipe", ("--derivative", "x", *PLACES), "--derivatives"),
        ("colapipe", (*PLACES, "--skip_bids_validation"), "--skip-bids-validation"),
        ("colapipe", (*PLACES, "--sampeler=ddim"), "--sampler"),
        ("colapipe", (*PLACES, "-work-dir", "w"), "--work-dir"),
        ("colapipe", ("in", "out", "particpant"), "participant"),
        ("colapipe", (*PLACES, "--target", "T1"), "T1w"),
        ("colapipe", (*PLACES, "--source", "T1w", "t2-flair"), "FLAIR"),
        ("colapipe", (*PLACES, "--engine", "FSL"), "fsl"),
        ("colapipe", (*PLACES, "--device", "gpu"), "cuda"),
        ("colapipe", (*PLACES, "--self-check", "no"), "off"),
        ("colapipe", (*PLACES, "--sampler", "dpm++"), "dpm-solver++"),
        ("colapipe-model", ("sinth", "r.json"), "synth"),
        ("colapipe-model", ("evaluate", "--splits", "s", "--out", "o"), "--split"),
        ("colapipe-model", ("evaluate", "--split", "s", "--out", "o", "--targets", "T1C"), "T1ce"),
        ("colapipe-model", ("info", "--jsno"), "--json"),
        ("colapipe-model", (*TRAIN, "--bach-size", "2"), "--batch-size"),
        ("colapipe-model", (*TRAIN, "--contrasts", "t1w"), "T1w"),
        ("colapipe-demo", ("out", "--subject", "1"), "--subjects"),
        ("colapipe-demo", ("out", "--contrasts", "t2"), "T2w"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(command, words, meant, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(command, *words)
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert f"Did you mean {meant}?" in said
    lines = said.splitlines()
    assert len(lines) == 2, said
    assert lines[0].startswith(f"usage: {command}") and lines[0].endswith("--help lists all")


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("colapipe", (*PLACES, "--seed", "-1"), "-1 is not a whole number of 0 to"),
        ("colapipe", (*PLACES, "--seed", str(2**64)), "is not a whole number of 0 to"),
        ("colapipe", (*PLACES, "--steps", "two"), "two is not a whole number of 1 or more"),
        ("colapipe", (*PLACES, "--nprocs", "1.5"), "1.5 is not a whole number"),
        ("colapipe", (*PLACES, "--mem", "0"), "not an amount of memory"),
        ("colapipe", (*PLACES, "--work-dir", ""), "expected a path"),
        ("colapipe", (*PLACES, "--xyzzy"), "unknown option: --xyzzy."),
        ("colapipe", (), "required: BIDS_DIR, OUT_DIR, level"),
        ("colapipe-model", (*TRAIN, "--seed", "-5"), "-5 is not a whole number of 0 to"),
        ("colapipe-demo", ("out", "--seed", "-1"), "-1 is not a whole number of 0 to"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(command, words, said, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(command, *words)
    assert caught.value.code == 2 and said in capsys.readouterr().err


def test_values_that_begin_with_a_hyphen_and_repeated_letters_are_no_unknown_options(tmp_path):
    settings = parse_settings([*PLACES, "-vv", f"-w{tmp_path}", "--work-dir=/w"])
    assert settings.verbosity == 2
