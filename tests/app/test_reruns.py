"""Running again: what is kept, what is known beforehand, and what two runs do that meet."""

from __future__ import annotations

import re

import pytest

from colapipe.locks import lock


@pytest.fixture(scope="module")
def preprocessed(app, simulated, quick, tmp_path_factory):
    """A run over two participants up to the synthesis: options, output and work folder."""
    root = tmp_path_factory.mktemp("reruns")
    out, work = root / "out", root / "work"
    options = [*quick, "-w", work, "--participant-label", "02", "03"]
    result = app(simulated, out, *options, "--preproc-only")
    assert result.code == 0, result.text
    return options, out, work


def test_a_dry_run_knows_what_is_cached_without_touching_it(
    preprocessed, app, simulated, fingerprints
):
    options, out, work = preprocessed
    before = fingerprints(out, "**/*"), fingerprints(work, "**/*")
    finished = app(simulated, out, *options, "--preproc-only", "--dry-run")
    assert "sub-02: finished, nothing would run" in finished.text
    more = app(simulated, out, *options, "--participant-label", "01", "02", "--dry-run")
    assert "sub-01: nothing to do" in more.text
    assert "nodes are cached" in more.text and "sub-02: 0 of" not in more.text
    fresh = app(simulated, out, *options, "-w", work.parent / "other", "--dry-run")
    assert "sub-03: nothing is cached, everything would run" in fresh.text
    assert (fingerprints(out, "**/*"), fingerprints(work, "**/*")) == before


def test_another_seed_runs_the_synthesis_anew_and_nothing_before_it(preprocessed, app, simulated):
    options, out, _ = preprocessed
    # A sampler with noise of its own, so that the seed matters.
    options = [*options, "--participant-label", "02", "--sampler", "ddpm", "--steps", "2"]
    first = app(simulated, out, *options)
    assert first.code == 0, first.text
    name = "sub-02_space-T1w_desc-synth_T2w.nii.gz"
    image = (out / "sub-02" / "anat" / name).read_bytes()
    second = app(simulated, out, *options, "--seed", 7)
    assert second.code == 0, second.text
    assert (out / "sub-02" / "anat" / name).read_bytes() != image
    # Synthesis, paste back, save, quality, report, and what gathers their files.
    assert 3 <= int(re.search(r"nodes are cached, (\d+) will run", second.text)[1]) <= 7


def test_a_participant_that_another_run_is_at_work_on_is_left_to_it(preprocessed, app, simulated):
    options, out, _ = preprocessed
    with lock(out / "logs" / "locks" / "sub-02.lock", "sub-02"):
        result = app(simulated, out, *options, "--preproc-only", "--seed", 3)
    assert result.code == 75
    assert "sub-02" in result.text and "another run of colapipe is at work on it" in result.text
    assert "1 session(s) complete" in result.text


def test_a_work_directory_can_be_emptied_after_success_and_before_a_run(
    preprocessed, app, simulated
):
    options, out, work = preprocessed
    last = [*options, "--participant-label", "03", "--preproc-only", "--seed", "5"]
    result = app(simulated, out, *last, "--clean-workdir", "before")
    assert result.code == 0 and "0 of " in result.text
    assert list(work.glob("*/*/colapipe/sub_03_*"))
    result = app(simulated, out, *last, "--seed", "6", "--clean-workdir", "success")
    assert result.code == 0, result.text
    assert not list(work.glob("*/*/colapipe/sub_03_*"))
    # The other participant's results are not this run's to delete.
    assert list(work.glob("*/*/colapipe/sub_02_*"))
    again = app(simulated, out, *last, "--seed", "6")
    assert again.code == 0 and "Nothing to do" in again.text
