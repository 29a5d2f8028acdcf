"""Calibration of a model on a cache: what is kept, resumed, found, written and refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from colapipe.cli.model import main
from colapipe.coladiff.calibration import Calibration, Voxels, coverage, fit
from colapipe.coladiff.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from colapipe.coladiff.model import CoLaDiff, Synthesis
from colapipe.coladiff.presets import write_nano_checkpoint
from colapipe.errors import DatasetError
from colapipe.evaluation.calibrate import (
    Settings,
    VoxelStore,
    calibrate,
    collect,
    draw_voxels,
    write_calibrated,
)
from colapipe.evaluation.calibration_tables import calibration_table, coverage_table
from colapipe.evaluation.cases import Case, Task, read_case, tasks_of
from colapipe.quality.stored import read_model_quality
from colapipe.training.store import SliceStore

THREE = ("T1w", "T2w", "FLAIR")
FROM_TWO = Task("T2w", ("T1w", "FLAIR"))
VALIDATION = ("02", "03", "04")

MakeCache = Callable[..., Path]
Command = Callable[..., int]


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_nano_checkpoint(tmp_path / "nano.safetensors", steps=1)


@pytest.fixture
def cache(make_cache: MakeCache) -> Path:
    return make_cache({f"sub-0{number}": THREE for number in range(1, 5)})


@pytest.fixture
def command(cache: Path, nano: Path, tmp_path: Path) -> Command:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01"], "validation": VALIDATION}))

    def run(*options: str, out: str = "new.safetensors") -> int:
        words = ["calibrate", str(nano), "--cache", str(cache), "--split", str(split)]
        return main([*words, "--out", str(tmp_path / out), "--samples", "2", *options])

    return run


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "coverage.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def store_of(folder: Path, names: tuple[str, ...] = ("sub-02", "sub-03", "sub-04")) -> VoxelStore:
    return VoxelStore(folder, Settings("x", "ddim", 1, 2), dict.fromkeys(names, 0), {})


def made_up(seed: int, known: bool) -> Voxels:
    """Errors of differing size, and a std that knows them or not."""
    rng = np.random.default_rng(seed)
    size = rng.gamma(2.0, 0.02, 2000)
    return Voxels(rng.normal(size=2000) * size, size if known else rng.permutation(size))


# --- the command ---------------------------------------------------------------------------------


def test_the_new_model_differs_from_the_old_one_in_its_calibration_alone(
    command: Command, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = nano.read_bytes()
    assert command("--level", "0.8") == 0
    new = tmp_path / "new.safetensors"
    assert nano.read_bytes() == before
    old_tensors, new_tensors = load_file(nano), load_file(new)
    assert {k: v.numpy().tobytes() for k, v in old_tensors.items()} == {
        k: v.numpy().tobytes() for k, v in new_tensors.items()
    }
    stored = read_metadata(new)
    quality = stored.pop("quality")
    assert read_metadata(nano) == {**stored, "calibration": None}
    assert quality["histograms"]["T1w"]["participants"] == 1
    sets = {"T1w+T2w", "T1w+FLAIR", "T2w+FLAIR", "T1w+T2w+FLAIR"}
    assert set(quality["self_check"]["sets"]) == sets
    limits = read_model_quality(read_metadata(new)).self_check.find("T2w", THREE)
    assert limits is not None and limits.participants == 3
    calibration = Calibration.from_dict(stored["calibration"])
    assert (calibration.level, calibration.samples, calibration.steps) == (0.8, 2, 1)
    assert calibration.sampler == "ddim" and set(calibration.targets) == set(THREE)
    assert {found.participants for found in calibration.targets.values()} == {3}
    assert CoLaDiff.load(new).metadata["calibration"] == stored["calibration"]
    text = (tmp_path / "new-calibration" / "calibration.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert text in printed and "[9/9] sub-04: FLAIR from T1w+T2w" in printed
    for word in ("80 % intervals", "Spearman", "lesion", "60 %", "another split"):
        assert word in text


def test_quality_alone_leaves_the_intervals_and_is_not_measured_twice(
    command: Command, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--quality-only") == 0
    assert "[3/3] sub-04: self-checks" in capsys.readouterr().out
    new = tmp_path / "new.safetensors"
    first = new.read_bytes()
    assert read_metadata(new)["calibration"] is None
    assert not (tmp_path / "new-calibration" / "voxels").exists()
    assert command("--quality-only") == 0
    assert "self-checks" not in capsys.readouterr().out and new.read_bytes() == first
    kept = tmp_path / "new-calibration" / "self-check" / "sub-02.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "made_by": {"weights": "others"}}))
    assert command("--quality-only") == 2
    assert "made otherwise (weights, count, slices)" in capsys.readouterr().err


def test_what_is_reported_is_the_coverage_of_who_was_left_out(
    command: Command, nano: Path, cache: Path, tmp_path: Path
) -> None:
    assert command() == 0
    voxels = {}
    model = CoLaDiff.load(nano)
    for label in VALIDATION:
        # Once more by hand, from the model itself.
        case = read_case(SliceStore(cache), f"sub-{label}", FROM_TWO, every=4)
        result = model.synthesise(
            case.sources,
            "T2w",
            samples=2,
            mask=case.mask,
            tissues=case.tissues,
            slice_ids=case.slice_ids,
            tissue_source="T1w",
            participant=label,
        )
        inside = case.mask[case.rows]
        assert result.std is not None and 2000 < inside.sum() < 50_000
        error = (case.truth - result.mean)[case.rows][inside]
        voxels[label] = Voxels(error, result.std[case.rows][inside])
    rows = {
        (row["participant_id"], row["target"], row["region"]): row
        for row in rows_of(tmp_path / "new-calibration")
    }
    for label in VALIDATION:
        others = [found for other, found in voxels.items() if other != label]
        expected = coverage({label: voxels[label]}, fit(others))[label]["brain"]
        row = rows[f"sub-{label}", "T2w", "brain"]
        assert float(row["coverage"]) == pytest.approx(expected, abs=2e-3)
        assert -1 <= float(row["spearman"]) <= 1
    assert {region for _, _, region in rows} >= {"brain", "CSF", "GM"}
    fitted = fit(list(voxels.values()))
    stored = read_metadata(tmp_path / "new.safetensors")["calibration"]["targets"]["T2w"]
    assert stored["factor"] == pytest.approx(fitted.factor, rel=1e-3)
    assert stored["floor"] == pytest.approx(fitted.floor, rel=1e-3)


def test_only_the_participants_that_are_named_count(command: Command, tmp_path: Path) -> None:
    assert command("--participants", "02", "sub-04") == 0
    stored = read_metadata(tmp_path / "new.safetensors")["calibration"]["targets"]
    assert {entry["participants"] for entry in stored.values()} == {2}
    rows = rows_of(tmp_path / "new-calibration")
    assert {row["participant_id"] for row in rows} == {"sub-02", "sub-04"}
    # Of two, nobody can be left out.
    assert {row["coverage"] for row in rows} == {"n/a"}
    # The others can be added, and nothing is made twice.
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(times) == 6 and command() == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_only_those_whom_it_calibrates_on_or_has_learned_from_are_read(
    make_dataset: Callable[..., Path],
    nano: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    split, new = tmp_path / "split.json", tmp_path / "new.safetensors"
    split.write_text(json.dumps({"train": ["01"], "validation": ["02", "03", "04", "99"]}))
    command = ["calibrate", str(nano), "--data", str(make_dataset(("01", "02", "03", "04")))]
    command += ["--split", str(split), "--out", str(new), "--samples", "2"]
    assert main([*command, "--participants", "02", "04", "99"]) == 0
    cached = {path.stem for path in (tmp_path / "new-calibration" / "slices").glob("sub-*.npy")}
    assert cached == {"sub-01", "sub-02", "sub-04"}
    assert "warning: no slices of sub-99" in capsys.readouterr().out
    assert {row["participant_id"] for row in rows_of(tmp_path / "new-calibration")} == {
        "sub-02",
        "sub-04",
    }


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (("--samples", "1"), "--samples must be at least 2", 2),
        (("--level", "90"), "between 0 and 1", 2),
        (("--participants", "01"), "not among the validation participants", 2),
        (("--participants", "02"), "nothing can be calibrated", 65),
        (("--lesions", "nowhere"), "no such folder", 65),
        (("--device", "tpu"), "--device: unknown device", 2),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
    code: int,
) -> None:
    assert command(*options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new.safetensors").exists()


def test_steps_are_a_number_of_one_or_more(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("--steps", "0")
    assert stopped.value.code == 2 and "1 or more" in capsys.readouterr().err


def test_a_model_is_never_overwritten_by_itself(
    command: Command, nano: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = nano.read_bytes()
    assert command(out="nano.safetensors") == 2
    assert "the model itself" in capsys.readouterr().err and nano.read_bytes() == before
    assert command(out="new.pt") == 2
    assert "ends in .safetensors" in capsys.readouterr().err


def test_voxels_that_were_made_otherwise_are_not_mixed(
    command: Command, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command() == 0
    assert command("--samples", "3") == 2
    assert "made otherwise (samples)" in capsys.readouterr().err
    raw = np.load(cache / "sub-03.npy")
    raw[0, 0, 0, 0] += 1
    np.save(cache / "sub-03.npy", raw)
    assert command() == 2
    assert "made otherwise (slices)" in capsys.readouterr().err


def test_stored_tensors_keep_their_type(nano: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, *load_checkpoint(nano), half=True)
    content = {"floor": 0.1, "factor": 2.0, "participants": 3}
    calibration = Calibration.from_dict(
        {"level": 0.9, "samples": 8, "steps": 4, "sampler": "ddim", "targets": {"T2w": content}}
    )
    write_calibrated(half, tmp_path / "new.safetensors", calibration)
    one, other = load_file(half), load_file(tmp_path / "new.safetensors")
    assert {str(tensor.dtype) for tensor in other.values()} >= {"torch.float16"}
    assert {k: (v.dtype, v.shape) for k, v in one.items()} == {
        k: (v.dtype, v.shape) for k, v in other.items()
    }
    assert all(bool((one[name] == other[name]).all()) for name in one)


# --- collecting ----------------------------------------------------------------------------------


def collected(nano: Path, cache: Path, folder: Path, **options: Any) -> dict[str, dict[str, Task]]:
    settings = Settings("x", "ddim", 1, 2, voxels=500)
    store = SliceStore(cache, VALIDATION)
    found = VoxelStore(folder, settings, dict.fromkeys(store.entries, 0), {})
    return collect(lambda: CoLaDiff.load(nano), store, found, settings, {}, **options)


def test_a_run_that_was_killed_goes_on_and_ends_the_same(
    nano: Path, cache: Path, tmp_path: Path
) -> None:
    whole = collected(nano, cache, tmp_path / "whole")
    done: list[str] = []

    def kill(line: str) -> None:
        done.append(line)
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collected(nano, cache, tmp_path / "parts", report=kill)
    assert len(list((tmp_path / "parts").iterdir())) == 4
    later: list[str] = []
    assert collected(nano, cache, tmp_path / "parts", report=later.append) == whole
    assert len(later) == 9 - 4
    for path in (tmp_path / "whole").iterdir():
        one, other = np.load(path), np.load(tmp_path / "parts" / path.name)
        assert one.files == other.files
        assert all(np.array_equal(one[key], other[key]) for key in one.files)
        assert one["error"].shape == (500,)
    # Nothing is left: the model is not even loaded.
    assert collected(tmp_path / "gone", cache, tmp_path / "parts") == whole


def test_a_contrast_that_the_model_does_not_know_is_passed_over(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(dict.fromkeys(("sub-02", "sub-03"), THREE))
    nano = write_nano_checkpoint(tmp_path / "two.safetensors", ("T1w", "T2w"), steps=1)
    lines: list[str] = []
    tasks = collected(nano, cache, tmp_path / "voxels", report=lines.append)
    assert list(tasks) == ["T1w", "T2w"]
    assert sum("does not know FLAIR" in line for line in lines) == 2


class Spy:
    """A model that keeps what it is given; its samples differ as its sources do."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def synthesise(self, *given: Any, **named: Any) -> Synthesis:
        self.calls.append({"given": given, **named})
        images = np.stack(list(given[0].values()))
        return Synthesis(images.mean(axis=0), images.std(axis=0), {})


