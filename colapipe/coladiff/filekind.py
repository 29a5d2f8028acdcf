"""What a file is that is not what was expected: told from its first bytes, without libraries."""

from __future__ import annotations

import json
import re
import stat
import tomllib
import zlib
from pathlib import Path

_HEAD = 64 * 1024
_MAGIC = (
    (b"PK\x03\x04", "a zip archive, as PyTorch, NumPy (.npz) and others write them"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and MATLAB write them"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "a file compressed with bzip2"),
    (b"\xfd7zXZ", "a file compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "a file compressed with zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"MATLAB", "a MATLAB file"),
    (b"NRRD", "an NRRD image"),
    (b"\x7fELF", "a program"),
)
_NIFTI = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
"""The size of the header of NIfTI-1 and NIfTI-2, in both byte orders."""
_LFS = b"version https://git-lfs"
_ANNEX = re.compile(rb"\.git/annex/objects|^/annex/objects/")
_PICKLE = re.compile(rb"^\x80[\x02-\x05]")
_YAML = re.compile(r"^[A-Za-z_][\w -]*:(\s|$)")


def describe_file(path: Path) -> str:
    """Return in words what a file looks like, as in "... is a NIfTI image".

    Only the file's first 64 KiB are read, and nothing in them is run.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        "a file of another kind" where it cannot be told.

    Raises
    ------
    OSError
        If the file is not there or cannot be read.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        return "a folder"
    if not stat.S_ISREG(mode):
        # Reading a pipe could wait for ever, and would take what is meant for another.
        return "a pipe or a device, not a file"
    with Path(path).open("rb") as stream:
        head = stream.read(_HEAD)
    return describe_bytes(head)


def describe_bytes(head: bytes) -> str:
    """Return in words what a file looks like that begins with these bytes.

    Examples
    --------
    >>> describe_bytes(b"<!DOCTYPE html><html>")
    'an HTML page, perhaps what a server answered instead of the file'
    >>> describe_bytes(b'{"T1w": {}}')
    'a JSON file'
    """
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "a file of zeros, perhaps a download that was interrupted"
    if head.startswith(b"\x1f\x8b"):
        inside = _inflate(head)
        if _is_nifti(inside):
            return "a NIfTI image, compressed with gzip"
        return "a file compressed with gzip"
    if _is_nifti(head):
        return "a NIfTI image"
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return words
    if head[128:132] == b"DICM":
        return "a DICOM file"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if _PICKLE.match(head):
        return "a Python pickle, as PyTorch wrote its checkpoints"
    if head[8:9] == b"{" and head[6:8] == b"\0\0":
        return "a safetensors file"
    return _describe_text(head)


def _describe_text(head: bytes) -> str:
    if head.startswith(_LFS):
        return (
            "a pointer of git-lfs instead of the file itself, which was not fetched (git lfs pull)"
        )
    if _ANNEX.search(head[:300]):
        return (
            "a pointer of git-annex instead of the file itself, which was not fetched (datalad get)"
        )
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        if len(head) < _HEAD or err.start < len(head) - 4:  # not a character that was cut
            return "a file of another kind"
        text = head[: err.start].decode("utf-8-sig")
    if "\0" in text:
        return "a file of another kind"
    begin = text.lstrip()
    if re.match(r"<(!doctype html|html|head|body)\b", begin, re.IGNORECASE):
        return "an HTML page, perhaps what a server answered instead of the file"
    if begin.startswith("<?xml"):
        return "an XML file"
    if begin.startswith("#!"):
        return "a script"
    if begin.startswith("{") or (begin.startswith("[") and _is_json(text)):
        return "a JSON file"
    if _is_toml(text):
        return "a TOML file"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and _YAML.match(lines[0]):
        return "a YAML file"
    return "a text file"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except (ValueError, RecursionError):
        return False


def _inflate(head: bytes) -> bytes:
    """Return the first bytes of what was compressed with gzip; empty if it is damaged."""
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(head, 400)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    """Say whether a NIfTI or Analyze header begins here, and not merely a number of its size."""
    return head[:4] in _NIFTI and (
        head[4:7] in (b"n+2", b"ni2") or head[344:347] in (b"n+1", b"ni1") or head[38:39] == b"r"
    )
