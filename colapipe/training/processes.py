"""Several processes that train one model together (``torchrun``), or one alone."""

from __future__ import annotations

import gc
import os

import torch
import torch.distributed as dist

from colapipe.errors import UsageError


class Processes:
    """This process's place among those that train together.

    Attributes
    ----------
    rank, count : int
        0 and 1 alone.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """Return which samples of a batch are this process's.

        Raises
        ------
        UsageError
            If the batch cannot be shared equally.
        """
        if batch_size % self.count:
            raise UsageError(
                f"--batch-size {batch_size} cannot be shared equally by {self.count} processes"
            )
        each = batch_size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def _reduce(self, value: float, operation: dist.ReduceOp.RedOpType) -> float:
        if self.count == 1:
            return value
        cuda = dist.get_backend() == "nccl"
        tensor = torch.tensor(value, dtype=torch.float64, device="cuda" if cuda else "cpu")
        dist.all_reduce(tensor, operation)
        return float(tensor)

    def largest(self, value: int) -> int:
        """Return the largest of all processes' values."""
        return int(self._reduce(value, dist.ReduceOp.MAX))

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values."""
        return self._reduce(value, dist.ReduceOp.SUM) / self.count

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def any(self, value: bool) -> bool:
        """Say whether it is so for any process."""
        return bool(self.largest(int(value)))


def join_processes(device: str) -> tuple[Processes, torch.device]:
    """Join the processes that ``torchrun`` has started, if it has; choose this one's device.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto``: a GPU each where there are any.

    Raises
    ------
    UsageError
        If a GPU is asked for that is not there.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: PyTorch finds no CUDA GPU; choose cpu")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else None
    if where is not None:
        torch.cuda.set_device(where)
    if count > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return Processes(rank, count), where or torch.device("cpu")


def leave_processes() -> None:
    """Leave the group again, so that no process waits for this one.

    Models in ``DistributedDataParallel`` hold the group. Its threads end only with the last of
    them: should that be while Python itself ends, they take the process down ("terminate called
    without an active exception").
    """
    if dist.is_initialized():
        gc.collect()
        dist.destroy_process_group()
