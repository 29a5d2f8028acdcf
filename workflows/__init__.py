"""Nipype workflows: the stages of a run, and how they are carried out."""

# Imports Nipype in the only safe way, before any module here does it in another.
import colapipe.interfaces  # noqa: F401
