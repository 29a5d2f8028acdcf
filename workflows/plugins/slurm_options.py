"""The arguments of the SLURM plugin, and what each node's job asks for."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colapipe.errors import UsageError
from colapipe.run.resources import parse_memory
from colapipe.run.usage import APP_GB
from colapipe.slurm.options import PARSERS, JobOptions, parse_options, unknown_key

# A node says itself how many CPUs it needs, and its command is this Python.
_JOB_KEYS = tuple(key for key in PARSERS if key not in ("cpus", "command", "max_tasks"))
_NUMBERS = {
    "max_jobs": int,
    "max_tries": int,
    "retry_timeout": float,
    "poll_interval": float,
    "result_timeout": float,
}
LEAST_MEMORY = "1G"


@dataclass(frozen=True)
class PluginOptions:
    """The arguments of the SLURM plugin.

    Parameters
    ----------
    base : JobOptions
        What every job asks for; its ``mem`` is the least.
    gpu : JobOptions or None
        What the jobs of nodes ask for that can use a GPU; None gives them none.
    template : str
        How job scripts begin; empty for the line that names bash.
    max_jobs : int or None
        Jobs in the queue at once.
    max_tries, retry_timeout : int, float
        How often SLURM is asked again when it is busy, and the seconds before the second try.
    poll_interval : float
        Seconds between two looks at the queue. A job that ends well is noticed at once.
    result_timeout : float
        Seconds that a finished job's outcome may take to appear on a network disk.
    """

    base: JobOptions = field(default_factory=lambda: JobOptions(mem=LEAST_MEMORY))
    gpu: JobOptions | None = None
    template: str = ""
    max_jobs: int | None = None
    max_tries: int = 6
    retry_timeout: float = 2.0
    poll_interval: float = 15.0
    result_timeout: float = 60.0

    def job(self, node: Any) -> JobOptions:
        """Return what a node's job asks for: CPUs and memory are the node's.

        The node's own ``plugin_args`` come last (``sbatch_args``, with ``overwrite`` instead of
        those of the file).
        """
        options = self.gpu if self.gpu is not None and node.is_gpu_node() else self.base
        own = node.plugin_args or {}
        words = tuple(shlex.split(own.get("sbatch_args", "")))
        return replace(
            options,
            cpus=int(node.n_procs),
            mem=_at_least(options.mem, float(node.mem_gb) + APP_GB),
            sbatch_args=words if own.get("overwrite") else (*options.sbatch_args, *words),
        )


def read_plugin_options(given: Mapping[str, Any], where: str) -> PluginOptions:
    """Check the arguments that a file gives, all of them texts.

    Raises
    ------
    UsageError
        With file, key, what was found and what was expected.
    """
    values: dict[str, Any] = {}
    known = (*_JOB_KEYS, "gpu", "template", *_NUMBERS)
    for key in given:
        if key not in known:
            raise UsageError(f"{where}: {unknown_key(key, known)}")
    for key, kind in _NUMBERS.items():
        if key in given:
            values[key] = _number(given[key], kind, f"{where}: {key}")
    base = parse_options({key: given[key] for key in _JOB_KEYS if key in given}, where)
    base.setdefault("mem", LEAST_MEMORY)
    if "gpu" in given:
        own = given["gpu"] or {}
        if not isinstance(own, dict):
            raise UsageError(f"{where}: gpu: found {own!r}, expected keys, such as partition: gpu.")
        for key in own:
            if key not in _JOB_KEYS:
                raise UsageError(f"{where}: gpu: {unknown_key(key, _JOB_KEYS)}")
        parsed = parse_options(own, f"{where}: gpu")
        values["gpu"] = JobOptions(**{"gres": "gpu:1", **base, **parsed})
    if "template" in given:
        values["template"] = _template(given["template"], f"{where}: template")
    return PluginOptions(base=JobOptions(**base), **values)


def _at_least(least: str, memory_gb: float) -> str:
    # SLURM's 0 is all the memory of a machine.
    if least == "0":
        return least
    with contextlib.suppress(ValueError):
        memory_gb = max(memory_gb, parse_memory(least))
    return f"{math.ceil(memory_gb * 1024)}M"


def _number(value: Any, kind: type, where: str) -> Any:
    with contextlib.suppress(ValueError, TypeError):
        number = kind(value)
        if number > 0:
            return number
    raise UsageError(f"{where}: found {value!r}, expected a number above 0.")


def _template(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: found {value!r}, expected a text or the path of a file.")
    text = value
    if "\n" not in value and value:
        try:
            text = Path(value).expanduser().read_text(encoding="utf-8")
        except OSError as err:
            raise UsageError(f"{where}: {value} cannot be read ({err.strerror}).") from err
    if not text.startswith("#!"):
        raise UsageError(f"{where}: expected a script that begins with #!, such as #!/bin/bash.")
    return text.rstrip("\n")
