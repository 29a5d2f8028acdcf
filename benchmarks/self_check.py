"""Judge the self-check: does its score follow the true error, and what does it call red?

    colapipe-model calibrate MODEL ... --cache SLICES --out NEW.safetensors --quality-only
    python benchmarks/self_check.py --cache SLICES --checks NEW-calibration/self-check --out FOLDER

For each validation participant of a split and each of four targets, the three other contrasts are
the session. One of them (in turn) is corrupted, in several grades; the target is synthesised from
all three and compared with its real scan, and the session is checked without the target. Limits are
those of the other participants, so nobody is judged by limits that he had a part in. What was
computed is kept in FOLDER, a file for each participant and target, and not computed again; the
tables are of all files that are there. Half an hour of CPU for five participants; --rounds 2 takes
two of the four targets of each, in turn.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from colapipe.coladiff.model import CoLaDiff
from colapipe.evaluation.self_check import (
    Brain,
    exchange_names,
    leave_out,
    read_brain,
    read_checks,
)
from colapipe.quality import metrics
from colapipe.quality.lights import Found, Limits, fit_limits, join, judge
from colapipe.quality.pose import middle_plane
from colapipe.quality.selfcheck import Measures, Pair, measure_pairs
from colapipe.slices.intensity import normalise
from colapipe.training.store import SliceStore
from colapipe.weights import bundled_model_path

TARGETS = ("T1w", "T2w", "T1ce", "FLAIR")
GRADES: dict[str, tuple[float, ...]] = {
    "noise (sd, of the range)": (0.05, 0.1, 0.2),
    "blur (sd, mm)": (1.0, 2.0, 4.0),
    "bias field (log range)": (0.4, 0.8, 1.6),
    "turned (degrees)": (2.0, 4.0, 8.0),
    "shifted (mm)": (2.0, 4.0, 8.0),
    "mirrored": (1.0,),
    "exchanged names": (1.0,),
}
LIGHTS = ("green", "amber", "red")
SCORES = ("mean_score", "lowest_score")
Volume = npt.NDArray[np.float32]
Row = dict[str, Any]


def corrupt(brain: Brain, kind: str, grade: float, names: Sequence[str], seed: int) -> Brain:
    """Return a brain whose first named contrast is corrupted; two change their names."""
    random = np.random.default_rng(seed)
    name = names[0]
    if kind.startswith("exchanged"):
        return exchange_names(brain, *names[:2])
    mask = brain.masks[name]
    axis = random.normal(size=3)
    axis /= np.linalg.norm(axis)
    geometry: Callable[[npt.NDArray[Any]], Volume] | None = None
    if kind.startswith("turned"):
        turn = Rotation.from_rotvec(np.radians(grade) * axis).as_matrix()
        geometry = _rigid(mask, turn, np.zeros(3))
    elif kind.startswith("shifted"):
        geometry = _rigid(mask, np.eye(3), grade * axis)
    elif kind == "mirrored":
        plane = middle_plane(mask)
        x, y, z = np.indices(mask.shape)
        across = np.stack([2 * plane[y, z] - x, y, z])

        def geometry(volume: npt.NDArray[Any]) -> Volume:
            return np.asarray(ndimage.map_coordinates(volume.astype(np.float32), across, order=1))

    if geometry is not None:
        # The brain was cut out by the mask of another contrast, so nothing lies outside.
        return replace(
            brain,
            images={**brain.images, name: geometry(brain.images[name]) * mask},
            masks={**brain.masks, name: (geometry(mask) > 0.5) & mask},
            tissues={
                **brain.tissues,
                name: {t: geometry(v) * mask for t, v in brain.tissues[name].items()},
            },
        )
    image = brain.images[name]
    if kind.startswith("noise"):
        image = image + random.normal(0, grade, image.shape).astype(np.float32)
    elif kind.startswith("blur"):
        weights = ndimage.gaussian_filter(mask.astype(np.float32), grade)
        image = ndimage.gaussian_filter(image * mask, grade) / np.maximum(weights, 1e-3)
    elif kind.startswith("bias"):
        places = np.indices(mask.shape).reshape(3, -1).T @ axis
        field = places.reshape(mask.shape)
        span = np.ptp(field[mask])
        image = image * np.exp(grade * (field - field[mask].min()) / span)
    return replace(brain, images={**brain.images, name: normalise(image, mask)[0]})


def _rigid(
    mask: npt.NDArray[np.bool_], turn: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]
) -> Callable[[npt.NDArray[Any]], Volume]:
    centre = np.array(ndimage.center_of_mass(mask))

    def move(volume: npt.NDArray[Any]) -> Volume:
        offset = centre - turn @ centre + shift
        return np.asarray(
            ndimage.affine_transform(volume.astype(np.float32), turn, offset, order=1)
        )

    return move


def true_error(made: Pair) -> dict[str, float]:
    """Return PSNR of a synthesis against the real scan in the brain, on both scales."""
    chosen = list(made.slices)
    inside = made.mask[:, :, chosen]
    real, synthetic = made.real[:, :, chosen], made.synthetic[:, :, chosen]
    fitted = metrics.apply_gain_offset(
        synthetic, *metrics.fit_gain_offset(synthetic, real, inside), inside
    )
    return {
        "psnr": metrics.psnr(synthetic, real, inside),
        "psnr_fitted": metrics.psnr(fitted, real, inside),
    }


def sessions(brain: Brain, target: str, untouched: Found, model: CoLaDiff) -> Iterator[Row]:
    """Yield one row for each corruption: the true error, and all that was measured."""
    session = _session(target)
    clean = {n: leave_out(model, brain, n, [s for s in session if s != n]) for n in session}
    yield {
        **_about(brain, target, "untouched", 0.0, session[0]),
        **true_error(leave_out(model, brain, target, session)),
        "measures": {name: asdict(found) for name, found in untouched.measures.items()},
    }
    for number, (kind, grades) in enumerate(GRADES.items()):
        first = (TARGETS.index(target) + number + zlib.crc32(brain.name.encode())) % len(session)
        names = session[first:] + session[:first]
        touched = names[:2] if kind.startswith("exchanged") else names[:1]
        for grade in grades:
            seed = zlib.crc32(f"{brain.name} {target} {kind} {grade}".encode())
            wrong = corrupt(brain, kind, grade, names, seed)
            pairs = {}
            for name in session:
                sources = [s for s in session if s != name]
                if set(touched) & set(sources):
                    pairs[name] = leave_out(model, wrong, name, sources)
                else:  # what it was made from is as it was
                    pairs[name] = replace(clean[name], real=wrong.images[name])
            yield {
                **_about(brain, target, kind, grade, "+".join(touched)),
                **true_error(leave_out(model, wrong, target, session)),
                "measures": {n: asdict(f) for n, f in measure_pairs(pairs).items()},
            }


def _session(target: str) -> list[str]:
    return [name for name in TARGETS if name != target]


def _about(brain: Brain, target: str, kind: str, grade: float, touched: str) -> Row:
    return {
        "participant": brain.name,
        "target": target,
        "kind": kind,
        "grade": grade,
        "touched": touched,
    }


Checks = dict[str, dict[str, Found]]


def limits_without(checks: Checks, participant: str, target: str) -> dict[str, Limits]:
    """Return the limits of a target's session that all other participants give."""
    joined = join(_session(target))
    return fit_limits([sets[joined] for name, sets in checks.items() if name != participant])


