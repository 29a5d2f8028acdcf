"""Models compared on held-out participants: right arrays, no leak, resumable, refused if mixed."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from colapipe.baselines.classmean import ClassMeanModel
from colapipe.baselines.load import load_model
from colapipe.coladiff.checkpoint import (
    BASELINES,
    file_sha256,
    make_metadata,
    read_metadata,
    save_checkpoint,
)
from colapipe.coladiff.model import CoLaDiff, Synthesis, UnsuitableModelError
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.presets import PRESETS
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.evaluation.cases import Task, read_case, tasks_of
from colapipe.evaluation.compare import (
    Candidate,
    Conditions,
    compare,
    conditions_of,
    read_results,
    score_case,
)
from colapipe.evaluation.fitting import fit_baselines
from colapipe.evaluation.lesions import find_lesion, lesion_slices
from colapipe.quality import metrics
from colapipe.slices import MIN_FRACTION
from colapipe.training.cache import build_cache
from colapipe.training.store import SliceStore

FOUR = ("T1w", "T2w", "T1ce", "FLAIR")
PEOPLE = {f"sub-0{number}": FOUR for number in range(1, 5)} | {"sub-05_ses-a": ("T1w", "T2w")}
TRAIN, VALIDATION = ("01", "02"), ("03", "04", "05")
FROM_THREE = Task("T2w", ("FLAIR", "T1ce", "T1w"))

MakeCache = Callable[..., Path]


@pytest.fixture
def cache(make_cache: MakeCache) -> Path:
    return make_cache(PEOPLE)


@pytest.fixture
def baselines(cache: Path, tmp_path: Path) -> list[Candidate]:
    paths = fit_baselines(
        ("copy", "quadratic"), SliceStore(cache, TRAIN), tmp_path / "baselines", "s"
    )
    return [candidate(path) for path in paths]


def candidate(path: Path) -> Candidate:
    metadata = read_metadata(path, BASELINES)
    return Candidate(metadata["name"], path, 1, 1, metadata, file_sha256(path))


def figures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what differs from run to run."""
    costs = ("seconds_per_80", "cpu_seconds_per_80", "peak_memory")
    return [{name: repr(value) for name, value in row.items() if name not in costs} for row in rows]


class Spy:
    """A model that keeps what it is given and returns the mean of its sources."""

    metadata = {"contrasts": list(CONTRASTS), "split_sha256": None, "kind": "spy"}
    contrasts = CONTRASTS

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def synthesise(self, *given: Any, rows: Any = None, **named: Any) -> Synthesis:
        self.calls.append({"given": given, "rows": rows, **named})
        images = given[0]
        return Synthesis(np.mean(list(images.values()), axis=0), None, {})


# --- tasks ---------------------------------------------------------------------------------------


def test_each_contrast_is_a_target_of_all_the_others() -> None:
    assert [str(task) for task in tasks_of(("T1w", "T2w", "FLAIR"))] == [
        "T1w from T2w+FLAIR",
        "T2w from T1w+FLAIR",
        "FLAIR from T1w+T2w",
    ]
    assert tasks_of(("T1w",)) == []


def test_sets_of_sources_leave_the_targets_that_are_in_none_of_them() -> None:
    groups = [["T1w"], ["T1ce", "T1w"]]
    assert [str(task) for task in tasks_of(FOUR, None, groups)] == [
        "T2w from T1w",
        "T2w from T1w+T1ce",
        "FLAIR from T1w",
        "FLAIR from T1w+T1ce",
    ]
    assert [str(task) for task in tasks_of(("T1w", "T2w"), ["T2w"], groups)] == ["T2w from T1w"]


