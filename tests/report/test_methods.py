"""The methods text cites what was used, and nothing else."""

from __future__ import annotations

import re

import pytest

from colapipe.report.methods import methods
from colapipe.report.references import REFERENCES


@pytest.mark.parametrize(
    ("engine", "used", "unused"),
    [
        ("fsl", ("BET", "FLIRT", "FAST", "N4"), ("deepbet", "Mattes")),
        ("builtin", ("deepbet", "SimpleITK", "N4"), ("FLIRT", "BET ", "FSL")),
    ],
)
def test_the_engine_decides_what_is_cited(
    engine: str, used: tuple[str, ...], unused: tuple[str, ...]
) -> None:
    text = methods({"version": "0.1.0", "engine": engine, "engine_version": "6.0.7"}, ["T2w"]).text
    assert all(word in text for word in used)
    assert not any(word in text for word in unused)
    assert "6.0.7" in text


def test_every_number_in_the_text_is_a_reference_in_order() -> None:
    described = methods({"engine": "fsl", "model": {"name": "m", "sha256": "ab"}}, ["T2w", "T1ce"])
    body = "\n".join(described.paragraphs)
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", body)]
    assert list(dict.fromkeys(numbers)) == list(range(1, len(described.references) + 1))
    assert "T2w and T1ce images were synthesised" in body
    assert "with m (weights sha256 ab)" in body


def test_the_text_says_which_uncertainties_are_calibrated() -> None:
    levels = {"T2w": 0.9, "FLAIR": None, "T1ce": 0.9}
    described = methods({"engine": "fsl"}, ["T2w", "T1ce", "FLAIR"], levels)
    assert "that of T2w and T1ce was turned into 90 % intervals" in described.text
    assert "that of FLAIR is not calibrated." in described.text
    assert any("conformal prediction" in entry for entry in described.references)
    plain = methods({"engine": "fsl"}, ["T2w"]).text
    assert "standard deviation" not in plain and "conformal" not in plain


def test_without_a_synthesis_the_model_is_not_cited() -> None:
    assert "CoLa-Diff" not in methods({"engine": "builtin"}).text


def test_an_unknown_engine_is_named_and_its_braces_stay_text() -> None:
    assert "the engine {x} 1{y}." in methods({"engine": "{x}", "engine_version": "1{y}"}).text


def entries_of(bib: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Read a ``.bib`` file: key to kind and fields. Fails on what BibTeX would not read."""
    entries: dict[str, tuple[str, dict[str, str]]] = {}
    pattern = r"@(\w+)\{([\w:-]+),\n((?:  \w+ = \{.*\},?\n)+)\}\n"
    for kind, key, body in re.findall(pattern, bib):
        fields = dict(re.findall(r"  (\w+) = \{(.*)\},?\n", body))
        assert key not in entries
        assert all(value.count("{") == value.count("}") for value in fields.values())
        entries[key] = kind, fields
    assert not re.sub(pattern, "", bib).strip(), "something is no entry"
    return entries


def test_the_bib_file_has_what_the_text_cites_in_that_order() -> None:
    levels = {"T2w": 0.9}
    described = methods({"engine": "builtin"}, ["T2w"], levels)
    entries = entries_of(described.bibtex)
    assert tuple(entries) == described.keys
    assert len(entries) == len(described.references) == len(set(described.references)) == 9
    for (kind, fields), text in zip(entries.values(), described.references, strict=True):
        assert kind in ("article", "inproceedings", "misc")
        assert fields["title"].strip("{}") in text and fields["year"] in text
        assert fields.get("doi", fields.get("eprint", "none")) in text


def test_every_reference_is_good_bibtex_and_cited_by_some_run() -> None:
    entries = entries_of("\n".join(entry.bibtex(key) for key, entry in REFERENCES.items()))
    assert set(entries) == set(REFERENCES)
    needed = {
        "article": {"author", "title", "journal", "year", "volume", "pages", "doi"},
        "inproceedings": {"author", "title", "booktitle", "year", "pages", "doi"},
        "misc": {"author", "title", "year", "eprint", "archiveprefix"},
    }
    for key, (kind, fields) in entries.items():
        assert needed[kind] <= set(fields), key
        first = fields["author"].partition(",")[0].lower()
        assert key.startswith(first + fields["year"]), "a key is author, year, word"
    dois = [fields["doi"] for _, fields in entries.values() if "doi" in fields]
    assert len(dois) == len(set(dois))
    cited = {
        key
        for engine in ("fsl", "builtin")
        for key in methods({"engine": engine}, ["T2w"], {"T2w": 0.9}).keys
    }
    assert cited == set(REFERENCES)


def test_names_are_written_as_bibtex_reads_them() -> None:
    entry = REFERENCES["jenkinson2012fsl"].bibtex("x")
    assert "Jenkinson, M. and Beckmann, C. F. and Behrens, T. E. J. and" in entry
    assert "pages = {782--790}" in entry
    assert " and others}" in REFERENCES["tustison2010n4"].bibtex("x")
