"""One node in a SLURM job: what happens on the compute node."""

from __future__ import annotations

import sys
from pathlib import Path
from traceback import format_exception
from typing import Any

from nipype import config
from nipype.pipeline.plugins.multiproc import run_node
from nipype.utils.filemanip import loadpkl, savepkl

from colapipe.interfaces.synthesis import GPUError, leave_gpu, may_leave_gpu
from colapipe.run.failures import last_words
from colapipe.workflows.plugins.failures import traceback_lines
from colapipe.workflows.plugins.worker import consumed

NODE = "node.pklz"
OUTCOME = "outcome.pklz"


def main(folder: Path) -> int:
    """Run the node that lies in a folder, and leave there what came of it.

    Returns
    -------
    int
        0, or 1 if the node failed; in both cases the outcome is there.
    """
    outcome: dict[str, Any] = {"traceback": None}
    try:
        task = loadpkl(str(folder / NODE))
        config.update_config(task["config"])
        result = run_on_gpu_or_cpu(task["node"], task["updatehash"])
        outcome["traceback"] = result["traceback"]
        outcome["gpu_memory_gb"] = getattr(
            getattr(result["result"], "runtime", None), "gpu_memory_gb", None
        )
    except Exception as err:
        # For example a class that can be imported there and not here.
        outcome["traceback"] = format_exception(err)
    outcome["consumed"] = consumed()
    part = folder / f"part_{OUTCOME}"
    savepkl(str(part), outcome)
    part.replace(folder / OUTCOME)
    return 1 if outcome["traceback"] else 0


def run_on_gpu_or_cpu(node: Any, updatehash: bool) -> dict[str, Any]:
    """Run a node; where its GPU cannot be used and the choice is ours, run it on the CPU."""
    result: dict[str, Any] = run_node(node, updatehash, 0)
    text = "".join(traceback_lines(result))
    if node.is_gpu_node() and GPUError.__name__ in text and may_leave_gpu(node):
        print(f"warning: the GPU cannot be used, so the CPU synthesises ({last_words(text)})")
        leave_gpu(node, node.n_procs)
        result = run_node(node, updatehash, 0)
    return result


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
