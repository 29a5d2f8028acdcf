"""Training: data, split, augmentation, the loop, resuming, and that it learns."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from colapipe.baselines.load import load_model
from colapipe.bids.reader import choose_scans, open_dataset
from colapipe.cli.model import main
from colapipe.coladiff import CoLaDiff
from colapipe.coladiff.checkpoint import load_checkpoint, read_metadata
from colapipe.coladiff.configuration import Configuration
from colapipe.coladiff.intensity import BOUNDS
from colapipe.coladiff.network import CoLaDiffNetwork
from colapipe.coladiff.presets import PRESETS
from colapipe.contrasts import CONTRASTS
from colapipe.errors import DatasetError, UsageError
from colapipe.training import augment
from colapipe.training.batches import choose_sources, fixed_batch, training_batch
from colapipe.training.cache import find_scans
from colapipe.training.ema import EMA, averaged
from colapipe.training.loop import MODEL_FILE, Settings, Trainer
from colapipe.training.recipes import CoLaDiffRecipe, fit_to_truth, image_error
from colapipe.training.run import make_recipe
from colapipe.training.split import Split, read_split
from colapipe.training.store import SliceStore
from colapipe.training.validation import validate

SPLIT = Split(("01", "02"), ("03",))
DESCRIPTION = {"name": "t", "preset": "nano", "training_data": "made up", "licence": "none"}
NANO = replace(PRESETS["nano"], contrasts=("T1w", "T2w", "FLAIR"))
PREPARATION = CoLaDiffRecipe(NANO).preparation


def recipe(configuration: Configuration = NANO) -> CoLaDiffRecipe:
    torch.manual_seed(0)
    return CoLaDiffRecipe(configuration)


def trainer(cache: Path, folder: Path, **settings: float) -> Trainer:
    return Trainer(
        folder,
        recipe(),
        replace(Settings(batch_size=2), **settings),  # type: ignore[arg-type]
        SliceStore(cache, SPLIT.train),
        SliceStore(cache, SPLIT.validation),
        DESCRIPTION,
        SPLIT,
    )


def assert_same_model(one: Path, other: Path, kind: str = "coladiff") -> None:
    """Every bit of the weights, and all that is said of them but the time they took."""
    (tensors, said), (others, said_too) = (load_checkpoint(p, [kind]) for p in (one, other))
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name
    assert {**said, "cpu_seconds": 0} == {**said_too, "cpu_seconds": 0}


def test_the_cache_holds_normalised_slices_with_masks_and_tissues(cache: Path) -> None:
    store = SliceStore(cache)
    assert len(store) == 18
    assert store.available(0) == ("T1w", "T2w", "FLAIR")
    assert store.image(0, "T1w").shape == (224, 224)
    inside = store.mask(0, "T1w")
    assert 0.9 < store.image(0, "T1w")[inside].max() / 255 <= 1
    assert not any(store.image(0, contrast)[~inside].any() for contrast in CONTRASTS)
    tissues = store.tissues(0, "T1w") / 255
    assert tissues.sum(axis=0)[inside].mean() == pytest.approx(1, abs=0.01)
    assert not store.image(0, "PDw").any() and not store.mask(0, "PDw").any()
    assert {name for name, _ in SliceStore(cache, ("03",)).index} == {"sub-03"}


def test_derivatives_are_preferred_and_maps_stay_with_their_contrast(tmp_path: Path) -> None:
    made_by = {"Name": "x", "BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "colapipe"}]}
    (tmp_path / "dataset_description.json").write_text(json.dumps(made_by))
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    anat.mkdir(parents=True)
    stems = [
        "space-T1w_desc-preproc_T1w",
        "space-T1w_desc-preproc_T2w",
        "ce-gadolinium_space-T1w_desc-preproc_T1w",
        "space-T2w_desc-preproc_T2w",
        "space-T1w_label-brain_desc-fromT2w_mask",
        "space-T1w_desc-synth_FLAIR",
        *(f"space-T1w_label-{t}_desc-fromT2w_probseg" for t in ("CSF", "GM", "WM")),
        "space-T1w_label-CSF_desc-fromT1w_probseg",
        "T1w",
    ]
    for stem in stems:
        (anat / f"sub-01_ses-a_{stem}.nii.gz").touch()
    (found,) = find_scans(tmp_path)
    assert (found.name, found.participant) == ("sub-01_ses-a", "01")
    assert set(found.images) == {"T1w", "T2w", "T1ce"}
    assert all("space-T1w" in path.name for path in found.images.values())
    assert set(found.masks) == {"T2w"} and set(found.tissues) == {"T2w"}
    assert [path.name.split("_")[3] for path in found.tissues["T2w"]] == [
        "label-CSF",
        "label-GM",
        "label-WM",
    ]


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        (
            ("T1w", "ce-gadolinium_T1w", "run-2_T2w", "part-phase_T2w", "acq-3d_FLAIR"),
            {
                "T1w": "T1w",
                "T1ce": "ce-gadolinium_T1w",
                "T2w": "run-2_T2w",
                "FLAIR": "acq-3d_FLAIR",
            },
        ),
        (
            ("acq-mprage_ce-gadolinium_T1w", "rec-norm_FLAIR", "echo-1_T2w", "T1w"),
            {
                "T1ce": "acq-mprage_ce-gadolinium_T1w",
                "FLAIR": "rec-norm_FLAIR",
                "T2w": "echo-1_T2w",
                "T1w": "T1w",
            },
        ),
        (("run-10_T1w", "run-2_T1w", "acq-a_T1w", "PDw"), {"T1w": "run-2_T1w", "PDw": "PDw"}),
    ],
)
def test_the_app_and_training_take_the_same_scans(
    tmp_path: Path, stems: tuple[str, ...], expected: dict[str, str]
) -> None:
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for stem in stems:
        (anat / f"sub-01_{stem}.nii.gz").touch()
    names = {contrast: f"sub-01_{stem}.nii.gz" for contrast, stem in expected.items()}
    chosen, _ = choose_scans(open_dataset(tmp_path).listing("01").scans)
    assert {contrast: scan.name for contrast, scan in chosen[None].items()} == names
    told: list[str] = []
    (found,) = find_scans(tmp_path, told.append)
    assert {contrast: path.name for contrast, path in found.images.items()} == names
    passed_over = len(stems) - len(expected) - sum("part-" in stem for stem in stems)
    assert not passed_over or any("passed over" in line for line in told)


def test_what_training_does_not_read_is_said(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for name in ("sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-01_FLAIR.nii.bz2"):
        (anat / name).touch()
    told: list[str] = []
    find_scans(tmp_path, told.append)
    assert any("sub-01_FLAIR.nii.bz2" in line and "not read" in line for line in told)


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


def test_the_split_with_simulated_heads_judges_by_whom_the_other_one_does() -> None:
    import colapipe.training

    folder = Path(colapipe.training.__file__).parent / "splits"
    split, real = read_split(folder / "cola-tiny.json"), read_split(folder / "brats_train.json")
    assert (len(split.train), len(split.validation)) == (25, 6)
    assert len({*split.train, *split.validation}) == 25 + 6
    assert set(real.validation) < set(split.validation)
    assert set(real.train) < set(split.train)


def test_sources_are_never_the_target_and_never_none() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(choose_sources(("T1w", "T2w", "FLAIR"), "T2w", 0.5, rng)) for _ in range(100)}
    assert seen == {("T1w",), ("FLAIR",), ("T1w", "FLAIR")}


def test_a_batch_tells_nothing_of_its_target(cache: Path, tmp_path: Path) -> None:
    """Whatever the target's image, mask and tissues are, the sources are shown the same."""
    changed = tmp_path / "changed"
    shutil.copytree(cache, changed)
    array = np.load(changed / "sub-01.npy")
    t1w, count = CONTRASTS.index("T1w"), len(CONTRASTS)
    array[:, t1w] = 100
    array[:, count + 3 * t1w : count + 3 * t1w + 3] = 77
    array[:, -1] |= 1 << t1w
    np.save(changed / "sub-01.npy", array)
    (changed / "sub-01.histograms.npy").unlink(missing_ok=True)  # so that they are counted anew
    batches = [
        fixed_batch(SliceStore(folder), [2], PREPARATION, "T1w", ["T2w", "FLAIR"])
        for folder in (cache, changed)
    ]
    for name in ("contrasts", "available", "tissues", "mask", "target", "densities"):
        assert torch.equal(*(getattr(batch, name) for batch in batches)), name
    assert not torch.equal(*(batch.truth for batch in batches))
    assert batches[0].available.tolist() == [[False, True, True]]
    store, inside = SliceStore(cache), batches[0].mask[0, 0].bool()
    expected = torch.from_numpy(store.tissues(2, "T2w") / np.float32(255))[:, 32:-32, 16:-16]
    assert torch.allclose(batches[0].tissues[0, :3], expected * inside)


