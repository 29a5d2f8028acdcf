"""The cache of slices: who is read, what its index says, and who is missed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.cli.model import main
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.slices import (
    CropBox,
    ModelGrid,
    crop,
    from_model_grid,
    mask_to_model_grid,
    paste_back,
)
from colapipe.training.cache import build_cache, cache_split
from colapipe.training.store import SliceStore, read_index


def no_tissues(image: nib.Nifti1Image, mask: nib.Nifti1Image, contrast: str) -> np.ndarray:
    return np.zeros((*image.shape, 3), dtype=np.float32)


@pytest.fixture
def unsegmented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the segmentation where it cannot be passed as an argument."""
    monkeypatch.setattr("colapipe.anatomy.tissue.segment_tissue", no_tissues)


def names(folder: Path) -> set[str]:
    found = {path.stem for path in folder.glob("sub-*.npy") if "histograms" not in path.name}
    assert found == set(read_index(folder))
    return found


def test_only_the_participants_that_are_asked_for_are_read(dataset: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    wanted = ("03", "of another dataset")
    build_cache(dataset, tmp_path, no_tissues, lines.append, participants=wanted)
    assert names(tmp_path) == {"sub-03"} and lines == ["reading sub-03"]
    # Others can be added, and nobody is read twice.
    build_cache(dataset, tmp_path, no_tissues, lines.append, participants=("01", "03"))
    assert names(tmp_path) == {"sub-01", "sub-03"} and lines[1:] == ["reading sub-01"]
    build_cache(dataset, tmp_path, no_tissues, lines.append)
    assert names(tmp_path) == {"sub-01", "sub-02", "sub-03"}


def test_a_dataset_with_nobody_of_the_split_leaves_an_empty_cache(
    dataset: Path, tmp_path: Path
) -> None:
    build_cache(dataset, tmp_path, no_tissues, participants=())
    assert len(SliceStore(tmp_path)) == 0


def test_who_is_in_no_dataset_is_named_in_a_warning(
    unsegmented: None, dataset: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    cache_split([dataset], tmp_path / "slices", ("01", "98", "99"), lines.append)
    assert names(tmp_path / "slices") == {"sub-01"}
    (warning,) = (line for line in lines if line.startswith("warning:"))
    assert "sub-98, sub-99" in warning and "sub-01" not in warning
    # The cache alone will do.
    lines.clear()
    cache_split([], tmp_path / "slices", ("01",), lines.append)
    assert lines == []
    with pytest.raises(UsageError, match="no cached slices; name a dataset"):
        cache_split([], tmp_path / "nothing", ("01",))


def test_the_index_says_where_on_the_scan_the_slices_lie(dataset: Path, tmp_path: Path) -> None:
    build_cache(dataset, tmp_path, no_tissues, participants=("02",))
    assert json.loads((tmp_path / "index.json").read_text())["format_version"] == 3
    entry = read_index(tmp_path)["sub-02"]
    grid, box = ModelGrid.from_dict(entry["grid"]), CropBox.from_dict(entry["box"])
    scan = nib.load(dataset / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    brain = nib.Nifti1Image((scan.get_fdata() > 0).astype(np.uint8), scan.affine)
    cached = np.load(tmp_path / "sub-02.npy")[:, -1] >> CONTRASTS.index("T1w") & 1
    on_slices = crop(mask_to_model_grid(brain, grid), box)[:, :, entry["slices"]]
    assert on_slices.any() and np.array_equal(np.moveaxis(on_slices, 2, 0), cached)
    # And back: to where the scan has its brain.
    whole = np.zeros((box.size, box.size, grid.shape[2]), np.uint8)
    whole[:, :, entry["slices"]] = np.moveaxis(cached, 0, 2)
    back = from_model_grid(paste_back(whole, box, grid.shape), grid, scan, order=0)
    assert np.array_equal(back.get_fdata() > 0, brain.get_fdata() > 0)


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_cache_of_another_version_is_refused(version: int, dataset: Path, tmp_path: Path) -> None:
    """Its intensities are not those that the app shows a model."""
    build_cache(dataset, tmp_path, no_tissues, participants=("01",))
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": version}))
    for read in (SliceStore, lambda folder: build_cache(dataset, folder, no_tissues)):
        with pytest.raises(DatasetError, match=f"format version {version}"):
            read(tmp_path)


def test_training_reads_the_participants_of_its_split_and_misses_who_is_not_there(
    unsegmented: None, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01", "77"], "validation": ["03"]}))
    command = f"train --data {dataset} --out {tmp_path / 'out'} --split {split} --preset nano "
    assert main([*command.split(), "--iterations", "1", "--batch-size", "1"]) == 0
    assert names(tmp_path / "out" / "slices") == {"sub-01", "sub-03"}
    printed = capsys.readouterr().out
    assert "warning: no slices of sub-77" in printed
