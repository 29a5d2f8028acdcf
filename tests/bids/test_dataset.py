from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import colapipe
from colapipe.bids import dataset, sidecars
from colapipe.bids.dataset import ensure_outside, validate, write_dataset_description
from colapipe.bids.names import bids_uri, contrast_of, parse_name
from colapipe.errors import UsageError

MakeTree = Callable[..., Path]
MODEL = {"name": "cola-small", "sha256": "ab" * 32, "licence": "CC0"}
GRID: Any = ((2, 2, 2), np.eye(4))
INFO: dict[str, Any] = {
    "model": MODEL,
    "contrasts": ["T1w"],
    "sampler": "ddim",
    "steps": 10,
    "samples": 2,
    "seed": 0,
    "slices": [0, 1],
    "device": "cpu",
    "precision": "float32",
}


def description(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "dataset_description.json").read_text())
    return content


def tools(out: Path) -> dict[str, str | None]:
    return {tool["Name"]: tool.get("Version") for tool in description(out)["GeneratedBy"]}


def describe(out: Path, raw: Path, model: Any = None, **options: Any) -> list[str]:
    return write_dataset_description(out, raw, "builtin", "0.1.0", model, **options)


@pytest.fixture
def raw(make_tree: MakeTree) -> Path:
    return make_tree({"sub-01/anat/sub-01_T1w.nii.gz": None}, name="raw")


def test_the_description_says_what_made_the_outputs_and_from_what(
    tmp_path: Path, raw: Path
) -> None:
    out = tmp_path / "out" / "colapipe"
    masks = tmp_path / "masks"
    assert describe(out, raw, MODEL, derivatives=[("masks", masks)]) == []
    content = description(out)
    assert content["DatasetType"] == "derivative"
    assert content["BIDSVersion"] == "1.10.0"
    assert tools(out)["colapipe"] == colapipe.__version__
    assert tools(out)["CoLa-Diff"] == "ab" * 32
    assert {"deepbet", "SimpleITK"} <= set(tools(out))
    assert content["DatasetLinks"] == {"raw": "../../raw", "masks": "../../masks"}
    assert content["SourceDatasets"] == [{"URL": "../../raw", "Name": "Test"}]


def test_the_fsl_engine_is_named_with_its_version(tmp_path: Path, raw: Path) -> None:
    write_dataset_description(tmp_path / "out", raw, "fsl", "6.0.7")
    assert tools(tmp_path / "out")["FSL"] == "6.0.7"
    assert "deepbet" not in tools(tmp_path / "out")


def test_what_is_known_of_the_source_is_repeated(tmp_path: Path, make_tree: MakeTree) -> None:
    known = {"Name": "R", "BIDSVersion": "1.8.0", "DatasetDOI": "doi:10.1/x"}
    describe(tmp_path / "out", make_tree({}, description=known))
    assert description(tmp_path / "out")["SourceDatasets"][0]["DOI"] == "doi:10.1/x"


def test_a_second_run_completes_the_description(tmp_path: Path, raw: Path) -> None:
    out = tmp_path / "out"
    describe(out, raw, MODEL)
    content = description(out)
    content |= {"Authors": ["A"], "Name": "Mine"}
    content["GeneratedBy"].append({"Name": "Manual", "Description": "masks corrected"})
    content["DatasetLinks"]["old"] = "../old"
    (out / "dataset_description.json").write_text(json.dumps(content))
    (out / ".bidsignore").write_text("mine\n*.html\n")
    assert describe(out, raw) == []
    again = description(out)
    assert again["Authors"] == ["A"] and again["Name"] == "Mine"
    assert {"CoLa-Diff", "Manual"} <= set(tools(out))
    assert again["DatasetLinks"] == {"raw": "../raw", "old": "../old"}
    lines = (out / ".bidsignore").read_text().splitlines()
    assert lines[:2] == ["mine", "*.html"] and set(dataset.BIDSIGNORE) < set(lines)


