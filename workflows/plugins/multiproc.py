"""Nipype's MultiProc, which also keeps what it knows about each failed node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.pipeline.plugins.multiproc import MultiProcPlugin

from colapipe.failures import Failure


class LocalPlugin(MultiProcPlugin):
    """Run nodes on this machine, in processes that start clean.

    Parameters
    ----------
    plugin_args : dict
        As for MultiProc.
    """

    def __init__(self, plugin_args: dict[str, Any]) -> None:
        super().__init__(plugin_args=plugin_args)
        self.failures: list[Failure] = []

    def _report_crash(self, node: Any, result: dict[str, Any] | None = None) -> str:
        crash_file: str = super()._report_crash(node, result=result)
        traceback = (result or {}).get("traceback") or ""
        text = traceback if isinstance(traceback, str) else "".join(traceback)
        self.failures.append(Failure(str(node.fullname), text, Path(crash_file)))
        return crash_file
