"""Gather the quality numbers of all participants into one table, from what their runs have left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from colapipe.bids.names import contrast_of, parse_name, template
from colapipe.bids.outputs import OutputFile, SessionFiles, read_session, session_folders
from colapipe.bids.reader import participants_in
from colapipe.bids.tables import cell, read_table
from colapipe.contrasts import CONTRASTS
from colapipe.files import read_json
from colapipe.quality.columns import COLUMNS
from colapipe.quality.scores import SCORE_COLUMNS
from colapipe.quality.selfcheck_table import SELFCHECK_COLUMNS
from colapipe.quality.table import WARNINGS
from colapipe.quality.warnings import join_warnings

SELFCHECK = "selfcheck_"
"""How the columns of the self-check begin in the table of the group."""

SELFCHECK_GROUP = {
    # The registration, too, has a shift and a turn.
    SELFCHECK + name: {**about, "LongName": f"Self-check: {about['LongName']}"}
    for name, about in SELFCHECK_COLUMNS.items()
    if name != "contrast"
}
"""Columns of the self-check."""

SCORES = (
    *("psnr", "mae", "nmse", "ssim"),
    *("psnr_fitted", "mae_fitted", "nmse_fitted", "ssim_fitted"),
)
"""Columns of the scores against the real scan, in the brain."""

_OWN: dict[str, dict[str, Any]] = template("columns_group.json")

_WHO = {
    "participant_id": SCORE_COLUMNS["participant_id"],
    "session_id": SCORE_COLUMNS["session_id"],
    "reference": _OWN["reference"],
}

MADE = {
    "sources": SCORE_COLUMNS["sources"],
    **{name: _OWN[name] for name in ("model", "weights_sha256", "sampler", "steps", "samples")},
}
"""Columns that say how a synthetic image was made."""

Row = dict[str, str]


@dataclass
class Group:
    """The quality numbers of all participants.

    Attributes
    ----------
    rows : list of dict
        Text by column, for each participant, session, reference and contrast; what is not known
        is absent. A failed participant has a row that holds nothing but the failure.
    columns : dict
        Every column in order, described as BIDS asks.
    problems : list of str
        Files that could not be read; their numbers are missing.
    warnings : list of str
        What the tables say about files that could not be measured.
    """

    rows: list[Row] = field(default_factory=list)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


EARLIER = "what an earlier run has left of this participant is not in this table"


def gather(
    out_dir: Path,
    failures: Mapping[str, Sequence[str]],
    earlier: Mapping[str, Sequence[str]] | None = None,
) -> Group:
    """Gather the tables of all participants of an output folder.

    Parameters
    ----------
    out_dir : Path
    failures : mapping
        Participant label to what its latest run failed with.
    earlier : mapping, optional
        Participant label to the outputs, relative to the folder, that this run did not make. They
        are passed over, and the row of the failure says so.
    """
    earlier = earlier or {}
    group = Group()
    for participant in sorted({*participants_in(out_dir), *failures}):
        who = {"participant_id": f"sub-{participant}"}
        passed_over = {out_dir / name for name in earlier.get(participant, ())}
        for message in failures.get(participant, ()):
            more = f" ({EARLIER})" if passed_over else ""
            group.rows.append({**who, "failure": cell(message) + more})
        for session, folder in session_folders(out_dir, participant).items():
            here = who | ({"session_id": f"ses-{session}"} if session else {})
            try:
                files = read_session(session, folder)
            except OSError as err:
                group.problems.append(f"{folder}: cannot be read ({err.strerror})")
                continue
            group.rows += [
                here | row for row in _Session(_without(files, passed_over), group).rows()
            ]
    group.columns = {
        **_WHO,
        **COLUMNS,
        **SELFCHECK_GROUP,
        **MADE,
        **{name: _score_column(name) for name in SCORES},
        "failure": _OWN["failure"],
    }
    return group


def _without(files: SessionFiles, paths: Collection[Path]) -> SessionFiles:
    """Return the files of a session without the outputs `paths`, sidecars included."""
    stems = {path.with_name(path.name.partition(".")[0]) for path in paths}

    def keep(path: Path) -> bool:
        return path.with_name(path.name.partition(".")[0]) not in stems

    def kept(tables: Iterable[OutputFile]) -> list[OutputFile]:
        return [table for table in tables if keep(table.path)]

    return replace(
        files,
        everything=list(filter(keep, files.everything)),
        quality=kept(files.quality),
        scores=kept(files.scores),
        selfchecks=kept(files.selfchecks),
    )


def _score_column(name: str) -> dict[str, Any]:
    described = SCORE_COLUMNS[name]
    more = " In the brain; n/a where there is no real scan or --evaluate was not given."
    return {**described, "Description": described["Description"] + more}


class _Session:
    """The tables of one session, joined by reference, contrast and whether it is synthetic."""

    def __init__(self, files: SessionFiles, group: Group) -> None:
        self.files, self.group = files, group
        self.found: dict[tuple[str, str, bool], Row] = {}

    def rows(self) -> list[Row]:
        """Return a row for each image; acquired ones of a grid first."""
        for table in self.files.quality:
            self._add_quality(table)
        for path in self.files.everything:
            self._add_synthesis(path)
        for table in self.files.scores:
            self._add_scores(table)
        for table in self.files.selfchecks:
            self._add_selfcheck(table)
        return [self.found[key] for key in sorted(self.found, key=_order)]

    def _row(self, reference: str, contrast: str, synthetic: bool) -> Row:
        row = {"synthetic": "true" if synthetic else "false"}
        if reference:
            row["reference"] = reference
        return self.found.setdefault(
            (reference, contrast, synthetic), row | {"contrast": cell(contrast)}
        )

    def _add_quality(self, table: OutputFile) -> None:
        said = []
        for read in self._read(table, "contrast", "synthetic"):
            said.append(read.get("warnings", ""))
            synthetic = read["synthetic"].strip().lower() == "true"
            row = self._row(_space(table), read["contrast"], synthetic)
            row.update({name: read[name] for name in COLUMNS if name in read and name not in row})
        sidecar, problem = read_json(table.path.with_suffix(".json"))
        if problem is not None:
            self.group.problems.append(problem)
        listed = sidecar.get(WARNINGS)
        words = [cell(word) for word in listed] if isinstance(listed, list) else []
        # A table of an earlier version says them in its sidecar alone.
        missing = [word for word in words if not any(join_warnings([word]) in s for s in said)]
        self.group.warnings += missing

    def _add_synthesis(self, path: Path) -> None:
        if "_desc-synth_" not in path.name or path.suffix != ".json":
            return
        try:
            name = parse_name(path.name)
        except ValueError:
            return
        # What says that it is synthesised would make it no contrast.
        entities = {key: value for key, value in name.values.items() if key != "desc"}
        contrast = contrast_of(entities, name.suffix)
        if contrast is None:
            return
        sidecar, problem = read_json(path)
        if problem is not None:
            self.group.problems.append(problem)
            return
        row = self._row(name.get("space") or "", contrast, True)
        row.update({column: text for column, text in _made(sidecar).items() if text != "n/a"})

    def _add_scores(self, table: OutputFile) -> None:
        for read in self._read(table, "target", "region"):
            if read["region"] == "brain" and read.get("method", "model") == "model":
                row = self._row(_space(table), read["target"], True)
                row.update({name: read[name] for name in SCORES if name in read})

    def _add_selfcheck(self, table: OutputFile) -> None:
        for read in self._read(table, "contrast"):
            row = self._row(_space(table), read["contrast"], False)
            known = {SELFCHECK + name: text for name, text in read.items()}
            row.update({name: text for name, text in known.items() if name in SELFCHECK_GROUP})

    def _read(self, derivative: OutputFile, *needed: str) -> Iterator[Row]:
        """Yield the rows of a table as text, without ``n/a``; a problem if it is none."""
        path = derivative.path
        try:
            table = read_table(path)
            missing = [name for name in needed if name not in table.columns]
            if missing:
                raise ValueError(f"without the column {missing[0]}")
        except (OSError, ValueError) as err:
            self.group.problems.append(f"{path}: is not a table of this kind ({err})")
            return
        for row in table.to_dict("records"):
            texts = {str(name): cell(text) for name, text in row.items()}
            yield {name: text for name, text in texts.items() if text != "n/a" or name in needed}


def _space(table: OutputFile) -> str:
    return table.name.get("space") or ""


def _order(key: tuple[str, str, bool]) -> tuple[Any, ...]:
    reference, contrast, synthetic = key
    return (*_rank(reference), synthetic, *_rank(contrast))


def _rank(contrast: str) -> tuple[int, str]:
    """Sort by preference as a reference; names that are no contrast last."""
    return (CONTRASTS.index(contrast) if contrast in CONTRASTS else len(CONTRASTS), contrast)


def _made(sidecar: Mapping[str, Any]) -> Row:
    """Return what a sidecar says about the synthesis, as cells."""
    model = sidecar.get("SynthesisModel")
    model = model if isinstance(model, dict) else {}
    sources = sidecar.get("SynthesizedFrom")
    slices = sidecar.get("SynthesizedSlices")
    return {
        "sources": "+".join(map(cell, sources)) if isinstance(sources, list) else "n/a",
        "model": cell(model.get("Name")),
        "weights_sha256": cell(model.get("WeightsSHA256")),
        "sampler": cell(model.get("Sampler")),
        "steps": cell(model.get("Steps")),
        "samples": cell(model.get("Samples")),
        "slices": cell(slices.get("Count")) if isinstance(slices, dict) else "n/a",
    }
