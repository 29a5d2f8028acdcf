"""``colapipe-model info``: parts, operations, and the scores that a checkpoint carries."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from colapipe.baselines.load import load_model
from colapipe.baselines.slicewise import make_metadata
from colapipe.baselines.unet import RegressionUNet
from colapipe.cli.model import main
from colapipe.cli.model_describe import fact_lines, quality_lines, score_lines
from colapipe.coladiff.calibration import Calibration
from colapipe.coladiff.checkpoint import load_checkpoint, save_checkpoint
from colapipe.coladiff.presets import write_nano_checkpoint
from colapipe.training.augment import Augmentation
from colapipe.training.loop import Settings

SCORES = [
    {
        "target": "T2w",
        "sources": ["T1w", "FLAIR"],
        "region": "brain",
        "participants": 5,
        "steps": 4,
        "samples": 1,
        "psnr": [17.5, 15.2, 19.6],
        "psnr_fitted": [19.5, None, None],
        "ssim": [0.61, 0.5, 0.7],
    }
]


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_nano_checkpoint(tmp_path / "nano.safetensors")


def test_parts_add_up_to_all_parameters(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(nano), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert sum(facts["parts"].values()) == facts["parameters"]
    assert "denoiser" in facts["parts"] and "flops_per_slice" not in facts


def test_operations_are_counted_on_request(nano: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(nano), "--json", "--flops"]) == 0
    flops = json.loads(capsys.readouterr().out)["flops_per_slice"]
    assert flops["once"] > 0 and flops["step"] > 0
    model, image = load_model(nano), np.full((1, 224, 224), 0.5, dtype=np.float32)
    with FlopCounterMode(display=False) as counter:
        sources = dict.fromkeys(("T1w", "T2w", "T1ce", "FLAIR"), image)
        model.synthesise(sources, "PDw", mask=image, steps=1, samples=1)
    assert counter.get_total_flops() == flops["once"] + flops["step"]


def test_a_baseline_is_described_and_its_operations_are_those_of_its_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "unet.safetensors"
    network = RegressionUNet(2, [8])
    about = {"name": "u", "training_data": "none", "licence": "none"}
    metadata = make_metadata("unet", ("T1w", "T2w"), {"channels": [8]}, **about)
    save_checkpoint(path, network.state_dict(), metadata)
    assert main(["info", str(path), "--json", "--flops"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "unet"
    # Multiply-adds of each convolution on 224 x 224, and the linear layer of FiLM; twice.
    expected = 2 * (224 * 224 * (2 * 8 * 9 + 8 * 8 * 9 + 8) + 4 * 32)
    assert facts["flops_per_slice"] == {"once": expected, "step": 0}


def test_scores_that_a_checkpoint_carries_are_printed(
    nano: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, metadata = load_checkpoint(nano)
    save_checkpoint(nano, tensors, {**metadata, "scores": SCORES})
    assert main(["info", str(nano)]) == 0
    printed = capsys.readouterr().out
    assert (
        "scores:\n  T2w from T1w+FLAIR, brain, 5 participants, 4 steps, 1 sample: PSNR "
        "17.50 [15.20, 19.60] dB, fitted 19.50 dB, SSIM 0.610 [0.500, 0.700]\n"
    ) in printed
    assert main(["info", str(nano), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == SCORES


def test_calibration_and_settings_are_printed_a_line_for_each_target_and_setting(
    nano: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, metadata = load_checkpoint(nano)
    targets = {
        "T2w": {"floor": 0.0123456789, "factor": 2.5, "participants": 5},
        "FLAIR": {"floor": 0.02, "factor": 1.75, "participants": 4},
    }
    content = Calibration.from_dict(
        {"level": 0.9, "samples": 8, "steps": 4, "sampler": "ddim", "targets": targets}
    ).to_dict()
    settings = asdict(Settings(learning_rate=0.002, augmentation=Augmentation(flip=0.25)))
    extra = {"calibration": content, "settings": settings}
    save_checkpoint(nano, tensors, {**metadata, **extra})
    assert main(["info", str(nano)]) == 0
    printed = capsys.readouterr().out
    assert "{" not in printed
    lines = printed.splitlines()
    start = lines.index("calibration:")
    assert set(lines[start + 1 : start + 5]) == {
        "  level: 0.9",
        "  sampler: ddim",
        "  samples: 8",
        "  steps: 4",
    }
    assert lines[start + 5 : start + 8] == [
        "  targets:",
        "    FLAIR: factor 1.75, floor 0.02, participants 4",
        "    T2w: factor 2.5, floor 0.0123457, participants 5",
    ]
    settings_lines = lines[lines.index("settings:") + 1 :]
    assert "  learning_rate: 0.002" in settings_lines
    inner = settings_lines[settings_lines.index("  augmentation:") + 1 :]
    assert "    flip: 0.25" in inner[: len(settings["augmentation"])]


@pytest.mark.parametrize("calibration", [{"targets": {"T2w": 3}}, {"targets": "T2w"}, {}])
def test_a_calibration_of_another_shape_is_printed_as_it_is(calibration: object) -> None:
    lines = fact_lines({"calibration": calibration})
    assert lines[0] == "calibration:" and ("T2w" in lines[-1] or lines == ["calibration:"])


@pytest.mark.parametrize("scores", ["T2w 17.5 dB", [{"target": "T2w"}], {"T2w": 17.5}])
def test_scores_of_another_shape_are_printed_as_they_are(scores: object) -> None:
    (line,) = score_lines(scores)
    assert "T2w" in line


def test_what_is_usual_is_summed_up_in_words_and_whole_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "  self_check: limits for 11 sets of contrasts, measured on 5 participants\n" in printed
    assert "FLAIR (22)" in printed and len(printed.splitlines()) < 120
    assert main(["info", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["quality"]["self_check"]["sets"]
    assert len(sets) == 11


@pytest.mark.parametrize("quality", ["T2w", {"self_check": {"sets": "T2w"}}, {"T2w": 1}])
def test_what_is_usual_of_another_shape_is_printed_as_it_is(quality: object) -> None:
    (line,) = quality_lines(quality)
    assert "T2w" in line
