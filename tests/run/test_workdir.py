"""Temporary files have a place even where the system offers none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from colapipe.config import Settings
from colapipe.run.workdir import provide_temporary_folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a run of which no folder exists yet."""
    return Settings(tmp_path / "bids", tmp_path / "out", work_dir=tmp_path / "work")


def test_work_directory_takes_temporary_files_where_nothing_else_can(settings, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)
    # /tmp and the like, which this machine has.
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [os.environ["TMPDIR"]])
    with pytest.raises(FileNotFoundError):
        tempfile.gettempdir()

    provide_temporary_folder(settings)

    assert Path(tempfile.gettempdir()) == settings.work_dir / "tmp"


def test_usual_folder_is_kept_where_there_is_one(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    provide_temporary_folder(settings)

    assert os.environ["TMPDIR"] == str(tmp_path)
    assert not settings.work_dir.exists()
