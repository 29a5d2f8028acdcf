"""Filters are pybids' own, without its index; one that nothing passes is a mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colapipe.bids.filters import apply_filters, check_filters, passes, say_removed
from colapipe.bids.reader import Scan, open_dataset
from colapipe.errors import UsageError

MakeTree = Callable[..., Path]

IMAGES = (
    "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_acq-hi_run-02_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_acq-hi_run-10_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_ce-gd_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_echo-1_FLAIR.nii",
    "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz",
)


@pytest.fixture
def root(make_tree: MakeTree) -> Path:
    return make_tree(dict.fromkeys(IMAGES))


@pytest.fixture
def scans(root: Path) -> tuple[Scan, ...]:
    return open_dataset(root).listing("01").scans


QUERIES = [
    ({"acquisition": None}, ["T1w"]),
    ({"acquisition": "*"}, ["acq-hi_run-02_T1w", "acq-hi_run-10_T1w"]),
    ({"acquisition": "hi", "run": 2}, ["acq-hi_run-02_T1w"]),
    ({"run": "02"}, ["acq-hi_run-02_T1w"]),
    ({"run": [10, None]}, ["T1w", "acq-hi_run-10_T1w"]),
    ({"run": ["*", None]}, ["T1w", "acq-hi_run-02_T1w", "acq-hi_run-10_T1w"]),
    ({"session": "b"}, []),
    ({"suffix": "T1w", "datatype": "anat", "run": None}, ["T1w"]),
    ({"subject": "01", "extension": ".nii.gz", "run": 10}, ["acq-hi_run-10_T1w"]),
    ({"acquisition": "none", "inv": 3}, []),
    ({"acquisition": "HI"}, []),
]


@pytest.mark.parametrize(("query", "kept"), QUERIES)
def test_a_filter_keeps_what_it_says(
    scans: tuple[Scan, ...], query: dict[str, Any], kept: list[str]
) -> None:
    left, removed = apply_filters(scans, {"T1w": query})
    names = [s.name for s in left if s.contrast == "T1w"]
    assert names == [f"sub-01_ses-a_{name}.nii.gz" for name in kept]
    # Other contrasts, the enhanced T1w among them, are not touched.
    assert [s.contrast for s in left if s.contrast != "T1w"] == ["T1ce", "FLAIR", "T2w"]
    assert len(removed.get("T1w", [])) == 3 - len(kept)


@pytest.mark.parametrize("query", [query for query, _ in QUERIES])
def test_a_filter_means_what_it_means_to_pybids(
    root: Path, scans: tuple[Scan, ...], query: dict[str, Any]
) -> None:
    from bids.layout import BIDSLayout, Query

    def word(value: Any) -> Any:
        if isinstance(value, list):
            return [word(item) for item in value]
        return Query.NONE if value is None else Query.ANY if value == "*" else value

    layout = BIDSLayout(root, validate=False)
    wanted = {entity: word(value) for entity, value in query.items()}
    found = layout.get(return_type="filename", invalid_filters="allow", **wanted)
    found = {Path(path).name for path in found}
    assert {s.name for s in scans if passes(s, query)} == found & {s.name for s in scans}


def test_a_filter_never_adds_a_scan(scans: tuple[Scan, ...]) -> None:
    left, _ = apply_filters(scans, {"T1w": {"ceagent": "*"}})
    assert [s for s in left if s.contrast == "T1w"] == []
    left, _ = apply_filters(scans, {"T1ce": {"ceagent": "gd"}})
    assert len([s for s in left if s.contrast == "T1ce"]) == 1


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"T1w": {"acquisition": "Hi"}}, ["3 T1w", "hi or absent", "did you mean hi?"]),
        ({"T1w": {"acquisition": "lo", "run": 2}}, ["acquisition is hi or absent", "--source"]),
        ({"T1w": {"acquisition": None, "run": 2}}, ["no scan has all of them"]),
        ({"T2w": {"acquisition": "*"}}, ["acquisition is absent"]),
        ({"FLAIR": {"echo": 2}}, ["echo is 1", "{"]),
    ],
)
def test_a_filter_that_nothing_passes_is_refused_with_what_is_there(
    scans: tuple[Scan, ...], filters: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UsageError, match="matches none") as caught:
        check_filters(scans, filters, Path("f.json"))
    for word in (*words, "--bids-filter-file f.json"):
        assert word in str(caught.value)


def test_a_filter_that_something_passes_is_fine(scans: tuple[Scan, ...]) -> None:
    assert check_filters(scans, {"T1w": {"run": 10}, "T2w": {}}, Path("f.json")) == []


def test_a_filter_of_a_contrast_that_nobody_has_gets_a_word(scans: tuple[Scan, ...]) -> None:
    (line,) = check_filters(scans, {"PDw": {"run": 1}}, Path("f.json"))
    assert "no PDw" in line and "no effect" in line


def test_removing_some_scans_is_a_note_and_removing_all_a_warning(scans: tuple[Scan, ...]) -> None:
    filters = {"T1w": {"run": 2}, "FLAIR": {"echo": "2"}}
    kept, removed = apply_filters(scans, filters)
    (note,), (warning,) = say_removed(removed, kept, filters)
    assert "sub-01_ses-a_T1w.nii.gz" in note and "run-10" in note
    assert warning.contrast == "FLAIR"
    assert "sub-01_ses-a_echo-1_FLAIR.nii" in warning.message and "echo is 1" in warning.message
