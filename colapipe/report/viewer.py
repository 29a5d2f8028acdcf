"""A page to turn a participant's brain in three dimensions: layers over each other, with NiiVue.

NiiVue [1]_ lies beside this module and is written into the page, as are the volumes, so that it
works from the file system without a network. ``make niivue`` fetches another version.

References
----------
.. [1] https://github.com/niivue/niivue (BSD 2-Clause).
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from colapipe.bids.outputs import (
    OutputFile,
    SessionFiles,
    participant_label,
    read_session,
    session_folders,
)
from colapipe.bids.sidecars import INTENSITY_RANGE
from colapipe.files import write_text
from colapipe.report.figures import TISSUE_COLOURS, map_colours
from colapipe.report.rows import MAP_PERCENTILE
from colapipe.report.templates import render, script_hash
from colapipe.report.volumes import UNDRAWABLE, Volumes, by_preference
from colapipe.slices import ModelGrid, mask_to_model_grid, model_grid, to_model_grid
from colapipe.slices.intensity import normalise

Mask = npt.NDArray[np.bool_]

MOST_BYTES = 3_000_000
"""A layer that is larger, compressed, is shown at 1 mm."""

_MARGIN = 2  # Voxels around the brain, so that its edge does not touch the edge of the volume.
_LEVELS = 254  # Of grey in a byte, without the 0 of the background.


@dataclass(frozen=True)
class Layer:
    """One volume of the page.

    Parameters
    ----------
    name, about : str
        ``"T2w"``, and what it is, in words.
    kind : {"grey", "map", "labels"}
    synthetic : bool
        Made by a model, or about what a model made.
    nifti : bytes
        Compressed NIfTI of unsigned bytes; the header's slope and intercept give the values.
    limits : tuple of float
        Values at the lower and upper end of the colours.
    legend : list of (str, tuple of int)
        Name and colour of each label.
    shown : bool
        At the start.
    """

    name: str
    about: str
    kind: Literal["grey", "map", "labels"]
    synthetic: bool
    nifti: bytes
    limits: tuple[float, float]
    legend: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    shown: bool = False

    @property
    def base64(self) -> Markup:
        """The volume as text; its alphabet has nothing that HTML could mistake."""
        return Markup(base64.b64encode(self.nifti).decode("ascii"))


@dataclass
class Scene:
    """The layers on one reference grid, the reference first.

    Parameters
    ----------
    session : str or None
    space : str
    layers : list of Layer
    remarks : list of str
        What could not be shown, and why.
    """

    session: str | None
    space: str
    layers: list[Layer] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def build_viewer(out_dir: Path, participant: str, *, show_head: bool = False) -> Path | None:
    """Write ``OUT/sub-X_3d.html``: reference, synthesised contrasts, uncertainty, tissue classes.

    Parameters
    ----------
    out_dir : Path
        The derivatives folder.
    participant : str
        Label, with or without ``sub-``.
    show_head : bool
        Show also what lies outside the brain mask, where a file holds it.

    Returns
    -------
    Path or None
        The page; None if there is nothing to show. A page of an earlier run is deleted then.

    Raises
    ------
    OutputError, ReadWriteError
        If the page cannot be written.
    ValueError
        If ``participant`` is not a label but a path.
    """
    label = participant_label(participant)
    target = out_dir / viewer_name(label)
    scenes = []
    for session, folder in session_folders(out_dir, label).items():
        files = read_session(session, folder)
        scenes += [make_scene(files, space, show_head=show_head) for space in files.spaces]
    scenes = [scene for scene in scenes if scene.layers]
    if not scenes:
        target.unlink(missing_ok=True)
        return None
    write_text(target, _page(label, scenes))
    return target


def viewer_name(label: str) -> str:
    """Return the file name of a participant's page."""
    return f"sub-{label}_3d.html"


# --- layers --------------------------------------------------------------------------------------


