"""What looks like a scan and is not read is named, with the reason and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from colapipe.bids.looks import looks_like
from colapipe.bids.reader import open_dataset
from colapipe.bids.unread import MOST_NAMED, Unread, say_unread, split_extension

MakeTree = Callable[..., Path]


def unread(root: Path, participant: str = "07") -> list[Unread]:
    dataset = open_dataset(root)
    return dataset.unread(dataset.listing(participant))


@pytest.mark.parametrize(
    ("stem", "contrast"),
    [
        ("sub-01_T1", "T1w"),
        ("sub-01_t1W", "T1w"),
        ("sub-01_MEMPRAGE", "T1w"),
        ("T1-weighted", "T1w"),
        ("sub-01_T1post", "T1ce"),
        ("sub-01_T1wCE", "T1ce"),
        ("T1 with gadolinium", "T1ce"),
        ("T1_pre_contrast", "T1w"),
        ("3DT2", "T2w"),
        ("sub-01_T2tse", "T2w"),
        ("sub-01_FLair", "FLAIR"),
        ("sub-01_FLIAR", "FLAIR"),
        ("T2_FLAIR", "FLAIR"),
        ("sub-01_PD", "PDw"),
        ("proton_density", "PDw"),
        ("sub-T2_anat", None),
        ("sub-T101_scan", None),
        ("sub-01_T2star", None),
        ("sub-01_T1map", None),
        ("sub-01_T1rho", None),
        ("sub-01_T2w_mask", None),
        ("sub-01_FAIR", None),
        ("IM0001", None),
    ],
)
def test_a_contrast_is_guessed_from_names_as_people_write_them(
    stem: str, contrast: str | None
) -> None:
    assert looks_like(stem) == contrast


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("sub-1_T2w.nii.gz", ("sub-1_T2w", ".nii.gz")),
        ("sub-1_T2w.NII.Gz", ("sub-1_T2w", ".NII.Gz")),
        ("sub-1_acq-0.8mm_T2w", ("sub-1_acq-0.8mm_T2w", "")),
        ("T2w.nii.gz.part", ("T2w", ".nii.gz.part")),
        ("T2w.old.nii", ("T2w.old", ".nii")),
    ],
)
def test_an_extension_is_what_programs_take_for_one(name: str, parts: tuple[str, str]) -> None:
    assert split_extension(name) == parts


@pytest.mark.parametrize(
    ("path", "contrast", "reason", "advice"),
    [
        ("anat/sub-07_FLair.nii.gz", "FLAIR", "BIDS writes FLAIR", "anat/sub-07_FLAIR.nii.gz"),
        ("anat/sub-07_run-2_t2.nii", "T2w", "not t2", "anat/sub-07_run-2_T2w.nii."),
        ("anat/sub-07_T1CE.nii.gz", "T1ce", "ce-gad", "sub-07_ce-gadolinium_T1w.nii.gz"),
        ("anat/sub-07_ce-gd_T1.nii.gz", "T1ce", "not T1", "sub-07_ce-gd_T1w.nii.gz"),
        ("anat/sub-07_T2w.Nii.gz", "T2w", ".Nii.gz, expected .nii.gz", "Rename"),
        ("anat/sub-07_PDw.nii.xz", "PDw", ".nii.xz", "Unpack"),
        ("anat/sub-07_T2w.mgh", "T2w", "FreeSurfer", "mri_convert"),
        ("anat/sub-07_T2w.MHA", "T2w", "MetaImage", "Convert"),
        ("anat/sub-07_T2w.img.gz", "T2w", "two files", "Convert"),
        ("anat/sub-07_T2w.nii.gz.tmp", "T2w", "ending", "If it is a NIfTI image"),
        ("anat/sub-07_T2w", "T2w", "missing", "If it is a NIfTI image"),
        ("anat/07_T2w.nii.gz", "T2w", "'07'", "sub-07_T2w.nii.gz"),
        ("anat/T2w.nii.gz", "T2w", "lacks sub-07", "sub-07_T2w.nii.gz"),
        ("anat/sub-08_T2w.nii.gz", "T2w", "says sub-08", "folder of its participant"),
        ("anat/sub-07_ses-1_T2w.nii.gz", "T2w", "says ses-1", "sub-07_T2w.nii.gz"),
        ("anat/sub-07_acq-a_b_T2w.nii.gz", "T2w", "'b'", "sub-07_acq-a_T2w.nii.gz"),
        ("anat/sub-07_acq-a-b_T2w.nii.gz", "T2w", "'acq-a-b'", "sub-07_acq-ab_T2w.nii.gz"),
        ("anat/sub-07_run-1_run-2_T2w.nii.gz", "T2w", "twice", "Rename"),
        ("anat/sub-07_T2w (1).nii.gz", "T2w", "space", "Rename"),
        ("anat/sub-07_acq-0.8_T2w.nii.gz", "T2w", "dot", "acq-08"),
        ("anat/sub-07_space-MNI152Lin_T2w.nii.gz", "T2w", "space-MNI152Lin", "as acquired"),
        ("anat/sub-07_res-1_desc-x_T2w.nii.gz", "T2w", "res-1 and desc-x", "as acquired"),
        ("anat/sub-07_ce-gd_T2w.nii.gz", "T2w", "contrast agent", "If it may serve as T2w"),
        ("sub-07_T2w.nii.gz", "T2w", "not in anat/", "Move it to sub-07/anat/"),
        ("ANAT/sub-07_T2w.nii.gz", "T2w", "lies in ANAT/", "Move"),
        ("structural/sub-07_t2w.nii.gz", "T2w", "structural/", "Move"),
        ("perf/sub-07_T2w.nii.gz", "T2w", "perf/", "Move"),
        ("anat/old/sub-07_T2w.nii.gz", "T2w", "lies in old/", "Move"),
    ],
)
def test_a_file_is_named_with_the_reason_and_the_remedy(
    make_tree: MakeTree, path: str, contrast: str, reason: str, advice: str
) -> None:
    (one,) = unread(make_tree({f"sub-07/{path}": None}))
    assert (one.files, one.contrasts) == ((f"sub-07/{path}",), (contrast,))
    assert one.is_scan and not one.resembles
    assert reason in one.reason and advice in one.advice


@pytest.mark.parametrize(
    "name",
    ["sub-07_ses-b_t2w.nii.gz", "ses-b/sub-07_ses-b_T2w.nii.gz", "ses-b/Anat/sub-07_T2w.nii.gz"],
)
def test_a_file_belongs_to_the_session_that_its_name_or_folder_says(
    make_tree: MakeTree, name: str
) -> None:
    tree = {"sub-07/ses-b/anat/sub-07_ses-b_T1w.nii.gz": None, f"sub-07/{name}": None}
    (one,) = unread(make_tree(tree))
    assert one.session == "b" and "sub-07/ses-b/anat/sub-07_ses-b_T2w.nii.gz" in one.advice


@pytest.mark.parametrize("name", ["ses_2", "SES-2", "ses-2-b", "visit2"])
def test_a_folder_that_should_be_a_session_is_named(make_tree: MakeTree, name: str) -> None:
    files = {f"sub-07/{name}/anat/x_T2w.nii.gz": None, f"sub-07/{name}/anat/x_T1w.nii": None}
    (one,) = unread(make_tree(files))
    assert one.files == (f"sub-07/{name}/",) and set(one.contrasts) == {"T1w", "T2w"}
    assert "ses-" in one.advice and one.is_scan
    # Where there are sessions, this one is not mixed with them.
    files["sub-07/ses-1/anat/sub-07_ses-1_T1w.nii.gz"] = None
    (one,) = unread(make_tree(files))
    assert not one.is_scan


@pytest.mark.parametrize("folder", ["anat/sub-07_T2w", "T2", "anat/sub-07_T2w.nii.gz"])
def test_a_folder_of_dicom_files_is_named_once(make_tree: MakeTree, folder: str) -> None:
    files = {f"sub-07/{folder}/IM{number:04}.dcm": None for number in range(200)}
    (one,) = unread(make_tree(files))
    assert one.files == (f"sub-07/{folder}/",) and one.contrasts == ("T2w",)
    assert "dcm2niix" in one.advice


def test_a_series_of_files_is_named_together(make_tree: MakeTree) -> None:
    files = {f"sub-07/anat/T2w_{number:04}.dcm": None for number in range(200)}
    (one,) = unread(make_tree(files))
    assert len(one.files) == 200
    assert "T2w_0000.dcm" in one.sentence and "and 197 more look like T2w" in one.sentence


@pytest.mark.parametrize(
    ("name", "contrasts", "advice"),
    [
        ("T2starw", ("T2w",), ""),
        ("UNIT1", ("T1w",), "acq-UNIT1_T1w"),
        ("inplaneT2", ("T2w",), "acq-inplaneT2_T2w"),
        ("T1map", ("T1w",), ""),
        ("PDT2", ("T2w", "PDw"), ""),
    ],
)
def test_other_suffixes_count_only_where_the_contrast_is_missing(
    make_tree: MakeTree, name: str, contrasts: tuple[str, ...], advice: str
) -> None:
    (one,) = unread(make_tree({f"sub-07/anat/sub-07_{name}.nii.gz": None}))
    assert one.contrasts == contrasts and one.resembles and advice in one.advice
    assert say_unread([one], contrasts, contrasts) == ([], [])
    (note,), warnings = say_unread([one], (), contrasts)
    assert name in note and warnings == []


@pytest.mark.parametrize(
    "path",
    [
        "anat/sub-07_T2w.json",
        "anat/sub-07_T2w.png",
        "anat/sub-07_mod-T2w_defacemask.nii.gz",
        "anat/sub-07_MTRmap.nii.gz",
        "anat/._sub-07_t2w.nii.gz",
        "func/sub-07_task-flair_bold.nii.gz",
        "eeg/sub-07_task-pd_eeg.edf",
        "sub-07_scans.tsv",
        "sourcedata/T2w.nii.gz",
    ],
)
def test_what_nobody_takes_for_a_scan_is_passed_over(make_tree: MakeTree, path: str) -> None:
    assert unread(make_tree({f"sub-07/{path}": None})) == []


def test_an_image_without_a_contrast_in_its_name_is_named_all_the_same(
    make_tree: MakeTree,
) -> None:
    (one,) = unread(make_tree({"sub-07/anat/sub-07_head.nii.gz": None}))
    assert one.contrasts == () and "head" in one.reason and not one.is_scan


def test_neither_phase_nor_synthetic_images_are_the_missing_scan(make_tree: MakeTree) -> None:
    names = ("part-phase_T2w", "desc-synth_T2w")
    found = unread(make_tree({f"sub-07/anat/sub-07_{name}.nii.gz": None for name in names}))
    assert len(found) == 2 and not any(one.is_scan for one in found)


def test_a_name_that_is_taken_is_not_suggested(make_tree: MakeTree) -> None:
    files = ["sub-07/anat/sub-07_T2w.nii.gz", "sub-07/anat/sub-07_T2w.mgz"]
    (one,) = unread(make_tree(dict.fromkeys(files)))
    assert one.advice == "sub-07_T2w.nii.gz is there and is read."


def test_a_scan_that_would_be_made_up_is_a_warning_and_no_note() -> None:
    one = Unread(None, ("sub-07/anat/t2.nii",), ("T2w",), "of its name", "Rename it.")
    notes, (warning,) = say_unread([one], {"T1w"}, {"T2w"})
    assert notes == [] and warning.contrast == "T2w"
    for word in ("sub-07/anat/t2.nii", "of its name", "Rename it."):
        assert word in warning.message
    assert say_unread([one], {"T1w"}, set())[1] == []
    assert say_unread([one], {"T2w"}, {"T2w"}) == ([one.sentence], [])


def test_many_notes_are_counted() -> None:
    files = [Unread(None, (f"{n}.nii",), (), "of its name", is_scan=False) for n in range(25)]
    notes, _ = say_unread(files, (), ())
    assert len(notes) == MOST_NAMED + 1 and "5 more" in notes[-1]


@pytest.mark.parametrize(
    ("folder", "suggestion"),
    [
        ("sub-A_7", "sub-A7"),
        ("sub-A-7", "sub-A7"),
        ("sub_A7", "sub-A7"),
        ("SUB-A7", "sub-A7"),
        ("sub-A 7", "sub-A7"),
        ("sub-ä", "sub-01"),
        ("sub-", "sub-01"),
        ("subject7", "sub-7"),
        ("patient7", "sub-patient7"),
    ],
)
@pytest.mark.parametrize("inside", ["anat/x_T1w.nii.gz", "ses-1/anat/x_T1w.nii.gz"])
def test_a_folder_that_is_nobodys_by_its_name_is_named(
    make_tree: MakeTree, folder: str, suggestion: str, inside: str
) -> None:
    dataset = open_dataset(make_tree({"sub-01/anat/x": None, f"{folder}/{inside}": None}))
    (line,) = dataset.left_out()
    assert line.startswith(f"{folder}/ holds scans") and f"Rename it to {suggestion}," in line
    assert dataset.why_left_out(folder) == line


def test_folders_without_scans_and_legal_labels_are_not_left_out(make_tree: MakeTree) -> None:
    files = ["sub-a+b/anat/x_T1w.nii", "sub-A_7/notes.txt", "code/anat/T1w.nii", "docs/t1.pdf"]
    dataset = open_dataset(make_tree(dict.fromkeys(files)))
    assert dataset.participants() == ["a+b"] and dataset.left_out() == []
    assert dataset.why_left_out("A_7") is None


def test_of_many_folders_the_first_are_named_and_loose_scans_too(make_tree: MakeTree) -> None:
    files = [f"sub-{n:03}-pre/anat/T1w.nii.gz" for n in range(30)]
    loose = ["sub-01_T1w.nii.gz", "sub-02_T2w.nii.gz"]
    tree = dict.fromkeys([*files, *loose, "sub-01/anat/x"])
    lines = open_dataset(make_tree(tree)).left_out()
    assert len(lines) == MOST_NAMED + 2
    assert "10 more" in lines[-2] and all(name in lines[-1] for name in loose)


def test_a_folder_that_may_not_be_read_is_passed_over(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(make_tree({"sub-01/anat/x": None, "sub_02/anat/T1w.nii": None}))
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "sub_02":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert dataset.left_out() == []


def test_links_in_a_loop_are_passed_over(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None})
    (root / "sub-01" / "ses_x").symlink_to("ses_x")
    (root / "sub-01" / "anat" / "T2w").symlink_to("../anat")
    dataset = open_dataset(root)
    assert len(dataset.listing("01").scans) == 1
    assert isinstance(dataset.unread(dataset.listing("01")), list)


def test_names_that_are_no_text_can_be_printed(make_tree: MakeTree) -> None:
    names = ("sub-07/anat/sub-07_\udcff_T2w.nii.gz", "sub-\udcfe/anat/T1w.nii")
    root = make_tree(dict.fromkeys(names))
    (one,) = unread(root)
    assert "T2w" in one.sentence.encode().decode()
    assert all(line.encode() for line in open_dataset(root).left_out())
