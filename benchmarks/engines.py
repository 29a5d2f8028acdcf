"""Compare the two engines on real scans: CPU seconds, and how far their results agree.

    python benchmarks/engines.py                      # the subjects of SUBJECTS, one after another
    python benchmarks/engines.py stroke mslong01-1    # some of them

Needs FSL (FSLDIR or PATH) and the real scans (COLAPIPE_TEST_DATA, by default ../shared/data).
Prints a Markdown table. CPU seconds are those of this process and of the programs that it starts,
on one thread: loading and saving included, importing modules not, except for the brain mask, which
the built-in engine makes in a process of its own.

Both engines get the same brain mask (the built-in one's) and the same bias-corrected T1w. Scans
that come co-registered are first moved apart by writing another affine into them, so that there is
something to register, and the truth is known.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before numpy and ITK are imported: CPU seconds are compared on one thread.
os.environ["OMP_NUM_THREADS"] = "1"

import nibabel as nib
import numpy as np

from colapipe.anatomy.bias import correct_bias
from colapipe.anatomy.brainmask import support_mask
from colapipe.anatomy.images import load_scan, save_image
from colapipe.anatomy.maps import apply_mask, load_array, load_mask
from colapipe.anatomy.transforms import read_itk
from colapipe.interfaces import builtin, fsl
from colapipe.run.fsl import find_fsl

ROOT = Path(__file__).resolve().parent.parent
REFERENCE, MOVING = "T1w", ("T2w", "FLAIR")
PERTURBATION_DEGREES, PERTURBATION_MM = (4.0, -6.0, 5.0), (6.0, -5.0, 4.0)


@dataclass(frozen=True)
class Subject:
    """A subject of the real scans: with its skull and unregistered, or without and registered."""

    folder: str
    raw: bool


SUBJECTS = {
    "stroke": Subject("stroke/sub-cstar01/anat", raw=False),
    "ms07": Subject("openms_mni/sub-ms07/anat", raw=False),
    "mslong01-1": Subject("openms_native/sub-mslong01/ses-01/anat", raw=True),
    "mslong01-2": Subject("openms_native/sub-mslong01/ses-02/anat", raw=True),
    "mslong04-1": Subject("openms_native/sub-mslong04/ses-01/anat", raw=True),
    "brats": Subject("brats_raw/sub-Brats18CBICAABM1/anat", raw=False),
}


@dataclass
class Stopwatch:
    """CPU seconds that a block of code took, here and in the programs that it waited for."""

    seconds: float = 0.0


@contextmanager
def cpu_seconds() -> Iterator[Stopwatch]:
    watch, start = Stopwatch(), sum(os.times()[:4])
    yield watch
    watch.seconds = sum(os.times()[:4]) - start


@dataclass(frozen=True)
class Row:
    """One job, done by both engines."""

    subject: str
    job: str
    fsl: float
    builtin: float
    agreement: str

    def __str__(self) -> str:
        ratio = self.fsl / self.builtin
        return (
            f"| {self.subject} | {self.job} | {self.fsl:.1f} | {self.builtin:.1f} | "
            f"{ratio:.1f} | {self.agreement} |"
        )


class Bench:
    """The jobs of one subject, done by both engines into a folder."""

    def __init__(self, name: str, data: Path, folder: Path) -> None:
        self.name, self.subject, self.folder = name, SUBJECTS[name], folder
        self.scans: dict[str, Path] = {}
        self.truth: np.ndarray | None = None
        for contrast in (REFERENCE, *MOVING):
            (found,) = (
                path
                for path in (data / self.subject.folder).glob(f"*_{contrast}.nii.gz")
                if "_ce-" not in path.name
            )
            scan = load_scan(found)
            if not self.subject.raw and contrast in MOVING:
                self.truth = perturbation(scan)
                affine = np.linalg.inv(self.truth) @ scan.affine
                scan = nib.Nifti1Image(np.asarray(scan.dataobj), affine)
            self.scans[contrast] = folder / f"{contrast}.nii"
            save_image(scan, self.scans[contrast])

    def both(self, job: str, make: Callable[[Any], Any]) -> tuple[list[Any], list[float]]:
        """Run a node of each engine; return outputs and CPU seconds, FSL's first."""
        outputs, seconds = [], []
        for engine in (fsl, builtin):
            cwd = self.folder / f"{job}-{engine.__name__.rpartition('.')[2]}"
            cwd.mkdir()
            with cpu_seconds() as watch:
                outputs.append(make(engine).run(cwd=str(cwd)).outputs)
            seconds.append(watch.seconds)
        return outputs, seconds

    def rows(self) -> Iterator[Row]:
        total = np.zeros(2)
        for row in (self.brain_mask(), *self.registrations(), self.tissue()):
            if row is not None:
                total += row.fsl, row.builtin
                yield row
        yield Row(self.name, "**all**", total[0], total[1], "")

    def brain_mask(self) -> Row | None:
        self.mask = self.folder / "mask.nii.gz"
        scan = load_scan(self.scans[REFERENCE])
        if not self.subject.raw:
            save_image(support_mask(scan), self.mask)
            return None
        reference = self.scans[REFERENCE]
        outputs, seconds = self.both("mask", lambda e: e.BrainMask(in_file=reference))
        by_fsl, by_builtin = (load_array(output.mask_file) > 0 for output in outputs)
        save_image(load_mask(outputs[1].mask_file, scan), self.mask)
        overlap = dice(by_fsl, by_builtin)
        return Row(self.name, "brain mask", *seconds, f"Dice {overlap:.3f}")

    def registrations(self) -> Iterator[Row]:
        mask = load_mask(self.mask)
        points = nib.affines.apply_affine(
            mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0)[::50]
        )
        for contrast in MOVING:
            paths = {
                "moving": self.scans[contrast],
                "reference": self.scans[REFERENCE],
                "reference_mask": self.mask,
            }
            outputs, seconds = self.both(contrast, lambda e, p=paths: e.Register(**p))
            matrices = [read_itk(output.transform) for output in outputs]
            apart = distance(*matrices, points)
            words = f"{apart.mean():.2f} mm apart (most {apart.max():.2f})"
            if self.truth is not None:
                errors = [distance(matrix, self.truth, points).mean() for matrix in matrices]
                words += "; from the truth FSL {:.2f}, built-in {:.2f}".format(*errors)
            yield Row(self.name, f"{contrast} to {REFERENCE}", *seconds, words)

    def tissue(self) -> Row:
        scan, mask = load_scan(self.scans[REFERENCE]), load_mask(self.mask)
        corrected = self.folder / "corrected.nii"
        save_image(apply_mask(correct_bias(scan, mask), mask), corrected)
        paths = {"in_file": corrected, "mask_file": self.mask, "contrast": REFERENCE}
        outputs, seconds = self.both("tissue", lambda e: e.Tissue(**paths))
        inside = np.asarray(mask.dataobj) > 0
        by_fsl, by_builtin = (
            np.argmax([load_array(getattr(o, name)) for name in ("csf", "gm", "wm")], axis=0)
            for o in outputs
        )
        overlaps = [
            dice(inside & (by_fsl == label), inside & (by_builtin == label)) for label in range(3)
        ]
        words = "Dice CSF {:.3f}, GM {:.3f}, WM {:.3f}".format(*overlaps)
        return Row(self.name, f"tissues of {REFERENCE}", *seconds, words)


