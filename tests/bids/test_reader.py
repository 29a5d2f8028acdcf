from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from colapipe.bids.reader import (
    RawDataset,
    Scan,
    choose_scan,
    choose_scans,
    labels_in,
    open_dataset,
    read_filter_file,
)
from colapipe.errors import DatasetError, UsageError
from colapipe.files import read_json

MakeTree = Callable[..., Path]

IMAGES = (
    "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_acq-hi_run-02_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_acq-hi_run-10_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_ce-gd_T1w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_part-phase_T2w.nii.gz",
    "sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii",
    "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz",
    "sub-01/ses-b/anat/sub-01_ses-b_T2w.json",
    "sub-01/ses-b/anat/sub-01_ses-b_UNIT1.nii.gz",
    "sub-01/ses-b/func/sub-01_ses-b_task-rest_bold.nii.gz",
    "sub-010/anat/sub-010_T1w.nii.gz",
    "sub-02/anat/sub-02_PDw.nii.gz",
    "derivatives/x/sub-01/ses-a/anat/sub-01_ses-a_desc-preproc_T1w.nii.gz",
)


@pytest.fixture
def dataset(make_tree: MakeTree) -> RawDataset:
    return open_dataset(make_tree(dict.fromkeys(IMAGES)))


def scan(name: str, contrast: str = "T1w") -> Scan:
    pairs = (part.split("-") for part in name.split("_")[:-1])
    entities = {pair[0]: pair[1] for pair in pairs}
    return Scan(Path("/d") / name, name, contrast, "01", None, entities)


def test_participants_and_sessions_come_from_folders(dataset: RawDataset) -> None:
    assert dataset.participants() == ["01", "010", "02"]
    assert dataset.listing("01").sessions == ("a", "b")
    assert dataset.listing("02").sessions == ()


def test_labels_are_read_from_folders_and_not_from_files(make_tree: MakeTree) -> None:
    out = make_tree({"sub-01.html": None, "sub-02/anat/x": None, "sub-0_old/anat/x": None})
    assert labels_in(out, "sub") == ["02"]
    assert labels_in(out / "missing", "sub") == []


def test_contrasts_are_told_from_names_alone(dataset: RawDataset) -> None:
    assert dataset.listing("01").contrasts() == {"a": {"T1w", "T1ce", "FLAIR"}, "b": {"T2w"}}
    assert dataset.listing("02").contrasts() == {None: {"PDw"}}
    assert dataset.listing("nobody").contrasts() == {None: set()}


def test_a_session_without_images_is_still_a_session(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/ses-1/func/x": None, "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii": None})
    assert open_dataset(root).listing("01").contrasts() == {"1": set(), "2": {"T2w"}}


def test_scans_are_found_with_their_contrast(dataset: RawDataset) -> None:
    scans = dataset.listing("01").scans
    assert [(s.session, s.contrast) for s in scans] == [
        ("a", "T1w"),
        ("a", "T1w"),
        ("a", "T1w"),
        ("a", "T1ce"),
        ("a", "FLAIR"),
        ("b", "T2w"),
    ]
    assert all(s.path == dataset.root / s.relative and s.path.is_file() for s in scans)


@pytest.mark.parametrize(
    "name",
    [
        "sub-02_T1w.nii.gz",
        "sub-01_ses-1_T1w.nii.gz",
        "sub-01_old_T1w.nii.gz",
        "sub-01_T1w.old.nii.gz",
        "sub-01_desc-synth_T1w.nii.gz",
        "sub-01_desc-defaced_T1w.nii.gz",
        "sub-01_space-MNI152Lin_T1w.nii.gz",
        "sub-01_res-2_T1w.nii.gz",
        "sub-01_part-phase_T1w.nii.gz",
        "sub-01_t1w.nii.gz",
        "sub-01_T1w.NII.GZ",
    ],
)
def test_what_is_not_a_scan_by_its_name_is_none(make_tree: MakeTree, name: str) -> None:
    listing = open_dataset(make_tree({f"sub-01/anat/{name}": None})).listing("01")
    assert listing.scans == ()
    assert [other.name for other in listing.others] == [name]


def test_a_folder_is_no_scan(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz/IM0001": None})
    assert open_dataset(root).listing("01").scans == ()


def test_a_link_to_data_that_was_not_fetched_is_still_a_scan(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None})
    (root / "sub-01/anat/sub-01_T2w.nii.gz").symlink_to("../.git/annex/objects/none")
    dataset = open_dataset(root)
    assert [s.contrast for s in dataset.listing("01").scans] == ["T1w", "T2w"]


def test_scans_cross_process_borders(dataset: RawDataset) -> None:
    scans = dataset.listing("01").scans
    receiver, sender = Pipe(duplex=False)
    with receiver, sender:
        sender.send(scans)
        assert receiver.recv() == scans


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_filter_file_may_write_contrasts_in_lower_case(tmp_path: Path) -> None:
    path = write(tmp_path / "f.json", {"t1ce": {"ceagent": "*"}, "flair": {"run": [1, None]}})
    assert read_filter_file(path) == {"T1ce": {"ceagent": "*"}, "FLAIR": {"run": [1, None]}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"bold": {"run": 1}}, ["'bold'", "T1w, T2w, T1ce, FLAIR, PDw"]),
        ({"FLAIRR": {}}, ["did you mean FLAIR?"]),
        ({"T1w": {"acq": "x"}}, ["'acq'", "acquisition"]),
        ({"T1w": {"acquisiton": "x"}}, ["did you mean acquisition?"]),
        ({"T1w": {"run": True}}, ["run", "True"]),
        ({"T1w": {"run": []}}, ["run"]),
        ({"T1w": {"run": {"a": 1}}}, ["run"]),
        ({"T1w": "x"}, ["expected an object"]),
        ({"T1w": {}, "t1w": {}}, ["twice"]),
        ([1], ["list"]),
        ("{", ["not JSON"]),
    ],
)
def test_a_wrong_filter_file_is_refused_in_words(
    tmp_path: Path, content: Any, words: list[str]
) -> None:
    path = write(tmp_path / "filter.json", content)
    with pytest.raises(UsageError) as caught:
        read_filter_file(path)
    for word in (*words, "--bids-filter-file", str(path)):
        assert word in str(caught.value)


