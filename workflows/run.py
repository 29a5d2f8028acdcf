"""What every workflow of a run needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colapipe.config import Settings
from colapipe.run.model import ModelInfo
from colapipe.workflows.engines import Engine


@dataclass(frozen=True)
class Run:
    """One run of the app, ready to be made into workflows.

    Parameters
    ----------
    settings : Settings
    engine : Engine
    engine_version : str
    model : ModelInfo or None
        None for a run that only preprocesses.
    threads : int
        Threads of one process.
    use_gpu : bool
    described : mapping
        Participant to what the report says about the run.
    """

    settings: Settings
    engine: Engine
    engine_version: str
    model: ModelInfo | None
    threads: int
    use_gpu: bool
    described: Mapping[str, Mapping[str, Any]]
