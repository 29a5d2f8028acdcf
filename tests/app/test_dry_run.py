"""A dry run finds out what a run would find out, says it once, and ends as the run would."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from colapipe.contrasts import CONTRASTS


@pytest.fixture
def dry(app, simulated, quick, tmp_path):
    def run(*options: object, bids: Path = simulated, out: Path = tmp_path / "out"):
        return app(bids, out, *quick, "-w", tmp_path / "work", "--dry-run", *options)

    return run


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--sampler", "euler"), 2, "dpm-solver++"),
        (("--steps", "1001"), 2, "between 1 and 1000"),
        (("--synth-only",), 65, "make the --preproc-only run first"),
        (("--synth-only", "--participant-label", "02"), 65, "no preprocessed files for sub-02"),
        (("--synth-only", "--participant-label", "77"), 2, "sub-77"),
        (("--engine", "fsl"), 69, "--engine fsl"),
        (("--device", "cuda:63"), 2, "cuda:63"),
        (("-w", "/dev/null/work"), 73, "/dev/null/work"),
    ],
)
def test_what_would_end_a_run_ends_a_dry_run(options, code, words, dry, monkeypatch):
    monkeypatch.setenv("FSLDIR", "/none")
    monkeypatch.setenv("PATH", "/none")
    result = dry(*options)
    assert result.code == code, result.text
    assert words in result.text and "Traceback" not in result.text


def test_a_participant_who_would_fail_is_said_once(dry, simulated, tmp_path):
    raw = shutil.copytree(simulated, tmp_path / "raw")
    broken = raw / "sub-03" / "anat" / "sub-03_T1w.nii.gz"
    broken.write_bytes(b"no image")
    result = dry(bids=raw)
    assert result.code == 1
    assert result.text.count(str(broken)) == 1, result.text


def test_of_the_prepared_and_the_others_each_is_said(dry, simulated, tmp_path):
    """Files that look prepared are enough for a plan; who has none would fail."""
    from colapipe.bids.dataset import write_dataset_description

    out = tmp_path / "out"
    (out / "sub-02" / "anat").mkdir(parents=True)
    write_dataset_description(out, simulated, "builtin", "1")
    result = dry("--synth-only", "--participant-label", "02", "03", out=out)
    assert result.code == 1, result.text
    assert result.text.count("no preprocessed files for sub-03") == 1
    assert "no such label" not in result.text


def test_the_group_level_writes_nothing_in_a_dry_run(app, simulated, tmp_path):
    from colapipe.bids.dataset import write_dataset_description

    out = tmp_path / "out"
    write_dataset_description(out, simulated, "builtin", "1")
    before = sorted(path.name for path in out.iterdir())
    result = app(simulated, out, "group", "--dry-run")
    assert result.code == 0 and "group_quality.tsv" in result.text
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_light_dry_run_loads_no_torch(simulated, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys\nfrom colapipe.cli.app import main\n"
        f"main([{str(simulated)!r}, {str(tmp_path / 'out')!r}, 'participant', '--dry-run', "
        f"'-w', {str(tmp_path / 'work')!r}, '--sampler', 'ddim', '--steps', '5', "
        "'--engine', 'builtin'])\n"
        "print(*{'torch', 'nipype', 'pandas', 'SimpleITK'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
    assert CONTRASTS[0] in done.stdout
