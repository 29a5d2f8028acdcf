"""The built manual: every link leads somewhere, and no page asks another machine for anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADING = {"src", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """The links of a page, what it loads, what can be linked to, and its pictures without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.wordless: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "img" and not given.get("alt"):
            self.wordless.append(given.get("src", ""))
        if "href" in given:
            (self.links if tag == "a" else self.loads).append(given["href"])
        self.loads += [given[name] for name in LOADING & set(given)]
        self.loads += re.findall(r"url\(['\"]?([^)'\"]+)", given.get("style", ""))


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def pages(site: Path) -> list[Path]:
    found = sorted(site.rglob("*.html"))
    assert len(found) > 15
    return found


def remote(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def problem(page: Path, link: str, site: Path) -> str | None:
    """Say what is wrong with a link, if anything is."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        good = re.fullmatch(r"[\w.-]+\.[a-z]{2,}(:\d+)?", parts.netloc) and " " not in link
        return None if good else "is no address"
    if parts.scheme == "mailto" or link.startswith("data:image/"):
        return None
    if parts.scheme or parts.netloc:
        return f"has the scheme {parts.scheme!r}"
    path = unquote(parts.path)
    base = site if path.startswith("/") else page.parent
    target = (base / path.lstrip("/")).resolve() if path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return "leads nowhere"
    if parts.fragment and target.suffix == ".html":
        anchors = read(target).anchors
        return None if unquote(parts.fragment) in anchors else "has an anchor that is not there"
    return None


def test_the_checker_finds_each_kind_of_broken_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    page = tmp_path / "index.html"
    page.write_text('<h1 id="top"><a href="a/#x">')
    (tmp_path / "a" / "index.html").write_text('<p id="x">')
    links = {
        "a/#x": None,
        "#top": None,
        "https://example.org/a#b": None,
        "a/#y": "has an anchor that is not there",
        "#nothing": "has an anchor that is not there",
        "b/": "leads nowhere",
        "https://exa mple": "is no address",
        "javascript:alert(1)": "has the scheme 'javascript'",
    }
    assert {link: problem(page, link, tmp_path) for link in links} == links


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    broken = [
        f"{page.relative_to(site)}: {link} {wrong}"
        for page in pages(site)
        for link in [*read(page).links, *read(page).loads]
        if (wrong := problem(page, link, site))
    ]
    assert not broken, "\n".join(broken)


def test_no_page_asks_another_machine_for_anything(site: Path) -> None:
    asking = {
        f"{page.relative_to(site)}: {address}"
        for page in pages(site)
        for address in read(page).loads
        if remote(address)
    }
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        addresses = re.findall(r"(?:url\(|@import )\s*['\"]?([^)'\";]+)", text)
        asking |= {
            f"{style.relative_to(site)}: {address}" for address in addresses if remote(address)
        }
    assert not asking, "\n".join(sorted(asking))


def test_every_picture_has_words(site: Path) -> None:
    assert not [f"{page}: {name}" for page in pages(site) for name in read(page).wordless]


def test_every_command_and_option_is_in_the_reference(
    site: Path, tool: Callable[[str], ModuleType]
) -> None:
    from colapipe.cli import demo, model, parser

    text = (site / "commands" / "index.html").read_text(encoding="utf-8")
    missing = [
        option
        for program in (parser.build_parser(), model._parser(), demo.build_parser())
        for command in [program, *subcommands(program)]
        for action in command._actions
        for option in action.option_strings
        if f"<code>{option}" not in text
    ]
    assert not missing
    assert {"colapipe", "colapipe-model-train", "colapipe-model-synth", "colapipe-demo"} <= read(
        site / "commands" / "index.html"
    ).anchors


def subcommands(program):
    for action in program._actions:
        if action.choices and hasattr(action.choices, "values"):
            yield from action.choices.values()


def test_the_public_functions_are_in_the_reference(site: Path) -> None:
    anchors = read(site / "python" / "index.html").anchors
    text = (site / "python" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r":\w+:<code>", text)
    for name in (
        "colapipe.coladiff.model.CoLaDiff.load",
        "colapipe.coladiff.model.CoLaDiff.synthesise",
        "colapipe.slices.intensity.normalise",
        "colapipe.quality.metrics.psnr",
        "colapipe.phantom.dataset.simulate_dataset",
    ):
        assert name in anchors


def test_the_figure_of_the_workflow_is_that_of_the_graph(
    site: Path, tool: Callable[[str], ModuleType]
) -> None:
    graph = tool("workflow_graph")
    boxes = graph.contracted(graph.full_graph())
    text = (site / "how-it-works" / "index.html").read_text(encoding="utf-8")
    for box, steps in boxes.nodes(data="steps"):
        assert f">{box}</text>" in text
        assert steps, (
            f"{box}: no words say what its nodes do (WORDS and STAGES in workflow_graph.py)"
        )
        assert all(f">{words}</text>" in text for words in steps)
    # What the text above the figure says of it.
    assert "Synthesis of T2w" in boxes
    import networkx as nx

    assert "Synthesis of T2w" not in nx.descendants(boxes, "Scan T2w")
    assert "Scores" in nx.descendants(boxes, "Scan T2w")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_into_the_manual_know_its_headings(name: str, site: Path) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\]\(docs/([\w-]+)\.md#([\w-]+)\)", text):
        assert anchor in read(site / page / "index.html").anchors, f"{page}.md#{anchor}"


def test_the_picture_of_a_real_result_is_light() -> None:
    assert (ROOT / "docs" / "images" / "real-result.png").stat().st_size < 200_000