def perturbation(scan: nib.Nifti1Image) -> np.ndarray:
    """Return a 4x4 rigid motion, RAS+ mm, about the centre of the scan."""
    centre = nib.affines.apply_affine(scan.affine, (np.array(scan.shape) - 1) / 2)
    turn = nib.eulerangles.euler2mat(*np.radians(PERTURBATION_DEGREES))
    shift = np.array(PERTURBATION_MM)
    return np.asarray(nib.affines.from_matvec(turn, centre - turn @ centre + shift))


def distance(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far apart two transforms, moving to reference, put points of the reference.

    The points are taken back by one and forth by the other, in mm.
    """
    there = nib.affines.apply_affine(a @ np.linalg.inv(b), points)
    return np.asarray(np.linalg.norm(there - points, axis=1))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    names = parser.parse_args().subjects or list(SUBJECTS)
    if unknown := set(names) - set(SUBJECTS):
        parser.error(f"unknown subjects {sorted(unknown)}; known are {', '.join(SUBJECTS)}")
    data = Path(os.environ.get("COLAPIPE_TEST_DATA", ROOT.parent / "shared" / "data"))
    found = find_fsl()
    if found is None:
        parser.error("FSL is not here: set FSLDIR")
    if not data.is_dir():
        parser.error(f"no real scans at {data}: set COLAPIPE_TEST_DATA")
    print(f"FSL {found.version}; CPU seconds on one thread; {time.strftime('%Y-%m-%d')}\n")
    print("| subject | job | FSL, CPU s | built-in, CPU s | ratio | agreement |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for row in Bench(name, data, Path(folder)).rows():
                print(row, flush=True)


if __name__ == "__main__":
    main()
