"""What goes wrong ends in one clear message and the right exit code; the others are complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.coladiff.presets import write_nano_checkpoint


def copy_of(simulated: Path, folder: Path) -> Path:
    """Copy the participants that the tests below break (01) and look at (02)."""
    for name in ("dataset_description.json", "participants.tsv", "sub-01", "sub-02"):
        source = simulated / name
        folder.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_series(path: Path) -> None:
    image = nib.load(path)
    data = np.stack([np.asarray(image.dataobj)] * 5, axis=-1)
    nib.save(nib.Nifti1Image(data, image.affine), path)


def put_nan(path: Path) -> None:
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    data[5:9, 5:9, 5:9] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), path)


def zero(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), path)


def write_words(path: Path) -> None:
    path.write_text("not an image")


def remove(path: Path) -> None:
    path.unlink()
    path.with_name(path.name.partition(".")[0] + ".json").unlink()


def lock(path: Path) -> None:
    path.chmod(0)


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "truncated"),
    "series": (make_series, "5 volumes"),
    "nan": (put_nan, "NaN"),
    "zero": (zero, "every voxel is zero"),
    "words": (write_words, "not a gzip file"),
    "locked": (lock, "ermission"),
}


def without_rights() -> tuple[str, ...]:
    """Return a prefix that takes root's right to read everything away."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return ()
    rights = "-dac_override,-dac_read_search"
    return ("setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}")


@pytest.fixture(scope="module")
def broken_run(app, simulated, quick, tmp_path_factory):
    """One run over a dataset in which all but one participant have a T1w that is broken."""
    raw = copy_of(simulated, tmp_path_factory.mktemp("broken") / "raw")
    for case, (break_it, _) in BROKEN.items():
        folder = raw / f"sub-{case}" / "anat"
        folder.mkdir(parents=True)
        for source in (raw / "sub-01" / "anat").iterdir():
            shutil.copy(source, folder / source.name.replace("sub-01", f"sub-{case}"))
        break_it(folder / f"sub-{case}_T1w.nii.gz")
    shutil.rmtree(raw / "sub-01")
    out = raw.parent / "out"
    arguments = (raw, out, *quick, "--target", "PDw", "-w", raw.parent / "work")
    return app(*arguments, prefix=without_rights()), out


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_scan_fails_its_participant_with_a_message(case, broken_run):
    result, out = broken_run
    if case == "locked" and os.geteuid() == 0 and not without_rights():
        pytest.skip("root may read everything, and there is no setpriv to change that")
    assert result.code == 1, result.text
    name, words = f"sub-{case}_T1w.nii.gz", BROKEN[case][1]
    assert any(name in line and words in line for line in result.text.splitlines()), result.text
    assert "Traceback" not in result.text
    assert not list(out.glob(f"sub-{case}/**/*desc-synth*"))
    assert name in (out / f"sub-{case}.html").read_text()


def test_the_participants_whose_scans_are_whole_are_complete(broken_run):
    _, out = broken_run
    assert (out / "sub-02/anat/sub-02_space-T1w_desc-synth_PDw.nii.gz").is_file()
    assert (out / "sub-02.html").is_file()


def test_missing_sources_fail_a_named_target(app, simulated, quick, tmp_path):
    raw = copy_of(simulated, tmp_path / "raw")
    for contrast in ("T1w", "FLAIR"):
        remove(raw / "sub-01" / "anat" / f"sub-01_{contrast}.nii.gz")
    out = tmp_path / "out"
    result = app(raw, out, *quick, "--target", "T2w", "--evaluate", "-w", tmp_path / "work")
    assert result.code == 1, result.text
    assert "sub-01: T2w cannot be synthesised" in result.text
    assert (out / "sub-02/anat/sub-02_space-T1w_desc-synth_T2w.nii.gz").is_file()