def make_scene(files: SessionFiles, space: str, *, show_head: bool = False) -> Scene:
    """Collect the layers on the grid of one reference; never raises for what is in a file."""
    scene = Scene(files.label, space)
    try:
        view = _View(files, space, show_head)
    except UNDRAWABLE as error:
        scene.remarks.append(f"Nothing on the grid of {space} can be shown: {error}.")
        return scene
    preproc, made = files.preproc.get(space, {}), files.synth.get(space, {})
    stds, tissues = files.std.get(space, {}), files.tissues.get(space, {})
    for contrast in by_preference(preproc, first=space)[:1]:
        about = "the reference scan" if contrast == space else "real scan"
        view.add_grey(scene, preproc[contrast], contrast, about)
    for contrast in by_preference(made):
        if contrast in preproc:
            about = "real scan, kept out of the synthesis"
            view.add_grey(scene, preproc[contrast], contrast, about)
        sources = made[contrast].sidecar.get("SynthesizedFrom")
        of = f" from {', '.join(map(str, sources))}" if isinstance(sources, list) else ""
        view.add_grey(scene, made[contrast], contrast, f"synthesised{of}", synthetic=True)
        if contrast in stds:
            view.add_map(scene, stds[contrast], contrast)
    for source in by_preference(tissues, first=space)[:1]:
        view.add_labels(scene, tissues[source], source)
    return scene


class _View:
    """The box around a brain, on the reference's own grid or, if that is too fine, at 1 mm."""

    def __init__(self, files: SessionFiles, space: str, show_head: bool) -> None:
        self._volumes = Volumes(files, space, show_head)
        self._show_head = show_head
        mask = self._volumes.mask_for("")
        if not mask.any():
            raise ValueError("the brain mask is empty")
        self._fine = mask
        self._grid: ModelGrid | None = None
        self._mask = mask
        affine = self._volumes.affine
        # Noise does not compress; half of the box is brain.
        box = np.ptp(np.argwhere(mask), axis=0) + 1 + 2 * _MARGIN
        if np.prod(mask.shape if show_head else box) / 2 > MOST_BYTES:
            self._grid = model_grid(affine, mask.shape)
            image = nib.Nifti1Image(mask.astype(np.uint8), affine)
            self._mask = mask_to_model_grid(image, self._grid) != 0
            affine = self._grid.affine
        inside = np.ones_like(self._mask) if show_head else self._mask
        self._box = tuple(
            slice(max(0, int(low) - _MARGIN), int(high) + 1 + _MARGIN)
            for low, high in zip(
                np.argwhere(inside).min(axis=0), np.argwhere(inside).max(axis=0), strict=True
            )
        )
        self._affine = np.array(affine)
        self._affine[:3, 3] += affine[:3, :3] @ [part.start for part in self._box]

    def add_grey(
        self,
        scene: Scene,
        file: OutputFile,
        contrast: str,
        about: str,
        *,
        synthetic: bool = False,
    ) -> None:
        """Add an image; the first synthetic one is what people come for."""
        with _or_said(scene, file):
            values = self._read(file)
            low, high = INTENSITY_RANGE if synthetic else normalise(values, self._mask)[1]
            scaled = np.clip((values - low) / (high - low), 0, 1)
            shown = synthetic and not any(layer.synthetic for layer in scene.layers)
            first = not scene.layers
            stored = np.where(self._where(), 1 + np.rint(_LEVELS * scaled), 0)
            slope = (high - low) / _LEVELS
            nifti = self._pack(stored, slope, low - slope)
            scene.layers.append(
                Layer(contrast, about, "grey", synthetic, nifti, (low, high), shown=shown or first)
            )

    def add_map(self, scene: Scene, file: OutputFile, contrast: str) -> None:
        """Add the standard deviation of a synthetic image."""
        with _or_said(scene, file):
            values = self._read(file)
            limit = float(np.percentile(values[self._mask], MAP_PERCENTILE))
            if limit <= 0:
                raise ValueError("it is zero nearly everywhere in the brain")
            scaled = np.clip(values / limit, 0, 1)
            stored = np.where(self._mask, 1 + np.rint(_LEVELS * scaled), 0)
            slope = limit / _LEVELS
            nifti = self._pack(stored, slope, -slope)
            about = (
                "standard deviation between samples of the model, in units of the synthesised "
                f"image (0 to 1000); colours from 0 to {limit:.3g}"
            )
            name = f"Uncertainty of {contrast}"
            scene.layers.append(Layer(name, about, "map", True, nifti, (0.0, limit)))

    def add_labels(self, scene: Scene, file: OutputFile, source: str) -> None:
        """Add tissue classes."""
        with _or_said(scene, file):
            labels = np.rint(self._read(file, order=0))
            labels = np.where(np.isin(labels, list(TISSUE_COLOURS)), labels, 0)
            present = [int(label) for label in np.unique(labels) if label]
            if not present:
                raise ValueError("it has no label of a tissue")
            legend = [TISSUE_COLOURS[label] for label in present]
            nifti = self._pack(labels, 1, 0)
            about = f"computed from {source}"
            top = float(max(TISSUE_COLOURS))
            scene.layers.append(
                Layer("Tissue classes", about, "labels", False, nifti, (0.0, top), legend)
            )

    def _read(self, file: OutputFile, order: int = 3) -> npt.NDArray[np.float32]:
        """Read a volume on the page's grid, uncropped."""
        values = self._volumes.load(file)
        if self._grid is None:
            return values
        image = nib.Nifti1Image(values, self._volumes.affine)
        mask = None if self._show_head or order == 0 else self._fine
        return np.asarray(to_model_grid(image, self._grid, order=order, mask=mask))

    def _where(self) -> Mask:
        return np.ones_like(self._mask) if self._show_head else self._mask

    def _pack(self, stored: npt.NDArray[Any], slope: float, intercept: float) -> bytes:
        """Return a compressed NIfTI of the box."""
        # A copy that owns its order: NIfTI stores the first axis fastest.
        data = np.asfortranarray(stored[self._box].astype(np.uint8))
        image = nib.Nifti1Image(data, self._affine)
        image.header.set_data_dtype(np.uint8)
        image.header.set_slope_inter(1, 0)
        image.header.set_xyzt_units("mm")
        content = bytearray(image.to_bytes())
        # nibabel scales the voxels by a slope that it is given; here they are scaled already.
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        header["scl_slope"], header["scl_inter"] = slope, intercept
        content[:348] = header.binaryblock
        return gzip.compress(bytes(content), compresslevel=9, mtime=0)