def _measures(row: Row) -> dict[str, Measures]:
    return {name: Measures(**found) for name, found in row["measures"].items()}


def judged(rows: Sequence[Row], checks: Checks) -> list[Row]:
    """Add lights and scores to rows: of the session, and of the contrast that was touched."""
    found = []
    for row in rows:
        limits = limits_without(checks, row["participant"], row["target"])
        verdicts = {
            name: judge(name, measures, limits.get(name))
            for name, measures in _measures(row).items()
        }
        scores = [verdict.score for verdict in verdicts.values()]
        lights = [verdict.light for verdict in verdicts.values()]
        if "n/a" in lights:
            continue  # too few other participants
        touched = [verdicts[name].light for name in row["touched"].split("+")]
        found.append(
            {
                **row,
                "mean_score": float(np.mean(scores)),
                "lowest_score": float(np.min(scores)),
                "light": max(lights, key=LIGHTS.index),
                "touched_light": max(touched, key=LIGHTS.index),
                "lights": lights,
            }
        )
    return found


def tables(rows: Sequence[Row]) -> str:
    """Return the tables as Markdown."""
    people = {row["participant"] for row in rows}
    lines = [f"{len(people)} participants, {len(rows)} sessions of three contrasts", ""]
    lines += [
        "| corruption | grade | sessions | amber | red | touched contrast red "
        "| PSNR of the target, fitted / own scale | mean score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["kind"], row["grade"]), []).append(row)
    order = ["untouched", *GRADES]
    for (kind, grade), group in sorted(groups.items(), key=lambda g: (order.index(g[0][0]), g[0])):
        count = len(group)
        amber, red = (sum(row["light"] == light for row in group) for light in ("amber", "red"))
        touched = sum(row["touched_light"] == "red" for row in group)
        lines.append(
            f"| {kind} | {grade:g} | {count} | {amber / count:.0%} | {red / count:.0%} | "
            f"{'-' if kind == 'untouched' else f'{touched / count:.0%}'} | "
            f"{_mean(group, 'psnr_fitted'):.2f} / {_mean(group, 'psnr'):.2f} | "
            f"{_mean(group, 'mean_score'):.2f} |"
        )
    clean = [light for row in rows if row["kind"] == "untouched" for light in row["lights"]]
    lines += ["", f"Single untouched contrasts: {_shares(clean)}", ""]
    lines += [
        "Spearman correlation with the PSNR of the target's synthesis, fitted / own scale:",
        "",
        "| target | sessions | mean score | lowest score |",
        "|---|---|---|---|",
    ]
    for target in TARGETS:
        lines.append(_followed(target, [row for row in rows if row["target"] == target]))
    lines.append(_followed("all", rows))
    lines.append(_followed("all, change against untouched", _changes(rows)))
    lines.append(_followed("untouched alone", [row for row in rows if row["kind"] == "untouched"]))
    lines.append(_followed_within(rows))
    return "\n".join(lines)


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def _shares(lights: Sequence[str]) -> str:
    return ", ".join(f"{lights.count(light) / len(lights):.0%} {light}" for light in LIGHTS)


def _followed(name: str, rows: Sequence[Row]) -> str:
    """Return a row of the table of rank correlations."""
    cells = [" / ".join(f"{value:.2f}" for value in _rank_correlations(rows, s)) for s in SCORES]
    return f"| {name} | {len(rows)} | {cells[0]} | {cells[1]} |"


def _followed_within(rows: Sequence[Row]) -> str:
    """Return a row of means over single pairs of participant and target, with their range."""
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["participant"], row["target"]), []).append(row)
    cells = []
    for score in SCORES:
        found = np.array([_rank_correlations(pair, score) for pair in pairs.values()])
        cells.append(
            " / ".join(
                f"{column.mean():.2f} ({column.min():.2f} to {column.max():.2f})"
                for column in found.T
            )
        )
    return f"| within a participant and target, mean | {len(rows)} | {cells[0]} | {cells[1]} |"


