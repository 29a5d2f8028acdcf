"""The plugin that ``--use-plugin`` names, ready to run a workflow with."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype.pipeline import plugins as nipype_plugins

from colapipe.errors import MissingToolError, UsageError
from colapipe.run.resources import Resources
from colapipe.slurm.options import read_yaml
from colapipe.suggest import did_you_mean
from colapipe.workflows.execution import Executor, local_executor
from colapipe.workflows.plugins.failures import KeepsFailures
from colapipe.workflows.plugins.serial import SerialPlugin
from colapipe.workflows.plugins.slurm import SlurmPlugin
from colapipe.workflows.plugins.slurm_options import PluginOptions, read_plugin_options

logger = logging.getLogger("colapipe")

OURS = ("Linear", "MultiProc", "SLURM")
_RETURNS_EARLY = ("SLURMGraph", "SGEGraph", "PBSGraph", "CondorDAGMan")
_USELESS = ("Debug",)


def load_plugin(
    path: Path,
    log_file: Path,
    resources: Resources,
    warn: Callable[[str], None] = logger.warning,
) -> Executor:
    """Return the plugin that a YAML file names, with its arguments.

    ``Linear``, ``MultiProc`` and ``SLURM`` are this app's own, made of Nipype's; all others are
    Nipype's, which take whatever arguments the file has.

    Parameters
    ----------
    path : Path
        YAML with ``plugin`` and ``plugin_args``.
    log_file : Path
        For the words of worker processes; the table of resources is written beside it.
    resources : Resources
        What ``MultiProc`` may use where the file does not say.
    warn : callable
        Says a sentence to the person at the keyboard.

    Raises
    ------
    UsageError
        If the file is wrong, or names a plugin that does not exist.
    MissingToolError
        If SLURM is asked for and is not there.
    """
    where = f"--use-plugin {path}"
    name, given = _read(path, where)
    if name == "SLURM":
        return SlurmPlugin(_slurm_options(given, where), log_file, warn)
    arguments = _typed_arguments(path)
    if name == "MultiProc":
        return local_executor(_limited(resources, arguments, where, warn), log_file, warn)
    if name == "Linear":
        return SerialPlugin()
    return _keeping_failures(_find(name, where), arguments)


def check_plugin(path: Path, resources: Resources) -> None:
    """Refuse what `load_plugin` would refuse, without making a plugin.

    Raises
    ------
    UsageError, MissingToolError
        As `load_plugin`.
    """
    where = f"--use-plugin {path}"
    name, given = _read(path, where)
    if name == "SLURM":
        _slurm_options(given, where)
    elif name == "MultiProc":
        _limited(resources, _typed_arguments(path), where, lambda words: None)
    elif name != "Linear":
        _find(name, where)


def _read(path: Path, where: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a plugin and its arguments, which are still texts."""
    content = read_yaml(path, "--use-plugin")
    unknown = [key for key in content if key not in ("plugin", "plugin_args")]
    name = content.get("plugin")
    if unknown or not isinstance(name, str):
        found = ", ".join(content) or "nothing"
        hint = did_you_mean(unknown[0], ("plugin", "plugin_args")) if unknown else ""
        raise UsageError(f"{where}: found {found}, expected the keys plugin and plugin_args.{hint}")
    given = content.get("plugin_args") or {}
    if not isinstance(given, dict):
        raise UsageError(f"{where}: plugin_args: found {given!r}, expected keys with values.")
    return name, given


def _slurm_options(given: dict[str, Any], where: str) -> PluginOptions:
    options = read_plugin_options(given, f"{where}: plugin_args")
    if shutil.which("sbatch") is None:
        raise MissingToolError(
            f"{where}: sbatch was not found; expected SLURM's commands on PATH. Start this on "
            "a machine that may submit jobs, or leave --use-plugin away."
        )
    return options


def known_plugins() -> list[str]:
    """Return the names that a file may give."""
    names = [
        name.removesuffix("Plugin")
        for name, value in inspect.getmembers(nipype_plugins, inspect.isclass)
        if name.endswith("Plugin")
    ]
    return sorted(name for name in names if name not in (*_RETURNS_EARLY, *_USELESS))


def _find(name: str, where: str) -> Any:
    if name in _RETURNS_EARLY:
        raise UsageError(
            f"{where}: {name} comes back before its jobs have run, so that nobody would learn what "
            "failed. Use SLURM, SGE, PBS or Condor."
        )
    known = known_plugins()
    if name not in known:
        lower = {one.lower(): one for one in known}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
        hint = f"Did you mean {lower[near[0]]}? " if near else ""
        raise UsageError(
            f"{where}: there is no plugin {name!r}. {hint}Known are {', '.join(known)}."
        )
    return getattr(nipype_plugins, f"{name}Plugin")


def _keeping_failures(plugin_class: Any, arguments: dict[str, Any]) -> Executor:
    """Return a plugin of Nipype's that also keeps what it knows about each failed node."""
    methods = {"close": lambda self: None}
    kept = type(plugin_class.__name__, (KeepsFailures, plugin_class), methods)
    plugin = kept(plugin_args=arguments)
    plugin.failures, plugin.gpus = [], 0
    executor: Executor = plugin
    return executor


def _limited(
    resources: Resources, arguments: dict[str, Any], where: str, warn: Callable[[str], None]
) -> Resources:
    """Return resources as MultiProc's arguments limit them."""
    given = dict(arguments)
    nprocs = int(_number(given, "n_procs", resources.nprocs, where))
    mem_gb = _number(given, "memory_gb", resources.mem_gb, where)
    gpus = resources.gpus[: int(_number(given, "n_gpu_procs", len(resources.gpus), where, 0))]
    if given:
        warn(f"{where}: not used by this MultiProc: {', '.join(given)}")
    threads = min(resources.threads, nprocs)
    return dataclasses.replace(resources, nprocs=nprocs, mem_gb=mem_gb, gpus=gpus, threads=threads)


def _number(
    given: dict[str, Any], key: str, default: float, where: str, least: float = 0.001
) -> float:
    """Take a number out of the arguments."""
    value = given.pop(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        expected = "a number of 0 or more" if least == 0 else "a number above 0"
        raise UsageError(f"{where}: plugin_args: {key}: found {value!r}, expected {expected}.")
    return value


def _typed_arguments(path: Path) -> dict[str, Any]:
    """Read the arguments again, with numbers as numbers: Nipype's plugins want them so."""
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    arguments: dict[str, Any] = content.get("plugin_args") or {}
    return arguments
