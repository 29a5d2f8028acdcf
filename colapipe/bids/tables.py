"""BIDS tables: tab-separated text, ``n/a`` for nothing, a dictionary of the columns beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from colapipe.bids.sidecars import write_json
from colapipe.files import write_text

MISSING = "n/a"


def cell(value: Any, digits: int = 6) -> str:
    """Return the text of one cell: one line, and ``n/a`` for nothing.

    Parameters
    ----------
    value : bool, number, str or None
        Of Python or NumPy. NaN is nothing; an infinite number is ``inf`` or ``-inf``.
    digits : int
        Significant digits of numbers that are not whole by their type.

    Examples
    --------
    >>> cell(0.123456789), cell(True), cell(None), cell("two\\nlines")
    ('0.123457', 'true', 'n/a', 'two lines')
    """
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return MISSING if math.isnan(value) else f"{value:.{digits}g}"
    return MISSING if value is None else " ".join(str(value).split()) or MISSING


def table_of(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], digits: int = 6
) -> pd.DataFrame:
    """Return rows as a table of cells, in the order of the columns.

    Parameters
    ----------
    rows : iterable of mapping
        Column to value; what a row lacks is ``n/a``, and so is None or NaN.
    columns : sequence of str
        Values of other columns are left out.
    digits : int
        As of :func:`cell`.
    """
    cells = [[cell(row.get(name), digits) for name in columns] for row in rows]
    return pd.DataFrame(cells, columns=list(columns), dtype=str)


def as_tsv(table: pd.DataFrame) -> str:
    """Return a table of cells as tab-separated text."""
    return table.to_csv(sep="\t", index=False, lineterminator="\n")


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, Any],
    *,
    digits: int = 6,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a table, after the dictionary of its columns: it never stands there without.

    Parameters
    ----------
    path : Path
        The ``.tsv`` file; the ``.json`` goes beside it.
    rows : iterable of mapping
    columns : mapping
        Column to its entry in the dictionary.
    digits : int
        As of :func:`cell`.
    more : mapping, optional
        What the dictionary says besides.

    Raises
    ------
    OutputError, ReadWriteError
        If a file cannot be written.
    """
    text = as_tsv(table_of(rows, list(columns), digits))
    write_json(path.with_suffix(".json"), {**columns, **(more or {})})
    write_text(path, text)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as text; ``n/a`` stays what it is.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is empty, or a row does not fit the columns.
    """
    with warnings.catch_warnings():
        # A first row with more cells than columns.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table = pd.read_csv(
                path, sep="\t", dtype=str, keep_default_na=False, na_values=[], index_col=False
            )
        except pd.errors.EmptyDataError as err:
            raise ValueError("is empty") from err
        except pd.errors.ParserWarning as err:
            raise ValueError("a row does not fit the columns") from err
    # A cell that is not there is read as an empty one, which no table of ours has.
    if len(table) and (table.iloc[:, -1] == "").any():
        raise ValueError("a row does not fit the columns")
    return table


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as text. Raises what :func:`read_table` raises."""
    table = read_table(path)
    return [dict(zip(map(str, table.columns), row, strict=True)) for row in table.to_numpy()]
