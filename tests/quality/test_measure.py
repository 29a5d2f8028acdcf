"""What is measured on the files of a session, and what becomes of those that are broken."""

from __future__ import annotations

import numpy as np
import pytest

from colapipe.bids.outputs import read_session
from colapipe.quality.columns import COLUMNS
from colapipe.quality.measure import Measured, measure_grids

CALIBRATION = {"Calibrated": True, "Level": 0.9, "Factor": 2.0, "Floor": 10.0}


def measure(session) -> Measured:
    return measure_grids(read_session(None, session.anat))["T1w"]


def said(measured: Measured) -> list[str]:
    return [message for messages in measured.warnings.values() for message in messages]


def row(session, contrast: str, synthetic: bool = False) -> dict[str, object]:
    rows = measure(session).rows
    [found] = [r for r in rows if (r["contrast"], r["synthetic"]) == (contrast, synthetic)]
    return found


def test_volumes_stand_on_the_row_of_the_contrast_they_were_computed_from(session) -> None:
    session.reference()
    session.moved("T2w", session.scan)
    session.write("label-brain_desc-fromT2w_mask", session.mask)
    t1w, t2w = measure(session).rows
    assert t1w["volume_brain"] == pytest.approx(session.mask.sum() * 0.125)
    for label, tissue in enumerate(("csf", "gm", "wm"), start=1):
        expected = (session.labels == label).sum() * 0.125
        assert t1w[f"volume_{tissue}"] == pytest.approx(expected)
        assert f"volume_{tissue}" not in t2w
    assert t2w["mask_dice"] == 1 and "mask_dice" not in t1w
    assert "volume_lesion" not in t1w


def test_masks_that_differ_overlap_less(session) -> None:
    session.reference()
    session.moved("T2w", session.scan)
    half = session.mask & (np.indices(session.mask.shape)[0] < 12)
    session.write("label-brain_desc-fromT2w_mask", half)
    assert row(session, "T2w")["mask_dice"] == pytest.approx(2 / 3, abs=0.01)


def test_a_cut_field_of_view_is_seen(session) -> None:
    session.reference()
    below = np.indices(session.mask.shape)[2] < 10
    session.moved("T2w", np.where(below, session.scan, 0))
    assert row(session, "T1w")["coverage"] == 1
    assert row(session, "T2w")["coverage"] == pytest.approx(0.5, abs=0.01)


