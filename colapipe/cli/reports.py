"""``--reports-only``: quality tables and reports again, from what earlier runs have left."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from colapipe.bids.dataset import ensure_outside
from colapipe.bids.outputs import session_folders
from colapipe.bids.reader import DESCRIPTION
from colapipe.cli.screen import Screen
from colapipe.config import Settings
from colapipe.errors import DatasetError, LockedError, ParticipantError, ScanWarning
from colapipe.plan.participants import select_labels
from colapipe.run.finished import keeping_notes
from colapipe.run.locks import lock_participants
from colapipe.run.superseded import MEASURED, outputs_in, remove

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def rewrite_reports(settings: Settings) -> int:
    """Write quality tables and reports of participants anew; nothing else is run or read.

    Returns
    -------
    int
        0, 1 if files of a participant cannot be read, or 75 if another run is at work on one.

    Raises
    ------
    DatasetError, UsageError
        If the output folder is not one, or a participant is unknown.
    OutputError, ReadWriteError
        If a file cannot be written.
    """
    from colapipe.report.record import read_record, recorded_participants

    out_dir = settings.out_dir
    ensure_outside(out_dir, settings.bids_dir)
    if not (out_dir / DESCRIPTION).is_file():
        raise DatasetError(
            f"--reports-only: {out_dir / DESCRIPTION} does not exist; expected the output folder "
            "of an earlier run. Check the second argument."
        )
    screen = Screen(settings.verbosity)
    known = recorded_participants(out_dir)
    participants = select_labels(settings.participants, known, "--participant-label")
    if settings.dry_run:
        screen.say(f"reports of {len(participants)} participant(s) would be written again")
        return 0
    locked = failed = 0
    for participant in participants:
        with lock_participants([out_dir / "logs" / "locks"], [participant]) as (held, refused):
            for words in refused.values():
                locked += 1
                screen.warn(words)
            if held:
                try:
                    with keeping_notes(out_dir, participant):
                        measure_again(settings, participant, session_folders(out_dir, participant))
                        report_again(settings, participant, read_record(out_dir, participant))
                except OSError as err:
                    if err.errno in DISK_FULL:
                        raise
                    failed += 1
                    where = err.filename or f"sub-{participant}"
                    screen.warn(f"{where}: cannot be read or written ({err.strerror or err})")
                    continue
                screen.say(f"written: {out_dir / f'sub-{participant}.html'}")
    screen.say(
        f"{len(participants) - locked - failed} report(s) written again, nothing else was changed"
    )
    return ParticipantError.exit_code if failed else LockedError.exit_code if locked else 0


def measure_again(
    settings: Settings,
    participant: str,
    sessions: Collection[str | None],
    kept: Mapping[Path, Sequence[ScanWarning]] | None = None,
) -> None:
    """Write the quality tables of some sessions anew, from what is there.

    Tables of grids on which nothing is left are deleted.

    Raises
    ------
    OutputError, ReadWriteError
        If a file cannot be written.
    """
    from colapipe.quality.table import write_session_quality

    for session in sessions:
        tables = write_session_quality(settings.out_dir, participant, session, kept=kept)
        folder = session_folders(settings.out_dir, participant).get(session)
        old = [] if folder is None else outputs_in(folder)
        remove(o for o in old if o.kind == MEASURED and o.main not in tables)


def report_again(settings: Settings, participant: str, run: Mapping[str, Any]) -> None:
    """Write the report anew, from what is there.

    Of a participant of whom nothing is left, not even a failure, the report goes, with its figures
    and its record.

    Raises
    ------
    OutputError, ReadWriteError
        If a file cannot be written.
    """
    from colapipe.report.record import delete_report, write_report

    left = any(map(outputs_in, session_folders(settings.out_dir, participant).values()))
    if not left and not run.get("failures"):
        delete_report(settings.out_dir, participant)
        return
    write_report(
        settings.out_dir,
        participant,
        run,
        show_head=settings.show_head,
        viewer=settings.viewer,
    )
