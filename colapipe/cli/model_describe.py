"""``colapipe-model info``: what a model is, how large, how good, and what it costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colapipe.errors import ModelError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from colapipe.cli.arguments import ArgumentParser


def add_info(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command to those of ``colapipe-model``."""
    info = commands.add_parser(
        "info",
        help="describe a model",
        description="Print a model's configuration, sizes, SHA-256, training data, licence, and "
        "its scores where it carries any.",
    )
    info.add_argument(
        "model", type=Path, nargs="?", metavar="MODEL", help="default: the bundled model"
    )
    info.add_argument("--json", action="store_true", help="print all of the description as JSON")
    info.add_argument(
        "--flops",
        action="store_true",
        help="count the floating point operations per slice and step, too (some seconds)",
    )
    info.set_defaults(run=describe)


def describe(options: argparse.Namespace) -> None:
    """Print the description of a model.

    Raises
    ------
    ModelError
        If the file cannot be read, or is not a model of colapipe.
    """
    from colapipe.coladiff.checkpoint import (
        BASELINES,
        KIND,
        CheckpointError,
        file_sha256,
        parameter_sizes,
        read_metadata,
    )
    from colapipe.weights import bundled_model_path

    path = options.model or bundled_model_path()
    try:
        metadata = read_metadata(path, (KIND, *BASELINES))
        sha256, sizes = file_sha256(path), parameter_sizes(path)
        flops = _flops(path) if options.flops else {}
    except CheckpointError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error.strerror})") from error
    facts: dict[str, Any] = {
        "path": str(path),
        "sha256": sha256,
        "bytes": path.stat().st_size,
        "parameters": sum(sizes.values()),
        "parts": sizes,
        **flops,
        **metadata,
    }
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    scores, quality = facts.pop("scores", None), facts.pop("quality", None)
    for line in fact_lines(facts):
        print(line)
    if quality:
        print("quality (--json prints all of it):")
        for line in quality_lines(quality):
            print(f"  {line}")
    if scores:
        print("scores:")
        for line in score_lines(scores):
            print(f"  {line}")


def _flops(path: Path) -> dict[str, dict[str, int]]:
    from colapipe.baselines.load import load_model
    from colapipe.evaluation.flops import count_flops

    return {"flops_per_slice": count_flops(load_model(path))._asdict()}


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return a description in words: what belongs to an entry is indented below it.

    Parameters
    ----------
    facts : mapping
        As JSON knows it. The targets of a ``calibration`` get a line each.
    """
    lines = []
    for key, value in facts.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key}: {_plain(value)}")
            continue
        entries = dict(value)
        if key == "calibration" and isinstance(entries.get("targets"), Mapping):
            entries["targets"] = {
                target: _in_one_line(found) for target, found in entries["targets"].items()
            }
        lines.append(f"{key}:")
        lines += [f"  {line}" for line in fact_lines(entries)]
    return lines


def _in_one_line(value: Any) -> str:
    if not isinstance(value, Mapping):
        return _plain(value)
    return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items())


def quality_lines(quality: Any) -> list[str]:
    """Return in words for what a model knows what is usual; what is not understood, as it is.

    Parameters
    ----------
    quality : dict
        As :mod:`colapipe.quality.stored` describes it; its hundreds of numbers are not printed.
    """
    try:
        sets = quality["self_check"]["sets"]
        people = sorted({c["participants"] for each in sets.values() for c in each.values()})
        trained = {c: int(found["participants"]) for c, found in quality["histograms"].items()}
        return [
            f"self_check: limits for {len(sets)} sets of contrasts, measured on "
            f"{' or '.join(str(n) for n in people) or 'no'} participants",
            "histograms: of the training participants' "
            + ", ".join(f"{contrast} ({n})" for contrast, n in trained.items()),
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return [_plain(quality)]


def score_lines(scores: Any) -> list[str]:
    """Return the scores that a checkpoint carries in words; what is not understood, as it is.

    Parameters
    ----------
    scores : list of dict
        As :func:`colapipe.evaluation.tables.for_metadata` returns them.
    """
    if not isinstance(scores, list):
        return [_plain(scores)]
    lines = []
    for entry in scores:
        try:
            psnr, fitted = (_interval(entry[metric], 2) for metric in ("psnr", "psnr_fitted"))
            ssim = _interval(entry["ssim"], 3)
            run = ", ".join(
                f"{entry[key]} {key if entry[key] != 1 else key[:-1]}"
                for key in ("steps", "samples")
                if key in entry
            )
            lines.append(
                f"{entry['target']} from {'+'.join(entry['sources'])}, {entry['region']}, "
                f"{entry['participants']} participants{', ' + run if run else ''}: "
                f"PSNR {psnr} dB, fitted {fitted} dB, SSIM {ssim}"
            )
        except (KeyError, TypeError, ValueError):
            lines.append(_plain(entry))
    return lines


def _interval(figures: Sequence[float | None], digits: int) -> str:
    mean, low, high = figures
    if mean is None:
        return "none"
    if low is None or high is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
