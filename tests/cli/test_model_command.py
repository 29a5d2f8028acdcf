"""``colapipe-model`` as the app calls it: a process, a request, outputs and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from colapipe.cli.model import main
from colapipe.coladiff.checkpoint import file_sha256
from colapipe.coladiff.presets import write_nano_checkpoint

DEPTH = 5
SLICES = [3, 1, 2]
AFFINE = np.array([[1.0, 0, 0, -90], [0, 1, 0, -120], [0, 0, 1, 7], [0, 0, 0, 1]])

Change = Callable[[dict[str, Any]], Any]


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "colapipe.cli.model", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Write a nano model, two sources, a mask and three tissue maps once."""
    folder = tmp_path_factory.mktemp("inputs")
    mask = np.zeros((224, 224, DEPTH), dtype=np.uint8)
    mask[60:160, 50:170, 1:4] = 1
    rng = np.random.default_rng(0)
    files = {"model": str(write_nano_checkpoint(folder / "nano.safetensors"))}
    for name in ("mask", "T1w", "FLAIR", "CSF", "GM", "WM"):
        volume = mask if name == "mask" else (rng.random(mask.shape) * mask).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"{name}.nii.gz")
        files[name] = str(folder / f"{name}.nii.gz")
    return files


@pytest.fixture
def request_file(inputs: dict[str, str], tmp_path: Path) -> Callable[..., Path]:
    def write(change: Change = lambda content: None) -> Path:
        content: dict[str, Any] = {
            "format_version": 1,
            "model": inputs["model"],
            "participant": "01",
            "session": None,
            "target": "T2w",
            "contrasts": {name: inputs[name] for name in ("T1w", "FLAIR")},
            "mask": inputs["mask"],
            "tissues": {name: inputs[name] for name in ("CSF", "GM", "WM")},
            "tissue_source": "T1w",
            "slices": SLICES,
            "options": {
                "sampler": None,
                "steps": None,
                "samples": 2,
                "seed": 3,
                "device": "cpu",
                "threads": 1,
                "batch_size": 8,
            },
            "outputs": {
                name: str(tmp_path / name) + ext
                for name, ext in (("mean", ".nii.gz"), ("std", ".nii.gz"), ("info", ".json"))
            },
        }
        change(content)
        path = tmp_path / "request.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def outputs(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"request.json"}


def test_a_request_is_carried_out_in_a_process_of_its_own(
    request_file: Callable[..., Path], inputs: dict[str, str], tmp_path: Path
) -> None:
    answer = run("synth", request_file())
    assert (answer.returncode, answer.stderr) == (0, "")
    assert outputs(tmp_path) == {"mean.nii.gz", "std.nii.gz", "info.json"}
    mask = np.asarray(nib.load(inputs["mask"]).dataobj) > 0
    for name in ("mean", "std"):
        image = nib.load(tmp_path / f"{name}.nii.gz")
        assert image.shape == mask.shape
        assert image.get_data_dtype() == np.float32
        assert np.array_equal(image.affine, AFFINE)
        volume = np.asarray(image.dataobj)
        assert not volume[~mask].any()
        assert volume.min() >= 0 and volume.max() <= 1 and volume[mask].std() > 0
    info = json.loads((tmp_path / "info.json").read_text())
    assert info["model"]["sha256"] == file_sha256(Path(inputs["model"]))
    assert info["model"]["name"] == "cola-nano" and info["model"]["licence"] == "Apache-2.0"
    expected = {
        "target": "T2w",
        "contrasts": ["T1w", "FLAIR"],
        "sampler": "ddim",
        "steps": 2,
        "samples": 2,
        "seed": 3,
        "slices": SLICES,
        "device": "cpu",
        "threads": 1,
        "precision": "float32",
        "batch_size": 8,
        "tissue_source": "T1w",
    }
    assert {key: info[key] for key in expected} == expected
    assert set(info["auto_weights"]) == {"T1w", "FLAIR"}
    assert 0 < info["seconds"] < 300
    assert 50e6 < info["peak_memory_bytes"] < 1.5e9


