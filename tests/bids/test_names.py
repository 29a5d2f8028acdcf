from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from colapipe.bids.names import (
    bids_uri,
    check_synthetic_name,
    contrast_of,
    derivative_path,
    is_synthetic_name,
    parse_name,
    path_patterns,
    report_path,
    synthetic_path,
    template,
    why_not_a_contrast,
)
from colapipe.contrasts import CONTRASTS, TISSUES

Products = Callable[[str, str | None], list[PurePosixPath]]


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (
            derivative_path("01", None, contrast="T2w", space="T1w", desc="preproc"),
            "sub-01/anat/sub-01_space-T1w_desc-preproc_T2w.nii.gz",
        ),
        (
            derivative_path("01", "a", contrast="T1ce", space="T2w", desc="preproc"),
            "sub-01/ses-a/anat/sub-01_ses-a_ce-gadolinium_space-T2w_desc-preproc_T1w.nii.gz",
        ),
        (
            derivative_path("01", None, "mask", space="T1ce", label="brain", desc="fromT1ce"),
            "sub-01/anat/sub-01_space-T1ce_label-brain_desc-fromT1ce_mask.nii.gz",
        ),
        (
            derivative_path("01", None, "dseg", ".tsv", space="T1w", desc="fromT2w"),
            "sub-01/anat/sub-01_space-T1w_desc-fromT2w_dseg.tsv",
        ),
        (
            derivative_path("01", None, "probseg", space="T1w", label="GM", desc="fromT2w"),
            "sub-01/anat/sub-01_space-T1w_label-GM_desc-fromT2w_probseg.nii.gz",
        ),
        (
            derivative_path("01", None, "xfm", ".txt", from_="T1ce", to="T1w", mode="image"),
            "sub-01/anat/sub-01_from-T1ce_to-T1w_mode-image_xfm.txt",
        ),
        (
            derivative_path("01", None, "qc", ".tsv", space="T1w", desc="synth"),
            "sub-01/anat/sub-01_space-T1w_desc-synth_qc.tsv",
        ),
        (
            synthetic_path("01", "02", "T1ce", "T1w", desc="synthstd", extension=".json"),
            "sub-01/ses-02/anat/sub-01_ses-02_ce-gadolinium_space-T1w_desc-synthstd_T1w.json",
        ),
        (report_path("01"), "sub-01.html"),
    ],
)
def test_each_product_has_the_agreed_name(built: PurePosixPath, expected: str) -> None:
    assert str(built) == expected


@pytest.mark.parametrize("session", [None, "02"])
def test_every_name_comes_apart_into_what_it_was_built_from(
    every_product: Products, session: str | None
) -> None:
    for path in every_product("01", session):
        if path.suffix == ".html":
            continue
        name = parse_name(path)
        again = derivative_path(
            "01",
            session,
            name.suffix,
            name.extension,
            contrast=contrast_of({"ce": "x"} if name.get("ce") else {}, name.suffix),
            space=name.get("space"),
            label=name.get("label"),
            desc=name.get("desc"),
            from_=name.get("from"),
            to=name.get("to"),
            mode=name.get("mode"),
        )
        assert again == path


def test_all_products_have_different_names(every_product: Products) -> None:
    paths = every_product("01", None) + every_product("01", "1")
    # The report is one for all sessions.
    assert len(set(paths)) == len(paths) - 1


def test_pybids_builds_the_same_names_from_the_same_patterns() -> None:
    writing = pytest.importorskip("bids.layout.writing")
    entities = {
        "subject": "01",
        "session": "02",
        "ceagent": "gadolinium",
        "space": "T1w",
        "desc": "synth",
        "suffix": "T1w",
        "extension": ".json",
    }
    expected = str(synthetic_path("01", "02", "T1ce", "T1w", extension=".json"))
    assert writing.build_path(entities, list(path_patterns()), strict=True) == expected
    matrix = {"subject": "01", "from": "T2w", "to": "T1w", "mode": "image", "suffix": "xfm"}
    assert writing.build_path(
        {**matrix, "extension": ".mat"}, list(path_patterns()), strict=True
    ) == str(derivative_path("01", None, "xfm", ".mat", from_="T2w", to="T1w", mode="image"))


def test_pybids_indexes_outputs_with_the_configuration(
    make_tree: Callable[..., Path], every_product: Products
) -> None:
    layout = pytest.importorskip("bids.layout")
    files = {str(path): None for path in every_product("01", "02")}
    out = make_tree(files, description={"Name": "x", "BIDSVersion": "1.10.0"})
    indexer = layout.BIDSLayoutIndexer(validate=False, index_metadata=False)
    index = layout.BIDSLayout(
        out, validate=False, config=[template("colapipe.json")], indexer=indexer
    )
    (synthesised,) = index.get(
        suffix="T1w", ceagent="gadolinium", space="T2w", desc="synth", extension=".nii.gz"
    )
    assert synthesised.filename.endswith("_ce-gadolinium_space-T2w_desc-synth_T1w.nii.gz")
    (matrix,) = index.get(**{"from": "FLAIR", "to": "T1w", "extension": ".mat"})
    assert matrix.filename == "sub-01_ses-02_from-FLAIR_to-T1w_mode-image_xfm.mat"


