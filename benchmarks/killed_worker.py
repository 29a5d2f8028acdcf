"""What a run does when a process of it dies: Nipype's own MultiProc beside this app's executor.

    python benchmarks/killed_worker.py [--limit 40]

Each case is a small workflow: a node that dies, one beside it that runs at the same time, and one
after each of the two. Prints a Markdown table: whether the run came to its end, after how many
seconds, which node it named as failed, whether it left a crash file of it, and which nodes it
completed. A run that has not ended at the limit is ended from outside: it hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASES = {
    "SIGKILL (out of memory)": signal.SIGKILL,
    "SIGSEGV (a fault in a library)": signal.SIGSEGV,
    "exit without a result": 0,
}
EXECUTORS = ("stock", "ours")


def die(how: int) -> int:
    """End the process that runs this."""
    import os
    import time

    # The node beside this one should be at work already.
    time.sleep(1)
    if how == 0:
        os._exit(3)
    os.kill(os.getpid(), how)
    time.sleep(60)
    return 1


def work(seconds: float, before: int = 0) -> int:
    """Take a while."""
    import time

    time.sleep(seconds)
    return 1


def run_case(executor: str, how: int, folder: Path) -> dict[str, Any]:
    """Run one workflow in this process and say what became of it."""
    from nipype.interfaces.utility import Function
    from nipype.pipeline.engine import Node, Workflow

    from colapipe.run.resources import Resources
    from colapipe.workflows.execution import configure_nipype, execute, local_executor

    configure_nipype(folder, folder / "log.txt", stop_on_first_crash=False)
    workflow = Workflow("colapipe", base_dir=str(folder))
    guilty = Node(Function(function=die), name="guilty")
    guilty.inputs.how = int(how)
    beside = Node(Function(function=work), name="beside")
    beside.inputs.seconds = 3
    for first, name in ((guilty, "after_guilty"), (beside, "after_beside")):
        later = Node(Function(function=work), name=name)
        later.inputs.seconds = 0.1
        workflow.connect(first, "out", later, "before")
    started, completed = time.monotonic(), []

    def note(name: str, status: str) -> None:
        if status == "end":
            completed.append(name.partition(".")[2])
            (folder / "completed").write_text(" ".join(completed))

    if executor == "ours":
        plugin = local_executor(Resources(2, 4.0, (), 1), folder / "log.txt", print)
        named = [failure.node for failure in execute(workflow, plugin, note)]
    else:
        arguments = {"n_procs": 2, "status_callback": lambda node, what: note(node.fullname, what)}
        with contextlib.suppress(Exception):
            workflow.run(plugin="MultiProc", plugin_args=arguments)
        named = []
    return {"seconds": round(time.monotonic() - started, 1), "named": named}


def measure(executor: str, case: str, limit: float) -> str:
    """Run one workflow in a process of its own, and return its row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = subprocess.Popen(
            [sys.executable, __file__, "--one", executor, str(int(CASES[case])), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            answer = json.loads(process.communicate(timeout=limit)[0].splitlines()[-1])
            ended = f"after {answer['seconds']} s"
        except subprocess.TimeoutExpired:
            answer, ended = {"named": []}, f"hangs (ended at {limit:.0f} s)"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        named = ", ".join(answer["named"]).replace("colapipe.", "") or "none"
        crash = "yes" if list(folder.glob("crash-*guilty*")) else "no"
        done = folder / "completed"
        completed = done.read_text().replace(" ", ", ") if done.exists() else "none"
        return f"| {case} | {executor} | {ended} | {named} | {crash} | {completed} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=40.0, help="seconds; default %(default)s")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        executor, how, folder = options.one
        print(json.dumps(run_case(executor, int(how), Path(folder))))
        return
    print("| the process ends by | executor | run ends | named | crash file | completed |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        for executor in EXECUTORS:
            print(measure(executor, case, options.limit), flush=True)


if __name__ == "__main__":
    main()
