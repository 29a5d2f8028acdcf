"""``colapipe-demo``: write a simulated BIDS dataset to try the app on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from colapipe import __version__
from colapipe.cli.arguments import ArgumentParser, path_argument, seed_argument, whole_number
from colapipe.cli.streams import Output, run_with_streams
from colapipe.contrasts import CONTRASTS
from colapipe.errors import ColapipeError, ReadWriteError, UsageError
from colapipe.phantom.defaults import CONTRASTS_TAKEN, PROGRAM, RESOLUTION, SUBJECTS, TRUTH
from colapipe.run.surroundings import settle
from colapipe.suggest import did_you_mean

_EPILOG = f"""\
Who lacks what, unless --missing says otherwise: of every three participants the second has no T2w
and the third no FLAIR. The truth, the missing scans included, is written to {TRUTH}.

examples:
  colapipe-demo demo
  colapipe-demo demo --subjects 4 --contrasts T1w T2w PDw --missing 02:PDw 04:T1w,T2w
  colapipe-demo demo --contrasts {" ".join(CONTRASTS)} --lesion --sessions 2
  colapipe-demo demo --resolution 3 --brain-only      (coarse and quick)

exit codes: 0 done; 2 usage; 69 nilearn is not installed; 73 the folder cannot be used; 74 reading
or writing failed; 130 interrupted.
"""


def build_parser() -> ArgumentParser:
    """Build the parser of the command line."""
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Write a simulated multi-contrast brain MRI dataset in BIDS: a template brain, "
        "deformed for each participant, measured with published relaxation times at 3 T. Nobody "
        "was scanned for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "out_dir", type=path_argument, metavar="OUT_DIR", help="the dataset's folder"
    )
    parser.add_argument("--version", action="version", version=f"colapipe {__version__}")
    parser.add_argument(
        "--subjects",
        type=whole_number,
        default=SUBJECTS,
        metavar="N",
        help="participants (default: %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        type=whole_number,
        default=1,
        metavar="N",
        help="sessions of each participant (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=seed_argument,
        default=0,
        help="equal seeds give equal bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--contrasts",
        nargs="+",
        choices=CONTRASTS,
        default=CONTRASTS_TAKEN,
        metavar="CONTRAST",
        help=f"scans of a complete participant, of {', '.join(CONTRASTS)} "
        f"(default: {' '.join(CONTRASTS_TAKEN)})",
    )
    parser.add_argument(
        "--missing",
        nargs="+",
        metavar="SUB:CONTRAST",
        help="who lacks what, such as 02:T2w or 03:T1w,FLAIR; 'none' for nobody",
    )
    parser.add_argument(
        "--resolution",
        type=float,
        default=RESOLUTION,
        metavar="MM",
        help="voxel size of the anatomy; no scan is finer in a coarse one (default: %(default)g)",
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--head", dest="head", action="store_true", default=True, help="whole heads (default)"
    )
    extent.add_argument(
        "--brain-only", dest="head", action="store_false", help="scans without skull"
    )
    parser.add_argument(
        "--lesion",
        action="store_true",
        help="white matter lesions, the largest with a core that takes up gadolinium",
    )
    parser.add_argument(
        "--coregistered",
        action="store_true",
        help="all scans of a session on one isotropic grid, without movement",
    )
    parser.add_argument(
        "--force", action="store_true", help="write into a folder that holds other files"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are one line on stderr."""
    return run_with_streams(PROGRAM, lambda output: _main(arguments, output))


def _main(arguments: Sequence[str] | None, output: Output) -> int:
    options = build_parser().parse_args(arguments)
    output.only_words = False
    try:
        settle(vars(options))
        missing = read_missing(options.missing)
        from colapipe.phantom.dataset import simulate_dataset

        simulate_dataset(
            options.out_dir,
            options.subjects,
            options.seed,
            options.contrasts,
            options.resolution,
            missing=missing,
            sessions=options.sessions,
            head=options.head,
            lesion=options.lesion,
            coregistered=options.coregistered,
            force=options.force,
            say=lambda line: print(line, flush=True),
        )
    except ColapipeError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", ReadWriteError.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; the dataset is not complete, run the same again.", 130)
    print(
        f"Now: colapipe {options.out_dir} {options.out_dir / TRUTH.parent / 'colapipe'} participant"
    )
    return 0


def read_missing(values: Sequence[str] | None) -> dict[str, tuple[str, ...]] | None:
    """Take the values of ``--missing`` apart.

    Returns
    -------
    dict of str to tuple of str, or None
        Label of a participant to the contrasts that it lacks; None if nothing was said.

    Raises
    ------
    UsageError
        If a value is not ``SUB:CONTRAST[,CONTRAST...]``.

    Examples
    --------
    >>> read_missing(["02:T2w", "sub-03:T1w,FLAIR"])
    {'02': ('T2w',), '03': ('T1w', 'FLAIR')}
    >>> read_missing(["none"])
    {}
    """
    if values is None:
        return None
    gaps: dict[str, tuple[str, ...]] = {}
    for value in () if list(values) == ["none"] else values:
        label, colon, names = value.removeprefix("sub-").partition(":")
        contrasts = tuple(name for name in names.split(",") if name)
        unknown = sorted(set(contrasts) - set(CONTRASTS))
        hint = did_you_mean(unknown[0], CONTRASTS) if unknown else ""
        if not label or not colon or not contrasts or unknown:
            raise UsageError(
                f"--missing {value}: expected SUB:CONTRAST such as 02:T2w, or none; contrasts are "
                f"{', '.join(CONTRASTS)}.{hint}"
            )
        gaps[label] = (*gaps.get(label, ()), *contrasts)
    return gaps


def _complain(message: str, code: int) -> int:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
