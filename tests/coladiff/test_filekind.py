"""A file that is not what was expected is called what it is."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.coladiff.checkpoint import CheckpointError, read_metadata
from colapipe.coladiff.filekind import describe_bytes, describe_file


def nifti(kind: type) -> bytes:
    return kind(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_bytes()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", b"x")
    return stream.getvalue()


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


KINDS = {
    "NIfTI": nifti(nib.Nifti1Image),
    "NIfTI image": nifti(nib.Nifti2Image),
    "NIfTI image, compressed": gzip.compress(nifti(nib.Nifti1Image)),
    "compressed with gzip": gzip.compress(b"some text"),
    "HTML page": b"\n<!doctype HTML>\n<html><body>404</body></html>",
    "XML": b'<?xml version="1.0"?><a/>',
    "pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "pointer of git-annex": b"/annex/objects/MD5E-s9--0.nii.gz\n",
    "pickle": pickle.dumps({"state_dict": [1.0]}, protocol=2),
    "zip archive": archive(),
    "empty": b"",
    "zeros": bytes(5000),
    "JSON": b'{"T1w": {"run": 1',
    "JSON file": b"[1, 2]",
    "TOML": b'# settings\nengine = "fsl"\n',
    "YAML": b"# a comment\npartition: normal\n",
    "text": b"hello\nworld\n",
    "another kind": bytes(range(1, 256)),
    "safetensors": header('{"a": {}}'),
}


@pytest.mark.parametrize("words", KINDS)
def test_a_file_is_called_what_it_is(words: str) -> None:
    assert words in describe_bytes(KINDS[words])


def test_folders_and_pipes_are_not_opened(tmp_path: Path) -> None:
    assert describe_file(tmp_path) == "a folder"
    os.mkfifo(tmp_path / "pipe")
    assert "pipe" in describe_file(tmp_path / "pipe")


def test_a_safetensors_header_as_long_as_that_of_a_nifti_is_none() -> None:
    text = json.dumps({"__metadata__": {"a": "b" * 321}})
    assert len(text) == 348
    assert describe_bytes(header(text)) == "a safetensors file"


@pytest.mark.parametrize("words", sorted({*KINDS} - {"safetensors"}))
def test_what_is_given_as_a_model_is_named_with_its_kind(words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(KINDS[words])
    with pytest.raises(CheckpointError, match=words) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value) and "expected a model" in str(caught.value)


def test_a_folder_given_as_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("size", [12, 200])
def test_a_model_that_is_cut_within_its_header_is_incomplete(size: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(header('{"__metadata__": {"a": "' + "b" * 400 + '"}}')[:size])
    with pytest.raises(CheckpointError, match="incomplete"):
        read_metadata(path)