def test_a_batch_depends_on_seed_and_iteration_alone(cache: Path) -> None:
    store = SliceStore(cache)
    first, again, other = (
        training_batch(store, PREPARATION, 3, 0, iteration) for iteration in (5, 5, 6)
    )
    for name in ("contrasts", "truth", "densities", "tissues"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert first.seeds == again.seeds and len(set(first.seeds)) == 3
    assert not torch.equal(first.truth, other.truth)
    for batch in (first, other):
        assert not batch.available[torch.arange(3), batch.target].any()
        assert float(batch.contrasts.abs().max()) <= BOUNDS[PREPARATION.intensity]
        assert bool((batch.truth[batch.mask == 0] == -1).all())


def test_shares_of_a_batch_are_parts_of_the_whole(cache: Path) -> None:
    store = SliceStore(cache)
    whole = training_batch(store, PREPARATION, 4, 0, 1)
    shares = [
        training_batch(store, PREPARATION, 4, 0, 1, part=part, agree=lambda window: 2)
        for part in (slice(0, 2), slice(2, 4))
    ]
    assert whole.seeds == shares[0].seeds + shares[1].seeds
    together = torch.cat([share.truth for share in shares])
    height, width = whole.truth.shape[-2:]
    top, left = (together.shape[-2] - height) // 2, (together.shape[-1] - width) // 2
    assert torch.equal(together[..., top : top + height, left : left + width], whole.truth)


def test_what_the_app_shows_the_model_is_what_it_was_trained_on(cache: Path) -> None:
    """The batch and CoLaDiff.synthesise prepare a participant alike: scale, slab, densities."""
    store = SliceStore(cache, ("03",))
    network = CoLaDiffNetwork(NANO)
    metadata = {"defaults": {}, "min_sources": 1}
    model = CoLaDiff(network, metadata, torch.device("cpu"))
    seen: list[dict[str, torch.Tensor]] = []

    def listen(contrasts, available, tissues, target, densities):  # type: ignore[no-untyped-def]
        seen.append({"contrasts": contrasts, "tissues": tissues, "densities": densities})
        raise StopIteration

    network.condition = listen  # type: ignore[method-assign]
    images = {
        contrast: np.stack([store.image(i, contrast) for i in range(len(store))]) / np.float32(255)
        for contrast in ("T1w", "FLAIR")
    }
    tissues = np.stack([store.tissues(i, "T1w") for i in range(len(store))]) / np.float32(255)
    mask = np.stack([store.mask(i, "T1w") for i in range(len(store))])
    maps = {name: tissues[:, k] for k, name in enumerate(("CSF", "GM", "WM"))}
    with pytest.raises(StopIteration):
        model.synthesise(
            images, "T2w", mask=mask, tissues=maps, rows=[3], steps=1, samples=1, sampler="ddim"
        )
    batch = fixed_batch(store, [3], PREPARATION, "T2w", ["T1w", "FLAIR"])
    assert torch.allclose(seen[0]["contrasts"], batch.contrasts, atol=0.02)
    assert torch.allclose(seen[0]["tissues"], batch.tissues, atol=1e-6)
    assert batch.densities is not None
    assert float((seen[0]["densities"] - batch.densities).abs().mean()) < 0.05


def test_intensity_curves_rise_and_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    curves = [augment.random_curve(rng, 0.3) for _ in range(50)]
    for curve in curves:
        assert curve.shape == (256,) and curve.dtype == np.float32
        assert curve.min() >= 0 and curve.max() <= 1 and (np.diff(curve) >= 0).all()
    assert np.std([curve[128] for curve in curves]) > 0.05


@pytest.mark.parametrize("vary", [augment.vary_bias, augment.vary_noise, augment.vary_resolution])
def test_augmentation_keeps_range_and_shape(vary: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((3, 40, 48)), (0, 2, 2)).astype(np.float32)
    image = (image - image.min()) / np.ptp(image)
    for _ in range(10):
        varied = vary(image, rng)
        assert varied.shape == image.shape and varied.dtype == np.float32
        assert varied.min() >= 0 and varied.max() <= 1
        assert 0 < np.abs(varied - image).mean() < 0.15


def test_geometry_moves_all_planes_together() -> None:
    rng = np.random.default_rng(0)
    square = np.zeros((40, 40), dtype=np.float32)
    square[10:30, 10:30] = 1
    planes = torch.from_numpy(np.stack([square, square]))
    moved = augment.vary_geometry(planes, augment.random_affine(rng))
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], planes[0])


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


