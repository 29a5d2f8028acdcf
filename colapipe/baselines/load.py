"""Load whatever model a file holds."""

from __future__ import annotations

from pathlib import Path

from colapipe.baselines.classmean import ClassMeanModel
from colapipe.baselines.copy import CopyModel
from colapipe.baselines.mmgan import MMGANModel
from colapipe.baselines.quadratic import QuadraticModel
from colapipe.baselines.slicewise import SlicewiseModel, Synthesiser
from colapipe.baselines.unet import UNetModel
from colapipe.coladiff.checkpoint import BASELINES, KIND, read_metadata
from colapipe.coladiff.model import CoLaDiff

BY_KIND: dict[str, type[SlicewiseModel]] = {
    model.kind: model
    for model in (CopyModel, QuadraticModel, ClassMeanModel, UNetModel, MMGANModel)
}


def load_model(path: Path | str, device: str = "cpu") -> Synthesiser:
    """Load a CoLa-Diff or a baseline; its ``metadata["kind"]`` says which it is.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file of colapipe.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    CheckpointError
        If the file is not a model of colapipe.
    DeviceError
        If the device is not there.
    OSError
        If the file cannot be read.
    """
    kind = read_metadata(Path(path), (KIND, *BASELINES))["kind"]
    return CoLaDiff.load(path, device) if kind == KIND else BY_KIND[kind].load(path, device)
