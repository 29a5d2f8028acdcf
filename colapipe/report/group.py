"""The group level: all quality numbers in one table, and a page to look at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from colapipe.bids.tables import write_table
from colapipe.quality.gather import Group, gather

TABLE = "group_quality.tsv"


@dataclass(frozen=True)
class Written:
    """What the group level has written.

    Attributes
    ----------
    group : Group
    table, page : Path
    """

    group: Group
    table: Path
    page: Path


def write_group(out_dir: Path) -> Written:
    """Write ``group_quality.tsv``, its data dictionary and ``group.html``.

    All participants are gathered each time, so that those who came or changed since are in it.

    Parameters
    ----------
    out_dir : Path
        Output folder of runs at the participant level.

    Raises
    ------
    OutputError, ReadWriteError
        If a file cannot be written. What cannot be read is a problem of the group, and said.
    """
    from colapipe.report.group_page import build_group_page
    from colapipe.report.record import read_earlier, read_failures

    group = gather(out_dir, read_failures(out_dir), read_earlier(out_dir))
    table = out_dir / TABLE
    write_table(table, group.rows, group.columns)
    return Written(group, table, build_group_page(out_dir, group))