def test_a_run_that_changes_nothing_writes_nothing(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(tmp_path / "out", raw, MODEL)

    def refuse(*_: Any) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(dataset, "write_text", refuse)
    monkeypatch.setattr(dataset, "write_json", refuse)
    describe(tmp_path / "out", raw, MODEL)


def test_jobs_of_an_array_do_not_disturb_each_other(tmp_path: Path, raw: Path) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor(8) as pool:
        warnings = list(pool.map(lambda _: describe(out, raw, MODEL), range(40)))
    assert not any(warnings)
    assert tools(out)["CoLa-Diff"] == MODEL["sha256"]
    assert sorted(path.name for path in out.iterdir()) == [
        ".bidsignore",
        "dataset_description.json",
    ]


def test_outputs_of_another_version_are_a_warning(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(tmp_path / "out", raw)
    monkeypatch.setattr(colapipe, "__version__", "9.9")
    (warning,) = describe(tmp_path / "out", raw)
    assert "9.9" in warning and "use another output folder" in warning
    assert tools(tmp_path / "out")["colapipe"] == "9.9"


def test_outputs_of_another_dataset_are_a_warning(
    tmp_path: Path, raw: Path, make_tree: MakeTree
) -> None:
    out = tmp_path / "out"
    describe(out, raw)
    other = make_tree({}, name="other")
    (warning,) = describe(out, other)
    assert "outputs of another dataset" in warning


def test_the_same_dataset_mounted_elsewhere_is_no_warning(tmp_path: Path, raw: Path) -> None:
    out = tmp_path / "out"
    describe(out, raw)
    assert describe(out, raw.rename(tmp_path / "mounted")) == []
    assert description(out)["DatasetLinks"]["raw"] == "../mounted"


def test_a_broken_description_is_written_anew(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_description.json").write_text("{")
    (warning,) = describe(tmp_path / "out", raw)
    assert "is not JSON" in warning
    assert tools(tmp_path / "out")["colapipe"]


@pytest.mark.parametrize("where", [".", "out", "sub-01", "derivatives", "code/derivatives/x"])
def test_the_dataset_itself_is_never_written_to(raw: Path, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        ensure_outside(raw / where, raw)
    assert str(raw / "derivatives" / "colapipe") in str(caught.value)


@pytest.mark.parametrize("where", ["derivatives/colapipe", "derivatives/a/b", "../out", ".."])
def test_outputs_may_be_outside_or_under_derivatives(raw: Path, where: str) -> None:
    ensure_outside(raw / where, raw, raw.parent / "work")


def test_a_link_into_the_dataset_is_inside_it(tmp_path: Path, raw: Path) -> None:
    (tmp_path / "link").symlink_to(raw)
    with pytest.raises(UsageError):
        ensure_outside(tmp_path / "link" / "out", raw)


@pytest.mark.parametrize("where", [".", "work", "derivatives/colapipe/work"])
def test_the_work_folder_is_outside_the_dataset(tmp_path: Path, raw: Path, where: str) -> None:
    with pytest.raises(UsageError, match="--work-dir"):
        ensure_outside(tmp_path / "out", raw, raw / where)


@pytest.mark.parametrize(
    ("existing", "allowed"),
    [
        ({"GeneratedBy": [{"Name": "fMRIPrep"}]}, False),
        ({"DatasetType": "raw"}, False),
        ({"GeneratedBy": [{"Name": "FSL"}, {"Name": "colapipe"}]}, True),
    ],
)
def test_a_folder_of_another_app_is_refused(
    raw: Path, make_tree: MakeTree, existing: dict[str, Any], allowed: bool
) -> None:
    out = make_tree({}, name="other", description={"Name": "x", "BIDSVersion": "1", **existing})
    if allowed:
        ensure_outside(out, raw)
    else:
        with pytest.raises(UsageError, match="output folder of its own"):
            ensure_outside(out, raw)


def write_product(out: Path, path: PurePosixPath) -> None:
    """Write a file as the app writes it, on a grid of 2x2x2 voxels."""
    target = out / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".nii.gz"):
        name = parse_name(path)
        is_label = name.suffix in ("mask", "dseg")
        image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8 if is_label else np.float32), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        target.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
    elif path.suffix == ".json":
        sidecars.write_json(target, sidecar_of(path))
    elif path.name.endswith("dseg.tsv"):
        sidecars.write_text(target, sidecars.dseg_table(lesion=True))
    else:
        sidecars.write_text(target, "contrast\tpsnr\nT2w\t20\n")


def sidecar_of(path: PurePosixPath) -> dict[str, Any]:
    """Describe a product as the app would."""
    name = parse_name(path)
    raw_scan = f"{path.parent}/{name.suffix}.nii.gz"
    given: dict[str, Any] = {
        "sources": [bids_uri(raw_scan, "raw"), bids_uri(path.with_suffix(".x"))],
        "spatial_reference": bids_uri(raw_scan, "raw"),
    }
    engine: dict[str, Any] = {"engine": "builtin", "engine_version": "0.1.0"}
    space = name.get("space") or ""
    source = (name.get("desc") or "").removeprefix("from")
    contrast = contrast_of({"ce": "x"} if name.get("ce") else {}, name.suffix) or ""
    other = "T2w" if contrast == "T1w" else "T1w"
    synthetic: dict[str, Any] = {
        "info": {**INFO, "contrasts": [other]},
        "tissue_source": other,
        "lesion_conditioning": True,
    }
    if name.suffix == "xfm":
        return sidecars.xfm(
            "T2w",
            "T1w",
            sources=given["sources"],
            moving_grid=GRID,
            reference_grid=GRID,
            moving_to_reference=np.eye(4),
            **engine,
        )
    if name.suffix == "qc":
        return sidecars.qc({"psnr": "dB"})
    if name.get("label") == "lesion":
        return sidecars.lesion_mask(space, **given)
    if name.suffix == "mask":
        return sidecars.brain_mask(source, space, **given, **engine)
    if name.suffix == "dseg":
        return sidecars.dseg(source, space, **given, **engine, lesion=True)
    if name.suffix == "probseg":
        return sidecars.probseg(name.get("label") or "", source, space, **given, **engine)
    if name.get("desc") == "preproc":
        return sidecars.preproc(contrast, space, **given, **engine, resampled=True)
    build = sidecars.synth if name.get("desc") == "synth" else sidecars.synthstd
    return build(contrast, space, **given, **synthetic, model_grid=GRID)


@pytest.fixture
def validator() -> Callable[[Path], dataset.Validation]:
    """Return the validator, or skip the test where it is not installed."""

    def check(root: Path) -> dataset.Validation:
        result = validate(root)
        if result is None:
            pytest.skip("bids-validator-deno is not installed (extra: validate)")
        return result

    return check


@pytest.mark.parametrize("session", [None, "02"])
def test_the_validator_finds_no_error_in_a_tree_of_every_product(
    tmp_path: Path,
    raw: Path,
    every_product: Callable[[str, str | None], list[PurePosixPath]],
    validator: Callable[[Path], dataset.Validation],
    session: str | None,
) -> None:
    out = tmp_path / "out"
    describe(out, raw, MODEL, derivatives=[("masks", tmp_path / "masks")])
    for path in every_product("01", session):
        write_product(out, path)
    for other in ("logs/run/colapipe.toml", "sub-01/figures/x.svg", "logs/CITATION.md"):
        sidecars.write_text(out / other, "x\n")
    result = validator(out)
    assert result.errors == ()
    assert not any("UNKNOWN" in warning or "SIDECAR" in warning for warning in result.warnings)


def test_the_validator_is_not_blind(
    tmp_path: Path, raw: Path, validator: Callable[[Path], dataset.Validation]
) -> None:
    out = tmp_path / "out"
    describe(out, raw, MODEL)
    name = "sub-01/anat/sub-01_space-T1w_desc-synth_T2w"
    write_product(out, PurePosixPath(f"{name}.nii.gz"))
    for slip in ("SkullStripped", "SpatialReference"):
        content = sidecar_of(PurePosixPath(f"{name}.json"))
        del content[slip]
        sidecars.write_json(out / f"{name}.json", content)
        assert any(slip in error for error in validator(out).errors)


def test_without_the_validator_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_VALIDATOR", "no-such-program")
    assert validate(tmp_path) is None


def test_a_validator_that_fails_is_a_warning(
    tmp_path: Path, validator: Callable[[Path], dataset.Validation]
) -> None:
    result = validator(tmp_path / "missing")
    assert result.errors == ()
    assert "could not check" in result.warnings[0]


@pytest.mark.shared_data
def test_the_real_raw_datasets_have_no_error(
    shared_data: Path, validator: Callable[[Path], dataset.Validation]
) -> None:
    assert validator(shared_data / "stroke").errors == ()
