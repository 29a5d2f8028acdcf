"""The reference of the commands, made from their parsers when the manual is built.

mkdocs calls :func:`on_page_markdown` for each page (``hooks`` in ``mkdocs.yml``). To see the text:

    python docs/tools/commands.py
"""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

MARKER = "<!-- the commands -->"


def on_page_markdown(markdown: str, **ignored: Any) -> str:
    """Put the reference where a page has the marker."""
    return markdown.replace(MARKER, reference()) if MARKER in markdown else markdown


def reference() -> str:
    """Return the reference of all commands as Markdown."""
    from colapipe.cli import demo, model, parser

    # argparse folds its lines to the width of the terminal.
    os.environ["COLUMNS"] = "88"
    programs = (parser.build_parser(), model._parser(), demo.build_parser())
    return "\n".join(line for program in programs for line in _command(program, 2))


def _command(parser: argparse.ArgumentParser, level: int) -> list[str]:
    """Describe one command, and those under it."""
    lines = [f"{'#' * level} {parser.prog}", "", _text(parser.description), ""]
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    lines += ["```text", re.sub(r"^ {7}", "", usage, flags=re.MULTILINE), "```", ""]
    under: list[argparse.ArgumentParser] = []
    for group in parser._action_groups:
        rows = []
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                under += action.choices.values()
            elif action.help != argparse.SUPPRESS:
                rows.append(f"| {_names(action)} | {_meaning(parser, action)} |")
        if rows:
            title = (group.title or "").replace("positional arguments", "arguments")
            lines += [f"| {title} | |", "|---|---|", *rows, ""]
    if parser.epilog:
        lines += ["```text", parser._get_formatter()._fill_text(parser.epilog, 88, ""), "```", ""]
    for command in under:
        lines += _command(command, level + 1)
    return lines


def _names(action: argparse.Action) -> str:
    """Return the spellings of an option with what follows it, each as code."""
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = ""
    if action.nargs != 0:
        value = str(action.metavar or "")
        if not value and action.choices:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        value = f" {value or action.dest.upper()}"
        if action.nargs in ("+", "*"):
            value += " ..."
    return ", ".join(f"`{name}{value}`" for name in action.option_strings)


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return _text(parser._get_formatter()._expand_help(action)) if action.help else ""


def _text(words: str | None) -> str:
    """Escape what means something to Markdown, HTML and tables; keep it in one line."""
    text = " ".join((words or "").split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text)


if __name__ == "__main__":
    print(reference())
