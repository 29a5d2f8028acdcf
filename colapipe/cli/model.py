"""``colapipe-model``: synthesise from a request, describe a model, train or score one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colapipe import __version__
from colapipe.cli.arguments import ArgumentParser, seed_argument, whole_number
from colapipe.cli.model_calibrate import add_calibrate
from colapipe.cli.model_describe import add_info
from colapipe.cli.model_evaluate import add_evaluate
from colapipe.cli.streams import Output, run_with_streams
from colapipe.contrasts import CONTRASTS
from colapipe.errors import ColapipeError, ReadWriteError
from colapipe.run.surroundings import settle

OUT_OF_MEMORY = 1
BUG = 70
INTERRUPTED = 130


class _PrintScript(argparse.Action):
    """Print the SLURM script for training and end."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> None:
        from importlib.resources import files

        script = files("colapipe.bids_templates") / "train.sbatch"
        print(script.read_text(encoding="utf-8"), end="")
        parser.exit()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="colapipe-model",
        description="Synthesise MRI contrasts with CoLa-Diff; describe, train and score models.",
        epilog="Exit codes: 0 done, 1 out of memory, 2 wrong request or option, 65 not a usable "
        "dataset, 66 no usable model, 74 input or output failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"colapipe {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the code an error came from"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    synth = commands.add_parser(
        "synth",
        help="synthesise one contrast from a request file",
        description="Synthesise one contrast of one session. The request is a JSON file that "
        "names normalised sources on the model grid, mask, tissue maps, target and outputs.",
    )
    synth.add_argument("request", type=Path, metavar="REQUEST.json")
    synth.set_defaults(run=_synth)

    add_info(commands)
    add_evaluate(commands)
    add_calibrate(commands)

    train = commands.add_parser(
        "train",
        help="train a model, or go on with a run that was interrupted",
        description="Train on derivatives of a preprocessing-only run, or on a raw dataset that "
        "is co-registered and brain-extracted already. Repeating the command goes on where it "
        "stopped.",
    )
    train.add_argument(
        "--sbatch", action=_PrintScript, nargs=0, help="print a SLURM script to fill in, and end"
    )
    train.add_argument(
        "--data", type=Path, required=True, nargs="+", help="BIDS datasets or derivatives"
    )
    train.add_argument("--out", type=Path, required=True, help="folder of the run")
    train.add_argument(
        "--split",
        type=Path,
        required=True,
        help="JSON file with the lists of participants 'train' and 'validation'",
    )
    train.add_argument(
        "--contrasts",
        nargs="+",
        choices=CONTRASTS,
        metavar="CONTRAST",
        help="default: those that the data have",
    )
    train.add_argument(
        "--preset",
        default="tiny",
        help="what to train: tiny (default), paper, ldm, nano, or a baseline: unet, mmgan",
    )
    train.add_argument(
        "--set",
        nargs="+",
        action="extend",
        metavar="ENTRY=VALUE",
        help="entries of the configuration to change, such as gate=off scf=dwt "
        "(colapipe-model info prints them all)",
    )
    train.add_argument(
        "--iterations", type=whole_number, default=20_000, help="default: %(default)s"
    )
    train.add_argument(
        "--cpu-minutes",
        type=float,
        help="instead of --iterations: as many as take this long, by the speed of the first "
        "(to compare models at equal training time)",
    )
    train.add_argument(
        "--autoencoder-iterations",
        type=whole_number,
        default=5_000,
        help="of the first stage, for a learned latent (default: %(default)s)",
    )
    train.add_argument(
        "--batch-size", type=whole_number, default=8, help="of all processes together (%(default)s)"
    )
    train.add_argument("--learning-rate", type=float, default=1e-3, help="default: %(default)s")
    train.add_argument(
        "--constant-rate", action="store_true", help="do not let the learning rate fall to 0"
    )
    train.add_argument(
        "--ema", type=float, default=0.999, help="rate of the moving average (%(default)s)"
    )
    train.add_argument("--seed", type=seed_argument, default=0, help="default: %(default)s")
    train.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float64"),
        default="float32",
        help="of the layers; bfloat16 is faster on CPUs and GPUs that know it (%(default)s)",
    )
    train.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s"
    )
    train.add_argument("--threads", type=whole_number, default=1, help="default: %(default)s")
    train.add_argument(
        "--save-every", type=whole_number, default=500, help="iterations; %(default)s"
    )
    train.add_argument("--max-minutes", type=float, help="stop after this much CPU time")
    train.add_argument(
        "--cache", type=Path, help="folder of the cached slices, which runs may share (OUT/slices)"
    )
    train.add_argument(
        "--tensorboard", action="store_true", help="write figures for TensorBoard, too"
    )
    train.add_argument("--name", default="cola", help="what the model is called")
    train.add_argument("--training-data", help="in words, for the model's description")
    train.add_argument(
        "--licence", default="not stated", help="of the weights, for the model's description"
    )
    train.set_defaults(run=_train)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors of the user are one line on stderr."""
    return run_with_streams("colapipe-model", lambda output: _main(arguments, output))


def _main(arguments: Sequence[str] | None, output: Output) -> int:
    options = _parser().parse_args(arguments)
    output.only_words = options.command == "info"
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        settle(vars(options))
        run(options)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except Exception as error:  # the last resort: no traceback for the user
        if options.traceback:
            raise
        if isinstance(error, ColapipeError):
            return _say(str(error), error.exit_code)
        if isinstance(error, MemoryError):
            return _say(str(error) or "out of memory", OUT_OF_MEMORY)
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            return _say(f"{where}{error.strerror or error}", ReadWriteError.exit_code)
        return _say(f"a bug: {type(error).__name__}: {error} (--traceback says where)", BUG)
    return 0


def _say(message: str, code: int) -> int:
    print("colapipe-model: " + " ".join(message.split()), file=sys.stderr)
    return code


def _synth(options: argparse.Namespace) -> None:
    from colapipe.cli.model_synth import run_request
    from colapipe.request import read_request

    run_request(read_request(options.request))


def _train(options: argparse.Namespace) -> None:
    from colapipe.cli.process import ready_for_networks

    ready_for_networks()
    from colapipe.training.run import train

    train(options, report=lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