def test_a_slice_does_not_depend_on_the_other_slices_of_the_request(
    request_file: Callable[..., Path], tmp_path: Path
) -> None:
    assert main(["synth", str(request_file())]) == 0
    whole = np.asarray(nib.load(tmp_path / "mean.nii.gz").dataobj)
    assert main(["synth", str(request_file(lambda c: c.update(slices=[2])))]) == 0
    one = np.asarray(nib.load(tmp_path / "mean.nii.gz").dataobj)
    assert not one[..., [0, 1, 3, 4]].any()
    assert np.abs(one[..., 2] - whole[..., 2]).max() <= 1e-5


def test_the_same_request_gives_the_same_bytes(
    request_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = request_file()
    assert main(["synth", str(path)]) == 0
    first = (tmp_path / "mean.nii.gz").read_bytes()
    assert main(["synth", str(path)]) == 0
    assert (tmp_path / "mean.nii.gz").read_bytes() == first


def test_a_single_sample_writes_no_standard_deviation(
    request_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "std.nii.gz").write_bytes(b"of an earlier run")
    assert main(["synth", str(request_file(lambda c: c["options"].update(samples=None)))]) == 0
    assert outputs(tmp_path) == {"mean.nii.gz", "info.json"}


def test_options_may_be_left_out(request_file: Callable[..., Path], tmp_path: Path) -> None:
    assert main(["synth", str(request_file(lambda c: c.pop("options")))]) == 0
    assert json.loads((tmp_path / "info.json").read_text())["samples"] == 1


def set_to(*keys: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (set_to("format_version", value=2), "format_version"),
        (lambda c: c.pop("target"), "target"),
        (lambda c: c.pop("slices"), "slices"),
        (lambda c: c.pop("outputs"), "outputs"),
        (set_to("target", value=7), "target"),
        (set_to("colour", value=1), "colour"),
        (set_to("target", value="FLAIR"), "contrasts"),
        (set_to("tissue_source", value="T2w"), "tissue_source"),
        (set_to("tissue_source", value=None), "tissue_source"),
        (set_to("contrasts", value={}), "contrasts"),
        (set_to("contrasts", "T1w", value=3), "contrasts.T1w"),
        (lambda c: c["tissues"].update(BONE=c["mask"]), "tissues"),
        (set_to("slices", value=[1, 1]), "slices"),
        (set_to("slices", value=[-1]), "slices"),
        (set_to("slices", value=[DEPTH]), "slices"),
        (set_to("options", value=[]), "options"),
        (set_to("options", "steps", value=0), "options.steps"),
        (set_to("options", "samples", value=True), "options.samples"),
        (set_to("options", "step", value=4), "options.step"),
        (set_to("options", "sampler", value="magic"), "magic"),
        (set_to("options", "device", value="tpu"), "options.device"),
        (set_to("outputs", "mean", value=None), "outputs.mean"),
    ],
)
def test_a_wrong_request_names_the_field(
    request_file: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    field: str,
) -> None:
    assert main(["synth", str(request_file(change))]) == 2
    message = capsys.readouterr().err
    assert field in message
    assert message.count("\n") == 1
    assert outputs(tmp_path) == set()


def test_a_gpu_that_is_not_there_is_refused(
    request_file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["synth", str(request_file(set_to("options", "device", value="cuda:0")))]) == 2
    assert "no CUDA GPU" in capsys.readouterr().err


def test_images_of_different_grids_are_refused(
    request_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((224, 224, 3), np.float32), AFFINE), other)
    assert main(["synth", str(request_file(set_to("contrasts", "T1w", value=str(other))))]) == 2
    assert "contrasts.T1w" in capsys.readouterr().err


