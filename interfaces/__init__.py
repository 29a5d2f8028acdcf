"""Nipype interfaces: each makes a node of one function of ``colapipe`` or one program of FSL."""
