"""``--reports-only``: quality tables and reports again, from what earlier runs have left."""

from __future__ import annotations

import errno

from colapipe.bids.dataset import ensure_outside
from colapipe.bids.outputs import session_folders
from colapipe.bids.reader import DESCRIPTION
from colapipe.cli.screen import Screen
from colapipe.config import Settings
from colapipe.errors import DatasetError, LockedError, ParticipantError
from colapipe.finished import keeping_notes
from colapipe.locks import lock_participants
from colapipe.plan import select_labels

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
    from colapipe.report.record import recorded_participants

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
                        _rewrite(settings, participant)
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


def _rewrite(settings: Settings, participant: str) -> None:
    from colapipe.quality.table import write_session_quality
    from colapipe.report.record import read_record, write_report

    for session in session_folders(settings.out_dir, participant):
        write_session_quality(settings.out_dir, participant, session)
    run = read_record(settings.out_dir, participant)
    write_report(
        settings.out_dir,
        participant,
        run,
        show_head=settings.show_head,
        viewer=settings.viewer,
    )
