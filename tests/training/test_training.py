"""Training: data, split, augmentation, the loop, resuming, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from colapipe.cli.model import main
from colapipe.coladiff.checkpoint import read_metadata
from colapipe.coladiff.presets import PRESETS
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.training.augment import vary_geometry, vary_intensity
from colapipe.training.batches import choose_sources, fixed_batch, training_batch
from colapipe.training.ema import EMA
from colapipe.training.loop import MODEL_FILE, Settings, Trainer, validate
from colapipe.training.slices import SliceStore, build_cache, find_scans
from colapipe.training.split import Split, read_split

SPLIT = Split(("01", "02"), ("03",))
DESCRIPTION = {"name": "t", "preset": "nano", "training_data": "made up", "licence": "none"}
NANO = replace(PRESETS["nano"], contrasts=("T1w", "T2w", "FLAIR"))


def tissues(image: nib.Nifti1Image, mask: nib.Nifti1Image, contrast: str) -> np.ndarray:
    """Cut an image's range in three: enough of a segmentation for a test."""
    values = image.get_fdata() / max(image.get_fdata().max(), 1e-6)
    inside = np.asarray(mask.dataobj) > 0
    classes = np.digitize(values, [0.33, 0.66])
    return np.stack([(classes == k) & inside for k in range(3)], axis=-1).astype(np.float32)