def _rank_correlations(rows: Sequence[Row], score: str) -> list[float]:
    """Return Spearman's correlation of a score with the fitted PSNR, and on its own scale."""
    values = [row[score] for row in rows]
    return [
        float(stats.spearmanr(values, [row[error] for row in rows]).statistic)
        for error in ("psnr_fitted", "psnr")
    ]


def _changes(rows: Sequence[Row]) -> list[Row]:
    """Return corrupted sessions with scores and errors as differences to the untouched one."""
    keys = ("mean_score", "lowest_score", "psnr_fitted", "psnr")
    clean = {(r["participant"], r["target"]): r for r in rows if r["kind"] == "untouched"}
    return [
        {key: row[key] - clean[row["participant"], row["target"]][key] for key in keys}
        for row in rows
        if row["kind"] != "untouched" and (row["participant"], row["target"]) in clean
    ]


def measure(options: argparse.Namespace, checks: Checks) -> None:
    """Measure what has no file yet, another target of each participant in each round."""
    store = SliceStore(options.cache)
    model = CoLaDiff.load(options.model or bundled_model_path(), "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    for turn in range(options.rounds):
        for number, name in enumerate(sorted(checks)):
            target = TARGETS[(number + turn) % len(TARGETS)]
            path = options.out / f"{name}_{target}.json"
            if not path.is_file() and (number % options.jobs) == options.job:
                found = checks[name][join(_session(target))]
                rows = list(sessions(read_brain(store, name), target, found, model))
                path.write_text(json.dumps(rows), encoding="utf-8")
                print(f"{name}, {target}: {len(rows)} sessions", flush=True)


def read_rows(folder: Path) -> list[Row]:
    """Return all that was measured."""
    return [row for path in sorted(folder.glob("*.json")) for row in json.loads(path.read_text())]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True, help="cached slices of a training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--checks", type=Path, required=True, help="folder self-check that a calibration left"
    )
    parser.add_argument("--model", type=Path, help="default: the bundled one")
    parser.add_argument("--rounds", type=int, default=len(TARGETS), help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    parser.add_argument("--job", type=int, default=0, help="which of them this is, from 0")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(options.threads)
    checks = {path.stem: read_checks(path) for path in sorted(options.checks.glob("*.json"))}
    measure(options, checks)
    rows = judged(read_rows(options.out), checks)
    print(tables(rows) if rows else "too few participants for limits")


if __name__ == "__main__":
    main()
