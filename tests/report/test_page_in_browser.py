"""The page in Chromium, from the file system: it shows, moves, zooms, prints, and runs nothing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from colapipe.report.page import build_subject_report

pytestmark = pytest.mark.chromium

Open = Callable[..., Any]


def pixels(element: Any) -> np.ndarray:
    """What a reader sees of an element, as RGB."""
    # The bar at the top must not lie over it.
    element.evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")
    picture = Image.open(io.BytesIO(element.screenshot(animations="disabled")))
    return np.asarray(picture.convert("RGB")).astype(int)


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures differ by more than what no eye sees."""
    return one.shape != other.shape or bool((np.abs(one - other) > 8).any())


def drawn(element: Any) -> int:
    """How many values are not black."""
    return int((pixels(element) > 40).sum())


def wait_for(page: Any, condition: Callable[[], object]) -> None:
    """Wait until a condition holds: a picture may be a frame behind what was done.

    It is asked in Python, for the page's policy forbids scripts that are text.
    """
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came to hold")


@pytest.fixture
def wide(open_page: Open, rich_report: Path) -> Any:
    return open_page(rich_report)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1440, "dark")])
def test_the_page_opens_clean_narrow_and_wide_light_and_dark(
    open_page: Open, rich_report: Path, width: int, scheme: str
) -> None:
    opened = open_page(rich_report, width=width, color_scheme=scheme)
    assert opened.undecoded() == []
    assert opened.too_wide() == 0
    assert opened.accessibility() == []
    opened.page.locator(".panel.synthetic button.look").first.click()
    assert opened.accessibility() == []
    assert opened.problems == []


def test_one_slider_moves_all_panels_by_keys_and_buttons(wide: Any) -> None:
    stepper = wide.page.locator(".stepper").first
    panels = stepper.locator("canvas").all()
    said = stepper.locator("output")
    slider = stepper.locator("input")
    before, words = [pixels(panel) for panel in panels], said.inner_text()
    assert len(panels) == 6
    slider.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        wide.page.keyboard.press(key)
    for panel, one in zip(panels, before, strict=True):
        wait_for(wide.page, lambda panel=panel, one=one: differ(pixels(panel), one))
    assert said.inner_text() != words
    assert slider.get_attribute("aria-valuetext") == said.inner_text()
    # Back with the keys on a picture, and with the button.
    stepper.locator("button.look").first.focus()
    wide.page.keyboard.press("ArrowLeft")
    wide.page.keyboard.press("ArrowDown")
    stepper.locator("button.previous").click()
    assert said.inner_text() == words
    for panel, one in zip(panels, before, strict=True):
        wait_for(wide.page, lambda panel=panel, one=one: not differ(pixels(panel), one))
    # Each stepper has a slider of its own.
    assert wide.page.locator(".stepper").nth(1).locator("output").inner_text() == words


def test_the_slider_shows_the_slice_that_it_names(wide: Any) -> None:
    stepper = wide.page.locator(".stepper").first
    middle = drawn(stepper.locator("canvas").first)
    stepper.locator("input").focus()
    wide.page.keyboard.press("End")
    heights = str(stepper.get_attribute("data-heights")).split()
    top = round(float(heights[-1]))
    assert stepper.locator("output").inner_text() == (
        f"z = {top} mm, slice {len(heights)} of {len(heights)}"
    )
    # At the top of a round brain there is less of it than in the middle.
    canvas = stepper.locator("canvas").first
    wait_for(wide.page, lambda: drawn(canvas) < middle)
    lit = drawn(canvas)
    wide.page.keyboard.press("Home")
    for _ in range(len(heights) // 2):
        wide.page.keyboard.press("ArrowRight")
    wait_for(wide.page, lambda: drawn(canvas) > 1.5 * lit)


def test_the_wheel_scrolls_the_page_and_no_slider(wide: Any) -> None:
    stepper = wide.page.locator(".stepper").first
    stepper.scroll_into_view_if_needed()
    words, top = stepper.locator("output").inner_text(), wide.page.evaluate("scrollY")
    stepper.locator("canvas").first.hover()
    wide.page.mouse.wheel(0, 200)
    wait_for(wide.page, lambda: wide.page.evaluate("scrollY") > top)
    assert stepper.locator("output").inner_text() == words


def test_the_wipe_and_the_edges_change_the_picture(wide: Any) -> None:
    comparison = wide.page.locator(".comparison").first
    stage = comparison.locator(".stage")
    with_edges = pixels(stage)
    comparison.locator("input[type=checkbox]").focus()
    wide.page.keyboard.press("Space")
    wait_for(wide.page, lambda: differ(with_edges, pixels(stage)))
    plain = pixels(stage)
    comparison.locator("input[type=range]").focus()
    wide.page.keyboard.press("End")
    # All of it is the reference now; before, the right half was the other scan.
    middle = plain.shape[1] // 2
    right = plain[:, middle + 20 :]
    wait_for(wide.page, lambda: differ(pixels(stage)[:, middle + 20 :], right))
    reference = pixels(stage)
    assert not differ(reference[60:, 20 : middle - 20], plain[60:, 20 : middle - 20])
    box = stage.bounding_box()
    wide.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    wide.page.mouse.down()
    wide.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 100)
    wide.page.mouse.up()
    assert comparison.locator("input[type=range]").input_value() == "25"


