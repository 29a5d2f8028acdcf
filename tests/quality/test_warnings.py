"""Warnings reach the table, the sidecars of what they concern, and the end of a run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from colapipe.errors import ScanWarning
from colapipe.interfaces.quality import SaveQuality
from colapipe.quality.table import read_quality_table, write_session_quality
from colapipe.quality.warnings import (
    join_warnings,
    read_rows,
    read_warnings,
    split_warnings,
    warnings_before,
    warnings_of_run,
)


def cut(session: Any) -> Any:
    """The scan, with nothing in two thirds of the brain."""
    return np.where(np.indices(session.mask.shape)[2] < 8, session.scan, 0)


def measured(session: Any, *given: ScanWarning) -> dict[tuple[str, bool], list[str]]:
    [path] = write_session_quality(session.out_dir, "01", None, given=given)
    found: dict[tuple[str, bool], list[str]] = {}
    for contrast, synthetic, warning in read_warnings(read_rows(path)):
        found.setdefault((contrast, synthetic), []).append(warning)
    return found


def sidecar(session: Any, contrast: str, kind: str = "synth") -> dict[str, Any]:
    path = session.anat / f"sub-01_space-T1w_desc-{kind}_{contrast}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def usual(session: Any) -> None:
    """A brain of 1.5 litres whose contrasts are not alike."""
    session.mask = np.ones(session.mask.shape, dtype=bool)
    rng = np.random.default_rng(1)
    session.labels = rng.integers(1, 4, session.mask.shape)
    session.scan = 100.0 + 100 * session.labels + 5 * rng.random(session.mask.shape)
    session.reference()


def other(session: Any, seed: int = 2) -> Any:
    return 100 + 100 * np.random.default_rng(seed).random(session.mask.shape)


def test_warnings_stand_on_the_row_of_their_contrast(session) -> None:
    usual(session)
    session.moved("FLAIR", np.where(np.indices(session.mask.shape)[2] < 8, other(session), 0))
    found = measured(session)
    assert set(found) == {("FLAIR", False)}
    assert found["FLAIR", False][0].startswith("it covers 40 % of the brain")


def test_a_contrast_that_was_taken_out_has_a_row_and_the_session_the_reference_s(session) -> None:
    usual(session)
    found = measured(
        session,
        ScanWarning("T2w", "sub-01_T2w.nii.gz: it could not be registered; expected a brain."),
        ScanWarning("", "the dataset is odd"),
    )
    assert found == {
        ("T2w", False): ["sub-01_T2w.nii.gz: it could not be registered, expected a brain."],
        ("T1w", False): ["the dataset is odd"],
    }
    rows = read_quality_table(session.anat / "sub-01_space-T1w_desc-quality_qc.tsv")
    assert [row["contrast"] for row in rows] == ["T1w", "T2w"]
    assert set(rows[1]) == {"contrast", "synthetic", "warnings"}


def test_what_was_known_before_is_kept_when_the_table_is_written_again(session) -> None:
    usual(session)
    first = measured(session, ScanWarning("T2w", "taken out"))
    [path] = write_session_quality(session.out_dir, "01", None)
    assert read_warnings(read_rows(path)) == [("T2w", False, "taken out")] and first
    assert measured(session) == {}


def test_sidecars_hold_what_concerns_their_image_and_nothing_else(session) -> None:
    usual(session)
    half = np.where(np.indices(session.mask.shape)[2] < 8, other(session), 0)
    session.moved("FLAIR", half)
    session.moved("T2w", np.where(half > 0, other(session, 3), 0))
    # T2w is the truth of its own synthesis, made of T1w; PDw is made of T1w and FLAIR.
    session.synthetic("T2w", session.scan, session.mask * 7.0)
    session.synthetic("PDw", session.scan)
    path = session.anat / "sub-01_space-T1w_desc-synth_PDw.json"
    path.write_text(json.dumps({"Synthetic": True, "SynthesizedFrom": ["T1w", "FLAIR"]}))
    measured(session, ScanWarning("T1ce", "taken out; look"), ScanWarning("T1w", "odd header"))
    both = ["T1ce: taken out; look", "T1w: odd header"]
    assert sidecar(session, "T2w")["Warnings"] == both
    assert sidecar(session, "T2w", "synthstd")["Warnings"] == both
    [*first, last] = sidecar(session, "PDw")["Warnings"]
    assert first == both and last.startswith("FLAIR: it covers 40 %")
    measured(session)
    assert "Warnings" not in sidecar(session, "T2w")
    assert "Warnings" in sidecar(session, "PDw")


def test_sidecars_that_say_it_already_are_not_touched(session) -> None:
    usual(session)
    session.synthetic("T2w", session.scan)
    path = session.anat / "sub-01_space-T1w_desc-synth_T2w.json"
    measured(session, ScanWarning("T1w", "odd"))
    before = path.stat().st_mtime_ns
    measured(session, ScanWarning("T1w", "odd"))
    assert path.stat().st_mtime_ns == before


def test_a_red_light_is_a_warning_and_one_that_was_not_checked_is_said(session) -> None:
    usual(session)
    session.moved("T2w", other(session))
    session.moved("FLAIR", other(session, 3))
    session.synthetic("PDw", session.scan)
    (session.anat / "sub-01_space-T1w_desc-selfcheck_qc.tsv").write_text(
        "contrast\tlight\treasons\nT1w\tred\tmirrored; odd\nT2w\tn/a\tcould not be compared: x\n"
        "FLAIR\tamber\tunusual\n"
    )
    found = measured(session)
    assert found == {
        ("T1w", False): ["self-check red: mirrored, odd"],
        ("T2w", False): ["self-check not done: could not be compared: x"],
    }
    assert sidecar(session, "PDw")["Warnings"] == ["T1w: self-check red: mirrored; odd"]


@pytest.mark.parametrize("change", [lambda v: v, lambda v: 3 * v + 40, lambda v: np.round(v / 4)])
def test_one_scan_under_two_names_is_said_of_both(session, change) -> None:
    usual(session)
    session.moved("T1ce", change(session.scan))
    session.moved("FLAIR", other(session))
    found = measured(session)
    assert set(found) == {("T1w", False), ("T1ce", False)}
    assert "the same as the T1ce" in found["T1w", False][0]


def test_a_mask_of_many_values_and_what_its_maker_said_are_warnings(session) -> None:
    usual(session)
    session.write("label-brain_desc-fromT1w_mask", session.mask * 0.5 + 0.4 * (session.labels == 1))
    session.write_json("space-T1w_label-brain_desc-fromT1w_mask", {"Remarks": ["half was taken"]})
    found = measured(session)["T1w", False]
    assert found[0] == "half was taken" and "values from 0.5 to 0.9" in found[1]


def test_what_the_maker_of_a_lesion_mask_said_is_about_the_session(session) -> None:
    usual(session)
    session.write("label-lesion_mask", session.labels == 2, {"Remarks": ["label 2 was taken"]})
    assert measured(session) == {("T1w", False): ["label 2 was taken"]}


def test_a_synthetic_image_that_cannot_be_read_is_said_on_its_own_row(session) -> None:
    usual(session)
    session.synthetic("T2w", session.scan)
    (session.anat / "sub-01_space-T1w_desc-synth_T2w.nii.gz").write_bytes(b"broken")
    assert set(measured(session)) == {("T2w", True)}
    assert "desc-synth_T2w" in sidecar(session, "T2w")["Warnings"][0]


def test_nothing_of_an_empty_scan_reaches_the_terminal_as_a_numpy_warning(session) -> None:
    usual(session)
    session.moved("T2w", session.scan * 0)
    session.write("label-brain_desc-fromT2w_mask", session.mask * 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measured(session)
    words = " ".join(found["T2w", False])
    assert "covers 0 %" in words and "0.00 litres" in words and "(Dice)" in words


def test_cells_come_apart_as_they_were_put_together() -> None:
    cell = join_warnings(["a; b", "c\n d", "c d"])
    assert split_warnings(cell) == ["a, b", "c d"]
    assert split_warnings("n/a") == split_warnings("") == []


def test_the_node_takes_what_was_found_before(session) -> None:
    usual(session)
    node = SaveQuality(
        out_dir=str(session.out_dir),
        participant="01",
        reference="T1w",
        written=["a", "b"],
        warnings=[["T2w", "taken out"]],
    )
    node.run()
    path = session.anat / "sub-01_space-T1w_desc-quality_qc.tsv"
    assert read_warnings(read_rows(path)) == [("T2w", False, "taken out")]
    assert warnings_before(path) == [ScanWarning("T2w", "taken out")]
    assert warnings_before(Path("nowhere.tsv")) == []


def test_prepared_files_pass_on_what_was_found_of_scans_alone(session) -> None:
    usual(session)
    session.moved("T2w", other(session))
    session.synthetic("PDw", session.scan)
    (session.anat / "sub-01_space-T1w_desc-synth_PDw.nii.gz").write_bytes(b"broken")
    (session.anat / "sub-01_space-T1w_desc-selfcheck_qc.tsv").write_text(
        "contrast\tlight\treasons\nT1w\tred\tmirrored\nT2w\tn/a\tcould not be compared: x\n"
    )
    found = measured(session, ScanWarning("FLAIR", "taken out"))
    assert {("T1w", False), ("T2w", False), ("PDw", True)} < set(found)
    table = session.anat / "sub-01_space-T1w_desc-quality_qc.tsv"
    assert warnings_before(table) == [ScanWarning("FLAIR", "taken out")]


def test_the_end_of_a_run_names_everybody_s_warnings_once(session) -> None:
    usual(session)
    found = ScanWarning("T2w", "taken out; look")
    measured(session, found)
    plan = SimpleNamespace(
        participant="01",
        session=None,
        label="sub-01",
        spaces=[SimpleNamespace(reference="T1w"), SimpleNamespace(reference="FLAIR")],
        warnings=(found, ScanWarning("", "not in the table")),
    )
    lines = warnings_of_run(session.out_dir, [plan, plan])
    assert lines == ["sub-01: T2w: taken out, look", "sub-01: not in the table"]
    failed = warnings_of_run(session.out_dir, [plan], failed={"01"})
    assert failed == ["sub-01: T2w: taken out; look", "sub-01: not in the table"]
