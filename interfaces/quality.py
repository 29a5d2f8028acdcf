"""The node that measures a reference grid when everything else is saved there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    OutputMultiObject,
    TraitedSpec,
    traits,
)

from colapipe.interfaces.published import Published


class _SaveQualityInput(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True)
    participant = traits.Str(mandatory=True)
    session = traits.Either(None, traits.Str, usedefault=True)
    reference = traits.Str(mandatory=True)
    files = InputMultiObject(File(exists=True), desc="the outputs that are measured")
    # Whoever writes a sidecar again writes it without warnings, be the image the same or not.
    written = InputMultiObject(traits.Str(), desc="differs for each time that they were written")
    warnings = traits.List(
        traits.List(traits.Str()),
        usedefault=True,
        desc="contrast and message of what was found before",
    )


class _SaveQualityOutput(TraitedSpec):
    out_files = OutputMultiObject(File(exists=True))


class SaveQuality(Published):
    """Write the quality numbers of one session on one reference grid, and what lies beyond limits.

    The warnings go into the sidecars of the synthetic images, too.
    """

    input_spec = _SaveQualityInput
    output_spec = _SaveQualityOutput

    def _run_interface(self, runtime: Any) -> Any:
        from colapipe.errors import ScanWarning
        from colapipe.quality.table import write_session_quality

        given = self.inputs
        tables = write_session_quality(
            Path(given.out_dir),
            given.participant,
            given.session,
            [given.reference],
            [ScanWarning(*entry) for entry in given.warnings],
        )
        self._results["out_files"] = [str(table) for table in tables]
        return runtime