def test_each_moved_scan_can_be_chosen(wide: Any) -> None:
    group = wide.page.locator(".choices").first
    assert group.locator(".comparison:visible").count() == 1
    first = pixels(group.locator(".stage:visible"))
    group.get_by_role("button", name="FLAIR on T1w").click()
    assert group.locator(".comparison:visible").count() == 1
    wait_for(wide.page, lambda: differ(first, pixels(group.locator(".stage:visible"))))


WATCH = """() => {
  window.changes = [];
  new MutationObserver((found) => window.changes.push(performance.now()))
    .observe(document.querySelector(".stage img.above"), { attributeFilter: ["class"] });
}"""


def test_the_flicker_starts_stops_and_is_slower_than_three_a_second(wide: Any) -> None:
    comparison = wide.page.locator(".comparison").first
    button, stage = comparison.locator(".flicker"), comparison.locator(".stage")
    before = pixels(stage)
    wide.page.evaluate(WATCH)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    wait_for(wide.page, lambda: wide.page.evaluate("changes.length") >= 4)
    times = wide.page.evaluate("changes")
    # Two changes are a flash: this is under 1.5 of them a second.
    assert min(np.diff(times)) > 1000 / 3
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    wait_for(wide.page, lambda: not differ(pixels(stage), before))
    count = wide.page.evaluate("changes.length")
    wide.page.wait_for_timeout(900)
    assert wide.page.evaluate("changes.length") == count