def test_a_filter_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_filter_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("sub-01_T1w.nii.gz", "sub-01_acq-a_T1w.nii.gz"),
        ("sub-01_acq-a_run-2_T1w.nii.gz", "sub-01_acq-b_run-1_T1w.nii.gz"),
        ("sub-01_T1w.nii.gz", "sub-01_rec-norm_T1w.nii.gz"),
        ("sub-01_rec-a_T1w.nii.gz", "sub-01_acq-a_T1w.nii.gz"),
        ("sub-01_run-2_T1w.nii.gz", "sub-01_run-10_T1w.nii.gz"),
        ("sub-01_run-1_T1w.nii.gz", "sub-01_run-02_T1w.nii.gz"),
        ("sub-01_run-2_T1w.nii.gz", "sub-01_echo-1_run-1_T1w.nii.gz"),
        ("sub-01_T1w.nii.gz", "sub-01_T1w.nii"),
        ("sub-01_ce-gadolinium_run-2_T1w.nii.gz", "sub-01_ce-feraheme_T1w.nii.gz"),
        ("sub-01_part-mag_run-1_T1w.nii.gz", "sub-01_run-2_T1w.nii.gz"),
    ],
)
def test_one_scan_of_several_is_chosen_by_the_stated_rule(better: str, worse: str) -> None:
    for pair in ([scan(better), scan(worse)], [scan(worse), scan(better)]):
        chosen, note = choose_scan(pair)
        assert chosen.name == better
        assert note is not None and better in note and worse in note


def test_without_a_choice_there_is_no_note() -> None:
    only = scan("sub-01_T1w.nii.gz")
    assert choose_scan([only]) == (only, None)


def test_scans_of_different_contrasts_are_not_a_choice() -> None:
    with pytest.raises(ValueError):
        choose_scan([scan("sub-01_T1w.nii.gz"), scan("sub-01_T2w.nii.gz", "T2w")])
    with pytest.raises(ValueError):
        choose_scan([])


def test_each_session_has_one_scan_of_each_contrast(dataset: RawDataset) -> None:
    chosen, notes = choose_scans(dataset.listing("01").scans)
    assert {session: sorted(scans) for session, scans in chosen.items()} == {
        "a": ["FLAIR", "T1ce", "T1w"],
        "b": ["T2w"],
    }
    assert chosen["a"]["T1w"].name == "sub-01_ses-a_T1w.nii.gz"
    assert len(notes) == 1