@pytest.mark.parametrize(
    ("target", "sources", "message"),
    [
        ("T2w", ("T1w", "T2w"), "T2w is among its own sources"),
        ("T2w", (), "no source"),
        ("T9w", ("T1w",), "unknown contrast 'T9w'"),
    ],
)
def test_a_task_that_leaks_or_means_nothing_is_refused(
    target: str, sources: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Task(target, sources)
    with pytest.raises(UsageError):
        tasks_of(FOUR, [target], [list(sources) or ["?"]])


# --- what a model is given -----------------------------------------------------------------------


def test_a_case_is_what_the_best_source_shows(cache: Path) -> None:
    store = SliceStore(cache)
    case = read_case(store, "sub-03", Task("T1w", ("T2w", "FLAIR")), every=2)
    raw = np.load(cache / "sub-03.npy")
    t1w, t2w = CONTRASTS.index("T1w"), CONTRASTS.index("T2w")
    mask = (raw[:, -1] >> t2w & 1).astype(bool)
    assert case.best == "T2w" and np.array_equal(case.mask, mask)
    assert np.allclose(case.truth, raw[:, t1w] / 255 * mask)
    assert set(case.sources) == {"T2w", "FLAIR"}
    assert np.allclose(case.sources["T2w"], raw[:, t2w] / 255 * mask)
    assert np.allclose(case.tissues["GM"], raw[:, 5 + 3 * t2w + 1] / 255 * mask)
    assert np.allclose(case.regions["GM"], raw[:, 5 + 3 * t1w + 1] / 255 * mask)
    area = mask.mean(axis=(1, 2))
    assert case.rows == [row for row in range(8) if area[row] >= 0.15][::2]
    assert case.slice_ids == list(range(10, 18))


def test_nothing_of_the_target_reaches_the_model(cache: Path) -> None:
    spies = [Spy(), Spy()]
    path = cache / "sub-03.npy"
    t2w = CONTRASTS.index("T2w")
    for spy in spies:
        case = read_case(SliceStore(cache), "sub-03", FROM_THREE)
        score_case(spy, case, FROM_THREE, Candidate("s", path, 1, 1, {}, ""), "sub-03")
        raw = np.load(path)
        rng = np.random.default_rng(0)
        for plane in (t2w, *(len(CONTRASTS) + 3 * t2w + k for k in range(3))):
            raw[:, plane] = rng.integers(0, 256, raw[:, plane].shape)
        raw[:, -1] ^= np.uint8(1 << t2w)
        np.save(path, raw)
    one, other = (spy.calls[0] for spy in spies)
    shown, shown_too = (
        {**spy["given"][0], **spy["tissues"], "mask": spy["mask"]} for spy in (one, other)
    )
    assert shown.keys() == shown_too.keys() and "T2w" not in shown
    assert {"T1w", "mask", "GM"} < set(shown)
    assert all(np.array_equal(shown[name], shown_too[name]) for name in shown)
    assert one["given"][1] == "T2w" and "T2w" not in one["given"][0]
    assert one["tissue_source"] == "T1w"
    assert (one["participant"], one["session"], one["rows"]) == ("03", None, case.rows)


def test_scores_are_those_of_the_metrics_on_the_same_arrays(cache: Path) -> None:
    case = read_case(SliceStore(cache), "sub-03", FROM_THREE, every=3)
    rows = score_case(Spy(), case, FROM_THREE, Candidate("spy", cache, 1, 1, {}, ""), "sub-03")
    assert [row["region"] for row in rows] == ["brain", "CSF", "GM", "WM"]
    synth, truth, mask, gm = (
        np.moveaxis(values[case.rows], 0, 2)
        for values in (
            np.mean(list(case.sources.values()), axis=0) * case.mask,
            case.truth,
            case.mask,
            case.regions["GM"],
        )
    )
    gain, offset = metrics.fit_gain_offset(synth, truth, mask)
    fitted = metrics.apply_gain_offset(synth, gain, offset, mask)
    brain = rows[0]
    assert brain["psnr"] == pytest.approx(metrics.psnr(synth, truth, mask), abs=1e-6)
    assert brain["psnr_fitted"] == pytest.approx(metrics.psnr(fitted, truth, mask), abs=1e-6)
    assert brain["ssim"] == pytest.approx(metrics.ssim(synth, truth, mask), abs=1e-6)
    assert brain["nmse"] == pytest.approx(metrics.nmse(synth, truth, mask), abs=1e-6)
    of_slices = metrics.paper_psnr(synth, truth)
    assert brain["psnr_paper"] == pytest.approx(of_slices.mean(), abs=1e-6)
    assert brain["psnr_paper_sd"] == pytest.approx(of_slices.std(), abs=1e-6)
    assert brain["ssim_paper"] == pytest.approx(metrics.paper_ssim(synth, truth).mean(), abs=1e-6)
    grey = mask & (gm > 0)
    assert rows[2]["voxels"] == grey.sum()
    assert rows[2]["psnr"] == pytest.approx(metrics.psnr(synth, truth, grey), abs=1e-6)
    assert brain["slices"] == len(case.rows)
    assert brain["peak_memory"] > 1e7 and brain["seconds_per_80"] > 0


# --- running and resuming ------------------------------------------------------------------------


def run(
    cache: Path,
    folder: Path,
    candidates: list[Candidate],
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> list[dict[str, Any]]:
    store = SliceStore(cache, VALIDATION)
    conditions = options.pop("conditions", None) or conditions_of(store, 2, "s")
    compare(candidates, store, folder, conditions, report=report, **options)
    return read_results(folder)[0]


def test_every_participant_and_task_gets_a_row_per_region(
    cache: Path, tmp_path: Path, baselines: list[Candidate]
) -> None:
    rows = run(cache, tmp_path / "out", baselines)
    brain = [row for row in rows if row["region"] == "brain"]
    assert len(rows) == 4 * len(brain) and len(brain) == 2 * (2 * 4 + 2)
    last = [row for row in brain if row["participant_id"] == "sub-05"]
    assert {(row["session_id"], row["target"], row["sources"]) for row in last} == {
        ("ses-a", "T1w", "T2w"),
        ("ses-a", "T2w", "T1w"),
    }
    best = {row["model"]: row["psnr"] for row in brain if row["target"] == "T2w"}
    assert best["quadratic regression"] > best["copy"] + 3


def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    cache: Path, tmp_path: Path, baselines: list[Candidate]
) -> None:
    whole = run(cache, tmp_path / "whole", baselines)
    done: list[str] = []

    def kill(line: str) -> None:
        done.append(line)
        if len(done) == 6:  # in the middle of a participant
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cache, tmp_path / "parts", baselines, kill)
    later: list[str] = []
    resumed = run(cache, tmp_path / "parts", baselines, later.append)
    assert len(later) == 2 * 10 - 6
    assert figures(resumed) == figures(whole)
    again: list[str] = []
    assert figures(run(cache, tmp_path / "parts", baselines, again.append)) == figures(whole)
    assert again == [f"{model.label}: nothing left to do" for model in baselines]


