"""The group that is measured is a group as runs leave it, of the size that is said."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from colapipe.report.group import write_group

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "group_page.py"


@pytest.fixture
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("group_page_benchmark", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_simulated_participant_is_in_the_group(benchmark: ModuleType, tmp_path: Path) -> None:
    benchmark.simulate(tmp_path, 9)
    group = write_group(tmp_path).group
    assert group.problems == [] and group.warnings == []
    assert len({row["participant_id"] for row in group.rows}) == 9
    images = [row for row in group.rows if "contrast" in row]
    assert len(images) == 9 * (len(benchmark.REAL) + 1) and len(group.rows) == len(images) + 3
    # Real scans have a light, synthetic images a standard deviation and a model.
    assert all(("selfcheck_light" in row) != ("sd_brain" in row) for row in images)
    assert all(("model" in row) == (row["synthetic"] == "true") for row in images)
