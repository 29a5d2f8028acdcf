"""The command line: what is typed becomes settings, and what is wrong is said in one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from colapipe.cli.parser import parse_settings
from colapipe.config import Settings

PLACES = ["/data/bids", "/data/out", "participant"]


def test_without_options_the_defaults_of_settings_hold(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = parse_settings(PLACES)
    assert settings == Settings(Path("/data/bids"), Path("/data/out"), work_dir=tmp_path / "work")


@pytest.mark.parametrize("option", ["--participant-label", "--participant_label"])
def test_prefixes_of_labels_are_stripped(option):
    settings = parse_settings([*PLACES, option, "sub-01", "02", "01"])
    assert settings.participants == ("01", "02")


def test_relative_paths_become_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = parse_settings(["bids", "out", "participant", "--model", "m.safetensors"])
    assert settings.bids_dir == tmp_path / "bids"
    assert settings.model == tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("text", "gigabytes"), [("1.5G", 1.5), ("16g", 16), ("16GB", 16), ("8000M", 8), ("4", 4)]
)
def test_memory_is_understood_with_its_unit(text, gigabytes):
    assert parse_settings([*PLACES, "--mem", text]).mem_gb == pytest.approx(gigabytes, rel=0.08)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mem", "lots"], "lots"),
        (["--target", "T3w"], "T3w"),
        (["--target", "auto", "T2w"], "stands alone"),
        (["--preproc-only", "--synth-only"], "not allowed"),
        (["--preproc-only", "--evaluate"], "--evaluate"),
        (["--device", "gpu"], "gpu"),
        (["--steps", "0"], "1 or more"),
        (["--engine", "spm"], "spm"),
        (["--config-file", "/none.toml"], "/none.toml"),
        (["--unknown"], "--unknown"),
    ],
)
def test_what_is_wrong_is_said_and_ends_with_2(options, words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_settings([*PLACES, *options])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_sets_options_and_the_command_line_wins(tmp_path):
    path = tmp_path / "colapipe.toml"
    path.write_text('seed = 7\nsteps = 2\ntargets = ["T2w"]\nevaluate = true\n')
    settings = parse_settings([*PLACES, "--config-file", str(path), "--steps", "9"])
    assert (settings.seed, settings.steps, settings.targets) == (7, 9, ("T2w",))
    assert settings.evaluate
    switched = parse_settings([*PLACES, "--config-file", str(path), "--no-evaluate"])
    assert not switched.evaluate


def test_the_settings_of_a_run_start_the_same_run(tmp_path):
    settings = parse_settings([*PLACES, "--target", "T2w", "FLAIR", "--mem", "3G", "-vv"])
    path = tmp_path / "colapipe.toml"
    path.write_text(settings.to_toml())
    assert parse_settings([*PLACES, "--config-file", str(path)]) == settings
