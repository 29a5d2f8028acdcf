"""Settings survive the way through TOML, and a file that is wrong is named with its fault."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from colapipe.config import Settings, read_toml
from colapipe.errors import UsageError


def test_settings_survive_the_round_trip(tmp_path):
    settings = Settings(
        Path("/data/bi ds"),
        Path('/out/"quoted" \\ back'),
        participants=("01", "ü"),
        targets=("T2w", "FLAIR"),
        mem_gb=1.5,
        steps=4,
        evaluate=True,
        model=Path("/m.safetensors"),
        work_dir=Path("/w"),
    )
    path = tmp_path / "colapipe.toml"
    path.write_text(settings.to_toml(), encoding="utf-8")
    assert Settings(**read_toml(path)) == settings


def test_defaults_survive_the_round_trip(tmp_path):
    settings = Settings(Path("/a"), Path("/b"))
    path = tmp_path / "colapipe.toml"
    path.write_text(settings.to_toml(), encoding="utf-8")
    assert Settings(**read_toml(path)) == settings


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_a_value_of_the_wrong_type_is_refused(tmp_path, field):
    path = tmp_path / "colapipe.toml"
    path.write_text(f"{field.name} = 2020-01-01\n")
    with pytest.raises(UsageError, match=field.name):
        read_toml(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("seeed = 1", "seeed"), ("seed = ", "not a TOML"), ("seed = true", "seed")],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path, text, words):
    path = tmp_path / "colapipe.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_toml(tmp_path / "none.toml")
