"""Nipype's settings: those of this app alone, whatever lies in the folder it was started from.

When it is imported, Nipype reads ``nipype.cfg`` from the working directory and from ``~/.nipype``,
and may open a log there before anybody can change a setting. It also takes ``%`` in a setting for
the beginning of another setting's name, so that no folder may be called ``Study 100%``.
"""

from __future__ import annotations

import configparser
import os

from colapipe.run.surroundings import in_folder

_EMPTY = "/proc/self/fdinfo/nipype"
"""A folder that does not exist and that nobody can make."""


def import_nipype() -> None:
    """Import Nipype with its own defaults, and let its settings be taken literally."""
    # Nipype looks for new versions on the network unless this is set before it is imported.
    os.environ.setdefault("NIPYPE_NO_ET", "1")
    named = os.environ.get("NIPYPE_CONFIG_DIR")
    os.environ["NIPYPE_CONFIG_DIR"] = _EMPTY
    try:
        with in_folder("/"):
            import nipype
    finally:
        if named is None:
            del os.environ["NIPYPE_CONFIG_DIR"]
        else:
            os.environ["NIPYPE_CONFIG_DIR"] = named
    literal = configparser.ConfigParser(interpolation=None)
    literal.read_dict(nipype.config._sections)
    nipype.config._config = literal
