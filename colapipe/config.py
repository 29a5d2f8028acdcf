"""The settings of one run: one frozen dataclass, passed explicitly, kept as TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colapipe.coladiff.filekind import describe_file
from colapipe.errors import UsageError
from colapipe.suggest import closest

LEVELS = ("participant", "group")
MODES = ("full", "preproc-only", "synth-only", "reports-only")
ENGINES = ("auto", "fsl", "builtin")
CLEANINGS = ("never", "success", "before")
SWITCH = ("on", "off")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run does.

    The defaults of the command line are the defaults here; nothing else holds a second copy.

    Parameters
    ----------
    bids_dir, out_dir : Path
        The raw dataset and the derivative dataset, absolute.
    level : str
        ``participant`` or ``group``.
    participants, sessions : tuple of str
        Labels without ``sub-`` and ``ses-``; empty means all.
    bids_filter_file : Path or None
        JSON that narrows down which scans count for each contrast.
    targets : tuple of str
        ``("auto",)`` or names of contrasts.
    sources : tuple of str
        Contrasts that may be used; empty means all.
    engine : str
        ``auto``, ``fsl`` or ``builtin``.
    mode : str
        ``full``, ``preproc-only``, ``synth-only`` or ``reports-only``.
    derivatives : tuple of str
        ``[NAME=]PATH`` of datasets whose masks and matrices are used instead of computed.
    evaluate : bool
        Synthesise contrasts that exist, without using them, and score the result.
    skull_strip : str
        ``auto``, ``skip`` or ``force``.
    lesion_conditioning : bool
        Give lesion masks to the model as its fourth tissue class.
    self_check : str
        ``on`` synthesises each source from the others and compares it with the real one; ``off``.
    model : Path or None
        Checkpoint; None is the bundled one.
    sampler, steps, samples : str, int, int or None
        None is the checkpoint's default.
    slices : str
        ``all`` slices with brain or the ``selected`` ones.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    seed : int
        Dataset seed, from which every slice and sample derives its own.
    nprocs, omp_nthreads : int or None
        Processes at once and threads in each; None is what this process may really use.
    mem_gb : float or None
        Memory to plan with, in GB; None is what this process may really use.
    work_dir : Path
        Nipype's working directory, absolute.
    clean_workdir : str
        When the dataset's part of the working directory is emptied: ``never``, ``before`` the run
        or after its ``success``.
    use_plugin : Path or None
        YAML that names a Nipype plugin and its arguments.
    slurm : Path or None
        YAML with what a cluster wants to know; the run is submitted as SLURM jobs.
    slurm_dry_run, slurm_failed : bool
        Write the job scripts only; submit only the tasks again that failed.
    export : Path or None
        Folder for the contrasts in the layouts of BraTS algorithms and nnU-Net, absolute.
    """

    bids_dir: Path
    out_dir: Path
    level: str = "participant"
    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    bids_filter_file: Path | None = None
    targets: tuple[str, ...] = ("auto",)
    sources: tuple[str, ...] = ()
    engine: str = "auto"
    mode: str = "full"
    derivatives: tuple[str, ...] = ()
    evaluate: bool = False
    skull_strip: str = "auto"
    lesion_conditioning: bool = False
    self_check: str = "on"
    model: Path | None = None
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    slices: str = "all"
    device: str = "auto"
    seed: int = 0
    nprocs: int | None = None
    omp_nthreads: int | None = None
    mem_gb: float | None = None
    work_dir: Path = Path("work")
    clean_workdir: str = "never"
    use_plugin: Path | None = None
    slurm: Path | None = None
    slurm_dry_run: bool = False
    slurm_failed: bool = False
    export: Path | None = None
    dry_run: bool = False
    sloppy: bool = False
    stop_on_first_crash: bool = False
    skip_bids_validation: bool = False
    show_head: bool = False
    viewer: bool = False
    verbosity: int = 0

    def to_toml(self) -> str:
        """Return the settings as a flat TOML document. Values that are None are left out."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                lines.append(f"{field.name} = {toml_value(value)}")
        return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Return a value as a TOML file has it; of what settings do not have, its text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")


PATHS = (
    "bids_dir",
    "out_dir",
    "bids_filter_file",
    "model",
    "work_dir",
    "use_plugin",
    "slurm",
    "export",
)


def read_toml(path: Path, spellings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read settings from a TOML file, as keyword arguments for ``Settings``.

    Keys and types are checked here; whether a value is one of the choices, the command line knows
    (:func:`colapipe.cli.config_file.read_config_file`).

    Parameters
    ----------
    path : Path
    spellings : mapping, optional
        Other names of settings, such as options, to the settings that they stand for: a key that
        is one of these is refused with the right one.

    Raises
    ------
    UsageError
        If the file cannot be read, is not TOML, or has a key or a type that is not a setting's.
    """
    where = f"--config-file {path}"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        raise UsageError(
            f"{where}: cannot be read ({err.strerror}); expected a TOML file with settings, such "
            "as logs/RUN/colapipe.toml of an earlier run."
        ) from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as err:
        kind = describe_file(path)
        known = kind not in ("a text file", "a file of another kind")
        found = f"is {kind}" if known else f"is not a TOML file ({err})"
        raise UsageError(
            f"{where}: {found}; expected TOML with a setting on each line, such as "
            'engine = "builtin".'
        ) from err
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    settings: dict[str, Any] = {}
    for key, value in content.items():
        if key not in fields:
            raise UsageError(f"{where}: {_unknown_setting(key, value, fields, spellings or {})}")
        try:
            settings[key] = _typed(key, str(fields[key].type), value)
        except TypeError as err:
            raise UsageError(f"{where}: {key} = {toml_value(value)}: expected {err}.") from err
    return settings


def _unknown_setting(
    key: str, value: Any, fields: Collection[str], spellings: Mapping[str, str]
) -> str:
    """Return what to say of a key that is not a setting."""
    if isinstance(value, dict):
        return f"found the section [{key}]; expected settings without sections."
    names = {**spellings, **{name: name for name in fields}}
    near = names.get(key.replace("-", "_")) or names.get(closest(key, names) or "")
    hint = f"Did you mean {near}?" if near else f"Known are {', '.join(fields)}."
    return f"unknown setting {key!r}. {hint}"


def _typed(key: str, annotation: str, value: Any) -> Any:
    """Return ``value`` as the type that ``annotation`` (of a field of Settings) names.

    Raises
    ------
    TypeError
        With what was expected.
    """
    if annotation.startswith("tuple"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise TypeError('a list of texts, such as ["a", "b"]')
    if annotation.startswith("bool"):
        if isinstance(value, bool):
            return value
        raise TypeError("true or false, without quotes")
    if annotation.startswith("int"):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise TypeError("a whole number, without quotes")
    if annotation.startswith("float"):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise TypeError("a number, without quotes")
    if isinstance(value, str):
        return Path(value) if value and key in PATHS else value
    raise TypeError('one text in quotes, such as "a"')
