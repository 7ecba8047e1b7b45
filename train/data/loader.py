"""Pairs become batches of crops, made ahead in threads.

The crops of pair number p depend on the seed and p alone, as the pair does.
"""

from collections.abc import Generator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cyclegan_edge.contract import Picture
from cyclegan_edge.preprocess import resize_crop
from cyclegan_edge.train.data.crops import LUMA, Crops
from cyclegan_edge.train.data.pairs import Pair, Pairs
from cyclegan_edge.train.data.threads import map_ahead

_AHEAD = 2  # batches that lie ready while one is used

PairBatch = tuple[Tensor, Tensor]  # A and B, each (N, 1 or 3, height, width) float32, -1..1


def load_batch(pairs: Sequence[Pair], crops: Crops, *, pin: bool = False) -> PairBatch:
    """The crops of `pairs`.

    Crops of one size are written straight into the batch; with `pin` it lies in page-locked memory, which CUDA reads
    faster.
    """
    a, b = (_DomainBatch(crops, len(pairs), pin) for _ in range(2))
    for pair in pairs:
        random = np.random.default_rng((crops.seed, pair.position))
        a.add(pair.decode_a(), random)
        b.add(pair.decode_b(), random)
    colours = crops.pictures
    return a.batch(grey=colours.colour_a == "grey"), b.batch(grey=colours.colour_b == "grey")


def batches(
    pairs: Pairs,
    crops: Crops,
    *,
    batch: int,
    start: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
) -> Generator[PairBatch, None, None]:
    """Batches from pair number `start` on, without end, as `load_batch` makes them, made ahead in `workers` threads.

    Each process gets its share of every `batch` pairs: as many as all others, those of `rank`.
    """
    share = batch // world_size
    stream = pairs.stream(start)
    wanted = iter(lambda: list(islice(stream, batch))[rank * share : (rank + 1) * share], [])
    yield from map_ahead(partial(load_batch, crops=crops, pin=pin), wanted, workers=workers, ahead=_AHEAD)


class _DomainBatch:
    """The crops of one domain while its batch is made."""

    def __init__(self, crops: Crops, count: int, pin: bool) -> None:
        self._crops = crops
        shape = (count, 3, crops.size, crops.size)
        self._whole = torch.empty(shape, pin_memory=pin) if crops.pictures.crops else None
        self._rows: list[Tensor] = []

    def add(self, picture: Picture, random: np.random.Generator) -> None:
        """Crop `picture` into the next row."""
        full, box = self._crops.place(picture.shape[0], picture.shape[1], random)
        flip = bool(random.integers(2)) and self._crops.pictures.flip
        row = torch.empty(3, *box[2:]) if self._whole is None else self._whole[len(self._rows)]
        resize_crop(picture, full, box, flip, out=row.numpy())
        self._rows.append(row)

    def batch(self, *, grey: bool) -> Tensor:
        """(N, 1 or 3, height, width)."""
        whole = torch.stack(self._rows) if self._whole is None else self._whole
        return torch.einsum("nchw,c->nhw", whole, torch.tensor(LUMA))[:, None] if grey else whole
