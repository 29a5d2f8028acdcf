"""Quadratic regression: exact where the truth is quadratic, for every set of sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from colapipe.baselines.load import load_model
from colapipe.baselines.quadratic import QuadraticFit, QuadraticModel
from colapipe.coladiff.checkpoint import save_checkpoint
from colapipe.coladiff.model import UnsuitableModelError

Slices = dict[str, npt.NDArray[np.float32]]
Mask = npt.NDArray[np.bool_]

NAMES = ("T1w", "T2w", "T1ce", "FLAIR", "PDw")
ABOUT = {"training_data": "made up", "licence": "none"}


def t2w_of(images: Slices, mask: Mask) -> npt.NDArray[np.float32]:
    """Return a quadratic polynomial of T1w and FLAIR, within [0, 1]."""
    a, b = images["T1w"], images["FLAIR"]
    polynomial = 0.1 + 0.3 * a - 0.2 * b + 0.25 * a * a + 0.2 * a * b + 0.15 * b * b
    return (polynomial * mask).astype(np.float32)


@pytest.fixture
def fit(sources: Slices, mask: Mask) -> QuadraticFit:
    fit = QuadraticFit(NAMES)
    images = {**sources, "T2w": t2w_of(sources, mask)}
    fit.add(images, dict.fromkeys(images, mask))
    return fit


def test_an_exact_quadratic_is_recovered(fit: QuadraticFit) -> None:
    expected = {(): 0.1, (0,): 0.3, (3,): -0.2, (0, 0): 0.25, (0, 3): 0.2, (3, 3): 0.15}
    row = fit.coefficients("T2w", ("T1w", "FLAIR"))
    assert row is not None
    for monomial, coefficient in zip(fit.monomials, row, strict=True):
        assert coefficient == pytest.approx(expected.get(monomial, 0.0), abs=1e-5)


def test_it_synthesises_people_it_has_not_seen(fit: QuadraticFit, mask: Mask) -> None:
    rng = np.random.default_rng(7)
    others: Slices = {
        name: (rng.random(mask.shape) * mask).astype(np.float32) for name in ("T1w", "FLAIR")
    }
    result = fit.model(**ABOUT).synthesise(others, "T2w", mask=mask)
    assert np.abs(result.mean - t2w_of(others, mask)).max() < 1e-5
    assert not result.mean[~mask].any()


def test_each_task_is_the_least_squares_fit_of_all_participants_who_can_serve_it(
    sources: Slices, mask: Mask
) -> None:
    rng = np.random.default_rng(3)
    fit = QuadraticFit(NAMES)
    people = [
        {name: (rng.random(mask.shape)) for name in names}
        for names in (("T1w", "T2w"), ("T1w", "T2w", "FLAIR"), ("T1w", "FLAIR"))
    ]
    narrow = mask & (np.arange(64) < 30)[None, None]
    for images in people:
        fit.add(images, {name: narrow if name == "T1w" else mask for name in images})
    row = fit.coefficients("T2w", ("T1w",))
    assert row is not None
    # The mask is that of the source, and the third participant has no T2w.
    x, y = (np.concatenate([person[name][narrow] for person in people[:2]]) for name in NAMES[:2])
    expected = np.polynomial.polynomial.polyfit(x, y, 2)
    used = [fit.monomials.index(m) for m in ((), (0,), (0, 0))]
    assert row[used] == pytest.approx(expected, abs=1e-8)
    assert not np.delete(row, used).any()


def test_all_subsets_of_what_training_had_are_known_and_others_refused(
    fit: QuadraticFit, sources: Slices, mask: Mask
) -> None:
    model = fit.model(**ABOUT)
    assert len(model.rows) == 4 * (2**3 - 1)
    with pytest.raises(UnsuitableModelError, match="PDw together with T1w and T2w"):
        model.synthesise({n: sources[n] for n in ("T1w", "T2w")}, "PDw", mask=mask)


def test_it_comes_back_from_its_checkpoint(
    fit: QuadraticFit, sources: Slices, mask: Mask, tmp_path: Path
) -> None:
    model, path = fit.model(**ABOUT), tmp_path / "quadratic.safetensors"
    save_checkpoint(path, model.tensors(), model.metadata)
    loaded = load_model(path)
    assert isinstance(loaded, QuadraticModel)
    given = {name: sources[name] for name in ("T1w", "FLAIR")}
    before, after = (m.synthesise(given, "T1ce", mask=mask).mean for m in (model, loaded))
    assert np.array_equal(before, after)
