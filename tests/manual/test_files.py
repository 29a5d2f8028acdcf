"""What a run leaves is what docs/files.md describes: every file, every column, every field."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page(tool: Callable[[str], ModuleType]) -> str:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    return tool("columns").on_page_markdown(text)


@pytest.fixture(scope="module")
def outputs(app, quick: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that writes nearly everything there is, and of the group level."""
    pytest.importorskip("nilearn")
    from colapipe.phantom import simulate_dataset

    root = tmp_path_factory.mktemp("outputs")
    out, lesions = root / "out", root / "lesions"
    raw = simulate_dataset(root / "raw", 1, resolution=5, head=False, coregistered=True)
    flair = nib.load(raw / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz")
    mask = np.zeros(flair.shape, dtype=np.uint8)
    mask[tuple(slice(n // 2, n // 2 + 3) for n in flair.shape)] = 1
    drawn = lesions / "sub-01" / "anat" / "sub-01_space-FLAIR_label-lesion_mask.nii.gz"
    drawn.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(mask, flair.affine), drawn)
    about = {"Name": "lesions", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (lesions / "dataset_description.json").write_text(json.dumps(about))
    run = (raw, out, *quick, "-w", root / "work")
    run += ("--evaluate", "--target", "T2w", "--samples", 2, "--self-check", "on", "--viewer")
    done = app(*run, "--derivatives", f"lesion={lesions}")
    assert done.code == 0, done.text
    done = app(raw, out, "group")
    assert done.code == 0, done.text
    return out


def patterns(page: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield what stands as code in the first column under "What comes out", as it is and to match.

    ``<name>`` is a label (letters and digits), ``{A,B}`` one of several, ``*`` anything within a
    folder. A pattern without a folder is that of a file in anat/.
    """
    part = page.split("\n## What comes out\n")[1].split("\n## Sidecars\n")[0]
    for row in re.findall(r"^\| (`.*?`) \|", part, re.MULTILINE):
        for pattern in re.findall(r"`([^`]+)`", row):
            regex = re.escape(pattern)
            regex = re.sub(r"<(run|mode)>", r"\\w+", regex)
            regex = re.sub(r"<[a-z]+>", "[A-Za-z0-9]+", regex)
            regex = re.sub(r"\\\{(.*?)\\\}", lambda found: f"({found[1].replace(',', '|')})", regex)
            regex = regex.replace(r"\*", "[^/]*")
            folder = "" if "/" in pattern or "*" not in pattern else r"sub-\w+/(ses-\w+/)?anat/"
            yield pattern, re.compile(folder + regex)


def written(outputs: Path) -> list[str]:
    found = [path.relative_to(outputs).as_posix() for path in outputs.rglob("*") if path.is_file()]
    assert len(found) > 60
    return sorted(found)


def is_described(name: str, known: list[re.Pattern[str]]) -> bool:
    if any(pattern.fullmatch(name) for pattern in known):
        return True
    # "Every .nii.gz and every transform has a JSON file of the same name", and every table.
    stem = name.removesuffix(".json")
    extensions = (".nii.gz", ".mat", ".tsv")
    return stem != name and any(
        pattern.fullmatch(stem + extension) for pattern in known for extension in extensions
    )


def test_every_file_that_a_run_leaves_is_described(page: str, outputs: Path) -> None:
    known = [pattern for _, pattern in patterns(page)]
    unknown = [name for name in written(outputs) if not is_described(name, known)]
    assert not unknown, "docs/files.md has no word of:\n" + "\n".join(unknown)


NOT_IN_THIS_RUN = (
    "logs/<run>/crash-*.txt",
    "logs/slurm/*",
    # Where nothing was synthesised.
    "sub-<label>/figures/*_space-<ref>_desc-scans_<contrast>.png",
)


def test_no_file_is_described_that_a_run_does_not_leave(page: str, outputs: Path) -> None:
    names = written(outputs)
    missing = [
        words
        for words, pattern in patterns(page)
        if words not in NOT_IN_THIS_RUN and not any(pattern.fullmatch(name) for name in names)
    ]
    assert not missing


def test_a_file_without_a_description_would_be_noticed(page: str) -> None:
    known = [pattern for _, pattern in patterns(page)]
    assert is_described("sub-1/ses-2/anat/sub-1_ses-2_space-T1w_desc-synth_T2w.json", known)
    for name in (
        "sub-1/anat/sub-1_space-T1w_desc-new_T2w.nii.gz",
        "sub-1/anat/new.tsv",
        "sub-1_new.html",
        "new.tsv",
        "logs/a/new.txt",
    ):
        assert not is_described(name, known), name


def test_every_column_of_every_table_is_described(page: str, outputs: Path) -> None:
    code = set(re.findall(r"`([^`]+)`", page))
    missing = set()
    tables = sorted(outputs.rglob("*.tsv"))
    assert len(tables) > 4
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            missing |= {(path.name, name) for name in next(csv.reader(file, delimiter="\t"))}
    # Of the group's table, docs/files.md says that the self-check's columns begin so.
    missing = {(name, column.removeprefix("selfcheck_")) for name, column in missing}
    assert not {(name, column) for name, column in missing if column not in code}


def test_every_field_of_every_sidecar_is_described(page: str, outputs: Path) -> None:
    section = page.split("\n## Sidecars\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|.*?\| (.*?) \|$", section, re.MULTILINE)
    code = {word for row in rows for cell in row for word in re.findall(r"`([^`]+)`", cell)}
    named = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    top = {word for cell in named for word in re.findall(r"`([^`]+)`", cell)}
    missing = set()
    sidecars = [
        path
        for path in sorted(outputs.rglob("sub-*.json"))
        if "logs" not in path.parts and not path.with_suffix(".tsv").exists()
    ] + [path for path in sorted(outputs.rglob("*_dseg.json"))]
    assert len(sidecars) > 15
    for path in sidecars:
        for key, value in json.loads(path.read_text(encoding="utf-8")).items():
            if key not in top:
                missing.add((path.name, key))
            if isinstance(value, dict):
                for under in value:
                    # Contrasts and file types are not names of fields.
                    known = {f"{key}.{under}", under}
                    if not known & code and key not in ("SourceWeights",):
                        missing.add((path.name, f"{key}.{under}"))
    assert not missing


def test_the_dictionary_of_each_table_has_all_its_columns(outputs: Path) -> None:
    for path in sorted(outputs.rglob("*_qc.tsv")):
        header = path.read_text(encoding="utf-8").split("\n")[0].split("\t")
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert [name for name in header if "Description" not in described[name]] == []
