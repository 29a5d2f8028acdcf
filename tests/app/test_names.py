"""Any label that BIDS allows and any path that a system allows go the whole way."""

from __future__ import annotations

import csv
import shutil
import subprocess

import pytest

ODD = ("Study 100%", "%(x)s $HOME", 'it\'s "so"; `id`', "two\nlines", "naïve 脳", "-a:b,c [x]*?")


@pytest.fixture(scope="module")
def finished(app, simulated, quick, tmp_path_factory):
    """A run over ``sub-01+02``, who lacks T2w, in a folder with an odd name."""
    root = tmp_path_factory.mktemp("names").joinpath(*ODD)
    raw = root / "raw"
    for label, new in (("01", "01"), ("02", "01+02")):
        for path in (simulated / f"sub-{label}" / "anat").iterdir():
            copy = raw / f"sub-{new}" / "anat" / path.name.replace(f"sub-{label}", f"sub-{new}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    shutil.copy(simulated / "dataset_description.json", raw)
    model = root / "model.safetensors"
    shutil.copy(quick[quick.index("--model") + 1], model)
    rules = root / "filter.json"
    rules.write_text('{"T1w": {"acquisition": null}}')
    common = (*quick, "--model", model, "-w", root / "work", "--participant-label", "01+02")
    arguments = (raw, root / "out", *common, "--bids-filter-file", rules)
    result = app(*arguments, "--export", root / "export")
    return root, arguments, result


def test_the_run_is_complete(finished) -> None:
    root, _, result = finished
    assert result.code == 0, result.text
    out = root / "out"
    image = "sub-01+02_space-T1w_desc-synth_T2w.nii.gz"
    assert (out / "sub-01+02" / "anat" / image).is_file()
    assert "sub-01+02" in (out / "sub-01+02.html").read_text(encoding="utf-8")
    assert "sub-01+02 is complete" in next(out.glob("logs/*/colapipe.log")).read_text()


def test_the_table_of_resources_names_the_participant(finished) -> None:
    table = next((finished[0] / "out").glob("logs/*/resources.tsv"))
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows and {row["participant"] for row in rows} == {"01+02"}


def test_the_export_holds_it(finished) -> None:
    exported = finished[0] / "export"
    assert "sub-01+02" in (exported / "manifest.tsv").read_text(encoding="utf-8")
    assert list(exported.glob("imagesTs/sub-01+02_0000.nii.gz"))


def test_it_is_known_to_be_finished(finished, app) -> None:
    _, arguments, _ = finished
    again = app(*arguments)
    assert again.code == 0 and "Nothing to do" in again.text, again.text


def test_the_group_page_leads_to_it(finished, app) -> None:
    root, _, _ = finished
    result = app(root / "raw", root / "out", "group")
    assert result.code == 0, result.text
    page = (root / "out" / "group.html").read_text(encoding="utf-8")
    assert 'href="sub-01+02.html' in page or 'href="sub-01%2B02.html' in page


def test_job_scripts_are_written_for_it(finished, app) -> None:
    root, arguments, _ = finished
    cluster = root / "cluster.yaml"
    cluster.write_text("partition: cpu\n")
    arguments = (*arguments, "--seed", 7, "--slurm", cluster, "--slurm-dry-run")
    result = app(*arguments)
    assert result.code == 0, result.text
    tasks = next((root / "out" / "logs" / "slurm").glob("*/tasks_1.tsv"))
    assert tasks.read_text().startswith("01+02\t")
    script = tasks.parent / "preproc.sbatch"
    assert " -P -m colapipe.cli.app " in script.read_text(encoding="utf-8")
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_work_folder_is_emptied_when_asked(finished, app) -> None:
    root, arguments, _ = finished
    work = root / "work"
    assert list(work.glob("*/*/colapipe/sub_01-02_*"))
    result = app(*arguments, "--seed", 8, "--clean-workdir", "success")
    assert result.code == 0, result.text
    assert not list(work.glob("*/*/colapipe/sub_01-02_*"))
