"""What a model carries about quality: read as it was written, refused in words where broken."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from colapipe.quality.histograms import fit_range, histogram, histogram_of_levels
from colapipe.quality.stored import Quality, QualityError, read_model_quality
from colapipe.run.model import read_model


def crowd(count: int, middle: float = 0.4) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [
        histogram(np.clip(random.normal(middle + 0.02 * random.normal(), 0.1, 5000), 0, 1))
        for _ in range(count)
    ]


def test_a_range_holds_the_mean_and_nine_of_ten_people():
    shares = np.stack(crowd(40))
    found = fit_range(list(shares))
    assert found.participants == 40 and len(found.bins) == 65
    assert found.mean.sum() == pytest.approx(1)
    assert np.all(found.low <= found.high)
    np.testing.assert_allclose(found.mean, shares.mean(axis=0))


def test_the_distance_is_how_far_intensities_must_move():
    found = fit_range([histogram(np.full(100, 0.5))] * 2)
    assert found.distance(np.full(50, 0.5)) == 0
    assert found.distance(np.full(50, 0.75)) == pytest.approx(0.25)


def test_an_image_unlike_the_others_is_out_of_distribution():
    found = fit_range(crowd(25))
    random = np.random.default_rng(1)
    assert found.is_outside(random.normal(0.4, 0.1, 5000)) is False
    assert found.is_outside(random.normal(0.8, 0.1, 5000)) is True


def test_few_people_give_a_range_but_no_limit():
    found = fit_range(crowd(5))
    assert found.limit is None and found.is_outside(np.full(9, 0.9)) is None


def test_cached_levels_make_the_histogram_of_their_intensities():
    levels = np.random.default_rng(2).integers(0, 252, 10_000).astype(np.uint8)
    moved = np.abs(np.cumsum(histogram_of_levels(levels) - histogram(levels / 255))).sum() / 64
    assert moved < 1 / 64


@pytest.mark.parametrize("values", [[], [0.5, np.nan]])
def test_a_histogram_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="at least one voxel"):
        histogram(values)


def test_what_is_written_is_read():
    quality = Quality({"T1w": fit_range(crowd(20))})
    metadata = {"quality": json.loads(json.dumps(quality.to_dict()))}
    stored = read_model_quality(metadata)
    assert stored is not None and set(stored.histograms) == {"T1w"}
    again = stored.histograms["T1w"]
    assert again.limit == pytest.approx(quality.histograms["T1w"].limit, 1e-3)
    np.testing.assert_allclose(again.mean, quality.histograms["T1w"].mean, atol=1e-5)


@pytest.mark.parametrize("metadata", [{}, {"quality": None}])
def test_a_model_without_quality_numbers_has_none(metadata):
    assert read_model_quality(metadata) is None


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((), [], "'quality' must be a JSON object"),
        (("format_version",), 9, "format version 9"),
        (("histograms",), [], "'quality.histograms' must be"),
        (("histograms", "PET"), {}, "'PET' is not a contrast"),
        (("histograms", "T1w", "mean"), [1, 2], "'quality.histograms.T1w': 'mean' must be a list"),
        (("histograms", "T1w", "low", 3), "x", "numbers from 0 to 1"),
        (("histograms", "T1w", "limit"), -1, "'limit' must be"),
        (("self_check",), 3, "'quality.self_check' must be"),
        (("self_check", "slices"), 3, "'slices' is 3"),
        (("self_check", "sets"), {"T2w+T1w": {}}, "is not a set of contrasts"),
        (("self_check", "sets"), {"T1w+T2w": {"T1w": {}}}, "'correlation' must be a list"),
    ],
)
def test_what_is_broken_is_named(path, value, words):
    content = {"quality": Quality({"T1w": fit_range(crowd(20))}).to_dict()}
    content = copy.deepcopy(content)
    place, keys = content, ("quality", *path)
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(QualityError, match=r"Calibrate it again") as caught:
        read_model_quality(content)
    assert words in str(caught.value)


def test_the_bundled_model_knows_its_data_and_every_set_of_its_four_contrasts():
    metadata = read_model(None).metadata
    quality = read_model_quality(metadata)
    assert quality is not None and set(quality.histograms) == {"T1w", "T2w", "T1ce", "FLAIR"}
    assert len(quality.self_check.sets) == 11
    assert {limits.participants for s in quality.self_check.sets.values() for limits in s.values()}
    # The file stays small: numbers are rounded.
    assert len(json.dumps(metadata["quality"])) < 20_000