def may_unshare(*options: str) -> bool:
    program = shutil.which("unshare")
    return program is not None and (
        subprocess.run([program, *options, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.skipif(not may_unshare("-m"), reason="no right to mount a small disk (unshare -m)")
@pytest.mark.parametrize("full", ["out", "work"])
def test_a_full_disk_is_said_and_ends_with_74(full, app, simulated, quick, tmp_path):
    small = tmp_path / full
    small.mkdir()
    mount = f"mount -t tmpfs -o size=1200k tmpfs '{small}' && exec \"$@\""
    result = app(
        *(simulated, tmp_path / "out", *quick, "--target", "PDw", "-w", tmp_path / "work"),
        *("--participant-label", "02"),
        prefix=("unshare", "-m", "sh", "-c", mount, "sh"),
    )
    assert result.code == 74, result.text
    assert "No space left" in result.text
    assert "Traceback" not in result.text


@pytest.mark.skipif(not may_unshare("-n"), reason="no right to cut the network off (unshare -n)")
def test_a_run_needs_no_network(app, simulated, quick, tmp_path):
    result = app(
        *(simulated, tmp_path / "out", *quick, "--participant-label", "02", "-w", tmp_path / "w"),
        prefix=("unshare", "-n"),
    )
    assert result.code == 0, result.text
    assert list((tmp_path / "out").glob("sub-02/anat/*desc-synth_T2w.nii.gz"))


def test_an_empty_dataset_ends_with_65(app, quick, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    result = app(raw, tmp_path / "out", *quick)
    assert (result.code, len(result.text.splitlines())) == (65, 1), result.text
    assert "empty" in result.text


def test_a_folder_that_is_no_dataset_ends_with_65(app, quick, tmp_path):
    (tmp_path / "raw").mkdir()
    result = app(tmp_path / "raw", tmp_path / "out", *quick)
    assert (result.code, len(result.text.splitlines())) == (65, 1), result.text
    assert "dataset_description.json" in result.text


def test_an_unknown_participant_ends_with_2_and_near_matches(app, simulated, quick, tmp_path):
    result = app(simulated, tmp_path / "out", *quick, "--participant-label", "sub-1")
    assert (result.code, len(result.text.splitlines())) == (2, 1), result.text
    assert "01" in result.text


def test_a_target_that_the_model_does_not_know_ends_with_2(app, simulated, quick, tmp_path):
    model = write_nano_checkpoint(tmp_path / "two.safetensors", contrasts=("T1w", "T2w"))
    result = app(simulated, tmp_path / "out", *quick, "--target", "PDw", "--model", model)
    assert (result.code, len(result.text.splitlines())) == (2, 1), result.text
    assert "T1w, T2w" in result.text


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle, perhaps", b"\xff" * 4096])
def test_weights_that_are_none_end_with_66(content, app, simulated, quick, tmp_path):
    model = tmp_path / "weights.safetensors"
    model.write_bytes(content)
    result = app(simulated, tmp_path / "out", *quick, "--model", model)
    assert (result.code, len(result.text.splitlines())) == (66, 1), result.text
    assert "weights.safetensors" in result.text


def test_fsl_that_is_not_there_ends_with_69(app, simulated, quick, tmp_path):
    result = app(
        *(simulated, tmp_path / "out", *quick, "--engine", "fsl"),
        FSLDIR="",
        PATH=str(Path(sys.executable).parent),
    )
    assert (result.code, len(result.text.splitlines())) == (69, 1), result.text
    assert "flirt" in result.text and "builtin" in result.text


def test_output_inside_the_input_ends_with_2(app, simulated, quick):
    result = app(simulated, simulated / "out", *quick)
    assert (result.code, len(result.text.splitlines())) == (2, 1), result.text
    assert not (simulated / "out").exists()


def test_an_output_that_cannot_be_created_ends_with_73(app, simulated, quick, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = app(simulated, tmp_path / "file" / "out", *quick, "-w", tmp_path / "work")
    assert (result.code, len(result.text.splitlines())) == (73, 1), result.text


def test_a_gpu_that_is_not_there_ends_with_2(app, simulated, quick, tmp_path):
    result = app(
        *(simulated, tmp_path / "out", *quick, "--device", "cuda:9"), CUDA_VISIBLE_DEVICES=""
    )
    assert (result.code, len(result.text.splitlines())) == (2, 1), result.text


def test_existing_outputs_survive_a_failed_run(app, simulated, quick, tmp_path, fingerprints):
    raw = copy_of(simulated, tmp_path / "raw")
    shutil.rmtree(raw / "sub-02")
    out = tmp_path / "out"
    arguments = (raw, out, *quick, "--target", "PDw", "-w", tmp_path / "work")
    assert app(*arguments).code == 0
    before = fingerprints(out)
    truncate(raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert app(*arguments).code == 1
    assert fingerprints(out) == before
