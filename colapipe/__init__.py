"""colapipe: synthesise the MRI contrast that a participant lacks, and say how far to trust it."""

__version__ = "0.1.0"
