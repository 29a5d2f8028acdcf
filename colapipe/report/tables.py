"""Tables of numbers as a page shows them: TSV with its data dictionary, whatever its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colapipe.bids.outputs import OutputFile
from colapipe.bids.tables import read_table
from colapipe.report.text import as_text

LIGHTS = ("red", "amber", "green", "n/a")
"""Lights of the self-check: the one to look at first in front, what could not be judged last."""

_MISSING = ("n/a", "")
_FRACTION = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?|-?\d+e[+-]?\d+")
# A table of few rows and many columns is read from top to bottom.
_MANY_COLUMNS = 12
_FEW_ROWS = 9
_NAMES = ("contrast", "synthetic", "target", "region")
# Said by the page itself.
_SAID = ("participant_id", "warnings")
# That no light could be given has to be seen.
_NEVER_EMPTY = ("light",)


@dataclass(frozen=True)
class Column:
    """What a column is called and what it means, as far as its dictionary says."""

    name: str
    title: str
    meaning: str = ""
    units: str = ""


@dataclass(frozen=True)
class Table:
    """A table, ready to be shown.

    Attributes
    ----------
    name : str
        Of the file.
    columns : list of Column
    rows : list of list of str
    error : str
        Why it cannot be shown; empty if it can.
    empty : list of Column
        Columns without a single value; left out of `columns` and `rows`, but for lights.
    """

    name: str
    columns: list[Column] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    error: str = ""
    empty: list[Column] = field(default_factory=list)

    @property
    def turned(self) -> bool:
        """Whether measures are better shown in rows, with a column for each row of the file."""
        return len(self.columns) > _MANY_COLUMNS and len(self.rows) <= _FEW_ROWS

    @property
    def heads(self) -> list[str]:
        """What each row is about: its contrast, for example."""
        at = [number for number, column in enumerate(self.columns) if column.name in _NAMES]
        return [" ".join(self._head(row, number) for number in at).strip() for row in self.rows]

    @property
    def measures(self) -> list[tuple[Column, list[str]]]:
        """The columns that are not in `heads`, each with its values."""
        return [
            (column, [row[number] for row in self.rows])
            for number, column in enumerate(self.columns)
            if column.name not in _NAMES
        ]

    @property
    def described(self) -> list[Column]:
        """Columns whose meaning is known."""
        return [column for column in self.columns if column.meaning]

    def column(self, name: str) -> list[str]:
        """Return the values of a column; of no rows if it is absent."""
        for number, column in enumerate(self.columns):
            if column.name == name:
                return [row[number] for row in self.rows]
        return []

    def _head(self, row: Sequence[str], number: int) -> str:
        if self.columns[number].name == "synthetic":
            return "SYNTHETIC" if row[number] == "true" else ""
        return row[number]


def show_table(derivative: OutputFile) -> Table:
    """Read a table of scores or quality numbers with its dictionary; fractions get four digits."""
    name = derivative.path.name
    try:
        table = read_table(derivative.path)
    except (OSError, ValueError) as error:
        return Table(name, error=f"cannot be read: {error}")
    titles = [str(title) for title in table.columns]
    rows: list[list[str]] = table.to_numpy().tolist()
    about = derivative.sidecar
    kept: list[int] = []
    columns, empty = [], []
    for number, title in enumerate(titles):
        column = _column(title, about.get(title))
        missing = rows and all(row[number] in _MISSING for row in rows)
        if missing and title not in _NEVER_EMPTY:
            empty.append(column)
        elif title not in _SAID:
            kept.append(number)
            columns.append(column)
    shown = [[_short(row[number]) for number in kept] for row in rows]
    return Table(name, columns, shown, empty=empty)


def _short(text: str) -> str:
    """Give a fraction four digits; the file has them all."""
    return f"{float(text):.4g}" if _FRACTION.fullmatch(text) else text


def _column(name: str, about: Any) -> Column:
    about = about if isinstance(about, Mapping) else {}
    return Column(
        name,
        title=as_text(about.get("LongName") or name),
        meaning=as_text(about.get("Description") or ""),
        units=as_text(about.get("Units") or ""),
    )


def worst_light(tables: Sequence[Table]) -> str | None:
    """Return the light to look at first in tables of the self-check; None if there is none."""
    found = {light for table in tables for light in table.column("light")}
    return next((light for light in LIGHTS if light in found), None)
