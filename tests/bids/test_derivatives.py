from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colapipe.bids.derivatives import Found, find_derivatives, parse_derivatives
from colapipe.bids.reader import participants_in
from colapipe.errors import UsageError

MakeTree = Callable[..., Path]


def made_by(*names: str, name: str = "Derivatives") -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": maker} for maker in names],
    }


def find(make_tree: MakeTree, files: Any, maker: str = "colapipe", **options: Any) -> Found:
    """Look for session-less files of participant 01 in one dataset made by `maker`."""
    root = make_tree(
        {f"sub-01/anat/sub-01_{name}": content for name, content in files.items()},
        description=made_by(maker, **options),
    )
    return find_derivatives([("given", root)], "01", None)


OURS = {
    "space-T1w_desc-preproc_T1w.nii.gz": None,
    "space-T1w_desc-preproc_T2w.nii.gz": None,
    "ce-gadolinium_space-T1w_desc-preproc_T1w.nii.gz": None,
    "space-T1w_label-brain_desc-fromT1w_mask.nii.gz": None,
    "space-T1w_label-brain_desc-fromT2w_mask.nii.gz": None,
    "space-T1w_label-brain_desc-fromT2w_mask.json": {
        "Sources": ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]
    },
    "space-T1w_desc-fromT1w_dseg.nii.gz": None,
    "space-T1w_label-CSF_desc-fromT1w_probseg.nii.gz": None,
    "space-T1w_label-GM_desc-fromT1w_probseg.nii.gz": None,
    "space-T1w_label-WM_desc-fromT1w_probseg.nii.gz": None,
    "space-T1w_label-WM_desc-fromT2w_probseg.nii.gz": None,
    "space-T2w_desc-preproc_T1w.nii.gz": None,
    "from-T2w_to-T1w_mode-image_xfm.mat": None,
    "from-T2w_to-T1w_mode-image_xfm.txt": None,
    "space-T1w_desc-synth_FLAIR.nii.gz": None,
    "space-T1w_desc-synthstd_FLAIR.nii.gz": None,
    "space-T1w_label-lesion_mask.nii.gz": None,
}


def test_our_own_outputs_are_found_with_their_source_and_grid(make_tree: MakeTree) -> None:
    found = find(make_tree, OURS)
    assert {(m.contrast, m.grid) for m in found.masks} == {("T1w", "T1w"), ("T2w", "T1w")}
    mask = found.mask("T2w", "T1w")
    assert mask is not None and mask.path.is_file() and mask.own
    assert mask.uri == (
        "bids:given:sub-01/anat/sub-01_space-T1w_label-brain_desc-fromT2w_mask.nii.gz"
    )
    assert found.mask("FLAIR", "T1w") is None
    assert [(f.contrast, f.space) for f in found.lesions] == [(None, "T1w")]
    assert found.notes == ()


def test_a_synthesised_image_is_never_found_as_an_input(make_tree: MakeTree) -> None:
    found = find(
        make_tree,
        {
            **OURS,
            "space-T1w_desc-preproc_FLAIR.nii.gz": None,
            "space-T1w_desc-preproc_FLAIR.json": {"Synthetic": True},
        },
    )
    assert {image.contrast for image in found.images} == {"T1w", "T2w", "T1ce"}
    assert len(found.notes) == 1 and "it is synthesised" in found.notes[0]


def test_what_a_preprocessing_run_left_is_sorted_by_reference(make_tree: MakeTree) -> None:
    prepared = find(make_tree, OURS).prepared()
    # On the grid of the T2w there is no preprocessed T2w: that run did not finish.
    assert list(prepared) == ["T1w"]
    on_t1w = prepared["T1w"]
    assert set(on_t1w.images) == {"T1w", "T2w", "T1ce"}
    assert set(on_t1w.masks) == {"T1w", "T2w"}
    assert set(on_t1w.labels) == {"T1w"}
    # The maps of the T2w are not complete.
    assert {source: set(maps) for source, maps in on_t1w.tissues.items()} == {
        "T1w": {"CSF", "GM", "WM"}
    }


def test_files_of_other_apps_are_not_taken_for_our_preprocessing(make_tree: MakeTree) -> None:
    found = find(make_tree, OURS, maker="somebody")
    assert found.images == () and found.labels == ()
    assert found.prepared() == {}


