"""Pairs from shards: data larger than memory or disk, in an order that is a function of (seed, epoch) alone.

Each domain is an endless stream of its own. In every epoch of it the shards come in another order, and their pictures
go through a shuffle buffer: every picture comes once, and picture number k of the epoch is one of the first k + buffer.
Pair p is the p-th picture of the stream of A with the p-th of the stream of B; the smaller domain starts over sooner.

    memory    the encoded pictures of both buffers; nothing is decoded before it is asked for
    reading   one pass over the shards an epoch for each domain; in files, only the bytes of its own pictures
    start=p   the order needs no pictures, so it is replayed on numbers (about a second for a million); then only the
              shards are opened that hold a picture still to come, those of the buffer again, at most `buffer` of them
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError, ImageError
from cyclegan_edge.images import decode_image
from cyclegan_edge.train.data.pairs import DOMAINS, MIN_PICTURES, Pair
from cyclegan_edge.train.data.shard_index import Shard, find_shards
from cyclegan_edge.train.data.tars import entries

BUFFER = 256  # pictures: 5 MB for those of 20 kB, 1.3 GB for those of 5 MB, twice

_SUBSTITUTES = 8  # pictures that are tried in place of a damaged one


@dataclass(frozen=True, slots=True)
class _Encoded:
    name: str  # shard and entry
    data: bytes


class ShardPairs:
    """Pairs of two domains. Safe to use from several threads, each stream from one; so is what the streams yield."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        seed: int,
        buffer: int = BUFFER,
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """`buffer` is how many encoded pictures of each domain are kept; it decides the order, as `seed` does.

        `warn` hears one sentence for each damaged picture, from whichever thread asked for it.

        Raises DataError when a domain has fewer than two pictures, or the buffer no room.
        """
        if buffer < 1:
            raise DataError(
                f"The shuffle buffer has room for {buffer} pictures, expected at least 1; 1 does not shuffle."
            )
        self.counts = {domain: sum(shard.counts[domain] for shard in shards) for domain in DOMAINS}
        for domain, count in self.counts.items():
            if count < MIN_PICTURES:
                raise DataError(
                    f"The shards hold {count} pictures of {domain}, expected at least {MIN_PICTURES}; "
                    f"their names must lead through a folder {domain}, as in {domain}/1.jpg."
                )
        self._shards = tuple(shards)
        self._seed = seed
        self._buffer = buffer
        self._warn = warn
        self._damaged: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, data: str, *, seed: int, buffer: int = BUFFER, warn: Callable[[str], None] = lambda sentence: None
    ) -> "ShardPairs":
        """The pairs of what `data` names, see `find_shards`."""
        return cls(find_shards(data, warn=warn), seed=seed, buffer=buffer, warn=warn)

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        return max(self.counts.values())

    @property
    def damaged(self) -> int:
        """How many damaged pictures were met so far."""
        return len(self._damaged)

    def stream(self, start: int, *, step: int = 1) -> Generator[Pair, None, None]:
        """Every `step`-th pair from position `start` on, without end: (position, decode A, decode B).

        The decoders give uint8 (H, W, 3) RGB. A damaged picture is replaced by the next sound one of its stream, so
        that every other pair stays what it is; DataError when the next seven are damaged too.

        Raises DataError when a shard cannot be read or holds other pictures than it was counted with.
        """
        with closing(self._pictures(DOMAINS[0], start)) as ours, closing(self._pictures(DOMAINS[1], start)) as theirs:
            for position, (a, b) in enumerate(zip(ours, theirs, strict=True), start):
                if (position - start) % step == 0:
                    yield Pair(position, partial(self._decode, a), partial(self._decode, b))

    def _pictures(self, domain: str, start: int) -> Generator[tuple[_Encoded, ...], None, None]:
        """The stream of a domain from `start` on: each picture with those that would stand in for it."""
        ahead: deque[_Encoded] = deque(maxlen=_SUBSTITUTES)
        epoch, skip = divmod(start, self.counts[domain])
        while True:
            with closing(self._epoch(domain, epoch, skip)) as pictures:
                for picture in pictures:
                    ahead.append(picture)
                    if len(ahead) == _SUBSTITUTES:
                        yield tuple(ahead)
            epoch, skip = epoch + 1, 0

    def _epoch(self, domain: str, epoch: int, skip: int) -> Generator[_Encoded, None, None]:
        """The pictures of one epoch but for the first `skip`."""
        generator = random.Random(f"{self._seed}/{epoch}/{domain}")
        holding = [shard for shard in self._shards if shard.counts[domain]]
        shards = sorted(holding, key=lambda shard: generator.random())
        inside: list[int] = []
        order = shuffled(self.counts[domain], self._buffer, generator, inside)
        for _ in islice(order, skip):
            pass
        entered, again = skip + len(inside), frozenset(inside)
        read: dict[int, _Encoded] = {}
        with closing(_numbered(shards, domain, lambda number: number >= entered or number in again)) as arriving:
            for number in order:
                while number not in read:
                    arrived, picture = next(arriving)
                    read[arrived] = picture
                yield read.pop(number)

    def _decode(self, pictures: tuple[_Encoded, ...]) -> Picture:
        for picture in pictures:
            try:
                return decode_image(picture.data, picture.name)
            except ImageError as error:
                with self._lock:
                    if picture.name not in self._damaged:
                        self._damaged.add(picture.name)
                        self._warn(str(error))
        raise DataError(
            f"{len(pictures)} pictures in a row are damaged, {pictures[0].name} first; "
            f"pack the shards again, `cyclegan-edge data pack` leaves damaged ones out."
        )


def shuffled(count: int, buffer: int, generator: random.Random, inside: list[int]) -> Iterator[int]:
    """The numbers below `count` through a shuffle buffer, which is `inside`: whoever holds it sees what waits there.

    Only `generator.random` is used: the one method whose numbers are the same in every version of Python.
    """
    for number in range(count):
        inside.append(number)
        if len(inside) >= buffer:
            yield _take(inside, generator)
    while inside:
        yield _take(inside, generator)


def _take(inside: list[int], generator: random.Random) -> int:
    place = int(generator.random() * len(inside))
    inside[place], inside[-1] = inside[-1], inside[place]
    return inside.pop()


def _numbered(
    shards: Sequence[Shard], domain: str, wanted: Callable[[int], bool]
) -> Generator[tuple[int, _Encoded], None, None]:
    """The wanted pictures of a domain with their numbers, counted through `shards` in this order."""
    first = 0
    for shard in shards:
        count = shard.counts[domain]
        places = {number - first for number in range(first, first + count) if wanted(number)}
        if places:
            with closing(entries(shard.location, partial(_is_one_of, domain, frozenset(places)))) as found:
                for entry in islice(found, len(places)):  # the rest of the shard is not read
                    places.remove(entry.place)
                    yield first + entry.place, _Encoded(f"{shard.location}:{entry.name}", entry.data)
        if places:
            raise DataError(
                f"The shard {shard.location} holds fewer than the {count} pictures of {domain} "
                f"it was counted with; copy or pack it again, with its index."
            )
        first += count


def _is_one_of(wanted: str, places: frozenset[int], domain: str, place: int) -> bool:
    return domain == wanted and place in places
