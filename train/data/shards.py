"""Pairs from shards: data larger than memory or disk, in an order that is a function of the seed alone.

Each domain is an endless stream of its own. In every epoch of it the shards come in another order, and their pictures
go through a shuffle buffer: every picture comes once, and picture number k of the epoch is one of the first k + buffer.
Pair p is the p-th picture of the stream of A with the p-th of the stream of B; the smaller domain starts over sooner.

The buffer holds numbers, not pictures, and an epoch is drawn at once (a second and 8 MB for a million pictures). So
pair p is read where it lies, whatever was read before; it only makes those that come together lie near each other.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import count

import numpy as np
import numpy.typing as npt

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError
from cyclegan_edge.images import decode_image
from cyclegan_edge.train.data.pairs import DOMAINS, MIN_PICTURES, Pair
from cyclegan_edge.train.data.shard_index import Shard
from cyclegan_edge.train.data.tars import find_pictures_in, read_picture

Check = Callable[[Picture, str], Picture]

BUFFER = 256  # pictures; it decides the order, as the seed does


class ShardPairs:
    """Pairs of two domains. Safe to use from several threads."""

    def __init__(
        self, shards: Sequence[Shard], *, seed: int, buffer: int = BUFFER, check: Check = lambda picture, name: picture
    ) -> None:
        """`check` returns a decoded picture, or raises ImageError by its name.

        Raises DataError when a domain has fewer than two pictures."""
        self.counts = {domain: sum(shard.counts[domain] for shard in shards) for domain in DOMAINS}
        for domain, found in self.counts.items():
            if found < MIN_PICTURES:
                raise DataError(
                    f"The shards hold {found} pictures of {domain}, expected at least {MIN_PICTURES}; "
                    f"their names must lead through a folder {domain}, as in {domain}/1.jpg."
                )
        self._shards = tuple(shards)
        self._seed = seed
        self._buffer = buffer
        self._check = check
        self._spans: dict[int, dict[str, npt.NDArray[np.int64]]] = {}  # 16 bytes a picture
        self._order = lru_cache(maxsize=4)(self._draw_order)  # of both domains, and at the end of an epoch the next
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        return max(self.counts.values())

    def stream(self, start: int) -> Iterator[Pair]:
        """Every pair from position `start` on, without end.

        Decoding raises DataError when a shard cannot be read, ImageError for a picture damaged since it was packed
        or refused by `check`.
        """
        for position in count(start):
            yield Pair(position, *(partial(self._decode, domain, position) for domain in DOMAINS))

    def _decode(self, domain: str, position: int) -> Picture:
        epoch, place = divmod(position, self.counts[domain])
        shard, number = self._order(domain, epoch)[place]
        offset, size = self._spans_in(int(shard))[domain][number].tolist()
        name, data = read_picture(self._shards[shard].location, (offset, size))
        return self._check(decode_image(data, name), name)

    def _draw_order(self, domain: str, epoch: int) -> npt.NDArray[np.int32]:
        """(n, 2): the shard of every picture of a domain and its number there, in the order of an epoch."""
        generator = random.Random(f"{self._seed}/{epoch}/{domain}")
        counts = {number: shard.counts[domain] for number, shard in enumerate(self._shards) if shard.counts[domain]}
        drawn = sorted(counts, key=lambda number: generator.random())
        arriving = [np.stack([np.full(counts[shard], shard), np.arange(counts[shard])], axis=1) for shard in drawn]
        order = np.fromiter(shuffled(self.counts[domain], self._buffer, generator), np.int64)
        return np.concatenate(arriving).astype(np.int32)[order]

    def _spans_in(self, number: int) -> dict[str, npt.NDArray[np.int64]]:
        """domain -> (n, 2): offset and size of each of its pictures in a shard, whose headers are read once."""
        with self._lock:
            if number not in self._spans:
                self._spans[number] = _find_spans(self._shards[number])
            return self._spans[number]


def _find_spans(shard: Shard) -> dict[str, npt.NDArray[np.int64]]:
    spans = find_pictures_in(shard.location)
    for domain, expected in shard.counts.items():
        if len(spans[domain]) != expected:
            raise DataError(
                f"The shard {shard.location} holds {len(spans[domain])} pictures of {domain}, but was counted with "
                f"{expected}; copy or pack it again, with its index."
            )
    return {domain: np.array(found, np.int64).reshape(-1, 2) for domain, found in spans.items()}


def shuffled(count: int, buffer: int, generator: random.Random) -> Iterator[int]:
    """The numbers below `count` through a shuffle buffer.

    Only `generator.random` is used: the one method whose numbers are the same in every version of Python.
    """
    waiting: list[int] = []
    for number in range(count):
        waiting.append(number)
        if len(waiting) >= buffer:
            yield _take(waiting, generator)
    while waiting:
        yield _take(waiting, generator)


def _take(waiting: list[int], generator: random.Random) -> int:
    place = int(generator.random() * len(waiting))
    waiting[place], waiting[-1] = waiting[-1], waiting[place]
    return waiting.pop()
