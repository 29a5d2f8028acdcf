"""Nipype interfaces: each a specification and a call of a function in colapipe."""

import os

# Nipype looks for new versions on the network unless this is set before it is imported.
os.environ.setdefault("NIPYPE_NO_ET", "1")
