"""``--config-file``: its values are held to the same choices and limits as the command line's."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from colapipe.cli.arguments import not_a_choice
from colapipe.config import MODES, Settings, read_toml, toml_value
from colapipe.errors import UsageError


def read_config_file(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Read settings from a TOML file, and check them as the parser checks its arguments.

    Parameters
    ----------
    path : Path
    parser : ArgumentParser
        Its actions say which type, choices and numbers of values a setting has.

    Returns
    -------
    dict
        Keyword arguments for ``Settings``.

    Raises
    ------
    UsageError
        With file, key, value and what was expected.
    """
    actions = {action.dest: action for action in parser._actions}
    spellings = {
        option.lstrip("-").replace("-", "_"): _setting_of(action)
        for action in parser._actions
        for option in action.option_strings
        if action.dest in _FIELDS
    }
    settings = read_toml(path, spellings)
    for key, value in settings.items():
        problem = _problem(actions[key], value, _FIELDS[key].default)
        if problem:
            end = "" if problem.endswith((".", "?")) else "."
            raise UsageError(f"--config-file {path}: {key} = {toml_value(value)}: {problem}{end}")
    return settings


_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def _setting_of(action: argparse.Action) -> str:
    """Return the setting that an option stands for, with its value where there is only one."""
    # --preproc-only and the like are values of one setting.
    return f"{action.dest} = {toml_value(action.const)}" if action.const else action.dest


def _typed_by_hand(item: Any) -> str:
    """Return a value as it stands on a command line: a number without an exponent."""
    return f"{item:f}" if isinstance(item, float) and abs(item) < 1e-3 else str(item)


def _problem(action: argparse.Action, value: Any, default: Any) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    if isinstance(value, bool):
        return ""
    if value == () and default != ():
        return f"expected at least one value, such as {toml_value(default)}."
    choices = MODES if action.dest == "mode" else action.choices
    if action.dest == "verbosity" and value < 0:
        return "expected 0 or more."
    for item in value if isinstance(value, tuple) else (value,):
        if callable(action.type):
            try:
                action.type(_typed_by_hand(item))
            except (argparse.ArgumentTypeError, ValueError) as err:
                return str(err)
        if choices is not None and item not in choices:
            return not_a_choice(item, list(choices))
    return ""
