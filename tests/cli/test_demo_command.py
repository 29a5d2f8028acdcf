"""The command ``colapipe-demo``: options, messages and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from colapipe.cli.demo import build_parser, main, read_missing
from colapipe.contrasts import CONTRASTS
from colapipe.errors import UsageError

needs_nilearn = pytest.mark.skipif(
    not any((Path(folder) / "nilearn").is_dir() for folder in sys.path if folder),
    reason="nilearn, which brings the template brain, is not installed",
)
QUICK = ("--resolution", "8", "--brain-only")


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def test_help_says_what_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "Nobody\nwas scanned" in said or "Nobody was scanned" in said
    assert "exit codes" in said
    for contrast in CONTRASTS:
        assert contrast in said


def test_parser_and_library_have_the_same_defaults() -> None:
    import inspect

    from colapipe.phantom.dataset import simulate_dataset

    options = vars(build_parser().parse_args(["out"]))
    defaults = inspect.signature(simulate_dataset).parameters
    for name, value in options.items():
        if name != "out_dir":
            assert defaults[name].default == value, name


@needs_nilearn
def test_writes_a_dataset_and_says_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    options = ("--subjects", "2", "--contrasts", "T1w", "T2w", "PDw", "--missing", "01:PDw,T2w")
    assert run(out, *options, *QUICK) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "sub-01: T1w; without PDw, T2w"
    assert said[1] == "sub-02: T1w, T2w, PDw"
    assert said[-1] == f"Now: colapipe {out} {out / 'derivatives' / 'colapipe'} participant"
    assert {p.name for p in out.glob("sub-*/anat/*.nii.gz")} == {
        *("sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz", "sub-02_T2w.nii.gz", "sub-02_PDw.nii.gz")
    }
    sidecar = json.loads((out / "sub-01" / "anat" / "sub-01_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True


@needs_nilearn
def test_an_occupied_folder_needs_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(tmp_path, "--subjects", "1", *QUICK) == 73
    assert "not empty" in capsys.readouterr().err
    assert run(tmp_path, "--subjects", "1", "--force", *QUICK) == 0
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert run(tmp_path, "--subjects", "1", *QUICK) == 0  # now it is ours


def test_missing_none_leaves_nobody_out() -> None:
    assert read_missing(None) is None
    assert read_missing(["none"]) == {}


def test_missing_gathers_what_is_said_twice() -> None:
    assert read_missing(["sub-02:T2w", "02:PDw"]) == {"02": ("T2w", "PDw")}


@pytest.mark.parametrize("value", ["02", "02:", ":T2w", "02:T2", "02:T2w,bold"])
def test_missing_explains_itself(value: str) -> None:
    with pytest.raises(UsageError, match="expected SUB:CONTRAST"):
        read_missing([value])


@pytest.mark.parametrize(
    "options", [("--missing", "nobody"), ("--missing", "77:T2w"), ("--resolution", "0")]
)
def test_usage_errors_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    assert run(tmp_path / "out", *options) == 2
    assert capsys.readouterr().err.startswith("colapipe-demo: error: ")
    assert not (tmp_path / "out").exists()


def test_a_missing_nilearn_ends_with_69(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['nilearn'] = None; from colapipe.cli.demo import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 69
    assert 'pip install "colapipe[demo]"' in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "out").exists()
