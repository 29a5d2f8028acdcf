"""Figures as files: whole, named as BIDS names its files, and none is left from before."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colapipe.bids.names import parse_name
from colapipe.report.page import build_subject_report

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def figures(derivatives: Any, run: Run) -> Path:
    """The folder of figures of two sources, a synthesised contrast and its truth."""
    derivatives.scans("T1w", "FLAIR", "T2w")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], std=derivatives.mask * 20.0)
    derivatives.write("space-T1w_desc-fromT1w_dseg", derivatives.mask.astype(np.uint8) * 2)
    build_subject_report(derivatives.out_dir, "01", run())
    return derivatives.out_dir / "sub-01" / "figures"


def test_every_figure_of_the_page_is_a_file(figures: Path) -> None:
    names = sorted(path.name.removeprefix("sub-01_space-T1w_desc-") for path in figures.iterdir())
    assert names == [
        "area_T1w.svg",
        "intensities_FLAIR.svg",
        "intensities_T1w.svg",
        "intensities_T2w.svg",
        "mask_T1w.png",
        "registration_FLAIR.png",
        "registration_T2w.png",
        "synth_T2w.png",
        "synthintensities_T2w.svg",
        "synthuncertainty_T2w.svg",
        "tissue_T1w.png",
    ]
    for path in figures.iterdir():
        assert parse_name(path).get("space") == "T1w"
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        else:
            Image.open(path).load()


def test_the_rows_of_a_synthesis_stand_below_each_other(figures: Path) -> None:
    picture = Image.open(figures / "sub-01_space-T1w_desc-synth_T2w.png")
    rows = np.asarray(picture.convert("L"))
    # Sources, synthetic, real, error, uncertainty: each label starts a row at its left.
    assert picture.width < picture.height * 1.6
    labels = rows[:, 8:90].max(axis=1) > 200
    starts = np.flatnonzero(labels[1:] & ~labels[:-1])
    assert len(starts) >= 6


def test_edges_lie_over_the_moved_scan(figures: Path) -> None:
    picture = np.asarray(
        Image.open(figures / "sub-01_space-T1w_desc-registration_FLAIR.png").convert("RGB")
    ).astype(int)
    coloured = np.abs(picture[..., 0] - picture[..., 2]) > 100
    assert 0.001 < coloured.mean() < 0.2


def test_what_is_no_longer_drawn_is_deleted_and_other_files_stay(
    figures: Path, derivatives: Any, run: Run
) -> None:
    (figures / "notes.txt").write_text("mine")
    (figures / "sub-011_desc-x_T1w.png").write_text("of somebody else")
    own = {"sub-01_poster.png", "sub-01_space-T1w_desc-poster_T2w.png"}
    for name in own:
        (figures / name).write_text("mine")
    for path in derivatives.anat().glob("*_desc-synth*"):
        path.unlink()
    build_subject_report(derivatives.out_dir, "01", run())
    left = {path.name for path in figures.iterdir()}
    assert {"notes.txt", "sub-011_desc-x_T1w.png", *own} <= left
    assert not {name for name in left if "_desc-synth" in name}
    assert "sub-01_space-T1w_desc-scans_T1w.png" in left
    assert not {name for name in left if name.endswith(".tmp")}


def test_sessions_and_contrast_agents_are_in_the_names(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "T1ce", session="a")
    derivatives.synthesis("T1ce", ["T1w"], session="a")
    build_subject_report(derivatives.out_dir, "01", run())
    names = {path.name for path in (derivatives.out_dir / "sub-01" / "figures").iterdir()}
    assert "sub-01_ses-a_ce-gadolinium_space-T1w_desc-synth_T1w.png" in names
    assert "sub-01_ses-a_ce-gadolinium_space-T1w_desc-registration_T1w.png" in names


def test_a_participant_without_figures_gets_no_folder(tmp_path: Path, run: Run) -> None:
    build_subject_report(tmp_path, "07", run())
    assert not (tmp_path / "sub-07").exists()
