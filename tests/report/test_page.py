"""The page shows what was made, says what it is, and stays text whatever the dataset holds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from colapipe.bids.outputs import read_session
from colapipe.errors import OutputError
from colapipe.report.page import build_subject_report, sheet_bytes
from colapipe.slices.intensity import normalise

Run = Callable[..., dict[str, Any]]
SESSION = {
    "session": None,
    "reference": "T1w",
    "contrasts": {"T1w": "sub-01/anat/sub-01_T1w.nii.gz", "FLAIR": "sub-01/anat/sub-01_FLAIR.nii"},
    "targets": ["T2w"],
    "notes": ["T1w: run-2 was chosen of 2 runs", "PDw: only made when it is named"],
}


class Page(HTMLParser):
    """What a reader of the page gets: text, pictures, links, and the names of all elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.images: list[dict[str, str | None]] = []
        self.rows: list[dict[str, str | None]] = []
        self.scripts: list[str] = []
        self.links: list[str] = []
        self._words: list[str] = []
        self._hidden = 0
        self._in_rows = False
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        self._hidden += tag in ("style", "script")
        if tag == "div":
            self._in_rows = ("class", "rows") in attrs
        if tag == "img":
            self.images.append(dict(attrs))
            if self._in_rows:
                self.rows.append(dict(attrs))
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")
        self._in_rows &= tag != "div"
        # Cells and lines stand apart on the page, whatever the blanks in its source.
        if tag in ("td", "th", "li", "p"):
            self._words.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._words.append(data)
        elif self.elements[-1] == "script":
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._words).split())

    def alts(self) -> list[str]:
        """Descriptions of the rows of slices."""
        return [str(image["alt"]) for image in self.rows]

    def picture(self, alt: str) -> np.ndarray:
        """The one row of slices whose description starts with ``alt``, as RGB."""
        (row,) = (row for row in self.rows if str(row["alt"]).startswith(alt))
        return decode(row)