def test_the_patterns_know_all_contrasts_and_tissues() -> None:
    text = "\n".join(path_patterns())
    assert f"{{space<{'|'.join(CONTRASTS)}>}}" in text
    assert f"{{desc<{'|'.join('from' + contrast for contrast in CONTRASTS)}>}}" in text
    assert f"{{label<{'|'.join(TISSUES)}>}}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"suffix": "mask", "space": "T1w", "label": "brain"},
        {"suffix": "mask", "space": "MNI", "label": "brain", "desc": "fromT1w"},
        {"suffix": "mask", "space": "T1w", "label": "brain", "desc": "fromT3w"},
        {"suffix": "xfm", "from_": "T2w", "to": "T1w", "mode": "image"},
        {"suffix": "T2w", "contrast": "T1w", "space": "T1w", "desc": "preproc"},
        {"contrast": "T1map", "space": "T1w", "desc": "preproc"},
        {"contrast": "T1w", "space": "T1w", "desc": "preproc", "label": "brain"},
    ],
)
def test_a_name_that_no_pattern_fits_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        derivative_path("01", None, **arguments)


@pytest.mark.parametrize("label", ["../x", "a_b", "a-b", "", "a b", "ä"])
def test_a_label_that_bids_does_not_know_is_refused(label: str) -> None:
    with pytest.raises(ValueError):
        derivative_path(label, None, contrast="T1w", space="T1w", desc="preproc")


@pytest.mark.parametrize("desc", ["preproc", "fromT1w", "T1w"])
def test_a_synthesised_image_never_gets_the_name_of_a_scan(desc: str) -> None:
    with pytest.raises(ValueError):
        synthetic_path("01", None, "T2w", "T1w", desc=desc)


def test_an_image_without_any_description_is_never_named() -> None:
    with pytest.raises(ValueError):
        derivative_path("01", None, contrast="T2w", space="T1w")


@pytest.mark.parametrize(
    ("name", "synthetic"),
    [
        ("sub-01_space-T1w_desc-synth_T2w.nii.gz", True),
        ("sub-01_space-T1w_desc-synthstd_T2w.json", True),
        ("sub-01_space-T1w_desc-preproc_T2w.nii.gz", False),
        ("sub-01_space-T1w_desc-synth_qc.tsv", False),
        ("notes.txt", False),
    ],
)
def test_names_of_synthesised_images_are_recognised(name: str, synthetic: bool) -> None:
    assert is_synthetic_name(name) is synthetic
    if not synthetic:
        with pytest.raises(ValueError, match="desc-synth"):
            check_synthetic_name(name)


def test_a_name_keeps_the_order_of_its_entities() -> None:
    name = parse_name("sub-01/ses-2/anat/sub-01_ses-2_acq-hi_run-02_T1w.nii.gz")
    assert list(name.values.items()) == [
        ("sub", "01"),
        ("ses", "2"),
        ("acq", "hi"),
        ("run", "02"),
    ]
    assert (name.suffix, name.extension) == ("T1w", ".nii.gz")


@pytest.mark.parametrize(
    "name", ["sub-01_old_T1w.nii.gz", "sub-01_sub-01_T1w.nii", "sub-01_T1w copy.nii", ".nii.gz"]
)
def test_what_is_not_a_bids_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("sub-01_T1w", "T1w"),
        ("sub-01_part-mag_T2w", "T2w"),
        ("sub-01_ce-gd_T1w", "T1ce"),
        ("sub-01_ce-gadolinium_part-mag_T1w", "T1ce"),
        ("sub-01_PDw", "PDw"),
        ("sub-01_acq-space_FLAIR", "FLAIR"),
        ("sub-01_part-phase_T1w", None),
        ("sub-01_part-real_T1w", None),
        ("sub-01_ce-gd_FLAIR", None),
        ("sub-01_desc-synth_T2w", None),
        ("sub-01_T1map", None),
        ("sub-01_T2starw", None),
    ],
)
def test_the_contrast_is_read_from_the_name(name: str, contrast: str | None) -> None:
    parsed = parse_name(name + ".nii.gz")
    assert contrast_of(parsed.values, parsed.suffix) == contrast
    reason = why_not_a_contrast(parsed.values, parsed.suffix)
    assert bool(reason) is (contrast is None)


def test_uris_name_the_dataset() -> None:
    assert bids_uri("sub-01/anat/x.nii.gz", "raw") == "bids:raw:sub-01/anat/x.nii.gz"
    assert bids_uri(PurePosixPath("sub-01/x.json")) == "bids::sub-01/x.json"
