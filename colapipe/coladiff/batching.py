"""Work through a list in batches that shrink when the memory does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")

_OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator of torch raises a bare RuntimeError.
    return isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in _OUT_OF_MEMORY
    )


def in_batches(items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], None]) -> int:
    """Call ``work`` on consecutive batches; where memory runs out, halve the batch and go on.

    Parameters
    ----------
    items : sequence
    size : int
        Of the first batch; later ones are never larger than the last that worked.
    work : callable
        May be called again with part of a batch on which it ran out of memory.

    Returns
    -------
    int
        The size that worked in the end.

    Raises
    ------
    MemoryError
        If a batch of one does not fit.
    """
    position = 0
    while position < len(items):
        failed: BaseException | None = None
        try:
            work(items[position : position + size])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError("a batch of one slice does not fit into memory") from error
            # Only the message is kept: the traceback would hold on to the tensors of the batch.
            failed = error.with_traceback(None)
        if failed is None:
            position += size
            continue
        del failed
        size = max(1, min(size, len(items) - position) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return size
