"""Workflows: how the nodes of ``colapipe.interfaces`` are connected, one stage per file."""
