"""The simulated scans: physics, anatomy, geometry, and the dataset that they make on disk."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("nilearn", reason="nilearn, which brings the template brain, is not installed")

from colapipe.anatomy.resample import resample
from colapipe.anatomy.transforms import read_fsl, read_itk
from colapipe.contrasts import CONTRASTS, TISSUES, intensity_order
from colapipe.errors import MissingToolError, OutputError, UsageError
from colapipe.phantom import SimulatedSubject, simulate_dataset, simulate_subject
from colapipe.phantom.anatomy import load_template, make_head, smooth_field
from colapipe.phantom.defaults import default_missing
from colapipe.phantom.signals import (
    SEQUENCES,
    TISSUE_VALUES,
    Tissue,
    inversion_recovery,
    signal,
    spin_echo,
    with_gadolinium,
)

WATER = Tissue(t1=1.0, t2=0.1, pd=0.5)
COARSE = 4.0  # mm; a subject takes a fraction of a second


def voxels(image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(image.dataobj)


@pytest.fixture(scope="module")
def subject() -> SimulatedSubject:
    """One subject at 3 mm with all contrasts and a lesion."""
    return simulate_subject(7, resolution=3.0, lesion=True)


@pytest.fixture(scope="module")
def perfect() -> SimulatedSubject:
    """The same kind of subject, without noise and bias field."""
    return simulate_subject(7, resolution=2.0, noise=0.0, bias=0.0)


def test_spin_echo_by_hand() -> None:
    # 0.5 (1 - e^-1) e^-1
    assert spin_echo(WATER, tr=1.0, te=0.1) == pytest.approx(0.1162721, abs=1e-7)


def test_inversion_recovery_by_hand() -> None:
    # 0.5 (1 - 2 e^-1 + e^-3) e^-1, and 0.5 (1 - 2 e^-0.1 + e^-3) e^0, still below zero
    assert inversion_recovery(WATER, tr=3.0, te=0.1, ti=1.0) == pytest.approx(0.0577623, abs=1e-7)
    assert inversion_recovery(WATER, tr=3.0, te=0.0, ti=0.1) == pytest.approx(-0.3799439, abs=1e-7)


def nulling_time(t1: float, tr: float) -> float:
    """Return the inversion time, in seconds, at which a tissue of this T1 gives no signal."""
    return t1 * (math.log(2) - math.log1p(math.exp(-tr / t1)))


def test_a_tissue_vanishes_at_its_nulling_time() -> None:
    time = nulling_time(WATER.t1, tr=3.0)
    assert inversion_recovery(WATER, tr=3.0, te=0.0, ti=time) == pytest.approx(0, abs=1e-12)


def test_gadolinium_by_hand() -> None:
    # 1 / (1 / 1 + 4.97 * 0.2)
    assert with_gadolinium(WATER, 0.2).t1 == pytest.approx(0.5015045, abs=1e-7)


def test_flair_is_timed_to_null_fluid() -> None:
    flair = SEQUENCES["FLAIR"]
    assert flair.ti == pytest.approx(nulling_time(TISSUE_VALUES["CSF"].t1, flair.tr), abs=0.01)


def test_every_contrast_has_a_sequence() -> None:
    assert set(SEQUENCES) == set(CONTRASTS)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_pure_tissues_are_as_bright_as_the_contrast_says(contrast: str) -> None:
    values = [abs(signal(tissue, SEQUENCES[contrast])) for tissue in intensity_order(contrast)]
    assert values == sorted(values)
    assert values[1] > 1.1 * values[0] and values[2] > 1.1 * values[1]


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_scans_look_as_their_contrast_says(subject: SimulatedSubject, contrast: str) -> None:
    truth = subject.truth
    moved = voxels(
        resample(
            subject.images[contrast],
            truth.brain,
            truth.moving_to_reference[contrast],
            interpolation="linear",
        )
    )
    # Deep in the brain, where no voxel of a tilted grid reaches into the skull.
    inside = ndimage.binary_erosion(voxels(truth.brain), iterations=4) & (voxels(truth.lesion) == 0)
    means = [
        float(np.median(moved[inside & (voxels(truth.tissues[tissue]) > 0.95)]))
        for tissue in intensity_order(contrast)
    ]
    assert means == sorted(means)


def test_fluid_is_bright_on_t2w_and_dark_on_t1w_and_flair(perfect: SimulatedSubject) -> None:
    fluid = voxels(perfect.truth.tissues["CSF"]) > 0.99
    white = voxels(perfect.truth.tissues["WM"]) > 0.99
    ratio = {
        c: np.median(voxels(image)[fluid]) / np.median(voxels(image)[white])
        for c, image in perfect.truth.clean.items()
    }
    assert ratio["T2w"] > 2
    assert ratio["T1w"] < 0.2 and ratio["FLAIR"] < 0.1


def test_lesions_shine_on_flair_and_their_core_after_gadolinium() -> None:
    taken = dict(resolution=2.0, noise=0.0, bias=0.0, coregistered=True, head=False)
    ill = simulate_subject(3, lesion=True, **taken)
    well = simulate_subject(3, lesion=False, **taken)
    lesion = voxels(ill.truth.lesion) > 0
    volume_ml = lesion.sum() * 8 / 1000
    assert 0.5 < volume_ml < 20

    def gain(contrast: str, percentile: float) -> float:
        ratio = voxels(ill.images[contrast])[lesion] / voxels(well.images[contrast])[lesion]
        return float(np.percentile(ratio, percentile))

    assert gain("FLAIR", 50) > 1.2 and gain("T2w", 50) > 1.4
    assert gain("T1w", 50) < 0.9 and gain("T1w", 99) < 1.05
    assert gain("T1ce", 99) > 1.5
    far = voxels(ill.truth.brain).astype(bool) & ~lesion
    changed = voxels(ill.images["FLAIR"])[far] != voxels(well.images["FLAIR"])[far]
    assert changed.mean() < 0.02


def test_lesions_grow_from_session_to_session() -> None:
    volumes = [
        voxels(
            simulate_subject(
                3, ["T1w"], session=s, resolution=2.0, lesion=True, coregistered=True
            ).truth.lesion
        ).sum()
        for s in (1, 2, 3)
    ]
    assert volumes[0] < volumes[1] < volumes[2]


@pytest.mark.parametrize("contrast", ["T2w", "T1ce", "FLAIR", "PDw"])
def test_the_true_matrix_moves_a_scan_onto_the_reference(
    perfect: SimulatedSubject, contrast: str
) -> None:
    truth = perfect.truth
    brain = voxels(truth.brain) > 0
    clean = voxels(truth.clean[contrast])

    def error(matrix: np.ndarray) -> float:
        moved = resample(perfect.images[contrast], truth.brain, matrix, interpolation="linear")
        difference = (voxels(moved) - clean)[brain]
        return float(np.sqrt(np.mean(difference**2)) / clean[brain].mean())

    matrix = truth.moving_to_reference[contrast]
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    displaced = np.linalg.norm(matrix[:3, 3] + (matrix[:3, :3] - np.eye(3)) @ [0, -16, 0])
    assert 0.2 < displaced < 8
    aligned = error(matrix)
    assert aligned < 0.16  # what interpolation, and averaging within slices, cost
    assert error(np.eye(4)) > aligned and error(np.linalg.inv(matrix)) > 1.2 * aligned
    for axis in range(3):
        for shift in (-1.0, 1.0):
            moved = matrix.copy()
            moved[axis, 3] += shift
            assert error(moved) > 1.02 * aligned, f"{shift:+g} mm along axis {axis} is no worse"


def test_the_reference_lies_still(perfect: SimulatedSubject) -> None:
    assert perfect.truth.reference == "T1w"
    assert np.array_equal(perfect.truth.moving_to_reference["T1w"], np.eye(4))
    assert np.allclose(voxels(perfect.images["T1w"]), voxels(perfect.truth.clean["T1w"]))


def test_scans_have_their_own_grids_and_storage_orders(subject: SimulatedSubject) -> None:
    orders = {c: "".join(nib.aff2axcodes(i.affine)) for c, i in subject.images.items()}
    assert orders == {c: SEQUENCES[c].stored for c in CONTRASTS}
    fine = simulate_subject(1, ["T2w", "FLAIR"], resolution=1.0, head=False)
    assert fine.images["T2w"].header.get_zooms() == pytest.approx((0.9, 0.9, 2.0))
    assert fine.images["FLAIR"].header.get_zooms() == pytest.approx((1.0, 1.0, 3.0))


def test_coregistered_scans_share_one_upright_grid() -> None:
    images = simulate_subject(1, resolution=COARSE, coregistered=True).images
    first = images["T1w"]
    assert np.array_equal(first.affine[:3, :3], np.eye(3) * COARSE)
    for image in images.values():
        assert image.shape == first.shape and np.array_equal(image.affine, first.affine)


def test_brain_only_scans_are_black_outside_the_true_mask() -> None:
    bare = simulate_subject(1, ["T1w"], resolution=COARSE, head=False)
    mask = voxels(bare.truth.brain) > 0
    assert not voxels(bare.images["T1w"])[~mask].any()
    whole = simulate_subject(1, ["T1w"], resolution=COARSE)
    assert np.array_equal(mask, voxels(whole.truth.brain) > 0)
    assert voxels(whole.images["T1w"])[~mask].max() > voxels(whole.images["T1w"])[mask].mean()


def test_noise_in_air_follows_rayleigh() -> None:
    image = voxels(simulate_subject(1, ["T1w"], resolution=3.0, coregistered=True).images["T1w"])
    air = image[:8, :, -12:]
    # Mean over standard deviation of a Rayleigh distribution: sqrt(pi / (4 - pi)).
    assert air.mean() / air.std() == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.05)


def test_true_tissues_fill_the_brain(subject: SimulatedSubject) -> None:
    brain = voxels(subject.truth.brain) > 0
    total = np.sum([voxels(subject.truth.tissues[t]) for t in TISSUES], axis=0)
    assert np.allclose(total[brain], 1, atol=1e-5)
    assert not total[~brain].any()
    volume_ml = brain.sum() * 27 / 1000
    assert 1300 < volume_ml < 2200


def test_heads_stand_upright_and_face_forward() -> None:
    head = make_head(np.random.default_rng(0), COARSE)
    place = nib.affines.apply_affine(head.affine, np.argwhere(head.brain)).mean(axis=0)
    tissue = np.sum(list(head.tissues.values()), axis=0)
    whole = nib.affines.apply_affine(head.affine, np.argwhere(tissue > 0.5)).mean(axis=0)
    assert abs(place[0]) < 4
    assert place[2] > whole[2] + 15  # the brain is above the neck
    template = load_template()
    corners = np.argwhere(head.brain)
    world = nib.affines.apply_affine(head.affine, corners)

    def agreement(flip: tuple[int, int, int]) -> float:
        inside = np.rint(
            nib.affines.apply_affine(np.linalg.inv(template.affine), world * flip)
        ).astype(int)
        inside = np.clip(inside, 0, np.array(template.maps["wm"].shape) - 1)
        return float(
            np.corrcoef(template.maps["wm"][tuple(inside.T)], head.tissues["WM"][tuple(corners.T)])[
                0, 1
            ]
        )

    assert agreement((1, 1, 1)) > 0.5
    assert agreement((1, -1, 1)) < 0.4 and agreement((1, 1, -1)) < 0.4


def test_a_coarse_grid_shows_the_same_head_as_a_fine_one() -> None:
    heads = {mm: make_head(np.random.default_rng(5), mm) for mm in (2.0, 4.0)}
    volume = {mm: head.brain.sum() * mm**3 for mm, head in heads.items()}
    assert volume[4.0] == pytest.approx(volume[2.0], rel=0.02)
    white = {mm: head.tissues["WM"].sum() * mm**3 for mm, head in heads.items()}
    assert white[4.0] == pytest.approx(white[2.0], rel=0.15)


def test_subjects_differ_in_anatomy_and_sessions_do_not() -> None:
    def white(subject: int, session: int = 1) -> np.ndarray:
        made = simulate_subject(
            0, ["T1w"], subject=subject, session=session, resolution=2.0, coregistered=True
        )
        return voxels(made.truth.tissues["WM"]) > 0.5

    first, second = white(1), white(2)
    overlap = 2 * (first & second).sum() / (first.sum() + second.sum())
    assert 0.4 < overlap < 0.85
    assert np.array_equal(first, white(1, session=2))


def test_a_scan_depends_on_seed_subject_and_session_only() -> None:
    def scan(seed: int = 0, contrasts: tuple[str, ...] = ("T2w",), **options: int) -> np.ndarray:
        made = simulate_subject(seed, contrasts, resolution=COARSE, **options)
        return voxels(made.images["T2w"])

    first = scan()
    assert np.array_equal(first, scan())
    assert np.array_equal(first, scan(contrasts=CONTRASTS))
    assert not np.array_equal(first, scan(seed=1))
    assert not np.array_equal(first, scan(subject=2))
    assert not np.array_equal(first, scan(session=2))


def test_smooth_fields_have_unit_variance() -> None:
    axes = tuple(np.arange(-100.0, 100.0, 5.0) for _ in range(3))
    source = np.random.default_rng(0)
    fields = [smooth_field(axes, source, 15.0) for _ in range(8)]
    assert np.std(fields) == pytest.approx(1, rel=0.15)
    assert abs(np.mean(fields)) < 0.2


@pytest.mark.parametrize("contrasts", [[], ["T1w", "bold"]])
def test_unknown_contrasts_are_refused(contrasts: list[str]) -> None:
    with pytest.raises(ValueError, match="expected some of T1w"):
        simulate_subject(0, contrasts)


def test_a_missing_nilearn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    load_template.cache_clear()
    with pytest.raises(MissingToolError, match=r'pip install "colapipe\[demo\]"'):
        simulate_subject(0, ["T1w"])


# ----------------------------------------------------------------------------- on disk


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp("demo") / "bids", resolution=COARSE)


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*.nii.gz")}


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def validation_errors(folder: Path) -> list[str]:
    program = shutil.which("bids-validator-deno") or str(
        Path(sysconfig.get_path("scripts")) / "bids-validator-deno"
    )
    if not Path(program).exists():
        pytest.skip("bids-validator-deno is not installed")
    answer = subprocess.run(
        [program, str(folder), "--format", "json"], capture_output=True, text=True, timeout=300
    )
    issues = json.loads(answer.stdout)["issues"]["issues"]
    return [str(issue) for issue in issues if issue["severity"] == "error"]


def test_default_dataset_lacks_a_t2w_and_a_flair(dataset: Path) -> None:
    raw = {p.name for p in dataset.glob("sub-*/anat/*.nii.gz")}
    assert raw == {
        *("sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-01_FLAIR.nii.gz"),
        *("sub-02_T1w.nii.gz", "sub-02_FLAIR.nii.gz"),
        *("sub-03_T1w.nii.gz", "sub-03_T2w.nii.gz"),
    }
    truth = names(dataset / "derivatives" / "truth")
    assert {n for n in truth if "desc-truth" in n} == {
        "sub-02_space-T1w_desc-truth_T2w.nii.gz",
        "sub-03_space-T1w_desc-truth_FLAIR.nii.gz",
    }


def test_both_datasets_are_valid(dataset: Path) -> None:
    assert validation_errors(dataset) == []
    assert validation_errors(dataset / "derivatives" / "truth") == []


def test_everything_possible_at_once_is_valid(tmp_path: Path) -> None:
    out = simulate_dataset(
        tmp_path,
        2,
        contrasts=CONTRASTS,
        resolution=6.0,
        missing={"02": ["T1w", "PDw"]},
        sessions=2,
        lesion=True,
        head=False,
    )
    assert validation_errors(out) == []
    assert validation_errors(out / "derivatives" / "truth") == []
    anat = out / "sub-02" / "ses-02" / "anat"
    assert names(anat) == {
        "sub-02_ses-02_T2w.nii.gz",
        "sub-02_ses-02_FLAIR.nii.gz",
        "sub-02_ses-02_ce-gadolinium_T1w.nii.gz",
    }
    # Without a T1w, the truth is on the grid of the T2w, the next best reference.
    truth = names(out / "derivatives" / "truth" / "sub-02" / "ses-02")
    assert "sub-02_ses-02_space-T2w_desc-truth_T1w.nii.gz" in truth
    assert "sub-02_ses-02_space-T2w_label-lesion_mask.nii.gz" in truth


def test_sidecars_say_simulated_and_how(dataset: Path) -> None:
    sidecars = sorted(dataset.glob("sub-*/anat/*.json"))
    assert len(sidecars) == 7
    for path in sidecars:
        content = json.loads(path.read_text())
        sequence = SEQUENCES[path.stem.rpartition("_")[2]]
        assert content["Simulated"] is True
        assert content["MagneticFieldStrength"] == 3
        assert (content["EchoTime"], content["RepetitionTime"]) == (sequence.te, sequence.tr)
        assert content.get("InversionTime") == sequence.ti
    for folder in (dataset, dataset / "derivatives" / "truth"):
        description = json.loads((folder / "dataset_description.json").read_text())
        assert "imulated" in description["Name"]
        assert "Louis Collins" in description["License"]
    assert "Nobody was scanned" in (dataset / "README.md").read_text()
    rows = (dataset / "participants.tsv").read_text().splitlines()
    assert rows[2].split("\t")[:3] == ["sub-02", "yes", "T2w"]


def test_matrices_on_disk_agree(dataset: Path) -> None:
    scans = dataset / "sub-01" / "anat"
    stem = dataset / "derivatives/truth/sub-01/anat/sub-01_from-T2w_to-T1w_mode-image_xfm"
    said = np.array(json.loads(stem.with_suffix(".json").read_text())["MovingToReference"])
    moving, reference = (nib.load(scans / f"sub-01_{c}.nii.gz") for c in ("T2w", "T1w"))
    assert np.allclose(read_itk(stem.with_suffix(".txt")), said, atol=1e-9)
    assert np.allclose(read_fsl(stem.with_suffix(".mat"), moving, reference), said, atol=1e-4)


def test_equal_arguments_give_equal_bytes(dataset: Path, tmp_path: Path) -> None:
    again = simulate_dataset(tmp_path / "again", resolution=COARSE)
    assert digest(again) == digest(dataset)
    other = simulate_dataset(tmp_path / "other", 1, seed=1, resolution=COARSE)
    name = "sub-01/anat/sub-01_T1w.nii.gz"
    assert digest(other)[name] != digest(dataset)[name]


def test_an_earlier_simulation_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    out = simulate_dataset(tmp_path, 3, resolution=8.0, lesion=True)
    foreign = [
        out / "sub-03" / "anat" / "sub-03_T2starw.json",
        out / "derivatives" / "colapipe" / "sub-03.html",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    simulate_dataset(out, 2, resolution=8.0)
    assert all(path.exists() for path in foreign)
    assert not list(out.glob("sub-03/anat/*.nii.gz"))
    assert {p.name for p in (out / "derivatives" / "truth").glob("sub-*")} == {"sub-01", "sub-02"}
    assert not list(out.rglob("*lesion*"))


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    scan = tmp_path / "sub-01" / "anat" / "sub-01_T2w.json"
    scan.parent.mkdir(parents=True)
    scan.write_text('{"EchoTime": 0.1}')
    before = digest(tmp_path)
    with pytest.raises(OutputError, match="not empty"):
        simulate_dataset(tmp_path, 1, resolution=8.0)
    assert digest(tmp_path) == before
    simulate_dataset(tmp_path, 1, contrasts=["T1w"], resolution=8.0, force=True)
    assert scan.read_text() == '{"EchoTime": 0.1}'
    assert (tmp_path / "dataset_description.json").exists()


def test_an_interrupted_run_has_no_description_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(tmp_path, 2, resolution=8.0, say=interrupt)
    assert list(tmp_path.rglob("*.nii.gz"))
    assert not (tmp_path / "dataset_description.json").exists()
    simulate_dataset(tmp_path, 2, resolution=8.0)
    assert (tmp_path / "dataset_description.json").exists()


def test_a_file_in_the_way_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot be prepared"):
        simulate_dataset(tmp_path / "out", 1, resolution=8.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subjects": 0}, "expected 1 or more"),
        ({"sessions": 0}, "expected 1 or more"),
        ({"seed": -1}, "expected 0 or more"),
        ({"resolution": 20.0}, "expected 0.5 to 8"),
        ({"resolution": math.nan}, "expected 0.5 to 8"),
        ({"contrasts": ["bold"]}, "bold"),
        ({"contrasts": []}, "none"),
        ({"missing": {"01": ["bold"]}}, "bold"),
        ({"missing": {"9": ["T2w"]}}, "not among 01, 02, 03"),
        ({"missing": {"01": ["T1w", "T2w", "FLAIR"]}}, "no scan at all"),
    ],
)
def test_impossible_wishes_are_refused(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        simulate_dataset(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_nobody_lacks_the_only_contrast() -> None:
    assert default_missing(["01", "02", "03"], ["T2w"]) == {}
    assert default_missing(["01", "02", "03"], ["T1w", "T2w"]) == {"02": ("T2w",)}
