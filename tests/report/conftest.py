"""A small head as derivatives: a round brain with a bright mark on the patient's left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (26, 30, 20)
AFFINE = np.array(
    [[5.0, 0, 0, -62.5], [0, 5.0, 0, -72.5], [0, 0, 5.0, -40.0], [0, 0, 0, 1]], dtype=float
)


class Derivatives:
    """Writes derivative files of one participant the way the workflow names them."""

    def __init__(self, out_dir: Path) -> None:
        self.out_dir = out_dir
        x, y, z = np.indices(SHAPE)
        radius = ((x - 12.5) / 10) ** 2 + ((y - 14.5) / 12) ** 2 + ((z - 9.5) / 8) ** 2
        self.mask = radius < 1
        rng = np.random.default_rng(0)
        self.scan = (100 + 60 * radius + 10 * rng.random(SHAPE)) * self.mask

    def anat(self, session: str | None = None) -> Path:
        folder = self.out_dir / "sub-01"
        folder = folder / f"ses-{session}" if session else folder
        (folder / "anat").mkdir(parents=True, exist_ok=True)
        return folder / "anat"

    def write(
        self,
        name: str,
        data: Any,
        sidecar: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Path:
        """Write ``sub-01[_ses-Y]_<name>.nii.gz`` and its sidecar."""
        start = f"sub-01_ses-{session}" if session else "sub-01"
        path = self.anat(session) / f"{start}_{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(data), AFFINE), path)
        if sidecar is not None:
            self.write_text(f"{name}.json", json.dumps(sidecar), session)
        return path

    def write_text(self, name: str, text: str, session: str | None = None) -> Path:
        start = f"sub-01_ses-{session}" if session else "sub-01"
        path = self.anat(session) / f"{start}_{name}"
        path.write_text(text, encoding="utf-8")
        return path

    def scans(self, *contrasts: str, session: str | None = None) -> None:
        """Preprocessed scans on the grid of T1w, and the brain mask of T1w."""
        for number, contrast in enumerate(contrasts):
            name = f"space-T1w_desc-preproc_{contrast}".replace(
                "space-T1w_desc-preproc_T1ce", "ce-gadolinium_space-T1w_desc-preproc_T1w"
            )
            image = (self.scan * (1 + number)).astype(np.float32)
            self.write(name, image, {"SkullStripped": True}, session)
        mask = self.mask.astype(np.uint8)
        self.write("space-T1w_label-brain_desc-fromT1w_mask", mask, session=session)

    def synthesis(
        self,
        contrast: str,
        sources: list[str],
        image: Any = None,
        std: Any = None,
        session: str | None = None,
        sha256: str = "ab" * 32,
        calibration: dict[str, Any] | None = None,
    ) -> None:
        """A synthesised contrast in 0 to 1000, with its uncertainty if given."""
        agent, suffix = ("ce-gadolinium_", "T1w") if contrast == "T1ce" else ("", contrast)
        sidecar = {
            "Synthetic": True,
            "SynthesizedFrom": sources,
            "SynthesisModel": {"Name": "tiny", "WeightsSHA256": sha256, "Samples": 4},
        }
        made = self.scan / self.scan.max() * 1000 if image is None else image
        name = f"{agent}space-T1w_desc-{{}}_{suffix}"
        self.write(name.format("synth"), made.astype(np.float32), sidecar, session)
        if std is not None:
            if calibration is not None:
                sidecar = {**sidecar, "UncertaintyCalibration": calibration}
            self.write(name.format("synthstd"), std.astype(np.float32), sidecar, session)


@pytest.fixture
def derivatives(tmp_path: Path) -> Derivatives:
    return Derivatives(tmp_path / "out")


@pytest.fixture(scope="session")
def run() -> Callable[..., dict[str, Any]]:
    """Builds the description of a run, with what a test changes."""

    def build(*sessions: dict[str, Any], **changes: Any) -> dict[str, Any]:
        described: dict[str, Any] = {
            "version": "0.1.0",
            "command": "colapipe data out participant",
            "started": "2025-01-01T00:00:00+00:00",
            "engine": "builtin",
            "engine_version": "0.1.0",
            "model": {"name": "tiny", "sha256": "ab" * 32, "licence": "CC-BY-4.0"},
            "settings": {"target": ["auto"], "seed": 0},
            "sessions": list(sessions),
            "failures": [],
            "warnings": [],
        }
        return {**described, **changes}

    return build


HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} \u202egnp.\u05d0\u05d1"
)


@pytest.fixture(scope="session")
def hostile() -> str:
    """Text that would run, break out of an attribute, be filled in, or be read backwards."""
    return HOSTILE


@pytest.fixture(scope="session")
def rich_report(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Any]) -> Path:
    """A page with all that a page can show: two syntheses of the same sources, and all tables."""
    from colapipe.report.page import build_subject_report

    made = Derivatives(tmp_path_factory.mktemp("rich") / "out")
    made.scans("T1w", "T2w", "FLAIR")
    # The patient's right is brighter in one, the front in the other.
    across, along = np.indices(SHAPE)[:2]
    error = made.scan * (0.5 + across / SHAPE[0])
    for contrast, image in (("T2w", error), ("T1ce", made.scan * (0.3 + along / SHAPE[1]))):
        sources = [name for name in ("T1w", "T2w", "FLAIR") if name != contrast]
        made.synthesis(contrast, sources, image=image * 3, std=made.mask * (10.0 + across))
    made.write("space-T1w_desc-fromT1w_dseg", made.mask.astype(np.uint8) * 2)
    made.write_text(
        "space-T1w_desc-selfcheck_qc.tsv",
        "contrast\tsources\tcorrelation\tlight\treasons\n"
        "T1w\tT2w, FLAIR\t0.91\tgreen\tn/a\n"
        "T2w\tT1w, FLAIR\t0.52\tamber\tless like its synthesis than usual\n"
        "FLAIR\tT1w, T2w\t0.05\tred\tit may be turned\n",
    )
    many = [f"measure_{number}" for number in range(14)]
    made.write_text(
        "space-T1w_desc-quality_qc.tsv",
        "\t".join(["contrast", "synthetic", "nothing", *many])
        + "\nT1w\tfalse\tn/a\t"
        + "\t".join("1" * 14)
        + "\nT2w\ttrue\tn/a\t"
        + "\t".join("2" * 14)
        + "\n",
    )
    about = {"measure_0": {"LongName": "First", "Description": "The first one.", "Units": "mm"}}
    made.write_text("space-T1w_desc-quality_qc.json", json.dumps(about))
    made.write_text("space-T1w_desc-synth_qc.tsv", "target\tpsnr\nT2w\t23.45\n")
    failure = {"node": "wf.step", "message": "Traceback\n\nValueError: bad", "crash_file": "a.txt"}
    return build_subject_report(
        made.out_dir,
        "01",
        run({"session": None, "targets": ["T2w", "T1ce"]}, failures=[failure], warnings=["look"]),
    )
