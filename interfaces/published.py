"""What nodes share that write into the output folder, where others write, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import SimpleInterface

from colapipe.run.fingerprints import fingerprint, is_same

_WRITTEN = "written.json"
_OF_NODE = "_inputs.pklz"  # Nipype's; an interface that is called by itself has no folder.


class Published(SimpleInterface):
    """A node whose outputs lie outside its own folder.

    Nipype knows from a node's inputs that it has done its work, not whether somebody has changed
    the result since: another request with another work directory writes under the same names. So
    the node notes what it wrote.
    """

    sidecars_are_annotated = False
    """Another node adds to the JSON files: they must be there, and their content is not noted."""

    def _post_run_hook(self, runtime: Any) -> Any:
        if not Path(runtime.cwd, _OF_NODE).exists():
            return runtime
        files: dict[str, Any] = {}
        for value in self._results.values():
            for path in map(Path, value if isinstance(value, list) else [value]):
                for file in with_sidecars(path):
                    annotated = self.sidecars_are_annotated and file.suffix == ".json"
                    files[str(file)] = None if annotated else fingerprint(file)
        Path(runtime.cwd, _WRITTEN).write_text(json.dumps(files), encoding="utf-8")
        return runtime


def with_sidecars(path: Path) -> list[Path]:
    """Return the files of a folder that have the name of this one, whatever their extension."""
    stem = path.name.partition(".")[0]
    return sorted(found for found in path.parent.glob(f"{stem}.*") if found.is_file())


def is_intact(folder: Path) -> bool:
    """Say whether the files that a node wrote are still what it wrote.

    Parameters
    ----------
    folder : Path
        Of the node. A node that noted nothing has its outputs there.
    """
    try:
        files = json.loads((folder / _WRITTEN).read_text(encoding="utf-8"))
        return all(
            Path(name).is_file() if known is None else is_same(Path(name), known)
            for name, known in files.items()
        )
    except FileNotFoundError:
        return True
    except (OSError, ValueError, AttributeError):
        return False
