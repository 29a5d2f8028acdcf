"""Between a reference scan and the model's slices: the 1 mm grid, the crop, and the way back.

grid        the 1 mm model grid of a reference, and resampling to it and back
crop        the 224 x 224 window on it, and which slices have brain
record      grid, window and slices of one reference as one record
intensity   the one normalisation
present     a volume as the model is shown it, in the app and in training
"""

from colapipe.slices.crop import (
    CROP_SIZE,
    MIN_FRACTION,
    CropBox,
    crop,
    crop_box,
    cropped_affine,
    paste_back,
    select_slices,
    slices_with_brain,
)
from colapipe.slices.grid import (
    SPACING,
    ModelGrid,
    from_model_grid,
    mask_to_model_grid,
    model_grid,
    to_model_grid,
)
from colapipe.slices.resampling import Shape

__all__ = [
    "CROP_SIZE",
    "MIN_FRACTION",
    "SPACING",
    "CropBox",
    "ModelGrid",
    "Shape",
    "crop",
    "crop_box",
    "cropped_affine",
    "from_model_grid",
    "mask_to_model_grid",
    "model_grid",
    "paste_back",
    "select_slices",
    "slices_with_brain",
    "to_model_grid",
]
