"""BET, FLIRT and FAST as nodes: what they are told, what becomes of their answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nipype.pipeline.engine import Node
from scipy import ndimage

from colapipe.anatomy.images import same_grid
from colapipe.anatomy.transforms import read_itk
from colapipe.errors import ColapipeError, MissingToolError, ParticipantError
from colapipe.interfaces import fsl
from colapipe.phantom import SimulatedSubject, simulate_subject
from colapipe.run.fsl import PROGRAMS

# A stand-in for all three programs: it notes how it was called and writes simple answers.
STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
import nibabel as nib, numpy as np

name, words = Path(sys.argv[0]).name, sys.argv[1:]
call = dict(words=words, type=os.environ["FSLOUTPUTTYPE"], fsldir=os.environ["FSLDIR"])
Path("{calls}", name + ".json").write_text(json.dumps(call))
option = lambda flag: words[words.index(flag) + 1]
print("a word on stderr that means nothing", file=sys.stderr)
if name == "bet":
    image = nib.load(words[0])
    mask = (image.get_fdata() > 50).astype(np.int16)
    nib.save(nib.Nifti1Image(mask, image.affine), words[1] + "_mask.nii.gz")
elif name == "flirt":
    Path(option("-omat")).write_text(Path(option("-init")).read_text())
else:
    image = nib.load(words[-1])
    data = image.get_fdata()
    if len(np.unique(data[data > 0])) < 3:
        print("Exception: Not enough classes detected to init KMeans")
        sys.exit(255)
    nib.save(image, option("-o") + "_seg.nii.gz")
    limits = np.quantile(data[data > 0], (1 / 3, 2 / 3))
    numbers = (0, 1, 2) if option("-t") != "2" else (2, 1, 0)
    for number, rank in enumerate(numbers):
        pve = ((np.digitize(data, limits) == rank) & (data > 0)).astype(np.float32)
        pve_file = option("-o") + f"_pve_{{number}}.nii.gz"
        nib.save(nib.Nifti1Image(pve, image.affine), pve_file)
"""

Call = Callable[[str], dict]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Put the stand-in where FSL would be; what comes back tells how a program was called."""
    root = tmp_path / "fsl"
    (root / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        program = root / "bin" / name
        program.write_text(STAND_IN.format(python=sys.executable, calls=tmp_path))
        program.chmod(0o755)
    monkeypatch.setenv("FSLDIR", str(root))
    monkeypatch.setenv("FSLOUTPUTTYPE", "ANALYZE")
    return lambda name: json.loads((tmp_path / f"{name}.json").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a node's folder with a name that FSL's scripts cannot bear."""
    path = tmp_path / "it's a $(node) folder"
    path.mkdir()
    return path


def steps() -> nib.Nifti1Image:
    """Make a scan of three slabs of 100, 200 and 300 along x; oblique, not isotropic."""
    data = np.repeat(np.array([100.0, 200, 300]), 4)[:, None, None] * np.ones((1, 6, 5))
    turn = nib.eulerangles.euler2mat(0.2, -0.1, 0.3)
    affine = nib.affines.from_matvec(turn @ np.diag([-1.0, 1.5, 3.0]), [10, -20, 5])
    return nib.Nifti1Image(data.astype(np.float32), affine)


def save(image: nib.Nifti1Image, path: Path) -> Path:
    nib.save(image, path)
    return path


def ones(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine)


def test_flirt_is_asked_for_a_matrix_and_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("moving.nii", "reference.nii", "weight.nii", "refinement.sch"):
        Path(path).touch()
    given = ("moving.nii", "reference.nii", "start.mat", "result.mat")
    start = [
        *("flirt", "-in", "moving.nii", "-ref", "reference.nii", "-omat", "result.mat"),
        *("-cost", "mutualinfo"),
    ]
    assert fsl.rigid_flirt(*given).cmdline.split() == [
        *start,
        *("-searchcost", "mutualinfo", "-dof", "6", "-init", "start.mat"),
        *("-searchrx", "-30", "30", "-searchry", "-30", "30", "-searchrz", "-30", "30"),
    ]
    # A weight and a search never come together: see `rigid_flirt`.
    assert fsl.rigid_flirt(*given, "weight.nii").cmdline.split() == [
        *start,
        *("-dof", "6", "-init", "start.mat", "-nosearch", "-refweight", "weight.nii"),
        *("-schedule", "refinement.sch"),
    ]


