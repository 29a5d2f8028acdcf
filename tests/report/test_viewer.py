"""The 3-D page shows what the files hold, where it is, and says what is synthetic."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from colapipe.bids.outputs import read_session
from colapipe.cli.app import main
from colapipe.interfaces.report import WriteReport
from colapipe.report import viewer
from colapipe.report.viewer import Layer, Scene, build_viewer, make_scene


@pytest.fixture
def out(derivatives) -> Path:
    """T1w and a T2w that was synthesised, bright on the patient's left, beside its truth."""
    derivatives.scans("T1w", "T2w", "FLAIR")
    x = np.indices(derivatives.mask.shape)[0]
    # The first axis grows to the right.
    made = np.where(derivatives.mask, np.where(x < 13, 900.0, 150.0), 0.0)
    made += np.where(derivatives.mask, np.linspace(0, 50, x.size).reshape(x.shape), 0)
    std = np.where(derivatives.mask, 10 + x, 0.0)
    derivatives.synthesis("T2w", ["T1w", "FLAIR"], made, std)
    labels = np.where(derivatives.mask, 1 + x % 3, 0).astype(np.uint8)
    derivatives.write("space-T1w_desc-fromT1w_dseg", labels)
    return derivatives.out_dir


def scene_of(out: Path, **options: Any) -> Scene:
    return make_scene(read_session(None, out / "sub-01" / "anat"), "T1w", **options)


def volume_of(layer: Layer) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(layer.nifti))


def scripts_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)


# --- what is on the page -------------------------------------------------------------------------


def test_the_layers_are_the_reference_the_synthesis_its_truth_and_maps(out):
    layers = scene_of(out).layers
    assert [(layer.name, layer.kind, layer.synthetic) for layer in layers] == [
        ("T1w", "grey", False),
        ("T2w", "grey", False),
        ("T2w", "grey", True),
        ("Uncertainty of T2w", "map", True),
        ("Tissue classes", "labels", False),
    ]
    assert [layer.shown for layer in layers] == [True, False, True, False, False]
    assert "from T1w, FLAIR" in layers[2].about and "kept out" in layers[1].about


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("too_large", [False, True])
def test_voxels_keep_their_values_and_places(out, derivatives, monkeypatch, axes, too_large):
    for path in out.rglob("*.nii.gz"):
        stored = nib.load(path)
        turned = nib.orientations.ornt_transform(
            nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(tuple(axes))
        )
        nib.save(stored.as_reoriented(turned), path)
    if too_large:
        monkeypatch.setattr(viewer, "MOST_BYTES", 100)
    layers = scene_of(out).layers
    truth = nib.load(out / "sub-01" / "anat" / "sub-01_space-T1w_desc-synth_T2w.nii.gz")
    shown = volume_of(layers[2])
    np.testing.assert_allclose(shown.header.get_zooms(), 1 if too_large else 5)
    for place in ((-30.0, -10.0, 0.0), (25.0, 10.0, 10.0), (-20.0, 30.0, -10.0)):
        expected, found = (
            image.get_fdata()[
                tuple(np.rint(np.linalg.inv(image.affine) @ (*place, 1))[:3].astype(int))
            ]
            for image in (truth, shown)
        )
        assert found == pytest.approx(expected, abs=20)


@pytest.mark.parametrize("too_large", [False, True])
@pytest.mark.parametrize("show_head", [False, True])
def test_a_brain_far_from_the_corner_of_its_grid_stays_where_it_is(
    out, derivatives, monkeypatch, too_large, show_head
):
    """The page shows the box around the brain: its origin is that of the box, not of the grid."""
    for path in out.rglob("*.nii.gz"):
        image = nib.load(path)
        data = np.pad(np.asarray(image.dataobj), ((17, 3), (11, 2), (13, 5)))
        nib.save(nib.Nifti1Image(data, image.affine), path)
    if too_large:
        monkeypatch.setattr(viewer, "MOST_BYTES", 100)
    for layer in scene_of(out, show_head=show_head).layers[:3]:
        name = "synth" if layer.synthetic else "preproc"
        file = out / "sub-01" / "anat" / f"sub-01_space-T1w_desc-{name}_{layer.name}.nii.gz"
        middles = []
        for image in (nib.load(file), volume_of(layer)):
            # The rim of the scans and the left half of the synthetic image.
            bright = np.argwhere(image.get_fdata() > (900 if layer.synthetic else 0.8 * top(file)))
            middles.append(nib.affines.apply_affine(image.affine, bright).mean(axis=0))
        np.testing.assert_allclose(*middles, atol=2.5)


