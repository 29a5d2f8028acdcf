"""A file is what it was if its content is, whatever its times say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from colapipe.run.fingerprints import fingerprint, is_same, refreshed, times_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"one content")
    return path


def rewrite(path: Path, content: bytes) -> None:
    """Change the content; keep size and times, as rsync -t and touch -r do."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_was_touched_copied_or_moved_is_the_same(file: Path) -> None:
    known = fingerprint(file)
    os.utime(file, ns=(1, 1))
    assert is_same(file, known)
    copy = Path(shutil.copy(file, file.with_name("copy")))
    assert is_same(copy, known)
    assert is_same(copy.rename(file.with_name("moved")), known)


def test_another_content_of_the_same_size_and_time_is_noticed(file: Path) -> None:
    known = fingerprint(file)
    rewrite(file, b"two content")
    assert times_of(file)[:2] == known[:2]
    assert not is_same(file, known)


def test_a_file_that_changed_while_it_was_used_is_never_the_same(file: Path) -> None:
    before = times_of(file)
    rewrite(file, b"two content")
    assert not is_same(file, fingerprint(file, before))


def test_a_file_that_is_not_there(file: Path) -> None:
    known = fingerprint(file)
    file.unlink()
    assert not is_same(file, known)
    assert is_same(file, fingerprint(file))
    file.touch()
    assert not is_same(file, [])


def test_times_are_trusted_only_of_files_that_were_left_alone(file: Path) -> None:
    known = fingerprint(file)
    assert known[2] == 0
    assert refreshed(file, [*times_of(file), known[3]]) == [*times_of(file), known[3]]
