"""Whether folders can be written, and whether there is room in them."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colapipe.config import Settings
from colapipe.errors import InputFileError, OutputError, ReadWriteError
from colapipe.plan.sessions import SessionPlan

NEARLY_NOTHING = 1024**2
"""Bytes below which a disk counts as full."""
_LEAST_SHARE = 0.02
"""With less than this part of what the smallest participant takes, nothing can come of a run."""

# Measured on simulated and on BraTS scans, and rounded up.
_REPORT = 4e6
_BYTES_OF_AN_IMAGE = 1.0
"""A compressed output, in bytes a voxel of the reference."""
_BYTES_OF_A_SCAN = 4.0
"""A scan in the work directory, which is not compressed."""
_BYTES_OF_A_CROP = 0.7
"""A compressed volume on the model grid."""
_CROP = 224


@dataclass(frozen=True)
class Need:
    """The room that a session takes, roughly.

    Parameters
    ----------
    participant : str
    size : float
        Bytes.
    """

    participant: str
    size: float

    @classmethod
    def outputs(cls, plan: SessionPlan, settings: Settings) -> Need:
        """Estimate what a session leaves in the output folder."""
        size = 0.0
        for space in plan.spaces:
            voxels, _ = _grid(plan, space.reference)
            made = (2 if settings.samples != 1 else 1) * len(space.targets)
            prepared = len(space.contrasts) + 2 * len(space.tissue_contrasts)
            images = made if settings.mode == "synth-only" else made + prepared
            size += _REPORT + voxels * images * _BYTES_OF_AN_IMAGE
        return cls(plan.participant, size)

    @classmethod
    def work(cls, plan: SessionPlan, settings: Settings) -> Need:
        """Estimate what a session leaves in the work directory when nothing of it is there."""
        size = 0.0
        if settings.mode != "synth-only":
            for contrast in plan.scans:
                size += 2 * _BYTES_OF_A_SCAN * _grid(plan, contrast)[0]
        for space in plan.spaces:
            voxels, millimetres = _grid(plan, space.reference)
            crop = min(_CROP, millimetres[0]) * min(_CROP, millimetres[1]) * millimetres[2]
            if settings.mode != "synth-only":
                size += 2 * _BYTES_OF_A_SCAN * voxels * (len(space.contrasts) - 1)
            if space.targets:
                made = len(space.targets)
                if settings.self_check == "on":
                    made += len(space.contrasts)
                volumes = len(space.contrasts) + 3 * len(space.tissue_contrasts) + 2 * made
                size += _BYTES_OF_A_CROP * crop * volumes
        return cls(plan.participant, size)


def _grid(plan: SessionPlan, contrast: str) -> tuple[float, tuple[float, ...]]:
    """Return the number of voxels of a scan and its size in mm; a usual one if it is unreadable."""
    from colapipe.anatomy.images import check_header

    path = plan.scans[contrast].path if contrast in plan.scans else None
    if path is None and plan.derivatives is not None:
        files = plan.derivatives.prepared().get(contrast)
        path = files.images[contrast].path if files else None
    with contextlib.suppress(InputFileError, OSError):
        if path is not None:
            header = check_header(path)
            shape = header.shape[:3]
            zooms = [math.hypot(*header.affine[:3, axis]) for axis in range(3)]
            # In the order of the model: left to right, back to front, foot to head.
            order = [int(abs(header.affine[row, :3]).argmax()) for row in range(3)]
            size = tuple(shape[axis] * zooms[axis] for axis in order)
            return float(math.prod(shape)), size
    return 7e6, (192.0, 224.0, 170.0)


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written; nothing that stays is written.

    Raises
    ------
    OutputError
        If it cannot be made or written.
    ReadWriteError
        If its disk is full.
    """
    try:
        _try_to_write(nearest_folder(folder))
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ReadWriteError(
                f"{folder}: {err.strerror}. Make room, or choose another folder."
            ) from err
        where = "" if str(err.filename) == str(folder) or not err.filename else f"{err.filename}: "
        raise OutputError(
            f"{folder}: cannot be created or written ({where}{err.strerror}); expected a folder "
            "with room that you may write to. Choose another one."
        ) from err


def nearest_folder(path: Path) -> Path:
    """Return a folder if it exists, else the nearest one above it that does.

    Raises
    ------
    OSError
        If a file is in the way, or a part of the path cannot be looked at.
    """
    for folder in (path, *path.parents):
        try:
            folder.stat()
        except FileNotFoundError:
            if folder.is_symlink():
                raise
            continue
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        return folder
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _try_to_write(folder: Path) -> None:
    """Write 4 KiB into a file without a name, or where the disk knows no such file, into one."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except AttributeError:  # not Linux
        descriptor = None
    except OSError as err:
        if err.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            err.filename = str(folder)
            raise
        descriptor = None
    if descriptor is None:
        try:
            with tempfile.TemporaryFile(dir=folder) as stream:
                stream.write(b" " * 4096)
        except OSError as err:
            err.filename = str(folder)  # not the file, of which nobody has heard
            raise
        return
    try:
        os.write(descriptor, b" " * 4096)
    finally:
        os.close(descriptor)


def check_space(needs: Iterable[tuple[Path, str, Sequence[Need]]]) -> list[str]:
    """Compare the room that is needed with the room that there is.

    Parameters
    ----------
    needs : iterable of (Path, str, sequence of Need)
        Folder, the option that chooses it, and what goes there.

    Returns
    -------
    list of str
        A sentence for each disk that has too little.

    Raises
    ------
    ReadWriteError
        If a disk is full, or so nearly that not even one participant could be done.
    """
    disks: dict[int, list[tuple[Path, str, Sequence[Need]]]] = {}
    for folder, option, sessions in needs:
        disk = nearest_folder(folder).stat().st_dev
        disks.setdefault(disk, []).append((folder, option, sessions))
    warnings = []
    for parts in disks.values():
        folder, option, _ = parts[0]
        people: dict[str, float] = {}
        for _, _, sessions in parts:
            for need in sessions:
                people[need.participant] = people.get(need.participant, 0.0) + need.size
        free = shutil.disk_usage(nearest_folder(folder)).free
        total, least = sum(people.values()), min(people.values(), default=0.0)
        where = " and ".join(str(part[0]) for part in parts)
        options = " or ".join(part[1] for part in parts)
        if people and free < max(NEARLY_NOTHING, _LEAST_SHARE * least):
            raise ReadWriteError(
                f"{where}: {os.strerror(errno.ENOSPC)}: {_words(free)} free, and one participant "
                f"takes about {_words(least)}. Make room, or choose another {options}."
            )
        if free < total:
            warnings.append(
                f"{where}: {_words(free)} free; {len(people)} participant(s) take about "
                f"{_words(total)}. Make room, or choose another {options}"
            )
    return warnings


def _words(size: float) -> str:
    """Return an amount of bytes in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
