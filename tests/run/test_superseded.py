"""What a request leaves of earlier ones in a participant's folder, and what it removes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colapipe.bids.names import derivative_path
from colapipe.bids.reader import Scan
from colapipe.config import Settings
from colapipe.plan.sessions import SessionPlan
from colapipe.plan.targets import Space, Target
from colapipe.run.finished import FinishedParticipants
from colapipe.run.superseded import announce, find_superseded, of_earlier_runs, remove, snapshot

SESSION = "A"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a finished run that made the T1ce from T1w and FLAIR, with its spread and its tables."""
    settings = Settings(tmp_path / "raw", tmp_path / "out")
    for contrast in ("T1w", "FLAIR"):
        path = settings.bids_dir / raw(contrast)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"scan of {contrast}")
    full_outputs(settings)
    notes = FinishedParticipants(settings, "builtin", "1", None)
    notes.note("01", notes.task([plan_of(settings)]))
    return settings


def raw(contrast: str) -> str:
    return f"sub-01/ses-{SESSION}/anat/sub-01_ses-{SESSION}_{contrast}.nii.gz"


def name(session: str | None = SESSION, **entities: Any) -> str:
    extension = entities.pop("extension", ".nii.gz")
    return str(derivative_path("01", session, entities.pop("suffix", None), extension, **entities))


def full_outputs(settings: Settings, session: str | None = SESSION) -> None:
    """Write what a run leaves: scans on a grid, masks, transform, a synthesis and its tables."""
    grid = {"space": "T1w"}
    preproc = [name(session, contrast=c, desc="preproc", **grid) for c in ("T1w", "FLAIR")]
    mask = name(session, suffix="mask", label="brain", desc="fromT1w", **grid)
    for path, source in zip([*preproc, mask], ("T1w", "FLAIR", "T1w"), strict=True):
        put(settings, path, Sources=[f"bids:raw:{raw(source)}"])
    xfm = {"suffix": "xfm", "from_": "FLAIR", "to": "T1w", "mode": "image"}
    sidecar = {"Sources": [f"bids:raw:{raw('FLAIR')}"]}
    put(settings, name(session, extension=".mat", **xfm), **sidecar)
    made = [f"bids::{path}" for path in (*preproc, mask)]
    for desc in ("synth", "synthstd"):
        put(settings, name(session, contrast="T1ce", desc=desc, **grid), Sources=made)
    for desc in ("synth", "selfcheck", "quality"):
        table = name(session, suffix="qc", extension=".tsv", desc=desc, **grid)
        put(settings, table, contrast="x")


def put(settings: Settings, path: str, text: str = "content", **sidecar: Any) -> None:
    target = settings.out_dir / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.with_name(f"{target.name.partition('.')[0]}.json").write_text(json.dumps(sidecar))


def plan_of(settings: Settings, *targets: str, **changes: Any) -> SessionPlan:
    scans = {
        c: Scan(settings.bids_dir / raw(c), raw(c), c, "01", SESSION) for c in ("T1w", "FLAIR")
    }
    made = tuple(Target(target, ("T1w", "FLAIR")) for target in targets)
    space = Space("T1w", ("T1w", "FLAIR"), ("T1w",), made)
    return replace(SessionPlan("01", SESSION, scans, (space,)), **changes)


def idle(settings: Settings, **changes: Any) -> SessionPlan:
    return plan_of(settings, spaces=(), **changes)


def stems(paths: Iterable[Path]) -> set[str]:
    return {path.name.partition("_ses-A_")[2] or path.name for path in paths}


def removed(settings: Settings, *plans: SessionPlan, written: Iterable[str] = ()) -> set[str]:
    """Carry it out; returns the ends of the names of what is gone, sidecars left out."""
    made = [*written, name(contrast="PDw", space="T1w", desc="preproc")]
    paths = {settings.out_dir / path for path in made}
    gone = remove(find_superseded(settings, plans, paths).outputs)
    assert not any(path.exists() for path in gone)
    return stems(path for path in gone if path.suffix != ".json")


SYNTHESIS = {
    "ce-gadolinium_space-T1w_desc-synth_T1w.nii.gz",
    "ce-gadolinium_space-T1w_desc-synthstd_T1w.nii.gz",
    "space-T1w_desc-synth_qc.tsv",
    "space-T1w_desc-selfcheck_qc.tsv",
}
PREPROCESSED = {
    "space-T1w_desc-preproc_T1w.nii.gz",
    "space-T1w_desc-preproc_FLAIR.nii.gz",
    "space-T1w_label-brain_desc-fromT1w_mask.nii.gz",
    "from-FLAIR_to-T1w_mode-image_xfm.mat",
}


def test_of_a_full_request_stays_what_it_made(settings: Settings) -> None:
    made = [
        name(contrast="T1w", space="T1w", desc="preproc"),
        name(contrast="T1ce", space="T1w", desc="synth"),
    ]
    plan = plan_of(settings, "T1ce")
    gone = removed(settings, plan, written=made)
    assert gone == (SYNTHESIS | PREPROCESSED) - stems(map(Path, made))
    assert all((settings.out_dir / path).is_file() for path in made)
    assert (settings.out_dir / made[1]).with_suffix("").with_suffix(".json").is_file()


def test_where_it_is_not_known_what_was_made_nothing_is_removed(settings: Settings) -> None:
    assert find_superseded(settings, [plan_of(settings, "T1ce")], set()).outputs == []


def test_who_has_nothing_to_do_loses_what_was_synthesised(settings: Settings) -> None:
    assert removed(settings, idle(settings)) == SYNTHESIS


def test_a_synthesis_from_prepared_files_leaves_these_alone(settings: Settings) -> None:
    settings = replace(settings, mode="synth-only")
    assert removed(settings, plan_of(settings, "T1ce", scans={})) == SYNTHESIS


