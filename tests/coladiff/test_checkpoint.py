"""Checkpoints: one safetensors file that says what it is, and nothing else is accepted."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from colapipe.coladiff import CoLaDiff
from colapipe.coladiff.checkpoint import (
    METADATA_KEY,
    CheckpointError,
    file_sha256,
    load_checkpoint,
    parameter_sizes,
    read_metadata,
    save_checkpoint,
)
from colapipe.coladiff.presets import write_nano_checkpoint


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_nano_checkpoint(tmp_path / "nano.safetensors")


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Replace entries of a checkpoint's description; None removes one."""
    tensors, metadata = load_checkpoint(path)
    metadata = {k: v for k, v in {**metadata, **change}.items() if v != "REMOVED"}
    save_checkpoint(path, tensors, metadata)


def test_a_checkpoint_comes_back_as_it_was_written(nano: Path, tmp_path: Path) -> None:
    tensors, metadata = load_checkpoint(nano)
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, tensors, metadata)
    assert again.read_bytes() == nano.read_bytes()
    assert read_metadata(nano) == metadata
    assert metadata["defaults"] == {
        "sampler": "ddim",
        "steps": 2,
        "samples": 1,
        "sampled_steps": 2,
    }
    assert metadata["calibration"] is None
    model = CoLaDiff.load(nano)
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    assert sum(parameter_sizes(nano).values()) == sum(t.numel() for t in tensors.values())


def test_half_precision_halves_the_file_and_loads_as_float32(nano: Path, tmp_path: Path) -> None:
    tensors, metadata = load_checkpoint(nano)
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, tensors, metadata, half=True)
    loaded, _ = load_checkpoint(half)
    assert half.stat().st_size < 0.6 * nano.stat().st_size
    for name, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor, tensors[name], rtol=1e-3, atol=1e-6)


def test_the_hash_is_of_the_whole_file(nano: Path) -> None:
    before = file_sha256(nano)
    assert len(before) == 64
    changed = bytearray(nano.read_bytes())
    changed[-1] ^= 1
    nano.write_bytes(bytes(changed))
    assert file_sha256(nano) != before


class Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(CheckpointError, match="never loaded"):
        CoLaDiff.load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"\0" * 64,
        b"\xff" * 64,
        (40).to_bytes(8, "little") + b"{" * 40,
        (4).to_bytes(8, "little") + b"[1] ",
        (9).to_bytes(8, "little") + b'{"a": {}}',
    ],
    ids=["empty", "short", "zeros", "ones", "not JSON", "a list", "no tensor"],
)
def test_garbage_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        read_metadata(path)


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_an_incomplete_file_is_refused(nano: Path, keep: int) -> None:
    nano.write_bytes(nano.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        read_metadata(nano)


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a model of colapipe"):
        read_metadata(path)
    save_file({"a": torch.zeros(2)}, path, {METADATA_KEY: "[]"})
    with pytest.raises(CheckpointError, match="CoLa-Diff"):
        read_metadata(path)
    save_file({"a": torch.zeros(2)}, path, {METADATA_KEY: "{"})
    with pytest.raises(CheckpointError, match="JSON"):
        read_metadata(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"kind": "gan"}, "kind"),
        ({"licence": "REMOVED"}, "licence"),
        ({"training_data": 3}, "training_data"),
        ({"contrasts": ["T1w"]}, "contrasts"),
        ({"min_sources": 0}, "min_sources"),
        ({"min_sources": 5}, "min_sources"),
        ({"latent": {"mean": [0.0], "std": [1.0]}}, "latent"),
        ({"latent": {"mean": [0.0] * 16, "std": [0.0] * 16}}, "not positive"),
        ({"latent": {"mean": [None] * 16, "std": [1.0] * 16}}, "mean"),
        ({"defaults": {"sampler": "ddim", "steps": 0, "samples": 1}}, "defaults"),
        ({"configuration": {}}, "configuration"),
    ],
)
def test_a_wrong_description_is_refused_by_name(
    nano: Path, change: dict[str, Any], word: str
) -> None:
    rewrite(nano, change)
    with pytest.raises(CheckpointError, match=word) as error:
        CoLaDiff.load(nano)
    assert str(nano) in str(error.value)


def test_a_file_without_a_default_for_several_samples_has_one_for_both(nano: Path) -> None:
    rewrite(nano, {"defaults": {"sampler": "ddim", "steps": 3, "samples": 1}})
    assert read_metadata(nano)["defaults"]["sampled_steps"] == 3


def test_tensors_that_do_not_fit_the_configuration_are_refused(nano: Path) -> None:
    tensors, metadata = load_checkpoint(nano)
    tensors.pop("denoiser.out.weight")
    save_checkpoint(nano, tensors, metadata)
    with pytest.raises(CheckpointError, match=r"denoiser\.out\.weight"):
        CoLaDiff.load(nano)


def test_metadata_are_read_without_torch(nano: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from colapipe.coladiff.checkpoint import read_metadata;"
        "print(read_metadata(Path(sys.argv[1]))['name'], 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(nano)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert answer.stdout.split() == ["cola-nano", "False"]


def test_a_failed_write_leaves_the_old_file(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = nano.read_bytes()
    tensors, metadata = load_checkpoint(nano)

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(nano, tensors, {**metadata, "name": "other"})
    assert nano.read_bytes() == before
    assert [path.name for path in nano.parent.iterdir()] == [nano.name]


def test_the_description_is_plain_json(nano: Path) -> None:
    metadata = read_metadata(nano)
    assert json.loads(json.dumps(metadata)) == metadata