@pytest.mark.parametrize("change", ["every", "split", "seed", "slices", "steps", "model"])
def test_scores_that_were_made_otherwise_are_not_mixed(
    cache: Path, tmp_path: Path, baselines: list[Candidate], change: str
) -> None:
    copy, folder = baselines[0], tmp_path / "out"
    run(cache, folder, [copy], targets=["T2w"])
    store = SliceStore(cache, VALIDATION)
    other = {"every": 2, "split": "s", "seed": 0}
    if change == "slices":
        raw = np.load(cache / "sub-03.npy")
        raw[0, 0, 0, 0] += 1
        np.save(cache / "sub-03.npy", raw)
        store = SliceStore(cache, VALIDATION)
    elif change == "steps":
        copy = Candidate(copy.label, copy.path, 4, 1, copy.metadata, copy.sha256)
    elif change == "model":
        copy = Candidate(copy.label, copy.path, 1, 1, copy.metadata, "0" * 64)
    else:
        other[change] = {"every": 1, "split": "t", "seed": 1}[change]  # type: ignore[assignment]
    before = read_results(folder)[0]
    with pytest.raises(UsageError, match=f"made otherwise .*{change}"):
        run(cache, folder, [copy], conditions=conditions_of(store, **other))  # type: ignore[arg-type]
    assert read_results(folder)[0] == before


def test_two_labels_never_share_a_file(baselines: list[Candidate]) -> None:
    copy = baselines[0]
    names = {
        Candidate(label, copy.path, 1, 1, {}, "").file_name
        for label in ("a, 1 step", "a; 1 step", "a/1/step", "../a 1 step", "")
    }
    assert len(names) == 5
    assert not any("/" in name or name.startswith(".") for name in names)