def test_a_preprocessing_keeps_what_was_made_from_the_same_files(settings: Settings) -> None:
    settings = replace(settings, mode="preproc-only")
    same = [path.relative_to(settings.out_dir) for path in settings.out_dir.rglob("*preproc*")]
    rest = [path.relative_to(settings.out_dir) for path in settings.out_dir.rglob("*from*")]
    assert removed(settings, plan_of(settings), written=map(str, [*same, *rest])) == set()


@pytest.mark.parametrize("change", ["mask", "FLAIR is gone", "no note"])
def test_a_preprocessing_removes_what_was_made_from_other_files(
    settings: Settings, change: str
) -> None:
    settings = replace(settings, mode="preproc-only")
    kept = {str(path.relative_to(settings.out_dir)) for path in settings.out_dir.rglob("sub-01_*")}
    expected = SYNTHESIS
    if change == "mask":
        mask = name(suffix="mask", label="brain", desc="fromT1w", space="T1w")
        (settings.out_dir / mask).write_text("another")
    elif change == "no note":
        next(settings.out_dir.glob("logs/finished/*")).unlink()
    else:
        expected = expected | {"space-T1w_desc-preproc_FLAIR.nii.gz"}
        kept = {path for path in kept if "preproc_FLAIR" not in path}
    kept = {path for path in kept if "synth" not in path and "_qc" not in path}
    assert removed(settings, plan_of(settings), written=kept) == expected


@pytest.mark.parametrize("change", ["gone", "another scan"])
def test_what_was_made_from_a_scan_that_is_no_more_goes(settings: Settings, change: str) -> None:
    scan = settings.bids_dir / raw("FLAIR")
    scan.unlink()
    if change == "another scan":
        scan.write_text("SCAN OF FLAIR")
    of_flair = {path for path in PREPROCESSED if "FLAIR" in path}
    assert removed(settings, idle(settings)) == SYNTHESIS | of_flair


def test_a_session_that_the_dataset_has_no_more_goes_with_its_folder(settings: Settings) -> None:
    full_outputs(settings, session="B")
    quality = name("B", suffix="qc", extension=".tsv", desc="quality", space="T1w")
    for path in (settings.out_dir / quality, (settings.out_dir / quality).with_suffix(".json")):
        path.unlink()
    asked = replace(settings, sessions=(SESSION,))
    everything = {str(p.relative_to(settings.out_dir)) for p in settings.out_dir.rglob("*_ses-A_*")}
    assert removed(asked, plan_of(settings, "T1ce"), written=everything) == set()
    assert removed(settings, plan_of(settings, "T1ce"), written=everything)
    assert not (settings.out_dir / "sub-01" / "ses-B").exists()


def test_a_session_that_could_not_be_planned_keeps_what_it_has(settings: Settings) -> None:
    assert removed(settings, idle(settings, errors=("broken",))) == set()
    other = replace(idle(settings), session="B")
    assert removed(settings, idle(settings, errors=("broken",)), other) == set()


@pytest.mark.parametrize(
    "own",
    [
        "sub-01_ses-A_space-T1w_desc-mine_T2w.nii.gz",
        "sub-01_ses-A_space-T1w_desc-synth_T2w_copy.nii.gz",
        "sub-01_ses-A_space-T1w_desc-synth_T2w.nii",
        "sub-01_ses-A_ce-other_space-T1w_desc-synth_T1w.nii.gz",
        "sub-01_ses-A_space-T1w_label-lesion_mask.nii.gz",
        "notes.txt",
    ],
)
def test_files_of_other_names_are_their_owners(settings: Settings, own: str) -> None:
    path = settings.out_dir / "sub-01" / "ses-A" / "anat" / own
    path.write_text("mine")
    assert removed(settings, plan_of(settings)) == SYNTHESIS | PREPROCESSED
    assert path.read_text() == "mine"


def test_a_lesion_mask_of_an_earlier_run_goes(settings: Settings) -> None:
    mask = name(suffix="mask", label="lesion", space="T1w")
    put(settings, mask, DrawnOn="T1w")
    assert stems([Path(mask)]) < removed(settings, plan_of(settings))


def test_a_plan_says_beforehand_which_synthetic_image_goes_and_why(settings: Settings) -> None:
    def said(plan: SessionPlan) -> str:
        return " ".join(announce(settings, [plan])[0].notes)

    assert said(plan_of(settings, "T1ce")) == ""
    scan = Scan(settings.bids_dir, "x", "T1ce", "01", SESSION)
    arrived = idle(settings, scans={"T1w": scan, "T1ce": scan})
    assert "synthetic T1ce" in said(arrived) and "there is a real T1ce" in said(arrived)
    assert "does not make it" in said(plan_of(settings, "T2w"))
    moved = (Space("FLAIR", ("FLAIR",), ("FLAIR",), (Target("T1ce", ("FLAIR",)),)),)
    assert "on another grid" in said(plan_of(settings, spaces=moved))
    assert said(idle(settings, errors=("broken",))) == ""


def test_of_a_failed_run_what_it_did_not_write_is_of_an_earlier_one(settings: Settings) -> None:
    before = snapshot(settings.out_dir, "01")
    new = name(contrast="T1ce", space="T1w", desc="synth")
    put(settings, new, "another")
    found = of_earlier_runs(settings.out_dir, "01", {SESSION}, before)
    quality = "space-T1w_desc-quality_qc.tsv"
    assert stems(found) == (SYNTHESIS | {quality}) - stems([Path(new)])
    assert of_earlier_runs(settings.out_dir, "01", set(), before) == []
    assert len(of_earlier_runs(settings.out_dir, "01", {SESSION}, None)) == len(SYNTHESIS) + 1