def test_the_model_is_asked_for_what_is_needed_and_sees_nothing_of_the_target(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache({"sub-02_ses-a": THREE, "sub-03": THREE})
    store, spy = SliceStore(cache), Spy()
    settings = Settings("x", "ddpm", 3, 5, every=2, seed=9)
    found = VoxelStore(tmp_path / "voxels", settings, dict.fromkeys(store.entries, 0), {})
    loaded: Any = spy
    collect(lambda: loaded, store, found, settings, {})
    work = [(name, task) for name in store.entries for task in tasks_of(THREE)]
    assert len(spy.calls) == len(work) == 6
    for (name, task), call in zip(work, spy.calls, strict=True):
        sources, target, *options = call["given"]
        case = read_case(store, name, task, every=2)
        assert target == task.target and set(sources) == set(task.sources)
        assert np.array_equal(call["mask"], case.mask)
        assert set(call["tissues"]) == {"CSF", "GM", "WM"}
        assert call["tissue_source"] == case.best != target
        assert (call["slice_ids"], call["rows"]) == (case.slice_ids, case.rows) and len(
            case.rows
        ) > 1
        assert (options, call["sampler"]) == ([3, 5, 9], "ddpm")
    assert (spy.calls[0]["participant"], spy.calls[0]["session"]) == ("02", "a")


def case_of(values: dict[str, Any]) -> Case:
    """Two slices of four voxels, the first of which is synthesised."""
    truth = np.array([[[0.1, 0.2, 0.3, 0.4]], [[9, 9, 9, 9]]], dtype=np.float32)
    tissues = {
        "CSF": np.array([[[0.9, 0.1, 0.0, 0.0]]] * 2, dtype=np.float32),
        "GM": np.array([[[0.1, 0.8, 0.0, 0.2]]] * 2, dtype=np.float32),
        "WM": np.array([[[0.0, 0.1, 0.0, 0.8]]] * 2, dtype=np.float32),
    }
    mask = np.array([[[1, 1, 1, 1]]] * 2, dtype=bool)
    content = {
        "sources": {},
        "truth": truth,
        "mask": mask,
        "tissues": {},
        "regions": tissues,
        "lesion": None,
        "best": "T1w",
        "slice_ids": [7, 8],
        "rows": [0],
    }
    return Case(**{**content, **values})


def test_voxels_have_the_regions_of_the_scores() -> None:
    mean = np.full((2, 1, 4), 0.25, dtype=np.float32)
    std = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    voxels = draw_voxels(mean, std, case_of({}), 100, (0,))
    np.testing.assert_allclose(voxels.error, [-0.15, -0.05, 0.05, 0.15], atol=1e-6)
    assert voxels.std.tolist() == [0, 1, 2, 3]
    assert {name: inside.tolist() for name, inside in voxels.regions.items()} == {
        "CSF": [True, False, False, False],
        "GM": [False, True, False, False],
        "WM": [False, False, False, True],
    }
    # A lesion is no tissue, and what is outside the brain is nothing.
    lesion = np.array([[[0, 1, 1, 0]], [[1, 1, 1, 1]]], dtype=bool)
    mask = np.array([[[0, 1, 1, 1]]] * 2, dtype=bool)
    voxels = draw_voxels(mean, std, case_of({"lesion": lesion, "mask": mask}), 100, (0,))
    assert voxels.std.tolist() == [1, 2, 3]
    assert {name: inside.tolist() for name, inside in voxels.regions.items()} == {
        "CSF": [False, False, False],
        "GM": [False, False, False],
        "WM": [False, False, True],
        "lesion": [True, True, False],
    }


def test_the_voxels_that_are_kept_are_random_but_always_the_same(cache: Path) -> None:
    case = read_case(SliceStore(cache), "sub-03", FROM_TWO, every=4)
    mean = np.zeros_like(case.truth)
    std = np.linspace(0, 1, mean.size, dtype=np.float32).reshape(mean.shape)
    one, again, other = (draw_voxels(mean, std, case, 800, (0, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.error, again.error) and not np.array_equal(one.error, other.error)
    every = draw_voxels(mean, std, case, 10**6, (0, 1))
    assert len(every.error) == case.mask[case.rows].sum() > 2 * 800
    # From everywhere in the brain, and no voxel twice.
    for share in (0.1, 0.5, 0.9):
        assert np.mean(one.std < np.quantile(every.std, share)) == pytest.approx(share, abs=0.05)
    assert len(np.unique(one.std)) == 800


# --- fitting -------------------------------------------------------------------------------------


def test_the_rank_correlation_tells_a_std_that_knows_the_errors(tmp_path: Path) -> None:
    tasks = {}
    found = store_of(tmp_path)
    for target, known in (("T1w", False), ("T2w", True)):
        task = Task(target, ("FLAIR",))
        tasks[target] = dict.fromkeys(("sub-02", "sub-03", "sub-04"), task)
        for seed, name in enumerate(tasks[target]):
            found.write(name, task, made_up(seed, known))
    calibration, results = calibrate(found, tasks, Settings("x", "ddim", 1, 2), 0.9)
    blind, knowing = results
    assert all(abs(value) < 0.1 for value in blind.spearman.values())
    assert all(value > 0.3 for value in knowing.spearman.values())
    assert knowing.width < blind.width
    for result in results:
        brain = [regions["brain"] for regions in result.held_out.values()]
        assert np.mean(brain) == pytest.approx(0.9, abs=0.03)
    # These errors have the std that is claimed: nothing is to be mended.
    assert np.mean([r["brain"] for r in knowing.uncalibrated.values()]) == pytest.approx(
        0.9, abs=0.02
    )
    assert calibration.targets["T2w"].factor == pytest.approx(1.645, rel=0.1)
    cells = [row[-1] for row in calibration_table(results).rows]
    assert cells == [f"{np.mean(list(r.spearman.values())):.2f}" for r in results]


def test_sessions_of_a_participant_are_left_out_together(tmp_path: Path) -> None:
    names = ("sub-02_ses-a", "sub-02_ses-b", "sub-03", "sub-04")
    found = store_of(tmp_path, names)
    lesion = np.arange(2000) < 30
    for seed, name in enumerate(names):
        voxels = made_up(seed, True)
        regions = {"lesion": lesion} if name.endswith("b") else {}
        # The first participant is unlike the others.
        scale = 50 if name.startswith("sub-02") else 1
        found.write(name, FROM_TWO, Voxels(voxels.error * scale, voxels.std, regions))
    tasks = {"T2w": dict.fromkeys(names, FROM_TWO)}
    _, (result,) = calibrate(found, tasks, Settings("x", "ddim", 1, 2), 0.9)
    assert result.fitted is not None and result.fitted.participants == 3
    assert set(result.held_out) == {"02", "03", "04"}
    assert result.held_out["02"]["brain"] < 0.1
    assert "lesion" in result.held_out["02"] and "lesion" not in result.held_out["03"]
    assert (
        f"{result.held_out['02']['lesion']:.3f} (n=1)" in coverage_table([result], 0.9).markdown()
    )


def test_a_target_of_one_participant_is_not_calibrated_and_the_tables_say_so(
    tmp_path: Path,
) -> None:
    found = store_of(tmp_path)
    pdw = Task("PDw", ("T1w",))
    tasks = {"T2w": dict.fromkeys(("sub-02", "sub-03"), FROM_TWO), "PDw": {"sub-02": pdw}}
    for name, task in (("sub-02", FROM_TWO), ("sub-03", FROM_TWO), ("sub-02", pdw)):
        found.write(name, task, made_up(0, True))
    calibration, results = calibrate(found, tasks, Settings("x", "ddim", 1, 2), 0.9)
    assert list(calibration.targets) == ["T2w"]
    assert "| PDw | T1w | 1 | - | - | - |" in calibration_table(results).markdown()
    with pytest.raises(DatasetError, match="nothing can be calibrated"):
        calibrate(found, {"PDw": tasks["PDw"]}, Settings("x", "ddim", 1, 2), 0.9)