def decode(image: dict[str, str | None]) -> np.ndarray:
    """An image of the page as RGB."""
    mime, data = str(image["src"]).split(";base64,")
    assert mime in ("data:image/png", "data:image/webp")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_page_shows_sources_then_the_synthetic_image_then_its_maps(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w", "FLAIR", "T2w")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], std=derivatives.mask * 20.0)
    derivatives.write("space-T1w_desc-fromT1w_dseg", derivatives.mask.astype(np.uint8) * 2)
    path = build_subject_report(derivatives.out_dir, "sub-01", run(SESSION))
    assert path == derivatives.out_dir / "sub-01.html"
    page = Page(path)
    starts = [alt.split(":")[0].split(",")[0] for alt in page.alts()]
    assert starts == [
        "T1w",
        "FLAIR",
        "SYNTHETIC T2w",
        "T2w",
        "Error map",
        "Uncertainty map",
    ]
    alts = [str(image["alt"]) for image in page.images]
    contours = ("Contour of the brain mask of T1w on T1w", "Borders of the tissue classes of T1w")
    assert all(any(alt.startswith(start) for alt in alts) for start in contours)
    assert "SYNTHETIC images: T2w." in page.text
    assert "T2w absent" not in page.text
    assert "the real scan was kept out of it" in page.text
    assert "run-2 was chosen of 2 runs" in page.text
    assert "ab" * 32 in page.text
    assert "neurological convention" in page.text
    # The legend names the tissues that are drawn.
    assert "grey matter" in page.text
    assert "white matter" not in page.text


def test_a_page_needs_no_other_file_and_no_network_and_runs_only_its_own_script(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert not {"iframe", "object", "embed"} & set(page.elements)
    assert page.elements.count("script") == 1
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.html
    assert "default-src 'none'" in page.html
    assert "url(" not in page.html
    assert "@import" not in page.html
    for image in page.images:
        assert decode(image).shape == (int(str(image["height"])), int(str(image["width"])), 3)
    assert all(link.startswith(("#", "sub-01/")) for link in page.links)
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= anchors
    missing = [link for link in page.links if link[0] != "#"]
    assert missing
    assert all((derivatives.out_dir / link).is_file() for link in missing)
    assert [entry.name for entry in derivatives.out_dir.glob(".*")] == []


def test_only_a_synthetic_t1ce_brings_the_words_on_enhancement(derivatives: Any, run: Run) -> None:
    words = "Enhancement in a synthetic T1ce is not evidence of enhancement."
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    assert words not in Page(build_subject_report(derivatives.out_dir, "01", run(SESSION))).text
    derivatives.synthesis("T1ce", ["T1w", "FLAIR"])
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert words in page.text
    assert "SYNTHETIC images: T2w, T1ce." in page.text
    assert any(alt.startswith("SYNTHETIC T1ce") for alt in page.alts())


def test_failures_and_warnings_come_before_everything_else(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "FLAIR")
    failure = {"node": "wf.synth", "message": "out of memory", "crash_file": "logs/crash.txt"}
    described = run(SESSION, failures=[failure], warnings=["FLAIR is cut"])
    page = Page(build_subject_report(derivatives.out_dir, "01", described))
    order = [
        page.text.index(words)
        for words in ("Failed: wf.synth", "out of memory", "logs/crash.txt", "FLAIR is cut")
    ]
    assert order == sorted(order)
    assert order[-1] < page.text.index("What was there, and what was made")
    assert "T2w was to be synthesised, but no synthesised T2w was found." in page.text
    assert "asked for, but not made" in page.text
    assert "No synthetic image was found" in page.text


def test_an_error_is_named_by_its_last_line_and_told_whole_further_down(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w")
    message = "Traceback\n  File x\n\nMemoryError: 3 GB were not enough\n"
    described = run(failures=[{"node": "wf.synth", "message": message}])
    text = Page(build_subject_report(derivatives.out_dir, "01", described)).text
    summary, errors = text.split("Errors Traceback")[0], text.split("wf.synth")[-1]
    assert "MemoryError: 3 GB were not enough" in summary
    assert "File x" not in summary.split("What was there")[0]
    assert "Traceback File x MemoryError" in errors


def test_what_a_model_says_of_its_training_data_is_a_warning_where_it_is_damaged(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w")
    share = [1 / 64] * 64
    known = {"participants": 22, "limit": 0.2, "low": share, "mean": share, "high": share}
    quality = {"format_version": 1, "histograms": {"T1w": known}}
    text = Page(build_subject_report(derivatives.out_dir, "01", run(quality=quality))).text
    assert "training (n = 22)" in text
    damaged = {"format_version": 1, "histograms": {"T1w": {}}}
    text = Page(build_subject_report(derivatives.out_dir, "01", run(quality=damaged))).text
    assert "the model's 'quality.histograms.T1w': 'low' must be a list" in text
    assert "training (n = 22)" not in text


def test_a_participant_without_any_output_still_gets_a_page(tmp_path: Path, run: Run) -> None:
    page = Page(build_subject_report(tmp_path, "07", run(failures=[{"message": "no scan"}])))
    assert "no scan" in page.text
    assert "no derivative was found" in page.text
    empty = Page(build_subject_report(tmp_path, "08", {}))
    assert "not recorded" in empty.text


def test_names_and_json_from_a_hostile_dataset_are_only_text(
    derivatives: Any, run: Run, hostile: str
) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    anat = derivatives.anat()
    sidecar = anat / "sub-01_space-T1w_desc-synth_T2w.json"
    sidecar.write_text(json.dumps({hostile: hostile, "SynthesisModel": {hostile: [hostile]}}))
    derivatives.write_text("space-T1w_desc-synth_qc.tsv", f"{hostile}\n{hostile}\n")
    derivatives.write_text("from-FLAIR_to-T1w_mode-image_xfm.json", '{"Engine": {"Name": "<b>"}}')
    (anat / "sub-01_<img src=x onerror=alert(3)>_\u202e\"'.txt").write_text("x")
    Path(os.fsdecode(os.fsencode(anat) + b"/javascript:\xff\xfe.txt")).write_text("x")
    session = {
        "session": None,
        "reference": hostile,
        "contrasts": {"T1w": hostile, hostile: hostile},
        "targets": [hostile],
        "notes": [hostile, {"a": hostile}],
    }
    described = run(
        session,
        version=hostile,
        command=hostile,
        started=hostile,
        engine=hostile,
        engine_version=hostile,
        model={"name": hostile, "sha256": hostile, hostile: [hostile]},
        settings={hostile: {hostile: hostile}},
        failures=[{"node": hostile, "message": hostile, "crash_file": "javascript:alert(1)"}],
        warnings=[hostile],
    )
    page = Page(build_subject_report(derivatives.out_dir, "01", described))
    assert page.elements.count("script") == 1
    assert "alert" not in page.scripts[0]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [link for link in page.links if not link.startswith(("#", "sub-01/"))]
    # What reorders text is shown as its code; letters that are simply written right to left stay.
    assert "\u202e" not in page.html
    assert hostile.replace("\u202e", "\\u202e") in page.text
    assert "{{ 7*7 }}" in page.text
    assert "javascript:\\udcff\\udcfe.txt" in page.text


@pytest.mark.parametrize("participant", ["", "../01", "a/b"])
def test_a_participant_label_is_not_a_path(tmp_path: Path, run: Run, participant: str) -> None:
    with pytest.raises(ValueError, match="not a participant label"):
        build_subject_report(tmp_path, participant, run())


def test_each_session_has_a_section_and_one_from_an_earlier_run_is_named(
    derivatives: Any, run: Run
) -> None:
    for session in ("a", "b"):
        derivatives.scans("T1w", "FLAIR", session=session)
        derivatives.synthesis("T2w", ["T1w", "FLAIR"], session=session)
    described = run({**SESSION, "session": "a"})
    page = Page(build_subject_report(derivatives.out_dir, "01", described))
    assert page.elements.count("section") == 2 + 4
    assert "Session b: these files come from an earlier run" in page.text
    assert "Session a: these files" not in page.text
    assert sum(alt.startswith("SYNTHETIC T2w") for alt in page.alts()) == 2


def test_other_weights_than_those_of_the_run_are_a_warning(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], sha256="cd" * 32)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert "1 warning" in page.text
    assert "was made with other weights" in page.text


@pytest.mark.parametrize("broken", ["truncated", "other grid", "not finite"])
def test_a_file_that_cannot_be_drawn_is_named_and_the_others_are_drawn(
    derivatives: Any, run: Run, broken: str
) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"])
    flair = derivatives.anat() / "sub-01_space-T1w_desc-preproc_FLAIR.nii.gz"
    if broken == "truncated":
        flair.write_bytes(flair.read_bytes()[:400])
    elif broken == "other grid":
        nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)), flair)
    else:
        derivatives.write("space-T1w_desc-preproc_FLAIR", derivatives.scan * np.nan)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert f"{flair.name} cannot be drawn" in page.text
    starts = [alt.split(",")[0] for alt in page.alts()]
    assert starts[:2] == ["T1w", "SYNTHETIC T2w"]


