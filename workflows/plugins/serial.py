"""Nipype's Linear plugin, which also keeps what it knows about each failed node."""

from __future__ import annotations

from traceback import format_exception
from typing import Any

from nipype.pipeline.plugins.base import DistributedPluginBase

from colapipe.run.failures import Failure
from colapipe.workflows.plugins.failures import KeepsFailures


class SerialPlugin(KeepsFailures, DistributedPluginBase):
    """Run one node after the other in this process, for someone who looks for a mistake."""

    def __init__(self) -> None:
        super().__init__(plugin_args={"max_jobs": 1})
        self.failures: list[Failure] = []
        self.gpus = 0
        self._traceback: list[str] | None = None

    def close(self) -> None:
        """Nothing runs beside this process."""

    def _submit_job(self, node: Any, updatehash: bool = False) -> int:
        self._traceback = None
        try:
            node.run(updatehash=updatehash)
        except Exception as err:
            self._traceback = format_exception(err)
        return 0

    def _get_result(self, taskid: int) -> dict[str, Any]:
        return {"result": None, "traceback": self._traceback}

    def _clear_task(self, taskid: int) -> None:
        """Nothing is kept of a task."""
