"""Sample sheets: the same few pictures, translated again and again, so that progress shows.

row      one picture: those of A first, then those of B
column   real, translated, translated back
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from cyclegan_edge.contract import Picture, Size
from cyclegan_edge.errors import ImageError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.data.layout import find_folder
from cyclegan_edge.train.data.pairs import Pairs
from cyclegan_edge.train.evaluate.picture_generator import translate_with
from cyclegan_edge.train.state import TrainState

PER_DOMAIN = 2  # pictures
GAP = 2  # px between them


class SampleSheet:
    """The pictures of a run's samples: from testA/ and testB/, or the first that it trains on where these are missing.

    They are resized as for an evaluation, to `config.size` on both sides, and never cropped at random or flipped.
    """

    def __init__(self, config: TrainConfig, pairs: Pairs) -> None:
        size = config.size, config.size
        data = Path(config.data)
        held_out = [_held_out(find_folder(data, name, config.domains), size) for name in ("testA", "testB")]
        if not all(held_out):
            first = list(islice(pairs.stream(0), PER_DOMAIN))
            training = [pair.decode_a for pair in first], [pair.decode_b for pair in first]
            held_out = [
                found or [resize(decode(), size) for decode in decoders]
                for found, decoders in zip(held_out, training, strict=True)
            ]
        self._a, self._b = held_out

    def draw(self, state: TrainState) -> Picture:
        """The sheet as the generators of an export would make it now; the training goes on as if they had not."""
        generators = state.averages or state.networks
        ab, ba = (translate_with(one, finite=False) for one in (generators.generator_ab, generators.generator_ba))
        rows = []
        with torch.compiler.set_stance("force_eager"):  # other shapes and modes are not worth compiling for
            for pictures, forward, inverse in ((self._a, ab, ba), (self._b, ba, ab)):
                for picture in pictures:
                    translated = forward(picture[np.newaxis])
                    rows.append([picture, translated[0], inverse(translated)[0]])
        return arrange(rows)


def _held_out(folder: Path | None, size: Size) -> list[Picture]:
    """The first pictures of a folder that can be read; none without a folder."""
    if folder is None:
        return []

    def readable() -> Iterator[Picture]:
        for path in list_images(folder):
            try:
                yield resize(read_image(path), size)
            except ImageError:
                continue

    return list(islice(readable(), PER_DOMAIN))


def arrange(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one size as a grid with black gaps between them."""
    framed = [[np.pad(picture, ((0, GAP), (0, GAP), (0, 0))) for picture in row] for row in rows]
    return np.ascontiguousarray(np.vstack([np.hstack(row) for row in framed])[:-GAP, :-GAP])
