"""Metrics against scikit-image and against what can be counted by hand; the score table."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from colapipe.quality import metrics
from colapipe.quality.scores import (
    SCORE_COLUMNS,
    describe_columns,
    read_scores_tsv,
    score_synthesis,
    write_scores_tsv,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A true image, a noisy one of another scale, both blank outside a disc of brain."""
    rng = np.random.default_rng(0)
    x, y = np.mgrid[:48, :52]
    brain = ((x - 24) / 18) ** 2 + ((y - 26) / 21) ** 2 < 1
    mask = np.repeat(brain[..., None], 5, axis=2)
    truth = 0.5 + 0.3 * np.sin(x / 4)[..., None] * np.cos(y / 5)[..., None]
    truth = truth * np.linspace(0.8, 1.2, 5)
    synth = np.clip(0.8 * truth + 0.05 + rng.normal(0, 0.05, truth.shape), 0, 1)
    truth, synth = np.where(mask, truth, 0), np.where(mask, synth, 0)
    return synth.astype(np.float32), truth.astype(np.float32), mask


def test_brain_figures_follow_their_formulas(pair):
    synth, truth, mask = pair
    s, t = synth[mask].astype(float), truth[mask].astype(float)
    assert metrics.mae(synth, truth, mask) == pytest.approx(np.abs(s - t).mean(), rel=1e-12)
    assert metrics.nmse(synth, truth, mask) == pytest.approx(
        ((s - t) ** 2).sum() / (t**2).sum(), rel=1e-12
    )
    assert metrics.psnr(synth, truth, mask) == pytest.approx(
        peak_signal_noise_ratio(t, s, data_range=1), abs=1e-9
    )


def test_a_known_error_gives_a_known_psnr():
    truth = np.full((4, 4, 4), 0.5)
    assert metrics.psnr(truth + 0.1, truth) == pytest.approx(20)
    assert metrics.mae(truth + 0.1, truth) == pytest.approx(0.1)
    assert metrics.nmse(truth + 0.1, truth) == pytest.approx(0.04)


def test_figures_do_not_see_the_background(pair):
    synth, truth, mask = pair
    noisy = np.where(mask, synth, np.random.default_rng(1).random(synth.shape))
    for figure in (metrics.mae, metrics.psnr, metrics.nmse):
        assert figure(noisy, truth, mask) == figure(synth, truth, mask)
    blanked = score_synthesis(noisy, truth, mask)
    assert blanked == score_synthesis(synth, truth, mask)


