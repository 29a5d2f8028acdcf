"""The benchmarks build what they say they measure, and judge by their gates."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from colapipe.coladiff.presets import write_nano_checkpoint

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