def test_bet_writes_a_mask_on_the_grid_of_the_scan(
    tmp_path: Path, folder: Path, stand_in: Call
) -> None:
    scan = steps()
    path = save(scan, tmp_path / "scan.nii.gz")
    outputs = fsl.BrainMask(in_file=path).run(cwd=str(folder)).outputs
    mask = nib.load(outputs.mask_file)
    assert mask.get_data_dtype() == np.uint8
    assert same_grid(mask, scan)
    assert np.asarray(mask.dataobj).all()
    assert stand_in("bet")["words"] == ["scan.nii", "brain", "-m", "-n"]


def test_the_users_output_type_does_not_matter(
    tmp_path: Path, folder: Path, stand_in: Call
) -> None:
    path = save(steps(), tmp_path / "scan.nii.gz")
    fsl.BrainMask(in_file=path).run(cwd=str(folder))
    assert stand_in("bet")["type"] == "NIFTI_GZ"
    assert os.environ["FSLOUTPUTTYPE"] == "ANALYZE"


def test_fsl_from_path_gets_the_fsldir_that_its_scripts_need(
    tmp_path: Path, folder: Path, stand_in: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FSLDIR")
    monkeypatch.setenv("PATH", f"{tmp_path / 'fsl' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    fsl.BrainMask(in_file=save(steps(), tmp_path / "scan.nii")).run(cwd=str(folder))
    assert stand_in("bet")["fsldir"] == str(tmp_path / "fsl")


def test_a_head_in_which_bet_finds_no_brain_is_named(
    tmp_path: Path, folder: Path, stand_in: Call
) -> None:
    scan = steps()
    dim = nib.Nifti1Image(np.asarray(scan.dataobj) / 10, scan.affine)
    with pytest.raises(ParticipantError, match=r"dim\.nii\.gz: BET finds no brain"):
        fsl.BrainMask(in_file=save(dim, tmp_path / "dim.nii.gz")).run(cwd=str(folder))


def test_flirt_starts_where_the_headers_put_the_scans(
    tmp_path: Path, folder: Path, stand_in: Call
) -> None:
    reference = steps()
    other = nib.Nifti1Image(np.asarray(reference.dataobj)[::-1, :, :4], np.diag([2.0, 2, 2, 1]))
    node = fsl.Register(
        moving=save(other, tmp_path / "moving.nii.gz"),
        reference=save(reference, tmp_path / "reference.nii.gz"),
        reference_mask=save(ones(reference), tmp_path / "mask.nii.gz"),
    )
    outputs = node.run(cwd=str(folder)).outputs
    # The stand-in answers with its start.
    np.testing.assert_allclose(read_itk(outputs.transform), np.eye(4), atol=1e-6)
    assert outputs.identity_kept is False
    words = stand_in("flirt")["words"]
    assert words[words.index("-refweight") + 1] == "weight.nii"


def test_scans_that_are_aligned_keep_their_voxels_and_no_program_runs(
    tmp_path: Path, folder: Path, stand_in: Call
) -> None:
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.normal(size=(48, 48, 48)), 4).astype(np.float32)
    reference = nib.Nifti1Image(blobs - blobs.min(), np.diag([3.0, 3, 3, 1]))
    other = nib.Nifti1Image((blobs.max() - blobs) ** 2, reference.affine)
    node = fsl.Register(
        moving=save(other, tmp_path / "moving.nii.gz"),
        reference=save(reference, tmp_path / "reference.nii.gz"),
        reference_mask=save(ones(reference), tmp_path / "mask.nii.gz"),
    )
    outputs = node.run(cwd=str(folder)).outputs
    assert outputs.identity_kept is True
    np.testing.assert_array_equal(read_itk(outputs.transform), np.eye(4))
    with pytest.raises(FileNotFoundError):
        stand_in("flirt")


@pytest.mark.parametrize(
    ("contrast", "kind", "levels"),
    [
        ("T1w", "1", {"csf": 100, "gm": 200, "wm": 300}),
        ("T1ce", "1", {"csf": 100, "gm": 200, "wm": 300}),
        ("T2w", "2", {"wm": 100, "gm": 200, "csf": 300}),
        ("FLAIR", "2", {"csf": 100, "wm": 200, "gm": 300}),
        ("PDw", "3", {"wm": 100, "gm": 200, "csf": 300}),
    ],
)
def test_tissues_are_what_they_look_like_in_every_contrast(
    tmp_path: Path,
    folder: Path,
    stand_in: Call,
    contrast: str,
    kind: str,
    levels: dict[str, int],
) -> None:
    scan = steps()
    node = fsl.Tissue(
        in_file=save(scan, tmp_path / "scan.nii.gz"),
        mask_file=save(ones(scan), tmp_path / "mask.nii.gz"),
        contrast=contrast,
    )
    outputs = node.run(cwd=str(folder)).outputs
    for name, level in levels.items():
        tissue = nib.load(getattr(outputs, name))
        np.testing.assert_array_equal(tissue.get_fdata() == 1, scan.get_fdata() == level)
        assert same_grid(tissue, scan)
    words = stand_in("fast")["words"]
    assert words[words.index("-t") + 1] == kind
    assert words[words.index("-n") + 1] == "3"


def test_a_program_that_fails_is_quoted(tmp_path: Path, folder: Path, stand_in: Call) -> None:
    scan = steps()
    flat = nib.Nifti1Image(np.where(scan.get_fdata() > 150, 1.0, 0.5), scan.affine)
    node = fsl.Tissue(
        in_file=save(flat, tmp_path / "flat.nii.gz"),
        mask_file=save(ones(scan), tmp_path / "mask.nii.gz"),
        contrast="T1w",
    )
    with pytest.raises(ParticipantError) as caught:
        node.run(cwd=str(folder))
    assert "`fast " in str(caught.value)
    assert "exit code 255" in str(caught.value)


def test_without_fsl_the_error_says_what_to_do(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FSLDIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="--engine builtin"):
        fsl.BrainMask(in_file=save(steps(), tmp_path / "scan.nii")).run(cwd=str(folder))


def test_another_version_of_fsl_computes_anew(tmp_path: Path, stand_in: Call) -> None:
    path = save(steps(), tmp_path / "scan.nii.gz")
    before = fsl.BrainMask(in_file=path).inputs.get_hashval()
    (tmp_path / "fsl" / "etc").mkdir()
    (tmp_path / "fsl" / "etc" / "fslversion").write_text("6.0.7.4")
    assert fsl.BrainMask(in_file=path).inputs.get_hashval() != before
    assert fsl.BrainMask(in_file=path, num_threads=4).inputs.fsl_version == "6.0.7.4"


def test_a_node_of_a_workflow_finds_its_files(tmp_path: Path, stand_in: Call) -> None:
    node = Node(fsl.BrainMask(num_threads=2), name="brain_mask", base_dir=tmp_path / "work dir")
    node.inputs.in_file = save(steps(), tmp_path / "scan.nii.gz")
    outputs = node.run().outputs
    assert Path(outputs.mask_file).is_file()


# From here on with FSL itself, on a simulated head at 3 mm.


@pytest.fixture(scope="module")
def subject() -> SimulatedSubject:
    return simulate_subject(3, ["T1w", "T2w"], resolution=3.0)


@pytest.fixture(scope="module")
def brain_only() -> SimulatedSubject:
    contrasts = ["T1w", "T2w", "FLAIR"]
    return simulate_subject(3, contrasts, resolution=3.0, head=False, coregistered=True)


def stored_as(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """Store an image in another order of its axes, without moving a voxel in the world."""
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    return image.as_reoriented(change)


def as_scaled_integers(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Store an image as int16 with a slope and an intercept."""
    scaled = nib.Nifti1Image(image.get_fdata(), image.affine)
    scaled.header.set_data_dtype(np.int16)
    scaled.header.set_slope_inter(0.5, -100)
    return scaled


@pytest.mark.fsl
@pytest.mark.parametrize(
    ("moving_axes", "reference_axes"),
    [("RAS", "RAS"), ("LAS", "PSR"), ("LIP", "LPS")],
    ids="-".join,
)
def test_flirt_brings_a_moved_head_back_in_any_storage_order(
    subject: SimulatedSubject,
    tmp_path: Path,
    folder: Path,
    moving_axes: str,
    reference_axes: str,
) -> None:
    truth = subject.truth.moving_to_reference["T2w"]
    moving = stored_as(subject.images["T2w"], moving_axes)
    reference = stored_as(subject.images["T1w"], reference_axes)
    brain = stored_as(subject.truth.brain, reference_axes)
    node = fsl.Register(
        moving=save(as_scaled_integers(moving), tmp_path / "moving.nii.gz"),
        reference=save(reference, tmp_path / "reference.nii.gz"),
        reference_mask=save(brain, tmp_path / "brain.nii.gz"),
    )
    found = read_itk(node.run(cwd=str(folder)).outputs.transform)
    points = nib.affines.apply_affine(brain.affine, np.argwhere(brain.get_fdata() > 0))
    moved = nib.affines.apply_affine(found @ np.linalg.inv(truth), points)
    assert np.linalg.norm(moved - points, axis=1).mean() < 1.0  # a third of a voxel


@pytest.mark.fsl
@pytest.mark.parametrize(("contrast", "least"), [("T1w", 0.95), ("T2w", 0.85), ("FLAIR", 0.9)])
def test_fast_finds_the_tissues(
    brain_only: SimulatedSubject, tmp_path: Path, folder: Path, contrast: str, least: float
) -> None:
    own = brain_only
    node = fsl.Tissue(
        in_file=save(own.images[contrast], tmp_path / "scan.nii.gz"),
        mask_file=save(own.truth.brain, tmp_path / "brain.nii.gz"),
        contrast=contrast,
    )
    outputs = node.run(cwd=str(folder)).outputs
    brain = own.truth.brain.get_fdata() > 0
    total = np.zeros(brain.shape)
    for name, fraction in own.truth.tissues.items():
        tissue = nib.load(getattr(outputs, name.lower())).get_fdata()
        similar = np.corrcoef(tissue[brain], fraction.get_fdata()[brain])[0, 1]
        assert similar > least, f"{name}: {similar:.3f}"
        total += tissue
    np.testing.assert_allclose(total[brain], 1, atol=1e-4)
    assert not total[~brain].any()


@pytest.mark.fsl
@pytest.mark.parametrize("axes", ["LAS", "PSR"])
def test_bet_finds_the_brain(
    subject: SimulatedSubject, tmp_path: Path, folder: Path, axes: str
) -> None:
    scan = as_scaled_integers(stored_as(subject.images["T1w"], axes))
    node = fsl.BrainMask(in_file=save(scan, tmp_path / "scan.nii.gz"))
    mask = nib.load(node.run(cwd=str(folder)).outputs.mask_file)
    found = mask.get_fdata() > 0
    brain = stored_as(subject.truth.brain, axes).get_fdata() > 0
    assert 2 * np.sum(found & brain) / (found.sum() + brain.sum()) > 0.85
    assert same_grid(mask, scan)


@pytest.mark.fsl
def test_fast_in_earnest_says_why_it_fails(tmp_path: Path, folder: Path) -> None:
    data = np.ones((12, 12, 12), np.float32)
    data[3] = 2
    flat = nib.Nifti1Image(data, np.eye(4))
    node = fsl.Tissue(
        in_file=save(flat, tmp_path / "flat.nii.gz"),
        mask_file=save(ones(flat), tmp_path / "mask.nii.gz"),
        contrast="T1w",
    )
    with pytest.raises(ColapipeError, match="Not enough classes"):
        node.run(cwd=str(folder))
