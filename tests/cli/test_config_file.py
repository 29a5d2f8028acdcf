"""A value in a file of settings is held to the choices and limits of the command line."""

from __future__ import annotations

import dataclasses

import pytest

from colapipe.cli.config_file import read_config_file
from colapipe.cli.parser import build_parser, parse_settings
from colapipe.config import Settings, toml_value
from colapipe.errors import UsageError


@pytest.fixture
def read(tmp_path):
    def read_text(text: str | bytes) -> dict:
        path = tmp_path / "settings.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_config_file(path, build_parser())

    return read_text


WRONG = [
    ('engine = "spm"', "auto, fsl, builtin"),
    ('engine = "Builtin"', "Did you mean builtin?"),
    ('engine = ["fsl"]', "one text"),
    ('mode = "synth_only"', "Did you mean synth-only?"),
    ('level = "groups"', "Did you mean group?"),
    ('slices = "ALL"', "Did you mean all?"),
    ('clean_workdir = "after"', "never, success, before"),
    ('sampler = "DDIM"', "Did you mean ddim?"),
    ('sampler = "euler"', "dpm-solver++"),
    ('device = "cuda0"', "cuda:N"),
    ('self_check = "true"', "Did you mean on?"),
    ("self_check = true", "one text"),
    ('targets = ["T2w", "T1Gd"]', "Did you mean T1ce?"),
    ('targets = "T2w"', "a list"),
    ("targets = []", "at least one"),
    ('sources = ["flair"]', "Did you mean FLAIR?"),
    ("participants = [1, 2]", "a list of texts"),
    ("samples = 0", "1 or more"),
    ("samples = 2.0", "a whole number"),
    ('steps = "4"', "without quotes"),
    ("omp_nthreads = -2", "1 or more"),
    ("mem_gb = 0", "amount of memory"),
    ("mem_gb = nan", "amount of memory"),
    ("seed = -1", "0 to"),
    (f"seed = {2**70}", "0 to"),
    ("verbosity = -1", "0 or more"),
    ('viewer = "yes"', "true or false"),
    ("show_head = 1", "true or false"),
    ('model = ""', "expected a path"),
    (r'work_dir = "a\u0000b"', "expected a path"),
]


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[text for text, _ in WRONG])
def test_a_wrong_value_is_named_with_file_key_value_and_what_was_expected(text, words, read):
    with pytest.raises(UsageError) as caught:
        read(text)
    message = str(caught.value)
    key = text.partition(" = ")[0]
    assert "settings.toml" in message and f"{key} = " in message and words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeed = 1", "Did you mean seed?"),
        ('target = ["T2w"]', "Did you mean targets?"),
        ('participant-label = ["01"]', "Did you mean participants?"),
        ('mem = "2G"', "Did you mean mem_gb?"),
        ("preproc-only = true", 'Did you mean mode = "preproc-only"?'),
        ("[synthesis]\nsteps = 4", "without sections"),
        ("colour = 1", "Known are bids_dir"),
        ("engine: fsl", "is a YAML file; expected TOML"),
        ('{"engine": "fsl"}', "is a JSON file; expected TOML"),
        (b"\x80\x02}q\x00.", "is a Python pickle"),
        ("engine = fsl", "not a TOML file"),
    ],
)
def test_a_wrong_key_or_file_is_named_with_what_was_meant(text, words, read):
    with pytest.raises(UsageError) as caught:
        read(text)
    assert "settings.toml" in str(caught.value) and words in str(caught.value)


def test_every_setting_has_an_argument_that_checks_it():
    arguments = {action.dest for action in build_parser()._actions}
    assert {field.name for field in dataclasses.fields(Settings)} <= arguments


def test_the_defaults_and_small_numbers_pass(read, tmp_path):
    settings = Settings(tmp_path / "in", tmp_path / "out", mem_gb=0.00005, seed=2**63 - 1)
    assert read(settings.to_toml())["mem_gb"] == 0.00005


def test_a_mistake_in_a_file_is_said_in_one_line_without_usage(tmp_path, capsys):
    path = tmp_path / "c.toml"
    path.write_text("samples = -3\n")
    with pytest.raises(SystemExit) as caught:
        parse_settings(["in", "out", "participant", "--config-file", str(path)])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.count("\n") == 1 and "samples = -3" in said and "usage" not in said


def test_values_are_shown_as_the_file_has_them():
    assert toml_value(["a", 1, True]) == '["a", 1, true]'
