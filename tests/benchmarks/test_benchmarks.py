"""The benchmarks build what they say they measure, and judge by their gates."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from colapipe.coladiff.presets import write_nano_checkpoint
from colapipe.quality.scores import write_scores_tsv

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_published_unet_has_the_parameters_and_the_cost_of_the_authors() -> None:
    published = load("published_configuration")
    with torch.device("meta"), FlopCounterMode(display=False) as flops, torch.no_grad():
        unet = published.PublishedUNet()
        unet(torch.zeros(1, 5, 224, 224), torch.zeros(1))
    assert sum(parameter.numel() for parameter in unet.parameters()) == 219_847_682
    assert flops.get_total_flops() == pytest.approx(690e9, rel=1e-3)


def test_the_published_unet_depends_on_all_it_is_given() -> None:
    published = load("published_configuration")
    torch.manual_seed(0)
    unet = published.PublishedUNet(32, (1, 2), blocks=1, attention=(2,), heads=4)
    x, t = torch.randn(1, 5, 16, 24, requires_grad=True), torch.tensor([7.0], requires_grad=True)
    prediction = unet(x, t)
    assert prediction.shape == (1, 2, 16, 24)
    prediction.square().sum().backward()
    assert x.grad is not None and bool((x.grad != 0).all())
    assert t.grad is not None and bool(t.grad != 0)
    assert all(parameter.grad is not None for parameter in unet.parameters())


@pytest.mark.parametrize(
    ("seconds", "gigabytes", "missed"),
    [(60.0, 1.5, []), (60.1, 1.5, ["time"]), (1.0, 1.51, ["memory"])],
)
def test_a_run_is_judged_by_its_gates(seconds: float, gigabytes: float, missed: list[str]) -> None:
    row = load("cola_tiny").Row("cola-tiny", 4, seconds, 2 * seconds, int(gigabytes * 1e9))
    assert row.missed() == missed
    assert ("met" in str(row)) == (not missed)


def test_a_missed_gate_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load("cola_tiny")
    monkeypatch.setattr(bench, "STEPS", (2,))
    monkeypatch.setattr(bench, "BYTES_GATE", 1e6)
    model = write_nano_checkpoint(tmp_path / "nano.safetensors")
    assert bench.main(["--model", str(model), "--slices", "2", "--threads", "1"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| cola-nano | 2 | ") and "| memory missed" in last


@pytest.mark.parametrize(("load_before", "code"), [(1.9, 1), (2.1, 0)])
def test_the_time_of_a_busy_machine_is_not_judged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    load_before: float,
    code: int,
) -> None:
    bench = load("cola_tiny")
    monkeypatch.setattr(bench, "STEPS", (2,))
    monkeypatch.setattr(bench, "SECONDS_GATE", 0.0)
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (load_before, 0.0, 0.0))
    model = write_nano_checkpoint(tmp_path / "nano.safetensors")
    assert bench.main(["--model", str(model), "--slices", "2", "--threads", "1"]) == code
    assert ("time not judged, load 2.1" in capsys.readouterr().out) == (code == 0)


@pytest.mark.parametrize(("seconds", "code"), [((0.5, 0.31), 1), ((0.5, 0.29), 0)])
def test_the_best_time_of_the_help_is_judged(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], code: int
) -> None:
    bench, left = load("help"), list(seconds)
    monkeypatch.setattr(bench, "TIMES", len(seconds))
    monkeypatch.setattr(bench, "COMMANDS", ("colapipe.cli.app",))
    monkeypatch.setattr(bench, "seconds_of", lambda module: left.pop(0))
    assert bench.main() == code


@pytest.fixture
def table_folder(tmp_path: Path) -> Path:
    """Return scores of two participants, without copies; of FLAIR, the class means are best."""
    folder = tmp_path / "table" / "scores"
    folder.mkdir(parents=True)
    psnr = {
        ("tiny, 1 step", "coladiff"): {"T2w": (22.0, 24.0), "FLAIR": (20.5, 20.5)},
        ("tiny, autoencoder alone", "coladiff"): {"T2w": (9.0, 9.0), "FLAIR": (9.0, 9.0)},
        ("regression", "quadratic"): {"T2w": (21.0, 22.0), "FLAIR": (17.0, 17.0)},
        ("means", "class-mean"): {"T2w": (19.0, 18.0), "FLAIR": (20.0, 19.0)},
        ("network", "unet"): {"T2w": (30.0, 30.0), "FLAIR": (20.0, 20.0)},
    }
    for number, ((label, kind), targets) in enumerate(psnr.items()):
        about = {"label": label, "kind": kind, "ceiling": "alone" in label}
        (folder / f"{number}.json").write_text(json.dumps(about))
        rows = [
            {
                "participant_id": f"sub-{participant}",
                "session_id": None,
                "model": label,
                "target": target,
                "sources": "T1w",
                "region": "brain",
                "psnr": value,
                "psnr_fitted": value + 1,
            }
            for target, values in targets.items()
            for participant, value in enumerate(values)
        ]
        write_scores_tsv(folder / f"{number}.tsv", rows)
    return folder.parent


def test_a_model_is_judged_by_the_best_trivial_baseline_of_each_target(
    table_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load("trivial_baselines")
    assert bench.main([str(table_folder)]) == 0
    printed = capsys.readouterr().out
    assert "not compared with: copy." in printed
    both = "| 23.00 | 21.50 (regression) | +1.50 | 24.00 | 22.50 (regression) | +1.50 |"
    assert f"| tiny, 1 step | T2w from T1w | 2 {both}" in printed
    assert "| 20.50 | 19.50 (means) | +1.00 |" in printed
    assert "alone" not in printed and "network" not in printed
    assert "2 of 2 better by 1 dB" in printed
    assert bench.main([str(table_folder), "--margin", "1.1"]) == 1
    assert "1 of 2 better by 1.1 dB" in capsys.readouterr().out


def test_another_network_can_be_judged_and_what_is_not_there_cannot(
    table_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = load("trivial_baselines")
    assert bench.main([str(table_folder), "--model", "network"]) == 1
    assert "1 of 2 better" in capsys.readouterr().out
    for arguments in ([str(table_folder), "--model", "paper"], [str(table_folder / "empty")]):
        with pytest.raises(SystemExit) as error:
            bench.main(arguments)
        assert error.value.code == 2


def test_an_ablation_is_the_mean_over_participants_of_the_mean_over_seeds_and_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # PSNR without the part minus with all: +1 and +3 dB with one seed, -1 and +1 with the other.
    scores = {"0": ((20.0, 21.0), (21.0, 24.0)), "1": ((20.0, 21.0), (19.0, 22.0))}
    folders = []
    for seed, (whole, without) in scores.items():
        folder = tmp_path / seed / "scores"
        folder.mkdir(parents=True)
        folders.append(str(folder.parent))
        for name, values in (("whole", whole), ("no-net", without)):
            label = f"{name}-{seed}, 1 step"
            about = {"label": label, "kind": "coladiff"}
            (folder / f"{name}.json").write_text(json.dumps(about))
            rows = [
                {
                    "participant_id": f"sub-{participant}",
                    "session_id": None,
                    "model": label,
                    "target": target,
                    "sources": "T1w",
                    "region": "brain",
                    # What is gained in T2w is lost three times over in FLAIR.
                    "psnr": value if target == "T2w" else 60 - 3 * value,
                    "psnr_fitted": value,
                    "ssim": value / 100,
                }
                for target in ("T2w", "FLAIR")
                for participant, value in enumerate(values)
            ]
            write_scores_tsv(folder / f"{name}.tsv", rows)
    bench = load("ablation_table")
    assert bench.main(folders) == 0
    printed = capsys.readouterr().out
    own, fitted = (line for line in printed.splitlines() if line.startswith("| no-net | +1.00"))
    assert own.startswith("| no-net | +1.00 [+0.00, +2.00] (+0.00 to +2.00) | -3.00 ")
    assert own.endswith("| -1.00 [-2.00, +0.00] (-2.00 to +0.00) |")
    assert fitted.endswith("| +1.00 [+0.00, +2.00] (+0.00 to +2.00) |")
    with pytest.raises(SystemExit):
        bench.main([str(tmp_path / "empty")])