def test_fsl_matrices_come_before_itk_ones(make_tree: MakeTree) -> None:
    found = find(
        make_tree,
        {
            **OURS,
            "from-T1w_to-MNI152NLin6Asym_mode-image_xfm.txt": None,
            "from-T1w_to-FLAIR_mode-image_xfm.h5": None,
        },
    )
    assert [(m.contrast, m.space) for m in found.matrices] == [("T2w", "T1w")] * 2
    matrix = found.matrix("T2w", "T1w")
    assert matrix is not None and matrix.path.suffix == ".mat"
    assert found.matrix("T1w", "T2w") is None


FMRIPREP = {
    "desc-brain_mask.nii.gz": None,
    "space-MNI152NLin6Asym_desc-brain_mask.nii.gz": None,
    "label-GM_probseg.nii.gz": None,
    "dseg.nii.gz": None,
    "desc-preproc_T1w.nii.gz": None,
}


@pytest.mark.parametrize("maker", ["fMRIPrep", "sMRIPrep"])
def test_masks_of_fmriprep_belong_to_the_t1w(make_tree: MakeTree, maker: str) -> None:
    found = find(make_tree, FMRIPREP, maker=maker)
    assert [(m.contrast, m.space, m.grid) for m in found.masks] == [("T1w", None, "T1w")]
    assert [(t.contrast, t.label) for t in found.tissues] == [("T1w", "GM")]
    # Its labels mean other tissues, and its images are not brain-extracted.
    assert found.labels == () and found.images == ()
    assert any("as fMRIPrep and sMRIPrep do" in note for note in found.notes)
    assert any("space-MNI152NLin6Asym" in note for note in found.notes)


@pytest.mark.parametrize(
    ("sources", "contrast"),
    [
        ({"Sources": ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]}, "T2w"),
        ({"RawSources": ["sub-01/anat/sub-01_ce-gd_T1w.nii.gz"]}, "T1ce"),
        ({"Sources": "bids::sub-01/anat/sub-01_space-T1w_desc-preproc_FLAIR.nii.gz"}, "FLAIR"),
        ({"Sources": ["bids::sub-01/anat/sub-01_label-brain_desc-fromT2w_mask.nii.gz"]}, "T2w"),
        (
            {
                "Sources": [
                    "bids:raw:sub-01/anat/sub-01_run-1_T1w.nii.gz",
                    "bids:raw:sub-01/anat/sub-01_run-2_T1w.nii.gz",
                ]
            },
            "T1w",
        ),
        ({"Sources": ["sub-01_T2w.nii.gz", "sub-01_from-T2w_to-T1w_mode-image_xfm.mat"]}, "T2w"),
        ({"Sources": ["sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz"]}, None),
        ({"Sources": ["sub-01_T1w.nii.gz", "bids:freesurfer:sub-01/mri/aseg.mgz"]}, None),
        ({"Sources": ["bids:raw:sub-01/anat/sub-01_desc-synth_T2w.nii.gz"]}, None),
        ({"Sources": []}, None),
        ({"Sources": 3}, None),
        ({}, None),
        ("{", None),
    ],
)
def test_the_source_of_a_mask_is_read_from_its_own_sidecar(
    make_tree: MakeTree, sources: Any, contrast: str | None
) -> None:
    files = {
        "space-T1w_desc-brain_mask.nii.gz": None,
        "space-T1w_desc-brain_mask.json": sources,
        # pybids would let this less specific sidecar win.
        "desc-brain_mask.json": {"Sources": ["sub-01_PDw.nii.gz"]},
    }
    found = find(make_tree, files, maker="hd-bet")
    assert [m.contrast for m in found.masks] == ([contrast] if contrast else [])
    if contrast is None:
        assert any("is not used" in note for note in found.notes)


def test_a_mask_whose_name_and_sources_differ_is_not_used(make_tree: MakeTree) -> None:
    files = {
        "space-T1w_label-brain_desc-fromT1w_mask.nii.gz": None,
        "space-T1w_label-brain_desc-fromT1w_mask.json": {
            "Sources": ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]
        },
    }
    found = find(make_tree, files)
    assert found.masks == ()
    assert "its name says T1w, its Sources say T2w" in found.notes[0]


def test_fmriprep_masks_refined_by_another_contrast_are_not_used(make_tree: MakeTree) -> None:
    files = {
        "desc-brain_mask.nii.gz": None,
        "desc-brain_mask.json": {
            "Sources": ["bids:raw:sub-01/anat/sub-01_T1w.nii.gz", "bids:raw:sub-01_T2w.nii.gz"]
        },
    }
    assert find(make_tree, files, maker="fMRIPrep").masks == ()


