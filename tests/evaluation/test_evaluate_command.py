"""``colapipe-model evaluate``: options to tables, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from colapipe.cli.model import main
from colapipe.coladiff.checkpoint import load_checkpoint, save_checkpoint
from colapipe.coladiff.presets import write_nano_checkpoint
from colapipe.quality.scores import read_scores_tsv
from colapipe.training.split import Split

FOUR = ("T1w", "T2w", "T1ce", "FLAIR")

MakeCache = Callable[..., Path]
MakeDataset = Callable[..., Path]
Evaluate = Callable[..., int]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["01", "02"], "validation": ["03", "04"]}))
    return path


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_nano_checkpoint(tmp_path / "nano.safetensors")


@pytest.fixture
def evaluate(make_cache: MakeCache, split: Path, nano: Path, tmp_path: Path) -> Evaluate:
    cache = make_cache({f"sub-0{number}": FOUR for number in range(1, 5)})

    def run(*options: str, models: tuple[Path, ...] = (nano,)) -> int:
        command = ["evaluate", *map(str, models), "--cache", str(cache), "--split", str(split)]
        return main([*command, "--out", str(tmp_path / "out"), *options])

    return run


def test_models_and_baselines_end_in_one_set_of_tables(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--baselines", "copy", "quadratic", "class-mean", "--targets", "T2w", "FLAIR"]
    assert evaluate(*options, "--steps", "1", "3", "--slices", "all") == 0
    out, printed = tmp_path / "out", capsys.readouterr().out
    text = (out / "tables.md").read_text(encoding="utf-8")
    networks = ["cola-nano, 1 step", "cola-nano, 3 steps"]
    models = [*networks, "copy", "quadratic regression", "class means"]
    for heading in (
        "# Scores",
        "## PSNR in dB, brain: own scale / fitted",
        "## SSIM, brain: own scale / fitted",
        "## PSNR in dB, brain: difference to quadratic regression, own scale / fitted",
        "## PSNR in dB by region, T2w from T1w+T1ce+FLAIR: own scale / fitted",
        "## Time and memory",
        "## Beside the paper's Table 1, BraTS 2018: whole slices, background included",
    ):
        assert f"{heading}\n" in text
    assert "not comparable" in text and "Trained with another split" in text
    assert "cola-nano, 1 step, cola-nano, 3 steps." in text
    main_table = text.split("## PSNR in dB, brain: own scale / fitted")[1].split("##")[0]
    assert main_table.strip() in printed
    assert "Beside the paper's Table 1" in printed
    rows = read_scores_tsv(out / "scores.tsv")
    assert list(dict.fromkeys(row["model"] for row in rows)) == models
    assert len(rows) == 5 * 2 * 2 * 4  # models, targets, participants, regions
    described = json.loads((out / "scores.json").read_text())
    assert list(described) == list(rows[0])
    carried = json.loads((out / "metadata_scores.json").read_text())
    first = carried["cola-nano, 3 steps"][0]
    mean = np.mean(
        [
            row["psnr"]
            for row in rows
            if (row["model"], row["target"], row["region"]) == (models[1], "T2w", "brain")
        ]
    )
    assert first["psnr"][0] == pytest.approx(mean, abs=1e-3)
    assert (first["steps"], first["samples"], first["participants"]) == (3, 1, 2)
    assert len((out / "differences.tsv").read_text().splitlines()) == 1 + 4 * 2 * 6 * 2
    assert (out / "paper_table_1_1.tsv").is_file()


def test_repeating_the_command_computes_nothing_and_models_can_be_added(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--targets", "T2w", "--steps", "1") == 0
    before = (tmp_path / "out" / "tables.md").read_text()
    capsys.readouterr()
    assert evaluate("--targets", "T2w", "--steps", "1") == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "tables.md").read_text() == before
    assert evaluate("--targets", "T2w", "--steps", "2", "--samples", "3") == 0
    after = (tmp_path / "out" / "tables.md").read_text()
    assert "cola-nano, 1 step |" in after and "cola-nano, 2 steps, 3 samples |" in after
    assert evaluate("--targets", "T2w", "--steps", "1", "--reference", "cola-nano, 1 step") == 0
    assert "difference to cola-nano, 1 step" in (tmp_path / "out" / "tables.md").read_text()


def test_the_bundled_model_is_scored_where_none_is_named(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    assert evaluate("--targets", "T2w", "--slices", "4", models=()) == 0
    (model,) = {row["model"] for row in read_scores_tsv(tmp_path / "out" / "scores.tsv")}
    assert model.startswith("cola-tiny, ")


def test_ever_more_sources_stand_beside_table_2(evaluate: Evaluate, tmp_path: Path) -> None:
    sources = ["T1w", "T1w+T1ce", "T1w+T1ce+FLAIR"]
    assert evaluate("--targets", "T2w", "--sources", *sources, "--steps", "1") == 0
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "## Beside the paper's Table 2: more sources" in text
    for task in sources:
        assert f"| cola-nano, 1 step (here) | T2w from {task} |" in text


def test_two_models_of_one_name_are_told_apart(
    evaluate: Evaluate, nano: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_nano_checkpoint(tmp_path / "other.safetensors", seed=1)
    assert evaluate("--targets", "T2w", "--steps", "1", models=(nano, other)) == 0
    rows = read_scores_tsv(tmp_path / "out" / "scores.tsv")
    assert {row["model"] for row in rows} == {
        f"cola-nano, 1 step ({path})" for path in (nano, other)
    }
    capsys.readouterr()
    assert evaluate("--targets", "T2w", "--steps", "1", "1") == 2
    assert "asked for twice" in capsys.readouterr().err


def test_the_autoencoder_alone_has_a_row_beside_its_model(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps", "1", "2", "--reference", "cola-nano, 1 step", "--sources", "T1w+T1ce"]
    assert evaluate(*options, "--ceiling") == 0
    rows = read_scores_tsv(tmp_path / "out" / "scores.tsv")
    alone = [row for row in rows if row["model"] == "cola-nano, autoencoder alone"]
    assert len(alone) == len(rows) / 3 == 2 * 2 * 4  # targets, participants, regions
    for row in alone:
        assert row["psnr"] > 100 and row["psnr_fitted"] > 100
    table = (tmp_path / "out" / "tables.md").read_text().split("\n## ")[1]
    (line,) = (line for line in table.splitlines() if "autoencoder alone" in line)
    assert re.fullmatch(r"(\| [^|]+){3} \|", line)
    for cell in line.split("|")[2:-1]:
        assert re.fullmatch(r" (1\d\d\.\d\d \[1\d\d\.\d\d, 1\d\d\.\d\d\]( / )?){2} ", cell)
    assert "It has seen what it is compared with" in (tmp_path / "out" / "tables.md").read_text()
    capsys.readouterr()
    # More steps of the same model have the same ceiling.
    assert evaluate("--steps", "3", "--sources", "T1w+T1ce", "--ceiling") == 0
    assert "cola-nano, autoencoder alone: nothing left to do" in capsys.readouterr().out
    # The name of the model means the model.
    assert (
        evaluate("--steps", "3", "--sources", "T1w+T1ce", "--ceiling", "--reference", "cola-nano")
        == 0
    )
    assert "difference to cola-nano, 3 steps" in (tmp_path / "out" / "tables.md").read_text()


def test_a_ceiling_needs_an_autoencoder(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--targets", "T2w", "--baselines", "copy", "--steps", "1") == 0
    fitted = tmp_path / "out" / "baselines" / "copy.safetensors"
    capsys.readouterr()
    assert evaluate("--ceiling", models=(fitted,)) == 2
    assert "none of the models is a CoLa-Diff" in capsys.readouterr().err


def test_only_those_whom_the_scores_need_are_read(
    make_dataset: MakeDataset,
    split: Path,
    nano: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dataset, out = make_dataset(("01", "02", "04", "05")), tmp_path / "out"
    command = ["evaluate", str(nano), "--data", str(dataset), "--split", str(split)]
    command += ["--out", str(out), "--steps", "1"]
    assert main(command) == 0
    assert [path.stem for path in (out / "slices").glob("*.npy")] == ["sub-04"]
    printed = capsys.readouterr().out
    assert "warning: no slices of sub-03, whom the split names" in printed
    assert {row["participant_id"] for row in read_scores_tsv(out / "scores.tsv")} == {"sub-04"}
    # A baseline is fitted on the training participants.
    assert main([*command, "--baselines", "copy"]) == 0
    there = {path.stem for path in (out / "slices").glob("sub-??.npy")}
    assert there == {"sub-01", "sub-02", "sub-04"}
    split.write_text(json.dumps({"train": ["01"], "validation": ["99"]}))
    assert main([*command, "--out", str(tmp_path / "nobody")]) == 65
    assert "none of the split's validation participants" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--sources", "T1w+T2w", "--targets", "T2w"), 2, "T2w is among its own sources"),
        (("--sources", "T2w", "--targets", "T2w", "--data", "/none"), 2, "its own sources"),
        (("--sources", "T1w+CT"), 2, "unknown contrast 'CT'"),
        (("--targets", "PDw"), 65, "no participant has the contrasts"),
        (("--device", "abacus"), 2, "--device: unknown device"),
        (("--reference", "nobody"), 2, "names none of the models"),
        (("--lesions", "/none"), 65, "/none: no such folder"),
        (("--data", "/none"), 65, "/none"),
    ],
)
def test_what_makes_no_sense_is_refused(
    evaluate: Evaluate,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    assert evaluate(*options) == code
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--targets", "T9w"), "'T9w' is not one of T1w"),
        (("--steps", "0"), "0 is not a whole number of 1 or more"),
        (("--samples", "0"), "0 is not a whole number of 1 or more"),
    ],
)
def test_values_that_an_option_does_not_take_are_refused(
    evaluate: Evaluate,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate(*options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_other_files_are_refused_by_name(
    evaluate: Evaluate,
    split: Path,
    nano: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate(models=(tmp_path / "missing.safetensors",)) == 66
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"PK" + bytes(100))
    assert evaluate(models=(garbage,)) == 66
    assert "garbage.safetensors" in capsys.readouterr().err
    leaky = tmp_path / "leaky.json"
    leaky.write_text(json.dumps({"train": ["01", "03"], "validation": []}))
    assert evaluate("--baselines", "copy", "--fit", str(leaky)) == 2
    assert "learns from 03, who is scored" in capsys.readouterr().err
    command = ["evaluate", str(nano), "--split", str(split), "--out", str(tmp_path / "empty")]
    assert main(command) == 2
    assert "no cached slices" in capsys.readouterr().err
    split.write_text(json.dumps({"train": ["01"], "validation": ["99"]}))
    assert evaluate() == 65
    assert "none of the split's validation participants" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["0", "-1", "some", "1.5"])
def test_slices_are_a_number_or_all(evaluate: Evaluate, word: str) -> None:
    with pytest.raises(SystemExit) as error:
        evaluate(f"--slices={word}")
    assert error.value.code == 2


@pytest.mark.parametrize("learned_from", ["01", "03"])
def test_a_model_of_another_split_is_doubted_unless_it_is_known_to_have_taught_nobody_scored(
    learned_from: str, evaluate: Evaluate, nano: Path, tmp_path: Path, monkeypatch
) -> None:
    shipped = Split((learned_from,), ("02",))
    monkeypatch.setattr("colapipe.training.split.shipped_splits", lambda: [shipped])
    tensors, metadata = load_checkpoint(nano)
    save_checkpoint(nano, tensors, metadata | {"split_sha256": shipped.sha256})

    assert evaluate("--targets", "T2w", "--steps", "1", "--slices", "16") == 0

    text = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    # 03 is one of those who are scored.
    assert ("Trained with another split" in text) == (learned_from == "03")