def test_the_moving_average_of_a_constant_is_what_is_held_of_the_start() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2).double()
    start = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    ema = EMA(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(2.0)
    for _ in range(50):
        ema.update(module)
    held = math.prod((1 + n) / (10 + n) for n in range(50))
    for name, value in start.items():
        assert float((ema.average[name] - (2 + held * (value - 2))).abs().max()) <= 1e-12


def test_the_warm_up_of_the_moving_average_ends_at_its_rate() -> None:
    ema = EMA(torch.nn.Linear(1, 1), rate=0.9999)
    assert ema.decay() == 0.1
    ema.updates = 89_988
    assert 0.99989 < ema.decay() < 0.9999
    ema.updates = 89_990
    assert ema.decay() == 0.9999


def test_a_run_that_is_interrupted_ends_with_the_same_bits(cache: Path, tmp_path: Path) -> None:
    whole = trainer(cache, tmp_path / "whole", iterations=6)
    assert whole.run(save_every=6)
    stopped = trainer(cache, tmp_path / "parts", iterations=6)
    while stopped.iteration < 3:
        assert not stopped.run(save_every=100, max_seconds=0)
    resumed = trainer(cache, tmp_path / "parts", iterations=6)
    assert resumed.iteration == 3
    assert resumed.run(save_every=6)
    for name, parameter in whole.recipe.network.named_parameters():
        assert torch.equal(parameter, resumed.recipe.network.state_dict()[name]), name
        assert torch.equal(whole.ema.average[name], resumed.ema.average[name]), name
    one, other = (tmp_path / folder / MODEL_FILE for folder in ("whole", "parts"))
    assert_same_model(one, other)
    assert read_metadata(one)["split_sha256"] == SPLIT.sha256


def test_a_folder_of_another_run_is_refused(cache: Path, tmp_path: Path) -> None:
    trainer(cache, tmp_path, iterations=1).run()
    with pytest.raises(UsageError, match="another configuration"):
        trainer(cache, tmp_path, iterations=2)


def test_both_stages_run_where_the_autoencoder_is_learned(cache: Path, tmp_path: Path) -> None:
    configuration = replace(NANO, latent="kl", latent_channels=2, autoencoder_channels=(8, 8, 8))
    stores = SliceStore(cache, SPLIT.train), SliceStore(cache, SPLIT.validation)
    settings = Settings(iterations=2, autoencoder_iterations=2, batch_size=2)
    model = recipe(configuration)
    run = Trainer(tmp_path, model, settings, *stores, DESCRIPTION, SPLIT)
    encoder = next(iter(model.model.autoencoder.parameters())).detach().clone()
    assert run.stage == "autoencoder"
    assert run.run(save_every=2)
    assert run.stage == "diffusion"
    assert not torch.equal(encoder, next(iter(model.model.autoencoder.parameters())))
    assert not torch.equal(model.model.latent_std, torch.ones_like(model.model.latent_std))
    log = (tmp_path / "log.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in log] == ["stage", "autoencoder", "diffusion"]


def test_the_published_model_trains_and_samples(cache: Path, tmp_path: Path) -> None:
    """All of the preset ``paper`` at a hundredth of its width."""
    configuration = replace(
        PRESETS["paper"],
        contrasts=NANO.contrasts,
        autoencoder_channels=(8, 8, 8),
        channels=(8, 8, 8, 16),
        blocks=1,
        embedding=16,
        transformer_blocks=1,
        transformer_width=8,
    )
    stores = SliceStore(cache, SPLIT.train), SliceStore(cache, SPLIT.validation)
    settings = Settings(iterations=2, autoencoder_iterations=2, batch_size=2, constant_rate=True)
    run = Trainer(tmp_path, recipe(configuration), settings, *stores, DESCRIPTION, SPLIT)
    assert run.run(save_every=2)
    model = CoLaDiff.load(tmp_path / MODEL_FILE)
    image = np.random.default_rng(0).random((1, 224, 224), dtype=np.float32)
    for sampler in ("ddim", "fastdpm-var"):
        made = model.synthesise({"T1w": image}, "T2w", mask=image, sampler=sampler, steps=2)
        assert np.isfinite(made.mean).all() and made.mean.any()


@pytest.mark.parametrize("kind", ["unet", "mmgan"])
def test_baselines_train_and_resume_like_the_model(kind: str, cache: Path, tmp_path: Path) -> None:
    def run(folder: str) -> Trainer:
        stores = SliceStore(cache, SPLIT.train), SliceStore(cache, SPLIT.validation)
        model = make_recipe(kind, NANO.contrasts, None, 0)
        settings = Settings(iterations=2, batch_size=2)
        return Trainer(tmp_path / folder, model, settings, *stores, DESCRIPTION, SPLIT)

    assert run("whole").run(save_every=2)
    parts = run("parts")
    assert not parts.run(save_every=100, max_seconds=0)
    assert run("parts").run(save_every=2)
    one, other = (tmp_path / folder / MODEL_FILE for folder in ("whole", "parts"))
    assert_same_model(one, other, kind)
    model = load_model(one)
    image = np.zeros((1, 224, 224), np.float32)
    made = model.synthesise({"T1w": image}, "T2w", mask=image + 1)
    assert made.mean.shape == image.shape and np.isfinite(made.mean).all()


def test_a_run_may_be_given_cpu_time_and_keeps_the_iterations_it_began_with(
    cache: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01"], "validation": []}))
    command = f"train --data {dataset} --cache {cache} --out {tmp_path / 'out'} --split {split} "
    command += "--preset nano --batch-size 1 --cpu-minutes 0.01 --max-minutes 0.002"
    assert main(command.split()) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert main(command.split()) == 0
    assert capsys.readouterr().out.splitlines()[0] == first
    assert int(first.split()[0]) > 1


def test_the_loss_knows_a_wrong_scale_from_a_wrong_image(cache: Path) -> None:
    batch = fixed_batch(SliceStore(cache), [2, 3], PREPARATION, "T1w", ["T2w"])
    dimmed = 0.5 * batch.truth - 0.2
    fitted = fit_to_truth(dimmed, batch)
    inside = batch.mask > 0
    assert torch.allclose(fitted[inside], batch.truth[inside], atol=1e-2)
    assert float(image_error(batch.truth, batch)) < 1e-3
    wrong = batch.truth.flip(-1)
    own = (dimmed - batch.truth)[inside].abs().mean()
    assert own > 0.05
    assert image_error(wrong, batch) > 2 * image_error(dimmed, batch)
    # The background does not count.
    dirty = torch.where(inside, dimmed, 5.0)
    assert torch.equal(image_error(dirty, batch), image_error(dimmed, batch))


def test_pictures_of_the_validation_are_written(cache: Path, tmp_path: Path) -> None:
    trainer(cache, tmp_path, iterations=1).run()
    with Image.open(tmp_path / "pictures" / "0000001.png") as picture:
        assert picture.size == (3 * 224, 3 * 224)  # truth, synthetic, error; three targets
        truth = np.asarray(picture)[:224, :224]
    assert truth.max() > 100


def test_it_learns_a_contrast_that_follows_from_another(cache: Path, tmp_path: Path) -> None:
    run = trainer(cache, tmp_path, iterations=150, batch_size=4, learning_rate=5e-3, ema=0.9)
    before = validate(run.recipe, run.validation, run.device, every=1)
    run.run(save_every=1000)
    with averaged(run.recipe.network, run.ema):
        after = validate(run.recipe, run.validation, run.device, every=1)
    assert after["T2w"] > before["T2w"] + 5
    assert after["T2w"] > 18


def test_the_command_trains_and_its_model_synthesises(
    cache: Path, dataset: Path, tmp_path: Path
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["01", "02"], "validation": ["03"]}))
    command = [
        "train",
        "--data",
        str(dataset),
        "--cache",
        str(cache),
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
        *("--set", "gate=off", "--set", "scf=dwt", "neighbours=0"),
    ]
    assert main(command) == 0
    model = CoLaDiff.load(tmp_path / "out" / MODEL_FILE)
    changed = model.metadata["configuration"]
    assert [changed[key] for key in ("gate", "scf", "neighbours")] == ["off", "dwt", 0]
    assert model.contrasts == ("T1w", "T2w", "FLAIR")
    assert model.metadata["name"] == "mine"
    one = np.zeros((1, 224, 224), np.float32)
    assert model.synthesise({"T1w": one}, "T2w", mask=one + 1).mean.shape == one.shape
    assert main([*command, "--contrasts", "T1w", "PDw"]) == 2
    split.write_text(json.dumps({"train": ["99"], "validation": []}))
    assert main(command) == 65