def test_registration_is_judged_against_the_reference_only(session) -> None:
    session.reference()
    turned = [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    session.moved("T2w", 900 - session.scan)
    session.moved("FLAIR", session.scan[::-1], MovingToReference=turned)
    session.moved("PDw", session.scan, IdentityKept=True)
    rows = {r["contrast"]: r for r in measure(session).rows}
    assert not {"nmi", "shift", "turn", "identity_kept"} & set(rows["T1w"])
    assert rows["T2w"]["nmi"] > 1.8 > 1.5 > rows["FLAIR"]["nmi"]
    assert rows["FLAIR"]["turn"] == pytest.approx(90) and rows["FLAIR"]["shift"] > 0
    assert rows["PDw"]["identity_kept"] is True
    assert rows["PDw"]["shift"] == rows["PDw"]["turn"] == 0


def test_a_saturated_scan_is_clipped_at_its_bright_end(session) -> None:
    session.reference()
    session.moved("T2w", np.minimum(session.scan, np.percentile(session.scan[session.mask], 80)))
    assert row(session, "T1w")["clipped_high"] < 0.01
    assert row(session, "T2w")["clipped_high"] == pytest.approx(0.2, abs=0.01)


def test_a_synthetic_image_is_clipped_at_the_ends_of_its_scale(session) -> None:
    session.reference()
    dark = np.where(session.labels == 1, 0, 500) * session.mask
    session.synthetic("T2w", np.where(session.labels == 3, 1000, dark))
    found = row(session, "T2w", synthetic=True)
    shares = [(session.labels[session.mask] == label).mean() for label in (1, 3)]
    assert [found["clipped_low"], found["clipped_high"]] == pytest.approx(shares)


def test_uncertainty_is_averaged_where_something_was_synthesised(session) -> None:
    session.reference()
    lesion = session.mask & (np.indices(session.mask.shape)[0] > 17)
    session.write("label-lesion_mask", lesion)
    labels = np.where(lesion, 4, session.labels)
    session.write("desc-fromT1w_dseg", labels)
    std = np.where(lesion, 50, np.where(session.labels == 1, 30, 4)) * session.mask
    std[..., 10:] = 0
    session.synthetic("T2w", session.scan, std, CALIBRATION, ranges=[[0, 9]])
    found = row(session, "T2w", synthetic=True)
    assert found["slices"] == 10 and found["coverage"] == pytest.approx(0.5)
    assert [found[f"sd_{r}"] for r in ("csf", "gm", "wm", "lesion")] == [30, 4, 4, 50]
    assert found["interval_level"] == 0.9
    # Twice the standard deviation, or twice the floor.
    assert [found[f"interval_{r}"] for r in ("csf", "gm", "lesion")] == [60, 20, 100]
    assert row(session, "T1w")["volume_lesion"] == pytest.approx(lesion.sum() * 0.125)


def test_what_is_not_calibrated_has_no_interval(session) -> None:
    session.reference()
    reason = {"Calibrated": False, "Reason": "the model carries no calibration"}
    session.synthetic("T2w", session.scan, session.mask * 7.0, reason)
    found = row(session, "T2w", synthetic=True)
    assert found["sd_brain"] == 7
    assert not [name for name in found if name.startswith("interval")]


def test_every_number_has_a_column(session) -> None:
    session.reference()
    session.moved("T2w", session.scan)
    session.synthetic("T2w", session.scan, session.mask * 7.0, CALIBRATION, ranges=[[0, 19]])
    assert {name for found in measure(session).rows for name in found} <= set(COLUMNS)


def test_broken_files_cost_their_own_numbers_only(session) -> None:
    session.reference()
    session.moved("T2w", session.scan)
    session.moved("FLAIR", session.scan[1:])
    (session.anat / "sub-01_space-T1w_desc-preproc_T2w.nii.gz").write_bytes(b"broken")
    (session.anat / "sub-01_from-T2w_to-T1w_mode-image_xfm.json").write_text("{")
    (session.anat / "sub-01_space-T1w_desc-fromT1w_dseg.nii.gz").write_bytes(b"")
    measured = measure(session)
    t1w, t2w, flair = measured.rows
    assert "volume_brain" in t1w and "coverage" in t1w and "volume_gm" not in t1w
    assert t2w == {"contrast": "T2w", "synthetic": False}
    assert "nmi" not in flair and "shift" in flair
    words = "\n".join(said(measured))
    for name in ("desc-preproc_T2w.nii.gz", "xfm.json", "dseg.nii.gz", "not on the grid"):
        assert name in words
    assert len(said(measured)) == 4
    assert set(measured.warnings) == {(name, False) for name in ("T1w", "T2w", "FLAIR")}


def test_damage_within_a_compressed_file_is_said(session) -> None:
    session.reference()
    path = session.anat / "sub-01_space-T1w_desc-fromT1w_dseg.nii.gz"
    # The head of the gzip file, and then no block of compressed data.
    path.write_bytes(path.read_bytes()[:24] + b"\xff" * 2000)
    measured = measure(session)
    assert "coverage" in measured.rows[0] and "volume_gm" not in measured.rows[0]
    assert "dseg" in said(measured)[0]


def test_without_a_mask_the_support_of_the_reference_serves_and_is_said(session) -> None:
    session.write("desc-preproc_T1w", session.scan)
    session.moved("T2w", session.scan)
    measured = measure(session)
    assert measured.rows[1]["coverage"] == 1 and "volume_brain" not in measured.rows[0]
    assert "no brain mask" in said(measured)[0]


def test_a_synthetic_image_alone_is_measured(session) -> None:
    session.synthetic("T2w", session.scan, session.mask * 7.0)
    [found] = measure(session).rows
    assert found["sd_brain"] == 7 and "sd_csf" not in found


def test_an_empty_mask_measures_nothing_and_fails_nothing(session) -> None:
    session.reference()
    session.write("label-brain_desc-fromT1w_mask", session.mask * 0)
    session.synthetic("T2w", session.scan, session.mask * 7.0)
    t1w, t2w = measure(session).rows
    assert t1w["volume_brain"] == 0 and "coverage" not in t1w and "sd_brain" not in t2w