def top(file: Path) -> float:
    return float(nib.load(file).get_fdata().max())


def test_only_the_brain_is_shown_unless_the_head_is_asked_for(out, derivatives):
    shape = derivatives.mask.shape
    head = np.where(derivatives.mask, derivatives.scan, 77).astype(np.float32)
    derivatives.write("space-T1w_desc-preproc_T1w", head, {"SkullStripped": False})
    brain = volume_of(scene_of(out).layers[0])
    assert brain.shape != shape
    assert np.asarray(brain.dataobj.get_unscaled())[0, 0, 0] == 0
    whole = volume_of(scene_of(out, show_head=True).layers[0])
    assert whole.shape == shape
    assert np.asarray(whole.dataobj.get_unscaled())[0, 0, 0] > 0


def test_a_broken_file_is_a_remark_and_the_others_stay(out):
    broken = out / "sub-01" / "anat" / "sub-01_space-T1w_desc-synthstd_T2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    scene = scene_of(out)
    assert [layer.kind for layer in scene.layers] == ["grey", "grey", "grey", "labels"]
    assert len(scene.remarks) == 1 and broken.name in scene.remarks[0]


def test_without_anything_to_show_there_is_no_page(out):
    path = build_viewer(out, "sub-01")
    assert path == out / "sub-01_3d.html" and path.is_file()
    for image in out.rglob("*.nii.gz"):
        image.unlink()
    assert build_viewer(out, "01") is None
    assert not path.exists()


def test_only_our_scripts_may_run_whatever_the_dataset_says(out, derivatives):
    evil = "</script><script>alert(1)</script>\u202e"
    derivatives.write_text(
        "space-T1w_desc-synth_T2w.json", json.dumps({"SynthesizedFrom": [evil, "T1w"]})
    )
    page = build_viewer(out, "01").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page and "\u202e" not in page
    assert html.escape("<script>alert(1)") in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    running = [body for kind, body in scripts_of(page) if "type=" not in kind]
    hashes = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in running]
    assert len(hashes) == 2
    named = " ".join(f"'sha256-{digest}'" for digest in hashes)
    assert f"script-src {named};" in policy
    assert "default-src 'none'" in policy and "http" not in policy


def test_a_path_is_no_participant(out):
    with pytest.raises(ValueError, match="label"):
        build_viewer(out, "../01")


def test_the_page_is_written_with_the_report_and_deleted_when_it_is_not_asked_for(out):
    made_by = {"Name": "out", "GeneratedBy": [{"Name": "colapipe"}]}
    (out / "dataset_description.json").write_text(json.dumps(made_by))
    arguments = [str(out.parent / "raw"), str(out), "participant", "--reports-only"]
    assert main([*arguments, "--viewer"]) == 0
    page, report = out / "sub-01_3d.html", out / "sub-01.html"
    assert page.is_file()
    assert 'href="sub-01_3d.html"' in report.read_text(encoding="utf-8")
    assert 'href="sub-01.html"' in page.read_text(encoding="utf-8")
    assert main(arguments) == 0
    assert not page.exists()
    assert "_3d.html" not in report.read_text(encoding="utf-8")


def test_the_node_of_the_report_writes_the_page_where_it_is_asked_to(out, run):
    for asked in (True, False):
        node = WriteReport(out_dir=str(out), participant="01", run=json.dumps(run()), viewer=asked)
        assert Path(node.run().outputs.out_file) == out / "sub-01.html"
        assert (out / "sub-01_3d.html").is_file() == asked


def test_niivue_is_the_file_that_its_makers_published():
    folder = resources.files("colapipe.report").joinpath("niivue")
    digest, name = folder.joinpath("SHA256SUMS.txt").read_text(encoding="utf-8").split()
    content = folder.joinpath(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) < 2_500_000
    assert b"</script" not in content.lower() and b"<!--" not in content
    licence = folder.joinpath("LICENSE").read_text(encoding="utf-8")
    assert "BSD 2-Clause License" in licence and "Niivue" in licence


# --- in a browser --------------------------------------------------------------------------------


def ready(opened: Any) -> Any:
    opened.page.wait_for_selector("body[data-ready]", timeout=120_000)
    return opened


def picture(page: Any) -> np.ndarray:
    """What the canvas shows, (rows, columns) in 0 to 255."""
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
    image = Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("L")
    return np.asarray(image, dtype=float)


@pytest.fixture
def opened(out, open_page):
    return ready(open_page(build_viewer(out, "01"), width=900, height=700))


