"""The table of quality numbers: BIDS names, described columns, and the way there and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colapipe.quality.columns import COLUMNS
from colapipe.quality.table import read_quality_table, write_quality, write_session_quality


def test_a_table_is_written_for_each_reference_grid(session) -> None:
    session.reference()
    session.synthetic("T2w", session.scan)
    [path] = write_session_quality(session.out_dir, "01", None)
    assert path == session.anat / "sub-01_space-T1w_desc-quality_qc.tsv"
    rows = read_quality_table(path)
    found = [(row["contrast"], row["synthetic"]) for row in rows]
    assert found == [("T1w", False), ("T2w", True)]
    assert not [entry for entry in session.anat.iterdir() if entry.name.startswith(".")]


def test_every_column_is_described(session) -> None:
    session.reference()
    [path] = write_session_quality(session.out_dir, "01", None)
    header = path.read_text(encoding="utf-8").splitlines()[0].split("\t")
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert header == list(COLUMNS)
    assert all(described[name]["LongName"] and described[name]["Description"] for name in header)
    assert described["shift"]["Units"] == "mm" and described["volume_gm"]["Units"] == "mL"
    assert described["Warnings"] == []


def test_files_that_cannot_be_read_are_said_beside_the_table(session) -> None:
    session.reference()
    (session.anat / "sub-01_space-T1w_desc-fromT1w_dseg.nii.gz").write_bytes(b"")
    [path] = write_session_quality(session.out_dir, "01", None)
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert "dseg" in described["Warnings"][0]


def test_nothing_is_written_where_there_is_nothing_to_measure(tmp_path: Path) -> None:
    assert write_session_quality(tmp_path, "01", None) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [
        {"contrast": "T1w", "synthetic": False, "coverage": 1.0, "volume_gm": 612.5},
        {"contrast": "T2w", "synthetic": True, "slices": 80, "sd_brain": 12.5},
        {"contrast": "FLAIR", "synthetic": False, "identity_kept": True, "nmi": 1.125},
    ]
    write_quality(tmp_path / "a_qc.tsv", rows, [])
    assert read_quality_table(tmp_path / "a_qc.tsv") == rows


@pytest.mark.parametrize("text", ["", "contrast\tnmi\nT1w\thigh\n", "contrast\tsynthetic\nT1w\tno"])
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a_qc.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"empty|not what is expected"):
        read_quality_table(path)


def test_a_number_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="beauty"):
        write_quality(tmp_path / "a_qc.tsv", [{"contrast": "T1w", "beauty": 1.0}], [])
