"""Running again: what is kept, what is known beforehand, and what two runs do that meet."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from colapipe.run.locks import lock


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
    # Synthesis, paste back, save, quality, report, and what gathers what they wrote.
    assert 3 <= int(re.search(r"nodes are cached, (\d+) will run", second.text)[1]) <= 8


def test_a_participant_that_another_run_is_at_work_on_is_left_to_it(preprocessed, app, simulated):
    options, out, _ = preprocessed
    with lock(out / "logs" / "locks" / "sub-02.lock", "sub-02"):
        result = app(simulated, out, *options, "--preproc-only", "--show-head")
    assert result.code == 75
    assert "sub-02" in result.text and "another run of colapipe is at work on it" in result.text
    assert "1 session(s) complete" in result.text


def test_a_work_directory_can_be_emptied_after_success_and_before_a_run(
    preprocessed, app, simulated
):
    options, out, work = preprocessed
    last = [*options, "--participant-label", "03", "--preproc-only", "--viewer"]
    result = app(simulated, out, *last, "--clean-workdir", "before")
    assert result.code == 0 and "0 of " in result.text
    assert list(work.glob("*/*/colapipe/sub_03_*"))
    shutil.rmtree(out / "logs" / "finished")
    result = app(simulated, out, *last, "--clean-workdir", "success")
    assert result.code == 0, result.text
    assert not list(work.glob("*/*/colapipe/sub_03_*"))
    # The other participant's results are not this run's to delete.
    assert list(work.glob("*/*/colapipe/sub_02_*"))
    again = app(simulated, out, *last)
    assert again.code == 0 and "Nothing to do" in again.text


def names_in(folder: Path, name: str) -> set[str]:
    """Return the ends of the names of the files in a folder."""
    return {path.name.removeprefix(f"{name}_") for path in folder.glob(f"{name}_*")}


def group_rows(app, raw: Path, out: Path) -> Sequence[dict[str, str]]:
    result = app(raw, out, "group")
    assert result.code == 0, result.text
    with (out / "group_quality.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_an_output_folder_holds_what_the_last_request_makes(app, simulated, quick, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(simulated, raw)
    scans, anat = raw / "sub-03" / "anat", out / "sub-03" / "anat"
    flair = scans / "sub-03_FLAIR.nii.gz"
    assert not flair.exists()
    arguments = (raw, out, *quick, "-w", tmp_path / "work", "--participant-label", "03")

    # More is made than the next request asks for.
    options = ("--target", "FLAIR", "PDw", "--samples", 2, "--self-check", "on", "--viewer")
    result = app(*arguments, *options)
    assert result.code == 0, result.text
    assert {"desc-synthstd_FLAIR.nii.gz", "desc-synth_PDw.nii.gz"} < names_in(
        anat, "sub-03_space-T1w"
    )
    own = out / "sub-03" / "figures" / "sub-03_mine.png"
    own.write_bytes(b"mine")
    (anat / "sub-03_mine.txt").write_text("mine")

    result = app(*arguments)
    assert result.code == 0, result.text
    told = next(line for line in result.text.splitlines() if line.startswith("sub-03: removed"))
    for words in (
        "the synthetic PDw",
        "the spread of samples of the synthetic FLAIR",
        "self-check",
    ):
        assert words in told
    made = names_in(anat, "sub-03_space-T1w")
    assert "desc-synth_FLAIR.nii.gz" in made
    assert not [name for name in made if "PDw" in name or "std" in name or "selfcheck" in name]
    assert not list((out / "sub-03" / "figures").glob("*PDw*")) and own.exists()
    assert not (out / "sub-03_3d.html").exists()
    page = (out / "sub-03.html").read_text(encoding="utf-8")
    assert "SYNTHETIC FLAIR" in page and "SYNTHETIC PDw" not in page and "2 samples" not in page
    rows = group_rows(app, raw, out)
    assert [row["contrast"] for row in rows if row["synthetic"] == "true"] == ["FLAIR"]
    assert {row["sd_brain"] for row in rows} == {"n/a"}

    # A scan is withdrawn: the other takes its place as the reference.
    t1w = next(scans.glob("sub-03_T1w.nii.gz"))
    t1w.rename(tmp_path / "T1w.nii.gz")
    result = app(*arguments, "--target", "FLAIR")
    assert result.code == 0, result.text
    assert "the synthetic FLAIR on the T1w" in result.text
    assert not [p for p in anat.iterdir() if "space-T1w" in p.name or "_to-T1w" in p.name]
    assert not list((out / "sub-03" / "figures").glob("*space-T1w*"))
    assert {row["reference"] for row in group_rows(app, raw, out)} == {"T2w"}

    # What was synthesised is found, and nothing is missing any more.
    (tmp_path / "T1w.nii.gz").rename(t1w)
    shutil.copy(scans / "sub-03_T2w.nii.gz", flair)
    before = sorted(path.name for path in anat.iterdir())
    beforehand = app(*arguments, "--dry-run")
    assert "there is a real FLAIR" in beforehand.text
    assert sorted(path.name for path in anat.iterdir()) == before
    result = app(*arguments)
    assert result.code == 0 and "there is a real FLAIR" in result.text, result.text
    assert not [path for path in anat.iterdir() if "synth" in path.name]
    page = (out / "sub-03.html").read_text(encoding="utf-8")
    assert "SYNTHETIC FLAIR" not in page and "sub-03_FLAIR.nii.gz" in page
    rows = group_rows(app, raw, out)
    assert rows and all(row["synthetic"] == "false" for row in rows)
    assert (anat / "sub-03_mine.txt").read_text() == "mine" and own.exists()
    assert "Nothing to do" in app(*arguments).text


def test_what_an_earlier_run_left_of_somebody_who_failed_is_not_shown_as_current(
    app, simulated, quick, tmp_path
):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(simulated, raw, ignore=shutil.ignore_patterns("sub-01"))
    arguments = (raw, out, *quick, "-w", tmp_path / "work", "--target", "PDw")
    assert app(*arguments, "--participant-label", "02").code == 0
    broken = raw / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    result = app(*arguments, "--steps", 2, "--export", tmp_path / "export")
    assert result.code == 1, result.text
    image = "sub-02_space-T1w_desc-synth_PDw.nii.gz"
    assert (out / "sub-02" / "anat" / image).is_file()
    assert f"{image} is of an earlier run" in (out / "sub-02.html").read_text(encoding="utf-8")
    rows = group_rows(app, raw, out)
    (failed,) = (row for row in rows if row["participant_id"] == "sub-02")
    assert "earlier run" in failed["failure"] and failed["synthetic"] == "n/a"
    manifest = (tmp_path / "export" / "manifest.tsv").read_text(encoding="utf-8")
    assert "not exported: the run failed" in manifest and image not in manifest
    # The scan is whole again, and so is everything else.
    broken.write_bytes(content)
    assert app(*arguments).code == 0
    assert "is of an earlier run" not in (out / "sub-02.html").read_text(encoding="utf-8")


def test_another_work_directory_or_somebodys_edit_does_not_pass_for_the_last_request(
    preprocessed, app, simulated
):
    options, out, work = preprocessed
    options = [*options, "--participant-label", "02", "--sampler", "ddpm", "--steps", "2"]
    image = out / "sub-02" / "anat" / "sub-02_space-T1w_desc-synth_T2w.nii.gz"
    assert app(simulated, out, *options, "--seed", 1).code == 0
    first = image.read_bytes()
    assert app(simulated, out, *options, "--seed", 2, "-w", work.parent / "other").code == 0
    assert image.read_bytes() != first
    assert app(simulated, out, *options, "--seed", 1).code == 0
    assert image.read_bytes() == first
    image.write_bytes(b"edited")
    assert app(simulated, out, *options, "--seed", 1).code == 0
    assert image.read_bytes() == first
    # A preprocessing of the same scans leaves it alone.
    assert app(simulated, out, *options, "--preproc-only", "--show-head").code == 0
    assert image.read_bytes() == first


def test_participants_whom_the_dataset_has_no_more_are_named(
    preprocessed, app, simulated, tmp_path
):
    _, out, _ = preprocessed
    gone = tmp_path / "out"
    shutil.copytree(out, gone)
    (gone / "sub-09").mkdir()
    result = app(
        simulated,
        gone,
        "participant",
        "-w",
        tmp_path / "work",
        "--skip-bids-validation",
        "--preproc-only",
        "--source",
        "PDw",
    )
    assert "sub-09 cannot be found" in result.text and "sub-02 cannot" not in result.text
    assert "sub-09: no run has left a record of it" in app(simulated, gone, "group").text
