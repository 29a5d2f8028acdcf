"""Tiny BIDS trees for the tests of this room."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from colapipe.bids.names import derivative_path, report_path
from colapipe.contrasts import CONTRASTS, TISSUES

Tree = Mapping[str, Any]


def write_tree(root: Path, tree: Tree) -> Path:
    """Write files: None is an empty file, a string its text, anything else JSON."""
    for relative, content in tree.items():
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.touch()
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


DESCRIPTION = {"Name": "Test", "BIDSVersion": "1.10.0", "DatasetType": "raw"}


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[Tree], Path]:
    """Return a function that writes a dataset with a description into a folder of its own."""

    def make(files: Tree, name: str = "data", description: Any = DESCRIPTION) -> Path:
        return write_tree(tmp_path / name, {"dataset_description.json": description, **files})

    return make


def _every_product(participant: str, session: str | None) -> list[PurePosixPath]:
    """The path of every file that the app writes for one session."""

    def path(*args: str, **entities: str) -> PurePosixPath:
        return derivative_path(participant, session, *args, **entities)

    paths = [report_path(participant)]
    for space, contrast in itertools.product(CONTRASTS, CONTRASTS):
        source = f"from{contrast}"
        for extension in (".nii.gz", ".json"):
            paths += [
                path(extension=extension, contrast=contrast, space=space, desc=desc)
                for desc in ("preproc", "synth", "synthstd")
            ]
            paths += [
                path("mask", extension, space=space, label="brain", desc=source),
                path("dseg", extension, space=space, desc=source),
            ]
            paths += [
                path("probseg", extension, space=space, label=tissue, desc=source)
                for tissue in TISSUES
            ]
        paths.append(path("dseg", ".tsv", space=space, desc=source))
        if space != contrast:
            paths += [
                path("xfm", extension, from_=contrast, to=space, mode="image")
                for extension in (".mat", ".txt", ".json")
            ]
    for space, extension in itertools.product(CONTRASTS, (".nii.gz", ".json")):
        paths.append(path("mask", extension, space=space, label="lesion"))
    for space, extension in itertools.product(CONTRASTS, (".tsv", ".json")):
        paths += [
            path("qc", extension, space=space, desc=desc)
            for desc in ("synth", "quality", "selfcheck")
        ]
    return paths


@pytest.fixture
def every_product() -> Callable[[str, str | None], list[PurePosixPath]]:
    """Return a function that lists the paths of all files the app writes for one session."""
    return _every_product