def test_intensities_that_are_not_normalised_are_refused(
    request_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.full((224, 224, DEPTH), 200.0, np.float32), AFFINE), other)
    assert main(["synth", str(request_file(set_to("contrasts", "T1w", value=str(other))))]) == 2
    assert "T1w has values" in capsys.readouterr().err


def test_a_model_that_is_missing_or_unsuitable_is_66(
    request_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(path: Path | str, target: str = "T2w") -> int:
        return main(
            ["synth", str(request_file(lambda c: c.update(model=str(path), target=target)))]
        )

    assert code("/none/model.safetensors") == 66
    assert "/none/model.safetensors" in capsys.readouterr().err
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"PK\x03\x04" + bytes(100))
    assert code(garbage) == 66
    small = tmp_path / "small.safetensors"
    write_nano_checkpoint(small, ("T1w", "T2w", "FLAIR"), min_sources=2)
    assert code(small, "T1ce") == 66
    assert "does not know T1ce" in capsys.readouterr().err


def test_files_that_cannot_be_read_or_written_are_74(
    request_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synth", str(tmp_path / "none.json")]) == 74
    assert main(["synth", str(request_file(set_to("mask", value="/none/mask.nii.gz")))]) == 74
    assert "/none/mask.nii.gz" in capsys.readouterr().err
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not gzip")
    assert main(["synth", str(request_file(set_to("mask", value=str(broken))))]) == 74
    change = set_to("outputs", "mean", value="/none/mean.nii.gz")
    assert main(["synth", str(request_file(change))]) == 74


def test_a_truncated_source_is_74(
    request_file: Callable[..., Path], inputs: dict[str, str], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(Path(inputs["T1w"]).read_bytes()[:20000])
    assert main(["synth", str(request_file(set_to("contrasts", "T1w", value=str(cut))))]) == 74


def test_a_request_that_is_not_json_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "request.json"
    for text in ("{", "[]"):
        path.write_text(text)
        assert main(["synth", str(path)]) == 2
        assert "request.json" in capsys.readouterr().err


def test_a_bug_is_one_line_and_70(
    request_file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("colapipe.cli.model_synth.run_request", fail)
    assert main(["synth", str(request_file())]) == 70
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "KeyError" in message
    with pytest.raises(KeyError):
        main(["--traceback", "synth", str(request_file())])


def test_memory_that_does_not_suffice_is_1(
    request_file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise MemoryError("a batch of one slice does not fit into memory")

    monkeypatch.setattr("colapipe.cli.model_synth.run_request", fail)
    assert main(["synth", str(request_file())]) == 1
    assert "does not fit" in capsys.readouterr().err


def test_info_describes_a_model(inputs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", inputs["model"]]) == 0
    words = capsys.readouterr().out
    for part in ("cola-nano", file_sha256(Path(inputs["model"])), "licence", "training_data"):
        assert part in words
    assert main(["info", "--json", inputs["model"]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] > 1000 and facts["bytes"] > 1000
    assert main(["info", "/none.safetensors"]) == 66


def test_info_without_a_model_describes_the_bundled_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["info"]) == 0
    words = capsys.readouterr().out
    assert "cola-tiny" in words and "BraTS" in words and "esearch use" in words


def test_help_and_info_do_not_import_torch(inputs: dict[str, str]) -> None:
    code = (
        "import sys\nfrom colapipe.cli.model import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    for arguments in (["--help"], ["train", "--help"], ["info", inputs["model"]]):
        answer = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
        )
        assert answer.stdout.splitlines()[-1] == "False False", answer.stderr


def test_the_bundled_model_is_what_its_card_says() -> None:
    from colapipe.coladiff import CoLaDiff
    from colapipe.weights import bundled_model_path

    path = bundled_model_path()
    assert path.stat().st_size < 10e6
    model = CoLaDiff.load(path)
    assert set(model.contrasts) >= {"T1w", "T2w", "T1ce", "FLAIR"}
    assert model.metadata["min_sources"] == 1
    card = (path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert file_sha256(path) in card
    assert (path.parent / "LICENSE").is_file()