def test_a_task_that_a_model_cannot_serve_is_passed_over(
    make_cache: MakeCache, tmp_path: Path, baselines: list[Candidate]
) -> None:
    cache = make_cache({"sub-03": ("T1w", "T2w", "PDw")}, folder="other")
    lines: list[str] = []
    rows = run(cache, tmp_path / "out", [baselines[1]], lines.append)
    assert {row["target"] for row in rows} == {"T1w", "T2w"}
    with pytest.raises(DatasetError, match="any task"):
        run(cache, tmp_path / "none", baselines, targets=["FLAIR"])


def test_slices_with_little_brain_are_not_scored(
    make_cache: MakeCache, tmp_path: Path, baselines: list[Candidate]
) -> None:
    cache = make_cache({"sub-03": FOUR}, count=2, folder="small")
    raw = np.load(cache / "sub-03.npy")
    np.save(cache / "sub-03.npy", raw[:1])
    lines: list[str] = []
    assert run(cache, tmp_path / "out", [baselines[0]], lines.append) == []
    assert "no slice has brain on 15%" in lines[0]


# --- the autoencoder alone -----------------------------------------------------------------------


@pytest.fixture
def ceiling(tmp_path: Path) -> Candidate:
    """A model whose latent loses something: a learned one that has learned nothing."""
    configuration = dataclasses.replace(
        PRESETS["nano"], latent="kl", latent_channels=2, autoencoder_channels=(8, 8, 8)
    )
    torch.manual_seed(0)
    network = CoLaDiffNetwork(configuration)
    about = {"preset": "nano", "training_data": "none", "licence": "none"}
    metadata = make_metadata(
        configuration, name="kl", latent_mean=[0.0] * 2, latent_std=[1.0] * 2, **about
    )
    path = tmp_path / "kl.safetensors"
    save_checkpoint(path, network.state_dict(), metadata)
    return Candidate("kl, autoencoder alone", path, 0, 1, metadata, file_sha256(path), ceiling=True)


def test_a_ceiling_is_the_truth_after_the_autoencoder_scored_like_everything_else(
    cache: Path, ceiling: Candidate
) -> None:
    model = CoLaDiff.load(ceiling.path)
    case = read_case(SliceStore(cache), "sub-03", FROM_THREE, every=2)
    rows = score_case(model, case, FROM_THREE, ceiling, "sub-03")
    assert [row["region"] for row in rows] == ["brain", "CSF", "GM", "WM"]
    made = np.moveaxis(model.reconstruct(case.truth, case.mask)[case.rows], 0, 2)
    truth, mask = (np.moveaxis(part[case.rows], 0, 2) for part in (case.truth, case.mask))
    brain = rows[0]
    assert brain["psnr"] == pytest.approx(metrics.psnr(made, truth, mask), abs=1e-4)
    assert 0 < brain["psnr"] < brain["psnr_fitted"] < 60
    assert (brain["model"], brain["target"]) == ("kl, autoencoder alone", "T2w")
    assert brain["slices"] == len(case.rows) < len(case.truth)
    with pytest.raises(UnsuitableModelError, match="no autoencoder"):
        score_case(Spy(), case, FROM_THREE, ceiling, "sub-03")


def test_a_ceiling_is_resumed_and_not_mixed_with_what_its_model_makes(
    cache: Path, tmp_path: Path, ceiling: Candidate
) -> None:
    alone = run(cache, tmp_path / "out", [ceiling], targets=["T2w"])
    assert len(alone) == 3 * 4
    again: list[str] = []
    assert run(cache, tmp_path / "out", [ceiling], again.append, targets=["T2w"]) == alone
    assert again == ["kl, autoencoder alone: nothing left to do"]
    about = read_results(tmp_path / "out")[1]["kl, autoencoder alone"]
    assert about["ceiling"] is True and about["model_sha256"] == ceiling.sha256
    synthesised = dataclasses.replace(ceiling, label="kl, 1 step", steps=1, ceiling=False)
    both = run(cache, tmp_path / "out", [ceiling, synthesised], targets=["T2w"])
    assert {row["model"] for row in both} == {"kl, autoencoder alone", "kl, 1 step"}
    # Scores of before there were ceilings know nothing of them.
    assert "ceiling" not in read_results(tmp_path / "out")[1]["kl, 1 step"]


