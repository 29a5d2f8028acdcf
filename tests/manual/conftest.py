"""The scripts under docs/tools, and the manual as it is built."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """Load a script of docs/tools by its name."""

    def load(name: str) -> ModuleType:
        path = ROOT / "docs" / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"manual_{name}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built manual; whatever mkdocs warns of is an error."""
    for package in ("mkdocs", "mkdocstrings"):
        pytest.importorskip(package, reason="the manual needs the extra colapipe[docs]")
    folder = tmp_path_factory.mktemp("manual") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    return folder
