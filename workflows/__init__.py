"""Nipype workflows: the stages of a run, and how they are carried out."""

import os

# Nipype looks for new versions on the network unless this is set before it is imported.
os.environ.setdefault("NIPYPE_NO_ET", "1")