def test_the_error_of_a_perfect_synthesis_is_black(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "T2w")
    perfect = 1000 * normalise(derivatives.scan, derivatives.mask)[0]
    derivatives.synthesis("T2w", ["T1w"], image=perfect)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert "mean 0.000" in page.text
    tiles = page.picture("Error map")[18:, 116:-78]
    # Dark blue-black is zero; the contour and the letters are grey.
    colours = {tuple(colour) for colour in tiles.reshape(-1, 3).tolist()}
    assert {colour for colour in colours if len(set(colour)) > 1} == {(0, 0, 4)}


def test_a_dark_synthesis_is_dark_and_its_error_is_that_of_its_score(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w", "T2w")
    truth, inside = normalise(derivatives.scan, derivatives.mask)[0], derivatives.mask
    derivatives.synthesis("T2w", ["T1w"], image=500 * truth)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert f"mean {truth[inside].mean() / 2:.3f}," in page.text
    assert f"SYNTHETIC T2w in the brain: mean {truth[inside].mean() / 2:.2f}" in page.html


def test_error_and_uncertainty_are_in_the_same_units_on_one_scale(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w", "T2w")
    made = 1000 * normalise(derivatives.scan, derivatives.mask)[0]
    derivatives.synthesis("T2w", ["T1w"], image=made, std=derivatives.mask * 120)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert re.search(r"Uncertainty in the brain[^.]*: mean 0\.120", page.text)
    assert "on this whole page: 0 to 0.15 of the intensity range" in page.text
    error, uncertainty = page.picture("Error map"), page.picture("Uncertainty map")
    np.testing.assert_array_equal(error[:, -78:], uncertainty[:, -78:])


@pytest.mark.parametrize(
    ("calibration", "caption", "text"),
    [
        (
            {"Calibrated": True, "Level": 0.9, "Factor": 2.5, "Floor": 20.0},
            "90 % interval: the synthesised image ± 2.5 times the larger of this standard "
            "deviation and 20, in the image's units.",
            "that of T2w was turned into 90 % intervals",
        ),
        (
            {
                "Calibrated": False,
                "Reason": "the model carries no <b>calibration",
                "Level": 0.9,
                "Factor": 2.5,
                "Floor": 20.0,
            },
            "This standard deviation is not calibrated: the model carries no <b>calibration.",
            "that of T2w is not calibrated",
        ),
        # What is damaged, or of an earlier version, promises nothing.
        (
            {"Calibrated": True, "Level": 0.9, "Factor": "2", "Floor": 20.0},
            "This standard deviation is not calibrated.",
            "that of T2w is not calibrated",
        ),
        (None, "This standard deviation is not calibrated.", "that of T2w is not calibrated"),
    ],
)
def test_the_caption_and_the_methods_say_what_an_uncertainty_is_worth(
    derivatives: Any, run: Run, calibration: Any, caption: str, text: str
) -> None:
    derivatives.scans("T1w")
    std = derivatives.mask * 20.0
    derivatives.synthesis("T2w", ["T1w"], std=std, calibration=calibration)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert caption in page.text
    assert text in page.text


def test_a_mask_of_the_target_is_not_used_to_show_its_synthesis(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "T2w")
    derivatives.synthesis("T2w", ["T1w"])
    # Without it the support of the T1w is what is left.
    (derivatives.anat() / "sub-01_space-T1w_label-brain_desc-fromT1w_mask.nii.gz").unlink()
    before = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    tiny = np.zeros_like(derivatives.mask, dtype=np.uint8)
    tiny[12:14, 14:16, 9:11] = 1
    derivatives.write("space-T1w_label-brain_desc-fromT2w_mask", tiny)
    after = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    np.testing.assert_array_equal(before.picture("SYNTHETIC"), after.picture("SYNTHETIC"))
    np.testing.assert_array_equal(before.picture("Error"), after.picture("Error"))


@pytest.mark.parametrize("show_head", [False, True])
def test_what_lies_outside_the_brain_is_drawn_only_on_request(
    derivatives: Any, run: Run, show_head: bool
) -> None:
    derivatives.scans("T1w")
    skull = derivatives.scan.copy()
    skull[1:3, 13:17, 8:12] = 300
    derivatives.write("space-T1w_desc-preproc_T1w", skull.astype(np.float32))
    path = build_subject_report(derivatives.out_dir, "01", run(), show_head=show_head)
    # The letters are in the corners; the skull is halfway up, at the left edge of its tile.
    picture = Page(path).picture("T1w, preprocessed")
    middle = picture[60:120, 116 + 3 * 150 : 116 + 3 * 150 + 9]
    assert bool(middle.max() > 200) is show_head


def test_an_image_with_a_skull_and_no_mask_is_not_drawn(derivatives: Any, run: Run) -> None:
    derivatives.write(
        "space-T1w_desc-preproc_T1w", derivatives.scan.astype(np.float32), {"SkullStripped": False}
    )
    page = Page(build_subject_report(derivatives.out_dir, "01", run()))
    assert page.images == []
    assert "only brain-extracted images are shown" in page.text


def test_slices_that_were_not_synthesised_are_counted(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w")
    made = derivatives.scan.copy()
    made[:, :, :9] = 0
    derivatives.synthesis("T2w", ["T1w"], image=made)
    page = Page(build_subject_report(derivatives.out_dir, "01", run(SESSION)))
    assert re.search(r"[34] of the 7 slices drawn here were not synthesised", page.text)


def test_registrations_say_what_was_moved_and_how_far(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w")
    turned = np.eye(4)
    cos, sin = np.cos(np.radians(3)), np.sin(np.radians(3))
    turned[:2, :2] = [[cos, -sin], [sin, cos]]
    turned[2, 3] = 4.0
    centred = np.diag([2.0, 2.0, 2.0, 1.0])
    centred[:3, 3] = -9
    grid = {"Shape": [10, 10, 10], "Affine": centred.tolist()}
    moved = {"MovingGrid": grid, "MovingToReference": turned.tolist(), "IdentityKept": False}
    derivatives.write_text("from-T2w_to-T1w_mode-image_xfm.json", json.dumps(moved))
    derivatives.write_text("from-FLAIR_to-T1w_mode-image_xfm.json", '{"IdentityKept": true}')
    derivatives.write_text("from-PDw_to-T1w_mode-image_xfm.json", '{"MovingToReference": "x"}')
    text = Page(build_subject_report(derivatives.out_dir, "01", run())).text
    assert "T2w T1w moved by a rigid transform: 4.0 mm at the middle of the scan" in text
    assert "turned by 3.0 degrees" in text
    assert "FLAIR T1w aligned already: the identity was kept" in text
    assert "whose matrix is not in the sidecar" in text


def test_scores_are_shown_as_they_were_written_with_their_meaning(
    derivatives: Any, run: Run
) -> None:
    derivatives.scans("T1w")
    derivatives.write_text("space-T1w_desc-synth_qc.tsv", "target\tpsnr\nT2w\t23.45\n")
    meaning = {"psnr": {"Description": "peak signal-to-noise ratio in dB"}, "Sources": ["bids::x"]}
    derivatives.write_text("space-T1w_desc-synth_qc.json", json.dumps(meaning))
    text = Page(build_subject_report(derivatives.out_dir, "01", run())).text
    assert "target psnr T2w 23.45" in text
    assert "psnr peak signal-to-noise ratio in dB" in text


def test_two_files_for_one_place_are_a_warning(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w")
    derivatives.write("acq-b_space-T1w_desc-preproc_T1w", derivatives.scan.astype(np.float32))
    text = Page(build_subject_report(derivatives.out_dir, "01", run())).text
    assert "sub-01_acq-b_space-T1w_desc-preproc_T1w.nii.gz is not drawn: another file" in text


def test_many_rows_are_drawn_smaller_to_keep_the_page_small(derivatives: Any, run: Run) -> None:
    everything = ("T1w", "T2w", "FLAIR", "T1ce")
    for session in ("a", "b", "c"):
        derivatives.scans(*everything, session=session)
        for target in everything[1:]:
            others = [c for c in everything if c != target]
            derivatives.synthesis(target, others, std=derivatives.mask * 9.0, session=session)
    page = Page(build_subject_report(derivatives.out_dir, "01", run()))
    assert len(page.rows) == 3 * 3 * 7
    assert {int(str(row["width"])) for row in page.rows} < set(range(700, 1100))


def test_slices_to_step_through_leave_room_for_all_other_pictures(derivatives: Any) -> None:
    everything = ("T1w", "T2w", "FLAIR", "T1ce")
    derivatives.scans(*everything, session="a")
    for target in everything[1:]:
        derivatives.synthesis(target, ["T1w"], std=derivatives.mask * 9.0, session="a")
    files = read_session("a", derivatives.anat("a"))
    one, few, many = (sheet_bytes([files] * count) for count in (1, 8, 12))
    assert one > few > many > 0


def test_a_folder_that_cannot_be_made_is_an_error_for_the_user(tmp_path: Path, run: Run) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="out"):
        build_subject_report(tmp_path / "out", "01", run())


@pytest.mark.shared_data
def test_a_real_brain_is_drawn_within_the_size_of_a_page(
    shared_data: Path, tmp_path: Path, run: Run
) -> None:
    source = shared_data / "stroke"
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for contrast in ("T1w", "T2w", "FLAIR"):
        scan = next(source.glob(f"sub-*/anat/*_{contrast}.nii.gz"))
        (anat / f"sub-01_space-T1w_desc-preproc_{contrast}.nii.gz").symlink_to(scan)
    made = anat / "sub-01_space-T1w_desc-synth_T2w.nii.gz"
    made.symlink_to(next(source.glob("sub-*/anat/*_FLAIR.nii.gz")))
    path = build_subject_report(tmp_path, "01", run(SESSION))
    page = Page(path)
    assert [alt.split(",")[0] for alt in page.alts()][:5] == [
        "T1w",
        "FLAIR",
        "SYNTHETIC T2w",
        "T2w",
        "Error map",
    ]
    assert "The sidecar does not say which contrasts" in page.text
    assert path.stat().st_size < 3e6


QUALITY = "space-T1w_desc-quality_qc.tsv"
SELFCHECK = "space-T1w_desc-selfcheck_qc.tsv"
NO_WARNING = "No failure and no warning was recorded"


def head(page: Page) -> str:
    """What stands before the first section."""
    return page.text.partition("Self-check:")[0].partition("What was there")[0]


def test_warnings_of_the_tables_are_the_first_thing_under_the_title(
    derivatives: Any, run: Run
) -> None:
    for session in ("A", "B"):
        derivatives.scans("T1w", "FLAIR", session=session)
    derivatives.write_text(
        QUALITY, "contrast\tsynthetic\twarnings\nFLAIR\tfalse\tit is cut; it is odd\n", "A"
    )
    derivatives.write_text(
        QUALITY, "contrast\tsynthetic\twarnings\nT2w\ttrue\tdark <b>\nT1w\tfalse\tn/a\n", "B"
    )
    described = run({"session": "A"}, {"session": "B"}, warnings=["the validator is not happy"])
    page = Page(build_subject_report(derivatives.out_dir, "01", described))
    words = [
        "4 warnings",
        "Session A: FLAIR: it is cut",
        "Session A: FLAIR: it is odd",
        "Session B: SYNTHETIC T2w: dark <b>",
        "the validator is not happy",
        "run started",
    ]
    order = [page.text.index(each) for each in words]
    assert order == sorted(order) and page.text[: order[0]].count(" ") < 12
    assert NO_WARNING not in page.text
    # The numbers of a table are shown without them.
    assert page.text.count("it is odd") == 1


def test_the_plan_s_warnings_are_said_once(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w")
    planned = [
        {"contrast": "T2w", "message": "taken out; look at it"},
        {"contrast": "", "message": "odd"},
    ]
    described = run({"session": None, "warnings": planned})
    text = Page(build_subject_report(derivatives.out_dir, "01", described)).text
    assert "2 warnings T2w: taken out, look at it odd" in text
    table = "contrast\tsynthetic\twarnings\nT2w\tfalse\ttaken out, look at it\n"
    derivatives.write_text(QUALITY, table)
    text = Page(build_subject_report(derivatives.out_dir, "01", described)).text
    assert text.count("taken out") == 1 and "2 warnings" in text


def test_no_warning_is_only_said_where_none_can_be(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w")

    def text() -> str:
        return Page(build_subject_report(derivatives.out_dir, "01", run({"session": None}))).text

    assert NO_WARNING not in text() and "no table of quality numbers (grid of T1w)" in text()
    derivatives.write_text(QUALITY, "contrast\tsynthetic\twarnings\nT1w\tfalse\tn/a\n")
    assert NO_WARNING in text()
    # A table of an earlier version, which did not know of warnings, beside a red light.
    derivatives.write_text(QUALITY, "contrast\tsynthetic\nT1w\tfalse\n")
    derivatives.write_text(SELFCHECK, "contrast\tlight\treasons\nT1w\tred\tmirrored\n")
    assert NO_WARNING not in text() and "1 warning T1w: self-check red: mirrored" in text()
    derivatives.write_text(SELFCHECK, "contrast\tlight\treasons\nT1w\tgreen\tn/a\n")
    assert NO_WARNING in text()
    for name in (QUALITY, SELFCHECK):
        derivatives.write_text(QUALITY, "contrast\tsynthetic\nT1w\tfalse\n")
        derivatives.write_text(name, "")
        assert NO_WARNING not in text() and f"sub-01_{name} cannot be read" in text()


def test_a_scan_that_cannot_be_laid_over_the_reference_is_said(derivatives: Any, run: Run) -> None:
    derivatives.scans("T1w", "T2w", "FLAIR")
    derivatives.write("space-T1w_desc-preproc_FLAIR", derivatives.scan * 0)
    page = Page(build_subject_report(derivatives.out_dir, "01", run({"session": None})))
    assert "FLAIR on T1w cannot be drawn: the volume is constant" in page.text
    assert "T2w on T1w" in page.text
    derivatives.write("space-T1w_desc-preproc_T1w", derivatives.scan * 0)
    page = Page(build_subject_report(derivatives.out_dir, "01", run({"session": None})))
    assert "The registration to T1w cannot be drawn" in page.text
