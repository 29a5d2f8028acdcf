"""The page of a group: self-contained, honest about synthetic images, and usable by everybody."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from colapipe.quality.table import write_quality
from colapipe.report.group import write_group

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\u202e\'&amp;'
SHOWN = HOSTILE.replace("\u202e", "\\u202e")


class Cohort:
    """Writes the tables of participants, as their runs leave them."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def add(self, label: str, *rows: dict[str, Any], report: bool = True) -> Path:
        anat = self.out / f"sub-{label}" / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        write_quality(anat / f"sub-{label}_space-T1w_desc-quality_qc.tsv", rows, [])
        if report:
            (self.out / f"sub-{label}.html").write_text("a report", encoding="utf-8")
        return anat

    def usual(self, count: int) -> None:
        """Participants who are like each other, each with a synthetic T1ce."""
        for number in range(count):
            synthetic = {"contrast": "T1ce", "synthetic": True, "sd_brain": 40.0 + number}
            self.add(f"{number:03d}", t2w(0.99, number), synthetic)

    def write_json(self, name: str, content: object) -> None:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")

    def fail(self, label: str, message: str) -> None:
        record = {"failures": [{"node": "a_node", "message": message}]}
        self.write_json(f"logs/reports/sub-{label}.json", record)

    def selfcheck(self, label: str, light: str, reasons: str, contrast: str = "T2w") -> None:
        path = self.out / f"sub-{label}/anat/sub-{label}_space-T1w_desc-selfcheck_qc.tsv"
        text = f"contrast\tlight\treasons\n{contrast}\t{light}\t{reasons}\n"
        path.write_text(text, encoding="utf-8")

    def page(self) -> Path:
        return write_group(self.out).page


def t2w(coverage: float, number: int = 0) -> dict[str, Any]:
    return {
        "contrast": "T2w",
        "synthetic": False,
        "coverage": coverage,
        "nmi": 1.1 + number / 1000,
    }


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path / "out")


@pytest.fixture
def full(cohort: Cohort) -> Cohort:
    """Twelve usual participants, one who failed, one cut, one red, and one without a report."""
    cohort.usual(12)
    cohort.add("cut", t2w(0.6))
    cohort.add("red", t2w(0.99))
    cohort.selfcheck("red", "red", "turned by 8 degrees")
    cohort.add("none", t2w(0.99), report=False)
    cohort.fail("000", "the disk is full")
    return cohort


@pytest.fixture
def hostile(cohort: Cohort) -> Cohort:
    """A cohort whose every text wants to be more than text."""
    cohort.usual(6)
    cohort.add("bad", t2w(0.99), {"contrast": HOSTILE, "synthetic": True, "sd_brain": 40.0})
    cohort.selfcheck("bad", HOSTILE, HOSTILE, contrast=HOSTILE)
    cohort.fail("bad", HOSTILE)
    model = dict.fromkeys(("Name", "WeightsSHA256", "Sampler", "Steps"), HOSTILE)
    sidecar = {"SynthesisModel": model, "SynthesizedFrom": [HOSTILE]}
    cohort.write_json("sub-bad/anat/sub-bad_space-T1w_desc-synth_FLAIR.json", sidecar)
    broken = cohort.out / "sub-bad" / "anat" / "sub-bad_space-T1w_desc-synth_qc.tsv"
    broken.write_text(HOSTILE, encoding="utf-8")
    table = cohort.out / "sub-000" / "anat" / "sub-000_space-T1w_desc-quality_qc.tsv"
    write_quality(table, [t2w(0.99)], [HOSTILE])
    return cohort


def table_order(text: str) -> list[str]:
    body = text.partition('<tbody id="rows"')[2].partition("</tbody>")[0]
    return re.findall(r"<bdi>(sub-\w+)</bdi>", body)


def test_failures_red_lights_and_outliers_come_first(full: Cohort) -> None:
    text = full.page().read_text(encoding="utf-8")
    assert table_order(text)[:4] == ["sub-000", "sub-red", "sub-cut", "sub-000"]
    for words in (
        "Failed: the disk is full",
        "Self-check red: turned by 8 degrees",
        "Coverage 0.6",
    ):
        assert words in text


def test_warnings_come_before_outliers_and_are_said(full: Cohort) -> None:
    usual = t2w(0.99) | {"warnings": "it covers 66 % of the brain: look"}
    full.add("warned", usual, {"contrast": "T1ce", "synthetic": False, "warnings": "taken out"})
    text = full.page().read_text(encoding="utf-8")
    assert set(table_order(text)[1:4]) == {"sub-red", "sub-warned"}
    assert table_order(text)[4] == "sub-cut"
    assert "<li><bdi>It covers 66 % of the brain: look</bdi></li>" in text
    assert "<li><bdi>Taken out</bdi></li>" in text
    assert "<b>3</b>images with warnings" in text and "<b>1</b>self-checks red" in text
    assert 'data-states="warned first"' in text and 'data-states="warned red first"' in text


def test_participants_are_linked_to_the_reports_that_are_there(full: Cohort) -> None:
    text = full.page().read_text(encoding="utf-8")
    assert '<a href="sub-cut.html"><bdi>sub-cut</bdi></a>' in text
    assert "sub-none" in text and "sub-none.html" not in text
    assert '<a href="sub-cut.html" tabindex' in text


