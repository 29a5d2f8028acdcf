"""The node that writes a participant's report when everything else is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    TraitedSpec,
    traits,
)

from colapipe.interfaces.published import Published


class _WriteReportInput(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True)
    participant = traits.Str(mandatory=True)
    # What the page shows changes with the files; the time of the run alone is no reason to redo it.
    run = traits.Str(mandatory=True, nohash=True, desc="JSON, see build_subject_report")
    files = InputMultiObject(File(exists=True), desc="the outputs that the page is made of")
    show_head = traits.Bool(False, usedefault=True)
    viewer = traits.Bool(False, usedefault=True, desc="write the 3-D page, too")


class _WriteReportOutput(TraitedSpec):
    out_file = File(exists=True)


class WriteReport(Published):
    """Write ``sub-X.html``."""

    input_spec = _WriteReportInput
    output_spec = _WriteReportOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.report.record import write_report

        given = self.inputs
        page = write_report(
            Path(given.out_dir),
            given.participant,
            json.loads(given.run),
            show_head=given.show_head,
            viewer=given.viewer,
        )
        self._results["out_file"] = str(page)
        return runtime
