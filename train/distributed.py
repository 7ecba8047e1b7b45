"""Several processes that train as one, started by torchrun.

    torchrun --nproc-per-node 2 -m cyclegan_edge train DATA --set batch=2

`batch` counts the pairs of all processes, and each pair belongs to a number, so the pictures, the replay buffers and
the update are those of one process with the same batch; only the order of float additions differs.
"""

import gc
import os
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # before there is a group: it keeps the one that it finds (DDP imports it)
from torch import Tensor

from cyclegan_edge.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The place of this process among those that train together; by default it is alone."""

    rank: int = 0
    world_size: int = 1
    gloo_group: Any = None  # messages over the CPU, so that they never wait for a GPU

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; every process has to call this."""
        if self.world_size == 1:
            return flag
        answer = torch.tensor(int(flag))
        dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=self.gloo_group)
        return bool(answer)

    def broadcast(self, value: T) -> T:
        """The value of the first process, in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.gloo_group)
        return box[0]

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes; losses are means, so the mean of means is theirs."""
        if self.world_size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world_size

    def all_gather(self, pictures: Tensor) -> Tensor:
        """(n, C, S, S) of each process -> (world_size n, C, S, S) of all, in the order of the processes."""
        if self.world_size == 1:
            return pictures
        every = [torch.empty_like(pictures) for _ in range(self.world_size)]
        dist.all_gather(every, pictures.contiguous())
        return torch.cat(every)

    def local_shard(self, pictures: Tensor) -> Tensor:
        """The part of what `all_gather` gave that belongs to this process."""
        return pictures.chunk(self.world_size)[self.rank]


def join_process_group(device: str) -> ProcessGroup:
    """Join the processes that torchrun started; without torchrun, a group of one. `device` is auto, cuda or cpu.

    Raises ConfigError where what torchrun sets is there in part.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ProcessGroup()
    count = _number("WORLD_SIZE")
    _number("RANK")
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        local = _number("LOCAL_RANK")
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"This is process {local} of its machine, which has {torch.cuda.device_count()} GPUs; start torchrun "
                f"with --nproc-per-node {torch.cuda.device_count()}."
            )
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    gloo_group = dist.new_group(backend="gloo") if cuda else None
    return ProcessGroup(dist.get_rank(), count, gloo_group)


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r} and {name} is {value!r}, so this is no process of torchrun, "
            f"which sets numbers; start several with torchrun, or one after `unset WORLD_SIZE`."
        )
    return int(value)


def leave_process_group() -> None:
    """Leave the group that `join_process_group` joined, with no thread left; does nothing in a group of one.

    Call it when nothing holds the training any more. A gloo thread that releases a tensor while Python ends aborts the
    process, for which torchrun ends all others.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # DDP modules in cycles hold the group
        cast("Any", dist).destroy_process_group()
