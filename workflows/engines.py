"""The two engines behind one interface: the same nodes with the same inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Engine:
    """Nipype interface classes of an engine.

    Parameters
    ----------
    name : str
        ``fsl`` or ``builtin``.
    brain_mask : type
        ``in_file`` to ``mask_file``.
    register : type
        ``moving``, ``reference`` and their masks to ``transform`` (ITK .txt) and
        ``identity_kept``.
    tissue : type
        ``in_file``, ``mask_file`` and ``contrast`` to ``csf``, ``gm`` and ``wm``; on one thread.
    parallel : bool
        Brain mask and registration use several threads.
    """

    name: str
    brain_mask: Any
    register: Any
    tissue: Any
    parallel: bool


def load_engine(name: str) -> Engine:
    """Return the interfaces of an engine by its name."""
    if name == "fsl":
        from colapipe.interfaces import fsl

        return Engine(name, fsl.BrainMask, fsl.Register, fsl.Tissue, parallel=False)
    from colapipe.interfaces import builtin

    return Engine(name, builtin.BrainMask, builtin.Register, builtin.Tissue, parallel=True)
