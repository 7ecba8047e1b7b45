"""What the loader needs to know about a data set: how many pairs an epoch has, and how to read pair number p.

Pair number p of a run (counted from 0 over all epochs) is always the same two pictures, whatever was read before it, by
how many threads and processes, in how many pieces. So a run can be continued from a pair number and nothing else.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from cyclegan_edge.contract import Picture

DOMAINS = ("trainA", "trainB")  # folders of the two domains, in a data set and in the names of a shard's members
MIN_PICTURES = 2  # readable pictures that a domain needs

Decode = Callable[[], Picture]
ProgressCallback = Callable[[int, int], None]  # pictures done, pictures in all


class Pair(NamedTuple):
    """Two pictures that are decoded when they are asked for."""

    position: int
    decode_a: Decode
    decode_b: Decode


class Pairs(Protocol):
    """Where pairs come from."""

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        ...

    def stream(self, start: int) -> Iterator[Pair]:
        """Every pair from position `start` on, without end."""
        ...


def ignore_progress(done: int, total: int) -> None:
    """A `ProgressCallback` that does nothing."""
