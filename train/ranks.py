"""Several processes that train as one, started by torchrun.

    torchrun --nproc-per-node 2 -m cyclegan_edge train DATA --set batch=2

`batch` counts the pairs of all processes, and each pair belongs to a number, so the pictures, the replay buffers and
the update are those of one process with the same batch; only the order of float additions differs.
"""

import os
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from cyclegan_edge.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its equals."""

    rank: int = 0
    count: int = 1
    messages: Any = None  # a gloo group, so that asking the others never waits for a GPU

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process; all of them have to ask."""
        if self.count == 1:
            return flag
        answer = torch.tensor(int(flag))
        dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=self.messages)
        return bool(answer)

    def first_says(self, value: T) -> T:
        """The first process's value, in every process."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.messages)
        return box[0]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes; losses are means, so the mean of means is theirs."""
        if self.count == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.count

    def gather(self, pictures: Tensor) -> Tensor:
        """(n, C, S, S) of each process -> (count n, C, S, S) of all, in the order of the processes."""
        if self.count == 1:
            return pictures
        every = [torch.empty_like(pictures) for _ in range(self.count)]
        dist.all_gather(every, pictures.contiguous())
        return torch.cat(every)

    def own(self, pictures: Tensor) -> Tensor:
        """The part of what `gather` gave that belongs to this process."""
        return pictures.chunk(self.count)[self.rank]


def join_ranks(device: str) -> Ranks:
    """Join the processes that torchrun started; alone without torchrun. `device` is the setting auto, cuda or cpu."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"This is process {local} of its machine, which has {torch.cuda.device_count()} GPUs; start torchrun "
                f"with --nproc-per-node {torch.cuda.device_count()}."
            )
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    messages = dist.new_group(backend="gloo") if cuda else None
    return Ranks(dist.get_rank(), count, messages)


def leave_ranks() -> None:
    """Let the others go; harmless when alone."""
    if dist.is_available() and dist.is_initialized():
        cast("Any", dist).destroy_process_group()