def test_ssim_map_is_scikit_images_gaussian_one(pair):
    synth, truth, mask = pair
    similarity = metrics.ssim_map(synth, truth)
    for z in range(truth.shape[2]):
        _, expected = structural_similarity(
            truth[..., z].astype(float),
            synth[..., z].astype(float),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        np.testing.assert_allclose(similarity[..., z], expected, atol=1e-6)
    assert metrics.ssim(synth, truth, mask) == pytest.approx(similarity[mask].mean(), abs=1e-12)
    np.testing.assert_array_equal(
        metrics.ssim_map(synth[..., 2], truth[..., 2]), similarity[..., 2]
    )


def test_paper_like_figures_are_scikit_images_defaults(pair):
    synth, truth, _ = pair
    psnr, ssim = metrics.paper_psnr(synth, truth), metrics.paper_ssim(synth, truth)
    assert psnr.shape == ssim.shape == (5,)
    for z in range(5):
        t, s = truth[..., z].astype(float), synth[..., z].astype(float)
        assert psnr[z] == pytest.approx(peak_signal_noise_ratio(t, s, data_range=1), abs=1e-6)
        assert ssim[z] == pytest.approx(structural_similarity(t, s, data_range=1), abs=1e-6)


def test_identical_images_are_perfect(pair):
    _, truth, mask = pair
    assert metrics.psnr(truth, truth, mask) == math.inf
    assert metrics.mae(truth, truth, mask) == 0
    assert metrics.nmse(truth, truth, mask) == 0
    assert metrics.ssim(truth, truth, mask) == pytest.approx(1, abs=1e-12)
    assert (metrics.paper_psnr(truth, truth) == math.inf).all()
    np.testing.assert_allclose(metrics.paper_ssim(truth, truth), 1, atol=1e-12)
    (row,) = score_synthesis(truth, truth, mask)
    assert (row["gain"], row["offset"]) == (1, 0)
    assert row["psnr_fitted"] == row["psnr_paper_fitted"] == math.inf


def test_empty_regions_have_no_figures(pair):
    synth, truth, mask = pair
    nothing = np.zeros_like(mask)
    for figure in (metrics.mae, metrics.psnr, metrics.nmse, metrics.ssim):
        assert math.isnan(figure(synth, truth, nothing))
    assert metrics.fit_gain_offset(synth, truth, nothing) == (1, 0)
    assert math.isnan(metrics.nmse(synth, np.zeros_like(truth), mask))


def test_images_on_different_grids_are_refused(pair):
    synth, truth, mask = pair
    with pytest.raises(ValueError, match="same grid"):
        metrics.psnr(synth[1:], truth, mask)
    with pytest.raises(ValueError, match="same grid"):
        metrics.mae(synth, truth, mask[1:])
    with pytest.raises(ValueError, match="same grid"):
        metrics.ssim_map(synth[1:], truth)


def test_gain_and_offset_are_least_squares(pair):
    synth, truth, mask = pair
    gain, offset = metrics.fit_gain_offset(synth, truth, mask)
    expected = np.polyfit(synth[mask].astype(float), truth[mask].astype(float), 1)
    assert (gain, offset) == pytest.approx(expected, abs=1e-9)


def test_a_lost_scale_is_found_again(pair):
    _, truth, mask = pair
    synth = np.where(mask, (truth - 0.2) / 1.7, 0)
    gain, offset = metrics.fit_gain_offset(synth, truth, mask)
    assert (gain, offset) == pytest.approx((1.7, 0.2), abs=1e-6)
    fitted = metrics.apply_gain_offset(synth, gain, offset, mask)
    np.testing.assert_allclose(fitted, truth, atol=1e-6)
    assert not fitted[~mask].any()


def test_a_constant_image_is_fitted_by_the_mean(pair):
    _, truth, mask = pair
    gain, offset = metrics.fit_gain_offset(np.full(truth.shape, 0.3), truth, mask)
    assert gain == 0
    assert offset == pytest.approx(float(truth[mask].mean()), abs=1e-6)


# --- scores per region ---------------------------------------------------------------------------


@pytest.fixture
def regions(pair):
    synth, truth, mask = pair
    rng = np.random.default_rng(2)
    share = rng.dirichlet([1, 1, 1], truth.shape)
    tissues = {name: share[..., k] * mask for k, name in ((2, "WM"), (0, "CSF"), (1, "GM"))}
    lesion = np.zeros(truth.shape, np.uint8)
    lesion[20:26, 22:30, 1:4] = 1
    return synth, truth, mask, tissues, lesion


def test_there_is_a_row_per_region_in_the_order_of_the_labels(regions):
    rows = score_synthesis(*regions)
    assert [row["region"] for row in rows] == ["brain", "CSF", "GM", "WM", "lesion"]
    assert rows[0]["voxels"] == regions[2].sum() == sum(row["voxels"] for row in rows[1:])
    assert [row["region"] for row in score_synthesis(*regions[:3])] == ["brain"]


def test_rows_agree_with_the_metrics(regions):
    synth, truth, mask, tissues, lesion = regions
    brain, *_, white, damaged = score_synthesis(synth, truth, mask, tissues, lesion)
    assert brain["psnr"] == pytest.approx(metrics.psnr(synth, truth, mask))
    assert brain["ssim"] == pytest.approx(metrics.ssim(synth, truth, mask))
    assert brain["psnr_paper"] == pytest.approx(metrics.paper_psnr(synth, truth).mean())
    assert brain["ssim_paper"] == pytest.approx(metrics.paper_ssim(synth, truth).mean())
    inside = (
        (tissues["WM"] > tissues["GM"]) & (tissues["WM"] > tissues["CSF"]) & mask & (lesion == 0)
    )
    assert white["voxels"] == inside.sum()
    assert white["mae"] == pytest.approx(metrics.mae(synth, truth, inside))
    assert damaged["nmse"] == pytest.approx(metrics.nmse(synth, truth, lesion & mask))
    assert "ssim" not in white


def test_fitted_figures_use_one_scale_for_all_regions(regions):
    synth, truth, mask, tissues, lesion = regions
    rows = score_synthesis(synth, truth, mask, tissues, lesion)
    gain, offset = metrics.fit_gain_offset(synth, truth, mask)
    fitted = metrics.apply_gain_offset(synth, gain, offset, mask)
    assert (rows[0]["gain"], rows[0]["offset"]) == pytest.approx((gain, offset))
    assert rows[0]["psnr_fitted"] > rows[0]["psnr"]
    assert rows[-1]["psnr_fitted"] == pytest.approx(metrics.psnr(fitted, truth, lesion & mask))
    assert rows[0]["ssim_fitted"] == pytest.approx(metrics.ssim(fitted, truth, mask))
    assert rows[0]["psnr_paper_fitted"] == pytest.approx(metrics.paper_psnr(fitted, truth).mean())


def test_only_the_named_slices_are_scored(regions):
    synth, truth, mask, tissues, lesion = regions
    wild = synth.copy()
    wild[..., [0, 4]] = np.random.default_rng(5).random((48, 52, 2))
    rows = score_synthesis(wild, truth, mask, tissues, lesion, slices=[1, 2, 3])
    kept = [array[..., 1:4] for array in (synth, truth, mask)]
    assert rows[0] == score_synthesis(*kept)[0]
    assert rows[0]["slices"] == 3


def test_slices_without_brain_do_not_count(pair):
    synth, truth, mask = pair
    padded = [np.pad(array, ((0, 0), (0, 0), (2, 3))) for array in pair]
    assert score_synthesis(*padded) == score_synthesis(synth, truth, mask)


def test_a_brain_without_lesion_has_an_empty_row(pair):
    row = score_synthesis(*pair, lesion=np.zeros(pair[0].shape))[-1]
    assert (row["region"], row["voxels"]) == ("lesion", 0)
    assert math.isnan(row["psnr"])


def test_voxels_without_tissue_belong_to_no_class(regions):
    synth, truth, mask, tissues, _ = regions
    unknown = {name: share.copy() for name, share in tissues.items()}
    for share in unknown.values():
        share[24, 26] = 0
    rows = score_synthesis(synth, truth, mask, unknown)
    assert sum(row["voxels"] for row in rows[1:]) == rows[0]["voxels"] - mask.shape[2]


def test_what_cannot_be_scored_is_refused(pair):
    synth, truth, mask = pair
    with pytest.raises(ValueError, match="no voxel"):
        score_synthesis(synth, truth, np.zeros_like(mask))
    with pytest.raises(ValueError, match="no voxel"):
        score_synthesis(synth, truth, mask, slices=[])
    with pytest.raises(ValueError, match="GM has shape"):
        score_synthesis(synth, truth, mask, tissues={"GM": mask[1:]})


# --- the table -----------------------------------------------------------------------------------


def test_the_table_is_read_as_it_was_written(regions, tmp_path):
    synth, truth, mask, tissues, lesion = regions
    rows = [
        {"target": target, **row}
        for target, image in (("T2w", synth), ("FLAIR", truth))
        for row in score_synthesis(image, truth, mask, tissues, lesion)
    ]
    path = tmp_path / "scores.tsv"
    write_scores_tsv(path, rows)
    again = read_scores_tsv(path)
    assert len(again) == 10
    for old, new in zip(rows, again, strict=True):
        assert list(new) == list(describe_columns(rows))
        for name, value in new.items():
            expected = old.get(name, math.nan)
            if isinstance(expected, str):
                assert value == expected
            else:
                assert value == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert again[5]["psnr"] == math.inf
    assert isinstance(again[0]["voxels"], int)


def test_missing_figures_are_written_as_bids_asks(pair, tmp_path):
    path = tmp_path / "scores.tsv"
    write_scores_tsv(path, score_synthesis(*pair, lesion=np.zeros(pair[0].shape)))
    with path.open(newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert table[1]["psnr"] == table[1]["ssim"] == "n/a"
    assert table[1]["voxels"] == "0"
    assert not any(cell.lower() in ("nan", "") for row in table for cell in row.values())
    assert b"\r" not in path.read_bytes()


def test_float32_figures_are_written_like_any_other(tmp_path):
    path = tmp_path / "scores.tsv"
    write_scores_tsv(path, [{"region": "brain", "psnr": np.float32("nan"), "mae": np.float32(0.1)}])
    assert path.read_text().splitlines()[1] == "brain\tn/a\t0.1"


def test_every_column_is_described(regions):
    assert json.loads(json.dumps(SCORE_COLUMNS)) == SCORE_COLUMNS
    assert all({"LongName", "Description"} <= set(entry) for entry in SCORE_COLUMNS.values())
    described = describe_columns(score_synthesis(*regions))
    assert "target" not in described
    assert list(described)[:2] == ["region", "voxels"]


def test_a_column_without_description_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no description"):
        write_scores_tsv(tmp_path / "scores.tsv", [{"region": "brain", "luck": 1.0}])


def test_a_damaged_table_names_file_and_column(tmp_path):
    path = tmp_path / "scores.tsv"
    path.write_text("region\tpsnr\nbrain\tgood\n")
    with pytest.raises(ValueError, match=r"scores\.tsv: 'good' in the column 'psnr'"):
        read_scores_tsv(path)
