"""Draw the picture of a real result in the README, from the outputs of an evaluating run.

    colapipe openms_mni OUT participant --engine builtin --evaluate --samples 8
    python docs/tools/real_result.py OUT docs/images/real-result.png

``openms_mni`` is one person of the open MS data of Lesjak et al. (Neuroinformatics, 2018; CC BY,
https://github.com/muschellij2/open_ms_data), brain-extracted: no face can be seen in it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from colapipe.report.figures import (
    canonical,
    choose_view,
    draw_tiles,
    error_map,
    font,
    map_colours,
    own_scale,
    shared_limit,
)
from colapipe.slices.intensity import normalise

SUBJECT, TARGET = "ms07", "T2w"
HEIGHTS, MIDDLE = 10, slice(5, 6)
"""Slices through the brain, from bottom to top, and the one of them that is drawn."""
TILE, HEADER, GAP, BAR = 190, 48, 4, 60
LEVELS = 96


def main(out_dir: Path, picture: Path) -> None:
    """Draw sources, synthesised image, truth, error and standard deviation in one row."""
    anat = out_dir / f"sub-{SUBJECT}" / "anat"
    start = f"sub-{SUBJECT}_space-T1w"

    def read(name: str) -> npt.NDArray[np.float32]:
        return canonical(nib.load(anat / name))[0]

    mask, affine = canonical(nib.load(anat / f"{start}_label-brain_desc-fromT1w_mask.nii.gz"))
    view = choose_view(mask, affine, tile_width=TILE, count=HEIGHTS)
    view = type(view)(view.box, view.slices[MIDDLE], view.heights_mm[MIDDLE], view.tile)
    truth = read(f"{start}_desc-preproc_{TARGET}.nii.gz")
    synthetic = read(f"{start}_desc-synth_{TARGET}.nii.gz")
    greys = {
        "T1w": ("source", read(f"{start}_desc-preproc_T1w.nii.gz")),
        "T1ce": ("source", read(f"sub-{SUBJECT}_ce-gadolinium_space-T1w_desc-preproc_T1w.nii.gz")),
        "FLAIR": ("source", read(f"{start}_desc-preproc_FLAIR.nii.gz")),
        TARGET: ("SYNTHETIC", synthetic),
        f"real {TARGET}": ("never given to the model", truth),
    }
    maps = {
        "error": ("absolute", error_map(own_scale(synthetic, mask), truth, mask)),
        "uncertainty": (
            "std of 8 samples",
            own_scale(read(f"{start}_desc-synthstd_{TARGET}.nii.gz"), mask),
        ),
    }
    limit = shared_limit([float(np.percentile(m[mask > 0], 98)) for _, m in maps.values()])
    columns = []
    for name, (note, volume) in greys.items():
        shown = own_scale(volume, mask) if note == "SYNTHETIC" else normalise(volume, mask)[0]
        columns.append((name, note, np.repeat(draw_tiles(shown, view)[..., None], 3, 2)))
    colours = map_colours(LEVELS)[:LEVELS] / 255
    for name, (note, volume) in maps.items():
        share = np.clip(draw_tiles(volume, view) / limit, 0, 1)
        columns.append((name, note, colours[np.rint(share * (LEVELS - 1)).astype(int)]))
    save(columns, colours, limit, picture)
    print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB, z = {view.heights_mm[0]:.0f} mm")
    with (anat / f"{start}_desc-synth_qc.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["target"] == TARGET and row["region"] == "brain":
                print(f"PSNR {row['psnr']} dB, SSIM {row['ssim']} in the brain")


def save(
    columns: list[tuple[str, str, npt.NDArray[np.floating]]],
    colours: npt.NDArray[np.floating],
    limit: float,
    picture: Path,
) -> None:
    """Put the tiles side by side, with labels, L and R, and a colour bar."""
    height = columns[0][2].shape[0]
    width = len(columns) * (TILE + GAP) + BAR
    canvas = np.zeros((height + HEADER, width, 3))
    for number, (_, _, tile) in enumerate(columns):
        left = number * (TILE + GAP)
        canvas[HEADER:, left : left + TILE] = np.clip(tile, 0, 1)
    bar = len(columns) * (TILE + GAP) + 4
    canvas[HEADER + 10 : -10, bar : bar + 12] = colours[
        np.rint(np.linspace(LEVELS - 1, 0, height - 20)).astype(int)
    ][:, None]
    image = Image.fromarray(np.rint(canvas * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number, (name, note, _) in enumerate(columns):
        left = number * (TILE + GAP)
        draw.text((left + TILE // 2, 18), name, "white", font(18), anchor="ms")
        if note == "SYNTHETIC":
            draw.rectangle((left + 40, 24, left + TILE - 40, 44), fill="white")
        ink = "black" if note == "SYNTHETIC" else "white"
        draw.text((left + TILE // 2, 40), note, ink, font(14), anchor="ms")
        draw.text((left + 8, height + HEADER - 6), "L", "white", font(14), anchor="ls")
        draw.text((left + TILE - 8, height + HEADER - 6), "R", "white", font(14), anchor="rs")
    for share, y in ((1.0, HEADER + 10), (0.5, HEADER + height // 2), (0.0, HEADER + height - 10)):
        draw.text((bar + 18, y), f"{limit * share:.3g}", "white", font(13), anchor="lm")
    greys = np.repeat(np.linspace(0, 255, 256 - LEVELS)[:, None], 3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.rint(np.vstack([greys, colours * 255])).astype(np.uint8).tobytes())
    few = image.quantize(palette=palette, dither=Image.Dither.NONE)
    few.save(picture, "PNG", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
