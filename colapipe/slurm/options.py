"""What a cluster wants to know of a job, read from YAML and checked key by key."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colapipe.coladiff.filekind import describe_file
from colapipe.errors import UsageError

_TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_MEMORY = re.compile(r"\d+(K|M|G|T)B?|0", re.IGNORECASE)
_ABSENT = ("", "null", "~")


@dataclass(frozen=True)
class JobOptions:
    """One job's demands. What is empty or None is left to the cluster's defaults.

    Parameters
    ----------
    partition, account, qos, time, mem, gres : str
        As for ``sbatch``'s options of these names.
    cpus : int or None
        ``--cpus-per-task``.
    sbatch_args : tuple of str
        Further options of ``sbatch``.
    modules : tuple of str
        Environment modules to load.
    setup : str
        Lines of shell that stand before the command.
    command : str
        What stands for ``colapipe`` in the job, in the words of the shell; empty for the Python
        that submits.
    max_tasks : int or None
        Tasks of an array that may run at once.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    mem: str = ""
    cpus: int | None = None
    gres: str = ""
    sbatch_args: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    setup: str = ""
    command: str = ""
    max_tasks: int | None = None

    def arguments(self) -> list[str]:
        """Return the options of ``sbatch``; the further ones last, so that they win."""
        values = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.time,
            "mem": self.mem,
            "cpus-per-task": self.cpus,
            "gres": self.gres,
        }
        given = [f"--{name}={value}" for name, value in values.items() if value]
        return [*given, *self.sbatch_args]


@dataclass(frozen=True)
class ClusterOptions:
    """The jobs of a run.

    Parameters
    ----------
    preproc, synth : JobOptions
    group : JobOptions or None
        None for no job of the group level.
    """

    preproc: JobOptions = JobOptions(time="04:00:00", mem="8G", cpus=4)
    synth: JobOptions = JobOptions(time="04:00:00", mem="8G", cpus=4, gres="gpu:1")
    group: JobOptions | None = None


GROUP = JobOptions(time="00:30:00", mem="4G", cpus=1)
STAGES = ("preproc", "synth", "group")


def read_cluster(path: Path) -> ClusterOptions:
    """Read the file of ``--slurm``.

    Keys at the top hold for all jobs, those under ``preproc``, ``synth`` and ``group`` for one.

    Raises
    ------
    UsageError
        With file, key, what was found and what was expected.
    """
    where = f"--slurm {path}"
    content = read_yaml(path, "--slurm")
    stages = {name: content.pop(name) for name in STAGES if name in content}
    common = parse_options(content, where, known=(*PARSERS, *STAGES))
    default = ClusterOptions()
    jobs: dict[str, JobOptions | None] = {}
    for name, base in (("preproc", default.preproc), ("synth", default.synth), ("group", GROUP)):
        own = stages.get(name, "")
        if name == "group" and isinstance(own, str):
            jobs[name] = replace(base, **common) if _is_true(own, f"{where}: group") else None
            continue
        if own in _ABSENT:
            own = {}
        if not isinstance(own, dict):
            raise UsageError(f"{where}: {name}: found {own!r}, expected keys with values.")
        parsed = parse_options(own, f"{where}: {name}")
        jobs[name] = replace(base, **{**common, **parsed})
    return ClusterOptions(**jobs)  # type: ignore[arg-type]


def read_yaml(path: Path, option: str) -> dict[str, Any]:
    """Read a YAML file of keys with values. Every value is text, as it stands in the file.

    YAML would make a number of seconds of a time such as 12:00:00.

    Raises
    ------
    UsageError
    """
    import yaml

    try:
        # The base loader makes texts, lists and mappings, and no other object.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as err:
        raise UsageError(
            f"{option} {path}: cannot be read ({err.strerror}); expected a YAML file."
        ) from err
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as err:
        raise UsageError(
            f"{option} {path}: {_not_yaml(path, f'is not a YAML file ({err})')}"
        ) from err
    if content is None or content in _ABSENT:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{option} {path}: {_not_yaml(path, f'found a {type(content).__name__}')}")
    return content


def _not_yaml(path: Path, problem: str) -> str:
    """Return what to say of a file that is not YAML with keys: what it is, if that can be told."""
    kind = describe_file(path)
    unclear = kind in ("a YAML file", "a text file", "a file of another kind")
    found = problem if unclear else f"is {kind}"
    return f"{found}; expected YAML: keys with values, such as partition: normal."


def parse_options(
    given: Mapping[str, Any], where: str, known: Collection[str] = ()
) -> dict[str, Any]:
    """Return values of `JobOptions` from the texts of a file.

    Parameters
    ----------
    given : mapping
    where : str
        Option and file, for messages.
    known : collection of str
        Keys to name where one is unknown; those of `JobOptions` by default.

    Raises
    ------
    UsageError
    """
    parsed: dict[str, Any] = {}
    for key, value in given.items():
        if key not in PARSERS:
            raise UsageError(f"{where}: {unknown_key(key, known or PARSERS)}")
        parser, expected = PARSERS[key]
        empty = getattr(JobOptions(), key)
        try:
            parsed[key] = empty if value in _ABSENT else parser(value)
        except (ValueError, TypeError) as err:
            raise UsageError(f"{where}: {key}: found {value!r}, expected {expected}.") from err
    return parsed


def unknown_key(key: str, known: Collection[str]) -> str:
    """Return what to say of a key that does not exist, with the one that comes nearest."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"unknown key {key!r}. {hint}Known are {', '.join(known)}."


def _is_true(value: str, where: str) -> bool:
    text = value.lower()
    if text in ("true", "yes", "on"):
        return True
    if text in ("false", "no", "off", *_ABSENT):
        return False
    raise UsageError(f"{where}: found {value!r}, expected true, false, or keys with values.")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


def _word(value: Any) -> str:
    text = _text(value)
    if len(text.split()) != 1:
        raise ValueError
    return text


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = _word(value)
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return check


def _positive(value: Any) -> int:
    number = int(_word(value))
    if number < 1:
        raise ValueError
    return number


def _words(value: Any) -> tuple[str, ...]:
    words = shlex.split(value) if isinstance(value, str) else [_text(item) for item in value]
    # A line break would end the line of the job script on which an argument stands.
    if isinstance(value, dict) or any("\n" in word for word in words):
        raise ValueError
    return tuple(words)


_LIST = 'a list, or words in one line, such as [a, "b c"]'
PARSERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "partition": (_word, "the name of a partition (sinfo lists them)"),
    "account": (_word, "the name of an account"),
    "qos": (_word, "the name of a quality of service"),
    "time": (_matching(_TIME), "minutes, HH:MM:SS, D-HH or D-HH:MM:SS, such as 04:00:00"),
    "mem": (_matching(_MEMORY), "memory with its unit, such as 8G or 16000M"),
    "cpus": (_positive, "a number of 1 or more"),
    "gres": (_word, "generic resources, such as gpu:1"),
    "sbatch_args": (_words, _LIST),
    "modules": (_words, _LIST),
    "setup": (_text, "lines of shell, as a text"),
    "command": (_text, "a command as it stands in a shell, such as apptainer run colapipe.sif"),
    "max_tasks": (_positive, "a number of 1 or more"),
}
"""Keys of `JobOptions`, how each is read, and what is expected."""