def test_who_wants_no_motion_switches_by_hand(open_page: Open, rich_report: Path) -> None:
    page = open_page(rich_report, reduced_motion="reduce").page
    button, stage = page.get_by_role("button", name="Switch").first, page.locator(".stage").first
    page.evaluate(WATCH)
    button.click()
    reference = pixels(stage)
    page.wait_for_timeout(900)
    assert not differ(pixels(stage), reference)
    assert page.evaluate("changes.length") == 1
    button.click()
    wait_for(page, lambda: differ(pixels(stage), reference))


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_a_picture_opens_sharp_and_gives_the_focus_back(
    open_page: Open, rich_report: Path, how: str
) -> None:
    page = open_page(rich_report, width=700).page
    look = page.locator(".panel.synthetic button.look").first
    if how == "click":
        look.click()
    else:
        look.focus()
        page.keyboard.press("Enter")
    zoom = page.locator("dialog#zoom")
    canvas, view = zoom.locator("canvas"), zoom.locator(".zoom-view")
    assert zoom.is_visible()
    assert zoom.get_by_text("SYNTHETIC", exact=True).first.is_visible()
    assert canvas.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    fitted = canvas.bounding_box()["width"]
    assert fitted == pytest.approx(fitted // 1)
    whole = pixels(canvas)
    page.keyboard.press("PageUp")
    wait_for(page, lambda: differ(pixels(canvas), whole))
    page.keyboard.press("PageDown")
    wait_for(page, lambda: not differ(pixels(canvas), whole))
    for _ in range(4):
        page.keyboard.press("+")
    assert canvas.bounding_box()["width"] > fitted
    place = view.evaluate("e => [e.scrollLeft, e.scrollTop]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    moved = view.evaluate("e => [e.scrollLeft, e.scrollTop]")
    assert moved[0] > place[0] and moved[1] > place[1]
    page.keyboard.press("0")
    assert canvas.bounding_box()["width"] == pytest.approx(fitted)
    # Another image of the same slice is a choice away.
    zoom.locator("select").select_option(index=0)
    assert not zoom.get_by_text("SYNTHETIC", exact=True).first.is_visible()
    zoom.locator("select").select_option(index=2)
    page.keyboard.press("Escape")
    assert not zoom.is_visible()
    assert look.evaluate("e => e === document.activeElement")


def test_a_map_on_planes_opens_too(wide: Any) -> None:
    look = wide.page.locator(".tiles button.look").first
    look.click()
    zoom = wide.page.locator("dialog#zoom")
    assert "Contour of the brain mask" in zoom.locator("h2").inner_text()
    # Planes have letters of their own, and no slices to step through.
    assert not zoom.locator(".side").first.is_visible()
    assert not zoom.locator("button.next").is_visible()
    zoom.get_by_role("button", name="Close").click()
    assert look.evaluate("e => e === document.activeElement")


def test_each_sheet_is_in_the_page_once_however_many_show_it(wide: Any) -> None:
    sheets = wide.page.eval_on_selector_all("#sheets img", "all => all.map(e => e.src)")
    shown = wide.page.eval_on_selector_all("button[data-sheet]", "all => all.length")
    assert len(set(sheets)) == len(sheets) < shown
    assert wide.page.content().count(sheets[0]) == 1


def test_lights_are_words_and_shapes_and_the_worst_comes_first(wide: Any) -> None:
    summary = wide.page.locator("#summary")
    assert re.search(r"Self-check:\s*red\b", summary.inner_text())
    assert "FLAIR: red: it may be turned" in " ".join(summary.inner_text().split())
    lights = wide.page.locator("table .light")
    assert [light.inner_text().strip() for light in lights.all()] == ["green", "amber", "red"]
    shapes = {light.locator("svg").inner_html() for light in lights.all()}
    assert len(shapes) == 3


def test_a_table_of_many_columns_is_turned_and_says_what_is_empty(wide: Any) -> None:
    table = wide.page.locator("table.values")
    heads = [cell.inner_text().strip() for cell in table.locator("thead th").all()]
    assert heads == ["Measure", "T1w", "T2w SYNTHETIC"]
    row = table.locator("tbody tr").first
    assert row.inner_text().split() == ["First,", "mm", "1", "2"]
    assert "Without a value here: nothing." in wide.page.locator("main").inner_text()


def test_on_paper_figures_stand_still_and_none_is_lost(wide: Any) -> None:
    page = wide.page
    figures = ".rows img, .stage img, .tiles button.look img"
    sources = page.eval_on_selector_all(figures, "all => all.map(e => e.src)")
    assert len(sources) == 11 + 2 * 3 + 2
    paper = page.pdf()
    # Equal pictures are kept once.
    assert paper.count(b"/Subtype /Image") >= len(set(sources))
    # On the screen the rows are closed again.
    assert not page.locator(".rows img").first.is_visible()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator(".stepper").first.is_visible()
    assert not page.locator(".controls").first.is_visible()
    for image in page.locator(figures).all():
        box = image.bounding_box()
        assert box is not None and box["width"] > 80


def test_without_scripts_all_figures_are_there(open_page: Open, rich_report: Path) -> None:
    page = open_page(rich_report, java_script_enabled=False).page
    rows = page.locator(".rows img")
    assert rows.count() == 6 + 5
    assert all(row.is_visible() for row in rows.all())
    assert page.locator(".stage img.above").nth(1).is_visible()
    assert not page.locator(".stepper").first.is_visible()
    assert not page.locator("button[data-copy]").first.is_visible()
    assert "Scripts are off" in page.locator("#reading").inner_text()


def test_the_methods_are_copied(wide: Any) -> None:
    button = wide.page.get_by_role("button", name="Copy the text")
    button.click()
    status = button.locator("xpath=..").get_by_role("status")
    wait_for(wide.page, status.inner_text)
    assert status.inner_text() == "Copied."


def test_a_hostile_dataset_runs_nothing(
    open_page: Open, derivatives: Any, run: Callable[..., dict[str, Any]], hostile: str
) -> None:
    derivatives.scans("T1w", "FLAIR")
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], std=derivatives.mask * 20.0)
    anat = derivatives.anat()
    (anat / "sub-01_<img src=x onerror=alert(3)>_\u202e\"'.txt").write_text("x")
    sidecar = anat / "sub-01_space-T1w_desc-synth_T2w.json"
    sidecar.write_text(json.dumps({hostile: hostile, "SynthesisModel": {hostile: [hostile]}}))
    row = "\t".join([hostile] * 4)
    for desc in ("synth", "quality", "selfcheck"):
        table = f"contrast\tlight\treasons\t{hostile}\n{row}\n"
        derivatives.write_text(f"space-T1w_desc-{desc}_qc.tsv", table)
        about = {"Description": hostile, "LongName": hostile, "Units": hostile}
        meaning = json.dumps({hostile: about, "light": about})
        derivatives.write_text(f"space-T1w_desc-{desc}_qc.json", meaning)
    session = {
        "session": None,
        "reference": hostile,
        "contrasts": {hostile: hostile},
        "targets": [hostile],
        "notes": [hostile],
    }
    described = run(
        session,
        **dict.fromkeys(("version", "command", "started", "engine", "engine_version"), hostile),
        model={"name": hostile, hostile: hostile},
        quality=hostile,
        settings={hostile: hostile},
        failures=[{"node": hostile, "message": hostile, "crash_file": hostile}],
        warnings=[hostile],
    )
    opened = open_page(build_subject_report(derivatives.out_dir, "01", described), width=390)
    page = opened.page
    page.locator(".panel.synthetic button.look").click()
    page.keyboard.press("PageUp")
    assert opened.problems == []
    assert opened.too_wide() == 0
    assert page.locator("script").count() == 1
    assert page.locator("img[src=x]").count() == 0
    seen = page.locator("body").inner_text()
    assert seen.count(hostile.replace("\u202e", "\\u202e")) > 20
    assert "\u202e" not in seen