@pytest.mark.parametrize(
    ("given", "folder", "title"),
    [
        ("lesions", "manual", "By hand"),
        ("x", "tumorseg", "By hand"),
        ("x", "manual", "Tumour outlines"),
    ],
)
def test_a_dataset_of_lesions_is_known_by_its_name(
    make_tree: MakeTree, given: str, folder: str, title: str
) -> None:
    root = make_tree(
        {
            "sub-01/anat/sub-01_dseg.nii.gz": None,
            "sub-01/anat/sub-01_desc-brain_mask.nii.gz": None,
        },
        name=folder,
        description=made_by("rater", name=title),
    )
    found = find_derivatives([(given, root)], "01", None)
    assert [f.path.name for f in found.lesions] == ["sub-01_dseg.nii.gz"]
    assert found.lesions[0].contrast is None


@pytest.mark.parametrize("maker", ["colapipe", "fMRIPrep"])
def test_tissue_labels_of_a_tumour_study_are_no_lesions(make_tree: MakeTree, maker: str) -> None:
    files = {"space-T1w_desc-fromT1w_dseg.nii.gz": None, "dseg.nii.gz": None}
    assert find(make_tree, files, maker=maker, name="Our tumour study").lesions == ()


def test_lesion_masks_are_known_by_their_label_anywhere(make_tree: MakeTree) -> None:
    files = {"label-lesion_mask.nii.gz": None, "label-lesion_roi.nii.gz": None}
    assert len(find(make_tree, files, maker="rater").lesions) == 2


def test_nothing_is_taken_from_another_session(make_tree: MakeTree) -> None:
    root = make_tree(
        {
            "sub-01/anat/sub-01_desc-brain_mask.nii.gz": None,
            "sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz": None,
            "sub-01/ses-1/anat/sub-01_ses-2_desc-brain_mask.nii.gz": None,
        },
        description=made_by("fMRIPrep"),
    )
    first = find_derivatives([("f", root)], "01", "1")
    assert [m.path.name for m in first.masks] == ["sub-01_ses-1_desc-brain_mask.nii.gz"]
    second = find_derivatives([("f", root)], "01", "2")
    assert second.masks == ()
    assert "belongs to no session" in second.notes[0]


def test_the_dataset_named_first_comes_first(make_tree: MakeTree) -> None:
    name = "sub-01/anat/sub-01_space-T1w_label-brain_desc-fromT1w_mask.nii.gz"
    one, two = (make_tree({name: None}, name=n, description=made_by("colapipe")) for n in "ab")
    for roots in ([("", one), ("b", two)], [("b", two), ("", one)]):
        mask = find_derivatives(roots, "01", None).mask("T1w", "T1w")
        assert mask is not None and mask.dataset == roots[0][0]


def test_a_dataset_without_description_or_participant_is_no_failure(tmp_path: Path) -> None:
    found = find_derivatives([("x", tmp_path)], "01", None)
    assert found.masks == ()
    assert "dataset_description.json: cannot be read" in found.notes[0]
    assert participants_in(tmp_path) == []


def test_a_mask_that_was_not_fetched_is_not_used_with_a_word(make_tree: MakeTree) -> None:
    root = make_tree({"sub-01/anat/x.txt": None}, description=made_by("fMRIPrep"))
    (root / "sub-01/anat/sub-01_desc-brain_mask.nii.gz").symlink_to("none")
    found = find_derivatives([("f", root)], "01", None)
    assert found.masks == () and "content is not here" in found.notes[0]


def test_derivatives_may_be_named(tmp_path: Path) -> None:
    for name in ("fmriprep", "my masks"):
        (tmp_path / name).mkdir()
    assert parse_derivatives([f"prep={tmp_path}/fmriprep", f"{tmp_path}/my masks"]) == [
        ("prep", tmp_path / "fmriprep"),
        ("my-masks", tmp_path / "my masks"),
    ]


def test_derivatives_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    for values in (["a={}", "a={}"], ["raw={}"], ["{}", "{}"], ["{}/none"]):
        with pytest.raises(UsageError, match="--derivatives"):
            parse_derivatives([value.format(tmp_path) for value in values])


@pytest.mark.shared_data
def test_real_tumour_outlines_are_found_as_lesions(shared_data: Path) -> None:
    root = shared_data / "brats_raw" / "derivatives" / "tumorseg"
    for participant in participants_in(root):
        found = find_derivatives([("tumorseg", root)], participant, None)
        assert len(found.lesions) == 1 and found.masks == ()
