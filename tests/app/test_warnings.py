"""A scan that is cut is a warning wherever a user looks, for as long as it is cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

FLAIR = "sub-02/anat/sub-02_FLAIR.nii.gz"
SYNTHETIC = "sub-02/anat/sub-02_space-T1w_desc-synth_T2w"
WORDS = "FLAIR: it covers"


@pytest.fixture(scope="module")
def case(app, simulated, quick, tmp_path_factory):
    """A run over a dataset in which a third of one FLAIR is empty: how to run, and the result."""
    root = tmp_path_factory.mktemp("warnings")
    raw = root / "raw"
    shutil.copytree(simulated, raw)
    image = nib.load(raw / FLAIR)
    data = np.asarray(image.dataobj).copy()
    data[:, :, : data.shape[2] // 2] = 0
    nib.save(nib.Nifti1Image(data, image.affine, image.header), raw / FLAIR)

    everything = (*quick, "--participant-label", "02", "01")

    def run(*more: Any, level: tuple[object, ...] = everything, out: Path = root / "out") -> Any:
        return app(raw, out, *level, *more, "-w", root / "work")

    return raw, root / "out", run, run()


def sidecar(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / f"{SYNTHETIC}.json").read_text(encoding="utf-8"))
    return found


def test_the_end_of_the_run_says_it_and_counts_it(case) -> None:
    _, out, _, result = case
    assert result.code == 0, result.text
    lines = result.text.splitlines()
    [said] = [line for line in lines if line.startswith(f"warning: sub-02: {WORDS}")]
    [summary] = [line for line in lines if "session(s) complete" in line]
    count = len(sidecar(out)["Warnings"])
    assert f", {count} warning(s)" in summary and lines.index(said) < lines.index(summary)
    [log] = [path for path in out.glob("logs/*/colapipe.log") if "slowest" in path.read_text()]
    assert f"WARNING: sub-02: {WORDS}" in log.read_text(encoding="utf-8")


def test_the_report_begins_with_it(case) -> None:
    _, out, _, _ = case
    page = (out / "sub-02.html").read_text(encoding="utf-8")
    assert WORDS in page.partition('id="summary"')[0]
    assert "No failure and no warning was recorded" not in page


def test_the_sidecar_keeps_it_when_only_the_report_is_made_anew(case, fingerprints) -> None:
    _, out, run, _ = case
    assert sidecar(out)["Warnings"][0].startswith(WORDS)
    before = fingerprints(out, "sub-*/**/anat/*")
    again = run("--show-head")
    assert again.code == 0, again.text
    assert f"warning: sub-02: {WORDS}" in again.text
    reports = run("--reports-only", level=("participant",))
    assert reports.code == 0, reports.text
    assert fingerprints(out, "sub-*/**/anat/*") == before


def test_a_sidecar_that_is_written_anew_gets_it_again(case) -> None:
    """The node that saves the image runs alone; the image and its neighbours are what they were."""
    _, out, run, _ = case
    (out / f"{SYNTHETIC}.nii.gz").unlink()
    again = run()
    assert again.code == 0, again.text
    assert sidecar(out)["Warnings"][0].startswith(WORDS)


def test_who_is_finished_is_warned_of_again(case) -> None:
    _, out, run, _ = case
    again = run()
    assert f"warning: sub-02: {WORDS}" in again.text
    count = len(sidecar(out)["Warnings"])
    assert f"Nothing to do. {count} warning(s)" in again.text


def test_the_group_looks_at_it_first(case) -> None:
    _, out, run, _ = case
    result = run(level=("group",))
    assert result.code == 0, result.text
    page = (out / "group.html").read_text(encoding="utf-8")
    assert "It covers" in page and "images with warnings" in page
    assert "it covers" in (out / "group_quality.tsv").read_text(encoding="utf-8")


def test_prepared_files_bring_their_warnings_along(case, quick) -> None:
    """A synthesis in another folder measures no scan, and knows what the preprocessing found."""
    _, out, run, _ = case
    other = out.parent / "other"
    level = (*quick, "--participant-label", "02", "--synth-only", "--derivatives", out)
    for _ in range(2):
        result = run(level=level, out=other)
        assert result.code == 0, result.text
        assert f"warning: sub-02: {WORDS}" in result.text
        assert sidecar(other)["Warnings"][0].startswith(WORDS)
    assert "Nothing to do" in result.text


def test_it_is_gone_with_a_scan_that_is_whole(case, simulated) -> None:
    raw, out, run, _ = case
    shutil.copy(simulated / FLAIR, raw / FLAIR)
    result = run()
    assert result.code == 0, result.text
    assert "0 warning(s)" in result.text and WORDS not in result.text
    assert "Warnings" not in sidecar(out)
    page = (out / "sub-02.html").read_text(encoding="utf-8")
    assert "No failure and no warning was recorded" in page
