"""Executors: Nipype's own, made to say what went wrong."""
