"""What a model is asked for and given: read in one way, refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from colapipe.coladiff.arguments import UnsuitableModelError, check_task, read_volume

KNOWN = ("T1w", "T2w", "FLAIR")
IMAGE = np.linspace(0, 1, 2 * 8 * 12, dtype=np.float32).reshape(2, 8, 12)


def test_sources_come_in_the_order_of_the_model_without_those_it_does_not_know() -> None:
    assert check_task({"FLAIR": 0, "SWI": 0, "T1w": 0}, "T2w", "T1w", KNOWN) == ["T1w", "FLAIR"]


@pytest.mark.parametrize(
    ("sources", "target", "source_of_tissues", "fewest", "error", "message"),
    [
        (["T1w", "T2w"], "T2w", None, 1, ValueError, "T2w is among its own sources"),
        (["T1w"], "T2w", "T2w", 1, ValueError, "tissue maps come from the target T2w"),
        (["T1w"], "SWI", None, 1, UnsuitableModelError, "does not know SWI; it knows T1w, T2w"),
        (["SWI"], "T2w", None, 0, UnsuitableModelError, "needs 1 or more .* there are 0"),
        (["T1w"], "T2w", None, 2, UnsuitableModelError, "needs 2 or more .* there is 1"),
    ],
)
def test_a_task_that_cannot_be_served_is_refused(
    sources: list[str],
    target: str,
    source_of_tissues: str | None,
    fewest: int,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        check_task(sources, target, source_of_tissues, KNOWN, fewest)


def test_arrays_become_what_torch_takes_whatever_their_layout() -> None:
    flipped = IMAGE[:, ::-1]
    maps = {"GM": flipped.tolist(), "WM": flipped.astype(np.float64)}
    volume = read_volume({"T1w": flipped}, 4, tissues=maps, slice_ids=[7, 9])
    for values in (volume.images["T1w"], *volume.tissues.values()):
        assert values.dtype == np.float32
        assert torch.equal(torch.from_numpy(values), torch.from_numpy(IMAGE).flip(1))
    assert volume.ids == [7, 9]


def test_the_brain_is_the_mask_or_else_where_an_image_is_above_0() -> None:
    one, other = IMAGE * (IMAGE < 0.2), IMAGE * (IMAGE > 0.7)
    inside = read_volume({"T1w": one, "T2w": other}, 4).inside
    assert inside.dtype == bool and np.array_equal(inside, (one > 0) | (other > 0))
    mask = np.zeros(IMAGE.shape)
    mask[1, 2:4] = 0.5
    volume = read_volume({"T1w": one}, 4, mask)
    assert np.array_equal(volume.inside, mask > 0) and volume.ids == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {"T1w": IMAGE[0]}}, "T1w has 2 dimensions"),
        ({"mask": IMAGE[:1]}, r"T1w has shape \(2, 8, 12\); the mask has \(1, 8, 12\)"),
        ({"multiple": 8}, "width multiples of 8"),
        ({"tissues": {"BONE": IMAGE}}, "unknown tissue 'BONE'"),
        ({"tissues": {"GM": IMAGE[:1]}}, "GM has shape"),
        ({"tissues": {"GM": 2 * IMAGE}}, "GM has values from 0 to 2"),
        ({"images": {"T1w": IMAGE - 0.1}}, "T1w has values from -0.1"),
        ({"images": {"T1w": IMAGE * np.nan}}, "T1w has values from nan"),
        ({"slice_ids": [1]}, "there are 2 slices, but 1 slice_ids"),
    ],
)
def test_wrong_arrays_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    right = {"images": {"T1w": IMAGE}, "multiple": 4, "mask": IMAGE}
    assert read_volume(**right).inside.any()
    with pytest.raises(ValueError, match=message):
        read_volume(**{**right, **change})
