"""The parser of all commands: mistakes are answered in two lines, with the word that was meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from colapipe.suggest import did_you_mean

USAGE_ERROR = 2
LARGEST_SEED = 2**63 - 1


class ArgumentParser(argparse.ArgumentParser):
    """A parser whose errors show one line of usage, and suggest known options and choices."""

    def error(self, message: str) -> NoReturn:
        """End with one line of usage and the message."""
        self.exit(USAGE_ERROR, f"{self.short_usage()}\n{self.prog}: error: {message}\n")

    def refuse(self, message: str) -> NoReturn:
        """End with a message that no usage would make clearer."""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")

    def short_usage(self) -> str:
        """Return what must be given, in one line."""
        required = [a for a in self._actions if a.required and a.option_strings]
        positional = [a for a in self._actions if not a.option_strings]
        words = [
            *(_shown(action) for action in positional),
            *(f"{action.option_strings[-1]} {_shown(action)}" for action in required),
            "[options]",
        ]
        return f"usage: {self.prog} {' '.join(words)}; {self.prog} --help lists all"

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, after a look for options that do not exist.

        Argparse finds these last, when their values have been taken for positional arguments.
        """
        words = list(sys.argv[1:] if args is None else args)
        unknown = self._unknown_options(words)
        if unknown:
            long = [option for option in self._option_string_actions if option.startswith("--")]
            guesses = "".join(did_you_mean(word, long) for word in unknown[:1])
            plural = "s" if len(unknown) > 1 else ""
            self.error(f"unknown option{plural}: {' '.join(unknown)}.{guesses}")
        return super().parse_known_args(words, namespace)

    def _unknown_options(self, words: Sequence[str]) -> list[str]:
        known = self._option_string_actions
        unknown = []
        for word in words:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break  # what follows is no option, or is the subcommand's
            if not word.startswith("-") or word == "-" or self._negative_number_matcher.match(word):
                continue
            if name.startswith("--"):
                abbreviated = self.allow_abbrev and any(k.startswith(name) for k in known)
                fits = name in known or abbreviated
            else:  # -vv, -wDIR; but -work-dir is not -w ork-dir
                fits = word[:2] in known and f"-{name}" not in known
            if not fits:
                unknown.append(name)
        return unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, not_a_choice(value, list(action.choices)))


def not_a_choice(value: Any, choices: Sequence[Any]) -> str:
    """Return what to say of a value that is none of the choices."""
    names = [str(choice) for choice in choices]
    return f"{value!r} is not one of {', '.join(names)}.{did_you_mean(str(value), names)}"


def whole_number(text: str) -> int:
    """Return a number of 1 or more; the type of an argument."""
    return _between(text, 1, None)


def seed_argument(text: str) -> int:
    """Return a number that generators of random numbers take; the type of an argument."""
    return _between(text, 0, LARGEST_SEED)


def path_argument(text: str) -> Path:
    """Return a path; the type of an argument.

    An empty one, as an unset variable of a shell leaves it, would mean the working directory.
    """
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, found {text!r}")
    return Path(text)


def _between(text: str, least: int, most: int | None) -> int:
    expected = f"{least} or more" if most is None else f"{least} to {most}"
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least or (most is not None and value > most):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of {expected}")
    return value


def _shown(action: argparse.Action) -> str:
    """Return how the values of an argument are written in a line of usage."""
    if isinstance(action.metavar, str):
        name = action.metavar
    elif action.choices is not None and not action.option_strings:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = action.dest.upper()
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(action.nargs), name)
