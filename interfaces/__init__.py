"""Nipype interfaces: each a specification and a call of a function in colapipe."""

from colapipe.interfaces.nipype_settings import import_nipype

# Before any module of these rooms does it.
import_nipype()
