"""What the app asks of the model's process is what that process reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from colapipe.request import Request, read_request


@pytest.mark.parametrize("session", [None, "01"])
def test_what_is_written_is_read(tmp_path: Path, session: str | None) -> None:
    request = Request(
        model=Path("model.safetensors"),
        participant="a+b",
        session=session,
        target="T2w",
        contrasts={"T1w": Path("t1w.nii.gz"), "FLAIR": Path("été/flair.nii.gz")},
        mask=Path("mask.nii.gz"),
        tissues={"CSF": Path("csf.nii.gz")},
        tissue_source="T1w",
        slices=(3, 1, 2),
        sampler=None,
        steps=4,
        samples=None,
        seed=-1,
        device="cpu",
        threads=2,
        batch_size=3,
        mean=Path("mean.nii.gz"),
        std=Path("std.nii.gz"),
        info=Path("info.json"),
    )
    request.write(tmp_path / "request.json")
    assert read_request(tmp_path / "request.json") == request