def test_synthetic_images_are_labelled_wherever_they_are_shown(full: Cohort) -> None:
    text = full.page().read_text(encoding="utf-8")
    assert "This group holds SYNTHETIC images" in text
    assert "Enhancement in a synthetic T1ce is not evidence of enhancement" in text
    row = re.findall(r'<tr[^>]*data-kind="synthetic".*?</tr>', text, re.DOTALL)
    assert len(row) == 12 and all("SYNTHETIC" in cells for cells in row)
    strip = re.findall(r'<div class="name">.*?</div>', text, re.DOTALL)
    assert [("SYNTHETIC" in name) for name in strip if "T1ce" in name] == [True]


def test_a_group_without_synthetic_images_has_no_banner(cohort: Cohort) -> None:
    cohort.add("01", t2w(0.99))
    assert "SYNTHETIC images</strong>" not in cohort.page().read_text(encoding="utf-8")
    assert "holds SYNTHETIC" not in cohort.page().read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_lets_its_own_script_run_only(full: Cohort) -> None:
    text = full.page().read_text(encoding="utf-8")
    policy = html.unescape(re.findall(r'Security-Policy" content="([^"]+)"', text)[0])
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    assert text.count("<script") == 1


def test_hostile_text_is_text(hostile: Cohort) -> None:
    text = hostile.page().read_text(encoding="utf-8")
    assert "<img" not in text and text.count("<script") == 1 and "\u202e" not in text
    shown = html.unescape(text)
    # Contrast (of a row, a strip, the filter), light, reasons, failure, model and warning.
    assert shown.count(SHOWN) >= 10


def test_many_participants_are_shown_bit_by_bit(cohort: Cohort) -> None:
    cohort.usual(40)
    text = cohort.page().read_text(encoding="utf-8")
    assert text.count('<tr class="more"') == 30
    assert "<noscript><style>tr.more { display: table-row; }" in text


@pytest.mark.chromium
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_is_clean_in_a_browser(full: Cohort, open_page, width: int) -> None:
    opened = open_page(full.page(), width=width)
    assert opened.problems == []
    assert opened.too_wide() <= 0
    assert opened.accessibility() == []


@pytest.mark.chromium
def test_the_page_is_accessible_in_the_dark(full: Cohort, open_page) -> None:
    assert open_page(full.page(), color_scheme="dark").accessibility() == []


@pytest.mark.chromium
def test_nothing_hostile_runs(hostile: Cohort, open_page) -> None:
    opened = open_page(hostile.page())
    assert opened.problems == []
    assert opened.page.locator("td", has_text="<script>").count() > 0


@pytest.mark.chromium
def test_the_table_sorts_by_any_column_and_what_is_not_known_is_last(
    full: Cohort, open_page
) -> None:
    page = open_page(full.page()).page
    heading = page.get_by_role("button", name="NMI")
    nmi = page.locator("thead th").filter(has=heading)
    column = nmi.evaluate("head => head.cellIndex")

    def cells() -> list[str]:
        return page.locator("tbody#rows tr").evaluate_all(
            "(rows, column) => rows.map(row => row.cells[column].textContent)", column
        )

    heading.click()
    assert nmi.get_attribute("aria-sort") == "ascending"
    known = [float(cell) for cell in cells() if cell]
    assert known == sorted(known) and len(known) == 15 and cells()[15:] == [""] * 13
    heading.press("Enter")
    assert nmi.get_attribute("aria-sort") == "descending"
    assert [float(cell) for cell in cells() if cell] == sorted(known, reverse=True)
    assert cells()[15:] == [""] * 13


@pytest.mark.chromium
def test_the_table_is_filtered_and_says_how_much_is_left(full: Cohort, open_page) -> None:
    from playwright.sync_api import expect

    page = open_page(full.page()).page
    rows = page.locator("tbody#rows tr:visible")

    def said(words: str) -> None:
        expect(page.get_by_role("status")).to_contain_text(words)

    assert rows.count() == 28
    page.get_by_label("State").select_option("first")
    said("3 of 3")
    assert rows.count() == 3
    page.get_by_label("State").select_option("")
    page.get_by_label("Kind").select_option("synthetic")
    said("12 of 12")
    page.get_by_label("Contains").fill("SUB-00")
    said("10 of 10")
    page.get_by_role("button", name="Show everything").click()
    said("28 of 28")
    assert rows.count() == 28


@pytest.mark.chromium
def test_more_rows_come_when_they_are_asked_for(cohort: Cohort, open_page) -> None:
    cohort.usual(40)
    page = open_page(cohort.page()).page
    rows = page.locator("tbody#rows tr:visible")
    assert rows.count() == 50
    page.get_by_role("button", name="Show all fitting rows").click()
    assert rows.count() == 80 and not page.locator("#more").is_visible()


@pytest.mark.chromium
def test_points_name_their_subject_and_are_reached_by_keys(full: Cohort, open_page) -> None:
    page = open_page(full.page()).page
    points = page.locator("svg.strip").first.locator("a")
    tip = page.locator("#tip")
    assert not tip.is_visible()
    points.nth(3).hover()
    assert tip.text_content() == points.nth(3).get_attribute("aria-label")
    points.first.focus()
    assert tip.is_visible() and tip.text_content() == points.first.get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == points.nth(2).get_attribute("aria-label") == tip.text_content()
    page.keyboard.press("End")
    last = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert last == points.last.get_attribute("aria-label")
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    page.keyboard.press("Enter")
    page.wait_for_url("**/sub-*.html")


@pytest.mark.chromium
def test_the_page_is_whole_without_scripts(full: Cohort, open_page) -> None:
    page = open_page(full.page(), java_script_enabled=False).page
    assert page.locator("tbody#rows tr:visible").count() == 28
    assert page.locator("svg.strip circle").count() > 0
