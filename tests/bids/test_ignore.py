"""``.bidsignore`` is read as git reads ``.gitignore``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from colapipe.bids.ignore import BidsIgnore
from colapipe.bids.reader import open_dataset
from colapipe.errors import DatasetError

MakeTree = Callable[..., Path]


@pytest.mark.parametrize(
    ("lines", "path", "line"),
    [
        (["# x", "", "*_rec-bad*"], "sub-1/anat/sub-1_rec-bad_T1w.nii.gz", "*_rec-bad*"),
        (["sub-2/"], "sub-2/", "sub-2/"),
        (["sub-2"], "sub-2/", "sub-2"),
        (["/sub-2"], "code/sub-2/", None),
        (["sub-*/ses-x/**"], "sub-7/ses-x/anat/", "sub-*/ses-x/**"),
        (["*.nii", "!sub-1*.nii"], "sub-1/anat/sub-1_T1w.nii", None),
        (["sub-[12]/"], "sub-3/", None),
    ],
)
def test_patterns_are_those_of_git(lines: list[str], path: str, line: str | None) -> None:
    assert BidsIgnore(lines).line_for(path) == line


def test_ignored_participants_sessions_and_scans_are_left_out_and_named(
    make_tree: MakeTree,
) -> None:
    files = [
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_acq-moved_T2w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    ]
    tree = {**dict.fromkeys(files), ".bidsignore": "\ufeffsub-02/\nses-2\n*acq-moved*\n"}
    dataset = open_dataset(make_tree(tree))
    assert dataset.participants() == ["01"]
    listing = dataset.listing("01")
    assert [scan.relative for scan in listing.scans] == files[:1]
    said = {one.files: one for one in dataset.unread(listing)}
    assert set(said) == {("sub-01/ses-2/",), (files[2],)}
    assert all(".bidsignore" in one.reason and not one.is_scan for one in said.values())
    assert "'*acq-moved*'" in said[(files[2],)].reason
    (line,) = dataset.left_out()
    assert "sub-02/" in line and ".bidsignore" in line
    assert ".bidsignore" in (dataset.why_left_out("02") or "")


def test_a_dataset_without_patterns_ignores_nothing(make_tree: MakeTree) -> None:
    for text in ("", "\n  \n"):
        root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None, ".bidsignore": text})
        assert open_dataset(root).listing("01").scans


@pytest.mark.parametrize("content", [b"sub-02/\n!\n", b"\xff\xfe\x00"])
def test_what_cannot_be_understood_is_refused_in_words(make_tree: MakeTree, content: bytes) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None})
    (root / ".bidsignore").write_bytes(content)
    with pytest.raises(DatasetError, match=r"\.bidsignore"):
        open_dataset(root)


def test_a_dataset_that_is_ignored_as_a_whole_is_empty(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None, ".bidsignore": "sub-*\n"})
    with pytest.raises(DatasetError, match="empty") as caught:
        open_dataset(root)
    assert "'sub-*'" in str(caught.value)