def test_slices_without_any_error_have_no_spread(cache: Path) -> None:
    case = read_case(SliceStore(cache), "sub-03", FROM_THREE)
    same = type(case)(**{**vars(case), "truth": np.mean(list(case.sources.values()), axis=0)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's, of inf - inf
        rows = score_case(Spy(), same, FROM_THREE, Candidate("s", cache, 1, 1, {}, ""), "sub-03")
    brain = rows[0]
    assert brain["psnr"] == brain["psnr_fitted"] == brain["psnr_paper"] == np.inf
    assert np.isnan(brain["psnr_paper_sd"]) and brain["ssim_paper_sd"] == pytest.approx(0)


# --- baselines -----------------------------------------------------------------------------------


def test_baselines_are_fitted_once_on_training_participants_alone(
    cache: Path, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "b", []
    store = SliceStore(cache, TRAIN)
    (path,) = fit_baselines(("quadratic",), store, folder, "s", lines.append)
    assert len(lines) == 2 and not any("sub-03" in line for line in lines)
    before = path.read_bytes()
    fit_baselines(("quadratic",), store, folder, "s", lines.append)
    assert len(lines) == 2 and path.read_bytes() == before
    fit_baselines(("quadratic",), store, folder, "another split", lines.append)
    assert len(lines) == 4
    assert load_model(path).metadata["split_sha256"] == "another split"
    with pytest.raises(DatasetError, match="no training participant"):
        fit_baselines(("copy",), SliceStore(cache, ()), folder, "s")


def test_class_means_are_those_of_the_training_slices_in_the_light_of_another_contrast(
    cache: Path, tmp_path: Path
) -> None:
    kinds, folder = ("copy", "quadratic", "class-mean"), tmp_path / "b"
    *_, path = fit_baselines(kinds, SliceStore(cache, TRAIN), folder, "s")
    model = load_model(path)
    assert isinstance(model, ClassMeanModel)
    for target, best in (("T1w", "T2w"), ("FLAIR", "T1w")):
        image, first = FOUR.index(target), len(CONTRASTS) + 3 * FOUR.index(best)
        values, weights = [], []
        for name in ("sub-01", "sub-02"):
            planes = np.load(cache / f"{name}.npy").astype(np.int64)
            # Every second of the slices with enough brain on the first contrast's mask.
            planes = planes[(planes[:, -1] & 1).mean(axis=(1, 2)) >= MIN_FRACTION][::2]
            inside = (planes[:, -1] >> FOUR.index(best) & 1) > 0
            values.append(planes[:, image][inside] / 255)
            weights.append(np.moveaxis(planes[:, first : first + 3], 1, -1)[inside] / 255)
        x, s = np.concatenate(values), np.concatenate(weights)
        expected = (s * x[:, None]).sum(axis=0) / s.sum(axis=0)
        found = model.means[CONTRASTS.index(target)].tolist()
        assert found == pytest.approx(expected.tolist(), abs=1e-6)
    rows = run(cache, tmp_path / "out", [candidate(path)])
    brain = [row for row in rows if row["region"] == "brain"]
    assert {row["model"] for row in brain} == {"class means"} and len(brain) == 2 * 4 + 2
    assert all(10 < row["psnr"] < 40 for row in brain)


# --- lesions -------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Write a participant whose T1w is brightest where the lesion is, and its lesion mask."""
    folder = tmp_path / "data"
    x, y, z = np.mgrid[:70, :60, :5]
    brain = ((x - 38) / 25) ** 2 + ((y - 27) / 20) ** 2 < 1
    lesion = ((x - 45) ** 2 + (y - 20) ** 2 < 16) & (z > 1)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    rng = np.random.default_rng(0)
    images = {
        "T1w": np.where(lesion, 1000, rng.uniform(10, 500, brain.shape)) * brain,
        "T2w": rng.uniform(10, 500, brain.shape) * brain,
    }
    anat = folder / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for contrast, image in images.items():
        nib.save(
            nib.Nifti1Image(image.astype(np.float32), affine),
            anat / f"sub-01_{contrast}.nii.gz",
        )
    drawn = folder / "derivatives" / "tumorseg" / "sub-01" / "anat"
    drawn.mkdir(parents=True)
    labels = (4 * lesion).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), drawn / "sub-01_dseg.nii.gz")
    return folder


@pytest.fixture
def lesion_cache(dataset: Path, tmp_path: Path) -> Path:
    def segment(image: nib.Nifti1Image, mask: nib.Nifti1Image, contrast: str) -> np.ndarray:
        inside = np.asarray(mask.dataobj) > 0
        return np.stack([inside, ~inside, ~inside], axis=-1).astype(np.float32)

    build_cache(dataset, tmp_path / "cache", segment)
    return tmp_path / "cache"


@pytest.mark.parametrize("given", ["", "derivatives/tumorseg"])
def test_lesions_lie_on_the_slices_where_they_were_drawn(
    dataset: Path, lesion_cache: Path, given: str
) -> None:
    store = SliceStore(lesion_cache)
    conditions = conditions_of(store, 1, "s", lesions=dataset / given)
    assert list(conditions.lesions) == ["sub-01"]
    lesion = lesion_slices(conditions.lesions["sub-01"], store, "sub-01")
    shown = np.load(lesion_cache / "sub-01.npy")[:, CONTRASTS.index("T1w")]
    assert lesion.shape == shown.shape and lesion.any(axis=(1, 2)).sum() == 3
    assert np.array_equal(lesion, shown == 255)


def test_a_cache_that_knows_its_grid_needs_no_scans(dataset: Path, lesion_cache: Path) -> None:
    path = find_lesion(dataset, "sub-01")
    assert path is not None
    before = lesion_slices(path, SliceStore(lesion_cache), "sub-01")
    # The voxels in another order are the same voxels.
    image = nib.load(path)
    nib.save(nib.as_closest_canonical(image), path)
    shutil.rmtree(dataset / "sub-01")
    assert np.array_equal(lesion_slices(path, SliceStore(lesion_cache), "sub-01"), before)
    nib.save(nib.Nifti1Image(image.get_fdata()[1:], image.affine), path)
    with pytest.raises(DatasetError, match=r"sub-01_dseg.* not on the grid of .*sub-01_T1w"):
        lesion_slices(path, SliceStore(lesion_cache), "sub-01")


def test_the_lesion_is_a_region_of_its_own(dataset: Path, lesion_cache: Path) -> None:
    store, task = SliceStore(lesion_cache), Task("T1w", ("T2w",))
    path = conditions_of(store, 1, "s", lesions=dataset).lesions["sub-01"]
    lesion = lesion_slices(path, store, "sub-01")
    case = read_case(store, "sub-01", task, 1, lesion)
    assert case.lesion is not None
    # Slices as small as these are not scored otherwise.
    whole = Conditions(1, "s")
    assert whole.to_dict()["lesions"] == {}
    case = type(case)(**{**vars(case), "rows": list(range(len(case.mask)))})
    rows = score_case(Spy(), case, task, Candidate("s", path, 1, 1, {}, ""), "sub-01")
    assert rows[-1]["region"] == "lesion"
    assert rows[-1]["voxels"] == lesion.sum() > 100


def test_lesions_that_cannot_be_placed_are_refused(
    dataset: Path, lesion_cache: Path, cache: Path, tmp_path: Path
) -> None:
    store = SliceStore(lesion_cache)
    path = dataset / "derivatives" / "tumorseg" / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    with pytest.raises(DatasetError, match="no lesion mask of any participant"):
        conditions_of(SliceStore(cache), 1, "s", lesions=dataset / "sub-01")
    with pytest.raises(DatasetError, match="no such folder"):
        conditions_of(store, 1, "s", lesions=tmp_path / "nothing")
    drawn = nib.load(path)
    small = path.with_name("small.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), drawn.affine), small)
    with pytest.raises(DatasetError, match="not on the grid"):
        lesion_slices(small, store, "sub-01")