def test_a_folder_that_is_not_a_dataset_is_refused_in_words(
    tmp_path: Path, make_tree: MakeTree
) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "none")
    file = write(tmp_path / "file", "x")
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset(file)
    with pytest.raises(DatasetError, match=r"dataset_description\.json: does not exist"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ("{not json", "is not JSON"),
        ("", "is not JSON"),
        ("\udcff", "is not JSON"),
        ([], "is a JSON list"),
        ({"BIDSVersion": "1.8.0"}, "Name is missing"),
        ({"Name": "x"}, "BIDSVersion is missing"),
    ],
)
def test_a_broken_description_is_refused_in_words(
    tmp_path: Path, description: Any, words: str
) -> None:
    (tmp_path / "sub-01").mkdir()
    text = description if isinstance(description, str) else json.dumps(description)
    path = tmp_path / "dataset_description.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetError, match=words) as caught:
        open_dataset(tmp_path)
    assert str(path) in str(caught.value)


def test_the_folder_above_or_below_is_suggested(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None})
    for wrong in (root / "sub-01", root.parent):
        with pytest.raises(DatasetError, match="was that folder meant") as caught:
            open_dataset(wrong)
        assert f"{root} has one" in str(caught.value)


def test_an_empty_dataset_is_refused_unless_only_its_text_is_needed(make_tree: MakeTree) -> None:
    root = make_tree({"participants.tsv": "participant_id\n", "sub-01.html": None})
    with pytest.raises(DatasetError, match="empty"):
        open_dataset(root)
    assert open_dataset(root, need_participants=False).name == "Test"


@pytest.mark.parametrize(
    "about",
    [
        {"DatasetType": "derivative", "GeneratedBy": [{"Name": "sMRIPrep"}]},
        {"DatasetType": "Derivative"},
        {"PipelineDescription": {"Name": "fmriprep"}},
    ],
)
def test_a_derivative_is_refused_and_what_to_do_is_said(
    make_tree: MakeTree, about: dict[str, Any]
) -> None:
    description = {"Name": "x", "BIDSVersion": "1.10.0", **about}
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None}, description=description)
    with pytest.raises(DatasetError, match="is a derivative") as caught:
        open_dataset(root)
    for word in ("raw dataset", "--derivatives", '"DatasetType": "raw"'):
        assert word in str(caught.value)
    assert open_dataset(root, need_participants=False).name == "x"


def test_a_raw_dataset_may_say_what_converted_it(make_tree: MakeTree) -> None:
    about = {"DatasetType": "raw", "GeneratedBy": [{"Name": "HeuDiConv"}]}
    description = {"Name": "x", "BIDSVersion": "1.10.0", **about}
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None}, description=description)
    assert open_dataset(root).participants() == ["01"]


def test_a_dataset_of_forbidden_labels_is_refused_with_the_reason(make_tree: MakeTree) -> None:
    with pytest.raises(DatasetError, match="empty") as caught:
        open_dataset(make_tree({"sub-A_1/anat/sub-A_1_T1w.nii.gz": None}))
    assert "sub-A_1/ holds scans" in str(caught.value) and "sub-A1" in str(caught.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == ({"a": 1}, None)


def test_reading_names_needs_neither_pybids_nor_numpy(dataset: RawDataset) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import colapipe.bids.dataset, colapipe.bids.derivatives, colapipe.bids.sidecars\n"
        "from colapipe.bids.reader import open_dataset\n"
        "assert open_dataset(Path(sys.argv[1])).listing('01').scans\n"
        "heavy = {'bids', 'numpy', 'nibabel', 'pandas', 'torch', 'nipype', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(dataset.root)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.shared_data
def test_real_scans_with_sessions_are_read(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "openms_native")
    assert dataset.participants() == ["mslong01", "mslong04"]
    listing = dataset.listing("mslong01")
    assert listing.contrasts() == {"01": {"T1w", "T2w", "FLAIR"}, "02": {"T1w", "T2w", "FLAIR"}}
    assert dataset.unread(listing) == [] and dataset.left_out() == []


@pytest.mark.shared_data
def test_real_enhanced_scans_are_told_from_plain_ones(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "brats_raw")
    participant = dataset.participants()[0]
    chosen, notes = choose_scans(dataset.listing(participant).scans)
    assert set(chosen[None]) == {"T1w", "T2w", "T1ce", "FLAIR"}
    assert "ce-gadolinium" in chosen[None]["T1ce"].name
    assert "ce-" not in chosen[None]["T1w"].name
    assert notes == []