@contextmanager
def _or_said(scene: Scene, file: OutputFile) -> Iterator[None]:
    """Turn a file that cannot be shown into a remark."""
    try:
        yield
    except UNDRAWABLE as error:
        scene.remarks.append(f"{file.path.name} is not shown: {error}.")


# --- the page ------------------------------------------------------------------------------------


def _page(label: str, scenes: list[Scene]) -> str:
    """Fill the template."""
    niivue = _niivue()
    context = {
        "participant": label,
        "scenes": scenes,
        "synthetic": any(layer.synthetic for scene in scenes for layer in scene.layers),
        # Its licence and ours alone speak here: nothing of a dataset is in it.
        "niivue": Markup(niivue),
        "niivue_hash": script_hash(niivue),
        "described": Markup(_json([_described(scene) for scene in scenes])),
        "colours": Markup(_json(_map_colours())),
        "gradient": ", ".join(f"rgb({red}, {green}, {blue})" for red, green, blue in _anchors()),
    }
    return render("viewer.html", context, script="viewer.js")


def _described(scene: Scene) -> dict[str, Any]:
    """Return what the page's script needs to know of a scene."""
    colours = [(0, 0, 0), *(colour for _, colour in TISSUE_COLOURS.values())]
    red, green, blue = ([colour[part] for colour in colours] for part in range(3))
    labels = {
        "R": red,
        "G": green,
        "B": blue,
        "A": [0, *([255] * len(TISSUE_COLOURS))],
        "I": [0, *TISSUE_COLOURS],
        "labels": ["", *(name for name, _ in TISSUE_COLOURS.values())],
    }
    return {
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "synthetic": layer.synthetic,
                "low": layer.limits[0],
                "high": layer.limits[1],
                "labels": labels if layer.kind == "labels" else None,
            }
            for layer in scene.layers
        ]
    }


def _anchors() -> list[list[int]]:
    """Return the colours of the report's maps, dark to bright."""
    colours: list[list[int]] = map_colours(32)[:-1].tolist()
    return colours


def _map_colours() -> dict[str, list[int]]:
    """Return these colours as NiiVue takes a colour map; without a value there is no colour."""
    red, green, blue = ([colour[part] for colour in _anchors()] for part in range(3))
    index = np.rint(np.linspace(0, 255, len(red))).astype(int).tolist()
    return {"R": red, "G": green, "B": blue, "A": [0, *([255] * (len(red) - 1))], "I": index}


def _json(content: Any) -> str:
    """Return JSON that may stand in a script element: no tag can begin in it."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _niivue() -> str:
    file = resources.files("colapipe.report").joinpath("niivue").joinpath("niivue.umd.js")
    return file.read_text(encoding="utf-8")