@pytest.mark.chromium
def test_the_page_works_from_the_file_system_without_a_network(opened):
    page = opened.page
    assert picture(page).max() > 100
    assert page.inner_text("#badge") == "SYNTHETIC: T2w"
    assert not page.is_visible("#scene")
    assert opened.problems == []
    assert opened.too_wide() <= 0
    assert opened.accessibility() == []


@pytest.mark.chromium
def test_left_is_left(opened):
    page = opened.page
    for view in ("0", "1"):  # Axial and coronal.
        page.check(f"input[name=view][value='{view}']")
        shown = picture(page)
        bright = np.argwhere(shown[:, : shown.shape[1] // 2] > 180).size
        assert bright > 20 * np.argwhere(shown[:, shown.shape[1] // 2 + 20 :] > 240).size
    page.fill("#at-0", "100")
    assert "mm left" in page.inner_text("#where")
    assert float(page.inner_text("#where").rpartition(":")[2]) > 800
    page.fill("#at-0", "900")
    assert "mm right" in page.inner_text("#where")
    assert float(page.inner_text("#where").rpartition(":")[2]) < 300


@pytest.mark.chromium
def test_boxes_and_sliders_change_what_is_drawn_and_what_is_said(opened):
    page = opened.page
    both = picture(page)
    boxes = page.locator(".show")
    boxes.nth(2).uncheck()
    reference = picture(page)
    assert np.abs(both - reference).mean() > 2
    assert page.inner_text("#badge") == ""
    boxes.nth(3).check()
    assert np.abs(picture(page) - reference).mean() > 2
    assert page.inner_text("#badge") == "SYNTHETIC: Uncertainty of T2w"
    boxes.nth(3).uncheck()
    boxes.nth(4).check()
    tissue = picture(page)
    assert np.abs(tissue - reference).mean() > 2
    page.locator(".opacity-of").nth(4).fill("0")
    assert np.abs(picture(page) - reference).mean() < 1
    assert opened.problems == []


@pytest.mark.chromium
def test_each_session_has_its_own_layers(out, derivatives, open_page):
    for number, session in enumerate("AB"):
        folder = out / "sub-01" / "anat"
        for path in sorted(folder.iterdir()):
            name = path.name.replace("sub-01_", f"sub-01_ses-{session}_")
            if number == 0 or "synth" not in name:
                (derivatives.anat(session) / name).write_bytes(path.read_bytes())
    shutil.rmtree(folder)
    opened = ready(open_page(build_viewer(out, "01"), width=390, height=844))
    page = opened.page
    assert page.inner_text("#badge") == "SYNTHETIC: T2w"
    first = picture(page)
    page.select_option("#scene", label="Session B, grid of T1w")
    assert np.abs(picture(page) - first).mean() > 2
    assert page.inner_text("#badge") == ""
    assert page.locator(".scene:visible .show").count() == 2
    assert opened.problems == [] and opened.too_wide() <= 0


@pytest.mark.chromium
def test_the_keyboard_is_enough(opened):
    page = opened.page
    before, words = picture(page), page.inner_text("#where")
    page.focus("#at-2")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#where") != words
    assert np.abs(picture(page) - before).mean() > 0.5
    page.focus(".show >> nth=2")
    page.keyboard.press("Space")
    assert picture(page).shape == before.shape and page.inner_text("#badge") == ""


@pytest.mark.chromium
def test_without_webgl_the_page_says_so(out, open_page):
    opened = open_page(build_viewer(out, "01"), width=390, height=800)
    opened.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    opened.page.reload()
    assert "WebGL 2" in opened.page.inner_text("#failed")
    assert not opened.page.is_visible("#work")
    assert opened.too_wide() <= 0


@pytest.mark.parametrize("text", ["</script><img src=x>", "<!--<script>", "a & b > c < d"])
def test_no_text_can_end_the_element_of_the_pages_json(text):
    written = viewer._json([{"name": text}])
    assert not set("<>&") & set(written)
    assert json.loads(written) == [{"name": text}]


def test_the_json_of_the_page_is_written_so(out, monkeypatch):
    """Names of layers are contrasts today; whatever they become, no tag begins in the script."""
    monkeypatch.setitem(viewer.TISSUE_COLOURS, 1, ("</script><b>", (1, 2, 3)))
    page = build_viewer(out, "01").read_text(encoding="utf-8")
    described = [text for attributes, text in scripts_of(page) if "json" in attributes]
    assert described and any("\\u003c/script" in text for text in described)
    assert "</script><b>" not in page