def write_dataset(folder: Path, participants: tuple[str, ...], target: bool = True) -> Path:
    """Write smooth, brain-extracted, co-registered scans: T2w and FLAIR follow from T1w."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, label in enumerate(participants):
        anat = folder / f"sub-{label}" / "anat"
        anat.mkdir(parents=True)
        rng = np.random.default_rng(number)
        smooth = ndimage.gaussian_filter(rng.normal(size=(80, 90, 6)), (4, 4, 1))
        x, y = np.mgrid[-1:1:80j, -1:1:90j]
        brain = np.repeat((x**2 + y**2 < 0.8)[..., None], 6, axis=2)
        t1w = (smooth - smooth.min() + 0.2) * brain
        scans = {"T1w": t1w, "FLAIR": (t1w.max() * 1.2 - t1w) * brain}
        if target:
            scans["T2w"] = (t1w.max() * 1.1 - t1w) ** 2 * brain
        for suffix, volume in scans.items():
            image = nib.Nifti1Image((volume * 100).astype(np.float32), affine)
            nib.save(image, anat / f"sub-{label}_{suffix}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = write_dataset(tmp_path_factory.mktemp("data"), ("01", "02", "03"))
    folder = tmp_path_factory.mktemp("cache")
    build_cache(dataset, folder, tissues)
    return folder


def trainer(cache: Path, folder: Path, **settings: float) -> Trainer:
    return Trainer(
        folder,
        NANO,
        replace(Settings(batch_size=2), **settings),  # type: ignore[arg-type]
        SliceStore(cache, SPLIT.train),
        SliceStore(cache, SPLIT.validation),
        DESCRIPTION,
        SPLIT,
    )


def test_the_cache_holds_normalised_slices_with_masks_and_tissues(cache: Path) -> None:
    store = SliceStore(cache)
    assert len(store) == 18
    sample = store.read(0)
    assert sample.available == ("T1w", "T2w", "FLAIR")
    t1w, absent = CONTRASTS.index("T1w"), CONTRASTS.index("PDw")
    assert sample.contrasts[t1w].shape == (224, 224)
    inside = sample.masks[t1w]
    assert 0.9 < sample.contrasts[t1w][inside].max() <= 1
    assert not sample.contrasts[:, ~inside].any()
    assert sample.tissues[t1w].sum(axis=0)[inside].mean() == pytest.approx(1, abs=0.01)
    assert not sample.contrasts[absent].any() and not sample.masks[absent].any()
    assert {name for name, _ in SliceStore(cache, ("03",)).index} == {"sub-03"}


def test_derivatives_are_preferred_and_maps_stay_with_their_contrast(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    anat.mkdir(parents=True)
    stems = [
        "space-T1w_desc-preproc_T1w",
        "space-T1w_desc-preproc_T2w",
        "space-T1w_desc-preproc_T1ce",
        "space-T1w_label-brain_desc-fromT2w_mask",
        "space-T1w_desc-synth_FLAIR",
        *(f"space-T1w_label-{t}_desc-fromT2w_probseg" for t in ("CSF", "GM", "WM")),
        "T1w",
    ]
    for stem in stems:
        (anat / f"sub-01_ses-a_{stem}.nii.gz").touch()
    (found,) = find_scans(tmp_path)
    assert (found.name, found.participant) == ("sub-01_ses-a", "01")
    assert set(found.images) == {"T1w", "T2w", "T1ce"}
    assert set(found.masks) == {"T2w"}
    assert [path.name.split("_")[3] for path in found.tissues["T2w"]] == [
        "label-CSF",
        "label-GM",
        "label-WM",
    ]


def test_raw_names_are_read_with_gadolinium_as_t1ce(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for stem in ("T1w", "ce-gadolinium_T1w", "run-2_T2w", "part-phase_T2w", "acq-3d_FLAIR"):
        (anat / f"sub-01_{stem}.nii.gz").touch()
    (found,) = find_scans(tmp_path)
    assert set(found.images) == {"T1w", "T1ce", "T2w", "FLAIR"}
    assert "part-phase" not in found.images["T2w"].name


def test_a_folder_without_scans_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="two or more contrasts"):
        find_scans(tmp_path)


def test_a_participant_on_both_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["01", "sub-02"], "validation": ["02"]}))
    with pytest.raises(UsageError, match="02 is on both sides"):
        read_split(path)
    for text in ("{", "[]", '{"train": []}', '{"train": [], "validation": []}'):
        path.write_text(text)
        with pytest.raises(UsageError, match=r"split\.json"):
            read_split(path)


def test_the_split_of_the_bundled_model_keeps_both_scored_participants_out() -> None:
    import colapipe.training

    folder = Path(colapipe.training.__file__).parent / "splits"
    split = read_split(folder / "brats_train.json")
    assert (len(split.train), len(split.validation)) == (22, 5)
    assert {"Brats182013201", "Brats18CBICAABM1"} <= set(split.validation)
    assert Split(split.train[::-1], split.validation).sha256 == split.sha256


def test_sources_are_never_the_target_and_never_none() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(choose_sources(("T1w", "T2w", "FLAIR"), "T2w", 0.5, rng)) for _ in range(100)}
    assert seen == {("T1w",), ("FLAIR",), ("T1w", "FLAIR")}


def test_a_batch_tells_nothing_of_its_target(cache: Path) -> None:
    store = SliceStore(cache)
    sample = store.read(2)
    batch = fixed_batch([sample], NANO.contrasts, "T1w", ["T2w", "FLAIR"])
    t1w, t2w = CONTRASTS.index("T1w"), CONTRASTS.index("T2w")
    changed = replace(
        sample,
        contrasts=np.where(np.arange(5)[:, None, None] == t1w, 0.5, sample.contrasts),
        tissues=np.where(np.arange(5)[:, None, None, None] == t1w, 0.3, sample.tissues),
        masks=np.where(np.arange(5)[:, None, None] == t1w, True, sample.masks),
    )
    other = fixed_batch([changed], NANO.contrasts, "T1w", ["T2w", "FLAIR"])
    for name in ("contrasts", "available", "tissues", "mask", "target"):
        assert torch.equal(getattr(batch, name), getattr(other, name)), name
    assert not torch.equal(batch.truth, other.truth)
    assert batch.available.tolist() == [[False, True, True]]
    inside = batch.mask[0, 0].bool()
    expected = torch.from_numpy(sample.tissues[t2w])[:, 32:-32, 16:-16] * inside
    assert torch.equal(batch.tissues[0, :3], expected)


def test_a_batch_depends_on_seed_and_iteration_alone(cache: Path) -> None:
    store = SliceStore(cache)
    first, again, other = (
        training_batch(store, NANO.contrasts, 3, 0, iteration) for iteration in (5, 5, 6)
    )
    assert torch.equal(first.contrasts, again.contrasts)
    assert torch.equal(first.truth, again.truth)
    assert not torch.equal(first.truth, other.truth)
    for batch in (first, other):
        assert not batch.available[torch.arange(3), batch.target].any()
        assert float(batch.contrasts.abs().max()) <= 1
        assert bool((batch.truth[batch.mask == 0] == -1).all())


def test_augmentation_keeps_range_background_and_company() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((40, 40)).astype(np.float32)
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:30, 10:30] = True
    for _ in range(20):
        varied = vary_intensity(image * mask, mask, rng)
        assert varied.min() >= 0 and varied.max() <= 1 and not varied[~mask].any()
    moved = vary_geometry(torch.from_numpy(np.stack([mask, mask])).float(), rng)
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], torch.from_numpy(mask).float())


def test_the_moving_average_is_its_closed_form() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(module, rate=0.5)
    assert ema.decay() == pytest.approx(0.1)
    expected = module.weight.item()
    for n in range(20):
        with torch.no_grad():
            module.weight.fill_(float(n))
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
        ema.update(module)
    assert float(ema.average["weight"]) == pytest.approx(expected, rel=1e-5)
    assert ema.decay() == 0.5


def test_a_run_that_is_interrupted_ends_with_the_same_bits(cache: Path, tmp_path: Path) -> None:
    whole = trainer(cache, tmp_path / "whole", iterations=6)
    assert whole.run(save_every=6)
    stopped = trainer(cache, tmp_path / "parts", iterations=6)
    while stopped.iteration < 3:
        assert not stopped.run(save_every=100, max_seconds=0)
    resumed = trainer(cache, tmp_path / "parts", iterations=6)
    assert resumed.iteration == 3
    assert resumed.run(save_every=6)
    for name, parameter in whole.network.named_parameters():
        assert torch.equal(parameter, resumed.network.state_dict()[name]), name
        assert torch.equal(whole.ema.average[name], resumed.ema.average[name]), name
    one, other = (tmp_path / folder / MODEL_FILE for folder in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
    assert read_metadata(one)["split_sha256"] == SPLIT.sha256


def test_a_folder_of_another_run_is_refused(cache: Path, tmp_path: Path) -> None:
    trainer(cache, tmp_path, iterations=1).run()
    with pytest.raises(UsageError, match="another configuration"):
        trainer(cache, tmp_path, iterations=2)


def test_both_stages_run_where_the_autoencoder_is_learned(cache: Path, tmp_path: Path) -> None:
    configuration = replace(NANO, latent="kl", latent_channels=2, autoencoder_channels=(8, 8, 8))
    stores = SliceStore(cache, SPLIT.train), SliceStore(cache, SPLIT.validation)
    settings = Settings(iterations=2, autoencoder_iterations=2, batch_size=2)
    run = Trainer(tmp_path, configuration, settings, *stores, DESCRIPTION, SPLIT)
    encoder = run.network.autoencoder.state_dict()["encoder.0.0.weight"].clone()
    assert run.stage == "autoencoder"
    assert run.run(save_every=2)
    assert run.stage == "diffusion"
    after = run.network.autoencoder.state_dict()["encoder.0.0.weight"]
    assert not torch.equal(encoder, after)
    assert not torch.equal(run.network.latent_std, torch.ones_like(run.network.latent_std))
    log = (tmp_path / "log.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in log] == ["stage", "autoencoder", "diffusion"]


def test_it_learns_a_contrast_that_follows_from_another(cache: Path, tmp_path: Path) -> None:
    run = trainer(cache, tmp_path, iterations=150, batch_size=4, learning_rate=5e-3, ema=0.9)
    run._take_average()
    before = validate(run.network, run.validation, every=1)
    run.run(save_every=1000)
    run._take_average()
    after = validate(run.network, run.validation, every=1)
    assert after["T2w"] > before["T2w"] + 5
    assert after["T2w"] > 18


def test_the_command_trains_and_its_model_synthesises(tmp_path: Path) -> None:
    from colapipe.coladiff import CoLaDiff

    data = write_dataset(tmp_path / "data", ("01", "02", "03"))
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01", "02"], "validation": ["03"]}))
    build_cache(data, tmp_path / "out" / "slices", tissues)
    command = [
        "train",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--split",
        str(split),
        "--preset",
        "nano",
        "--iterations",
        "2",
        "--batch-size",
        "2",
        "--name",
        "mine",
    ]
    assert main(command) == 0
    model = CoLaDiff.load(tmp_path / "out" / MODEL_FILE)
    assert model.contrasts == ("T1w", "T2w", "FLAIR")
    assert model.metadata["name"] == "mine"
    one = np.zeros((1, 224, 224), np.float32)
    assert model.synthesise({"T1w": one}, one + 1, None, "T2w").mean.shape == one.shape
    assert main([*command, "--contrasts", "T1w", "PDw"]) == 2
    split.write_text(json.dumps({"train": ["99"], "validation": []}))
    assert main(command) == 65
