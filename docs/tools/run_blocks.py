"""Run the commands of the manual as they are printed, on a small simulated dataset.

    python docs/tools/run_blocks.py [--list] [PAGE ...]

Each fenced block of the language ``bash`` in the README, in CONTRIBUTING and under docs/ is run by
bash, page by page, in one scratch folder. There BIDS_DIR, /data/bids and so on are simulated
brains of 3 mm, and the programs of colapipe do the same as ever, only quickly: their options come
after a few of this script's (``--sloppy``, an untrained model, two iterations), and win over them.

Two comments may stand above a block:

- ``<!-- file: NAME -->``: the block is a file, and is written under that name for later blocks;
- ``<!-- run by: PATH -->``: the block needs more than this script has (a cluster, Docker, hours),
  and the file of that name runs it. That file says so, with the page: ``manual: docs/PAGE.md``.

tests/manual keeps both sides to it. ``--list`` prints who runs which block.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().relative_to(ROOT).as_posix()
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *(
        f"docs/{name}.md"
        for name in (
            *("index", "start", "usage", "files", "choosing", "report", "export"),
            *("when-something-goes-wrong", "cluster", "containers", "resources"),
            # Evaluation uses what training made.
            *("training", "evaluation", "results", "model"),
            *("limits", "how-it-works", "left-out", "architecture", "commands", "python"),
        )
    ),
)
SUBJECTS = 4
QUICK = {
    "colapipe": "--engine builtin --skull-strip skip --sloppy --skip-bids-validation "
    "--self-check off "
    "--model {box}/nano.safetensors",
    "colapipe-demo": "--resolution 3 --brain-only",
    "colapipe-model train": "--preset nano --iterations 2 --batch-size 2 --device cpu",
    "colapipe-model evaluate": "--slices 16",
    "colapipe-model calibrate": "--steps 1",
}
_FENCE = re.compile(
    r"(?:^<!-- (?P<tag>file|run by): (?P<value>\S+) -->\n)?^```(?P<language>[\w-]*)\n"
    r"(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    page : str
        Relative to the repository.
    line : int
        Of its first fence, from 1.
    language, text : str
    file : str or None
        The name under which its text is written.
    runner : str
        The file that runs it.
    """

    page: str
    line: int
    language: str
    text: str
    file: str | None = None
    runner: str = HERE

    def commands(self) -> Iterator[list[str]]:
        """Yield the words of each command: lines put together, comments and outputs left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>()")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in lexer:
                if set(word) <= set(";|&()"):
                    yield from [words] if words else []
                    words = []
                elif set(word) <= set("<>"):
                    next(lexer, None)
                else:
                    words.append(word)
            yield from [words] if words else []


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page of the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1 + (match["tag"] is not None)
        tag = {"file": "file", "run by": "runner"}.get(match["tag"] or "")
        extra = {tag: match["value"]} if tag else {}
        found.append(Block(page, line, match["language"], match["text"], **extra))
    return found


def make_box(box: Path) -> dict[str, str]:
    """Fill a folder with what the manual's names stand for; return the environment to run in."""
    from colapipe.coladiff.presets import write_nano_checkpoint
    from colapipe.phantom.dataset import simulate_dataset

    simulate_dataset(box / "BIDS_DIR", SUBJECTS, resolution=3, head=False)
    (box / "data").mkdir()
    (box / "data" / "bids").symlink_to(box / "BIDS_DIR")
    write_nano_checkpoint(box / "nano.safetensors")
    programs = box / ".venv" / "bin"
    programs.mkdir(parents=True)
    modules = {"colapipe": "app", "colapipe-model": "model", "colapipe-demo": "demo"}
    for program, module in modules.items():
        shim = programs / program
        shim.write_text(_shim(program, module, box), encoding="utf-8")
        shim.chmod(0o755)
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _shim(program: str, module: str, box: Path) -> str:
    """Return a program that puts the quick options before those of the manual."""
    run = f"exec {shlex.quote(sys.executable)} -m colapipe.cli.{module}"
    lines = ["#!/bin/bash"]
    if program == "colapipe":
        lines.append(f'if [[ $* == *" participant"* ]]; then {run} {QUICK[program]} "$@"; fi')
    elif program == "colapipe-demo":
        lines.append(f'{run} {QUICK[program]} "$@"')
    for name, options in QUICK.items():
        if name.startswith(f"{program} "):
            word = name.split()[1]
            lines.append(
                f'if [[ ${{1:-}} == {word} ]]; then shift; {run} {word} {options} "$@"; fi'
            )
    lines.append(f'{run} "$@"')
    return "\n".join(lines).replace("{box}", shlex.quote(str(box))) + "\n"


def run_pages(pages: list[str], box: Path) -> list[str]:
    """Run the blocks of some pages; return where those stand that failed."""
    environment, failed = make_box(box), []
    for page in pages:
        for block in blocks_of(page):
            text = block.text.replace("/data/", f"{box}/data/").replace("/scratch/me/", f"{box}/")
            where = f"{block.page}:{block.line}"
            if block.file:
                (box / block.file).write_text(text, encoding="utf-8")
            elif block.language == "bash" and block.runner == HERE:
                start = time.monotonic()
                command = ["bash", "-euo", "pipefail", "-c", text]
                done = subprocess.run(
                    command, cwd=box, env=environment, capture_output=True, text=True
                )
                word = "ok" if done.returncode == 0 else f"exit code {done.returncode}"
                print(f"{where}: {word}, {time.monotonic() - start:.0f} s", flush=True)
                if done.returncode:
                    print(text + done.stdout[-3000:] + done.stderr[-3000:], flush=True)
                    failed.append(where)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE", help="default: all")
    parser.add_argument("--list", action="store_true", help="say who runs which block, and end")
    options = parser.parse_args()
    if options.list:
        for page in options.pages:
            for block in blocks_of(page):
                if block.language == "bash":
                    print(f"{block.page}:{block.line}: {block.runner}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        failed = run_pages(list(options.pages), Path(folder))
    print(f"failed: {', '.join(failed)}" if failed else "all blocks ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
