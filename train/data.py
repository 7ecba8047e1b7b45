"""Unpaired pictures from trainA/ and trainB/, in an order that is a function of the seed alone.

Pair number p of a run (counted from 0 over all epochs) is always the same two crops, whatever was read before it, by
how many threads and processes, in how many pieces. So a run can be continued from a pair number and nothing else.

    per pair   A: the shuffled larger epoch, taken modulo the number of A pictures;  B: drawn at random
    per crop   bicubic resize as `PicturesConfig.mode` says, random crop, flip with probability 1/2
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cyclegan_edge.errors import ConfigError, DataError, ImageError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize_crop
from cyclegan_edge.train.check import FEWEST

_AHEAD = 2  # batches that lie ready while one is used
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, as Pillow's mode L

Picture = npt.NDArray[np.uint8]
Read = Callable[[Path], Picture]
Decode = Callable[[], Picture]
Pair = tuple[int, Decode, Decode]  # its number, and what reads A and B
Batch = tuple[Tensor, Tensor]
Mode = Literal[
    "resize_and_crop",
    "short_side_and_crop",
    "scale_width_and_crop",
    "crop",
    "scale_width",
    "scale_short_side",
    "none",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturesConfig:
    """How pictures are read and cut.

    resize_and_crop        to (load_size, load_size), then a random crop of (size, size); the aspect is lost
    short_side_and_crop    the short side to load_size, then a random crop; the aspect is kept
    scale_width_and_crop   the width to load_size, then a random crop; the aspect is kept
    crop                   a random crop at the picture's own scale
    scale_width            the width to load_size, whole
    scale_short_side       the short side to load_size, whole
    none                   whole, at its own scale

    A picture too small for its crop is enlarged until it is not. A whole picture is rounded to sides that the generator
    can take.
    """

    mode: Mode = "resize_and_crop"
    load_size: int | None = None  # px; none: 1.12 times the crop
    flip: bool = True  # half of the pictures, left to right
    colour_a: Literal["rgb", "grey"] = "rgb"  # "grey" trains on one channel: grey to colour with colour_b = "rgb"
    colour_b: Literal["rgb", "grey"] = "rgb"
    workers: int = 2  # threads that decode and resize
    cache: Literal["ram", "disk", "none"] = "ram"  # where decoded pictures are kept between epochs
    cache_mib: int = 4096  # memory that cache="ram" may take; what does not fit is decoded every time

    def __post_init__(self) -> None:
        for name in ("workers", "cache_mib"):
            if getattr(self, name) < 0:
                raise ConfigError(f"pictures.{name} is {getattr(self, name)}, expected 0 or more.")
        if self.load_size is not None and self.load_size < 1:
            raise ConfigError(f"pictures.load_size is {self.load_size}, expected at least 1.")

    @property
    def crops(self) -> bool:
        """Whether every crop has the same size."""
        return self.mode.endswith("crop")

    @property
    def channels_a(self) -> int:
        """Channels of a picture of A."""
        return 1 if self.colour_a == "grey" else 3

    @property
    def channels_b(self) -> int:
        """Channels of a picture of B."""
        return 1 if self.colour_b == "grey" else 3


class Pairs(Protocol):
    """Where pairs come from."""

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        ...

    def stream(self, start: int) -> Iterator[Pair]:
        """Every pair from number `start` on, without end; a picture is decoded when its `Decode` is called."""
        ...


@dataclass(frozen=True, slots=True)
class PictureFolders:
    """The readable pictures of both domains, and the files that were left out with the reason."""

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        return max(len(self.a), len(self.b))


@dataclass(frozen=True, slots=True)
class FolderPairs:
    """Pairs of pictures that lie in folders."""

    folders: PictureFolders
    seed: int
    read: Read = read_image

    def __len__(self) -> int:
        """Pairs in an epoch."""
        return len(self.folders)

    def stream(self, start: int) -> Iterator[Pair]:
        """A goes through its shuffled folder, B is drawn."""
        a, b = self.folders.a, self.folders.b
        for position in count(start):
            epoch, place = divmod(position, len(self))
            path_a = a[_shuffled(len(self), self.seed, epoch)[place] % len(a)]
            path_b = b[np.random.default_rng((self.seed, position, 2)).integers(len(b))]
            yield position, partial(self.read, path_a), partial(self.read, path_b)


def find_pictures(
    data: Path,
    *,
    workers: int = 2,
    read: Read = read_image,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> PictureFolders:
    """List data/trainA and data/trainB and decode every file once, which fills the cache behind `read`.

    `report` hears of the count done and in all.

    Raises DataError when a folder is missing or fewer than two readable pictures are left in it.
    """
    listed = {name: _list(data, name) for name in ("trainA", "trainB")}
    files = [path for paths in listed.values() for path in paths]
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, (path, problem) in enumerate(zip(files, pool.map(partial(_problem, read), files), strict=True), 1):
            if problem is not None:
                problems[path] = problem
            report(done, len(files))
    kept = {name: tuple(path for path in paths if path not in problems) for name, paths in listed.items()}
    for name, paths in kept.items():
        if len(paths) < FEWEST:
            reasons = "; ".join(problems[path] for path in listed[name] if path in problems)
            raise DataError(
                f"{data / name} holds {len(paths)} readable pictures, expected at least {FEWEST}; "
                f"add JPEG or PNG files{f' ({reasons})' if reasons else ''}."
            )
    return PictureFolders(kept["trainA"], kept["trainB"], tuple(problems.items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """How a picture becomes what the networks see."""

    pictures: PicturesConfig
    load_size: int  # px
    size: int  # px, side of the random crop
    multiple: int  # px: the sides of a whole picture are multiples of this
    seed: int

    def place(self, height: int, width: int, random: np.random.Generator) -> tuple[tuple[int, int], tuple[int, ...]]:
        """(height, width) to resize a picture to, and the (top, left, height, width) of it that is used."""
        short, load = min(height, width), self.load_size
        match self.pictures.mode:
            case "resize_and_crop":
                full = load, load
            case "short_side_and_crop" | "scale_short_side":
                full = height * load // short, width * load // short
            case "scale_width_and_crop" | "scale_width":
                full = height * load // width, load
            case "crop" | "none":
                full = height, width
        if not self.pictures.crops:
            sides = tuple(max(1, round(side / self.multiple)) * self.multiple for side in full)
            return (sides[0], sides[1]), (0, 0, *sides)
        if min(full) < self.size:
            full = height * self.size // short, width * self.size // short
        top, left = (int(random.integers(side - self.size + 1)) for side in full)
        return full, (top, left, self.size, self.size)


def load_batch(pairs: Sequence[Pair], crops: Crops, *, pin: bool = False) -> Batch:
    """The crops of `pairs`: A and B, each (len(pairs), 1 or 3, height, width) float32 in -1..1.

    The crops are written straight into the batch; with `pin` it lies in page-locked memory, which CUDA reads faster.
    """
    rows: tuple[list[Tensor], list[Tensor]] = [], []
    shape = (len(pairs), 3, crops.size, crops.size)
    memory = [torch.empty(shape, pin_memory=pin) if crops.pictures.crops else None for _ in rows]
    for row, (position, *decoders) in enumerate(pairs):
        random = np.random.default_rng((crops.seed, position))
        for domain, decode in enumerate(decoders):
            whole = memory[domain]
            rows[domain].append(_cut(decode(), crops, random, None if whole is None else whole[row]))
    colours = crops.pictures.colour_a, crops.pictures.colour_b
    batch = [
        (torch.stack(cut) if whole is None else whole) if colour == "rgb" else _grey(torch.stack(cut))
        for cut, whole, colour in zip(rows, memory, colours, strict=True)
    ]
    return batch[0], batch[1]


def batches(
    pairs: Pairs,
    crops: Crops,
    *,
    batch: int,
    start: int,
    workers: int,
    rank: int = 0,
    ranks: int = 1,
    pin: bool = False,
) -> Generator[Batch, None, None]:
    """Batches from pair number `start` on, without end, as `load_batch` makes them, made ahead in `workers` threads.

    Of each `batch` pairs this process gets its share: as many as all others, those of `rank`.
    Decoding and resizing release the GIL, so threads do: nothing is pickled, and a crash here is an exception there.
    """
    share = batch // ranks
    stream = pairs.stream(start)
    wanted = iter(lambda: list(islice(stream, batch))[rank * share : (rank + 1) * share], [])
    if workers == 0:
        for chosen in wanted:
            yield load_batch(chosen, crops, pin=pin)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    waiting: deque[Future[Batch]] = deque()
    try:
        for chosen in wanted:
            waiting.append(pool.submit(load_batch, chosen, crops, pin=pin))
            if len(waiting) == workers + _AHEAD:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _list(data: Path, name: str) -> Sequence[Path]:
    folder = data / name
    if not folder.is_dir():
        raise DataError(
            f"{data} has no folder {name}, expected trainA and trainB with the pictures of the two domains; "
            f"name the folder that holds them, or make one with `cyclegan-edge data scenes --out scenes`."
        )
    return list_images(folder)


def _problem(read: Read, path: Path) -> str | None:
    try:
        read(path)
    except ImageError as error:
        return str(error)
    return None


def _cut(picture: Picture, crops: Crops, random: np.random.Generator, out: Tensor | None) -> Tensor:
    """(3, height, width) float32 of one picture, written into `out` when it has its memory already."""
    full, box = crops.place(picture.shape[0], picture.shape[1], random)
    flip = bool(random.integers(2)) and crops.pictures.flip
    if out is None:
        out = torch.empty(3, *box[2:])
    resize_crop(picture, full, (box[0], box[1], box[2], box[3]), flip, out=out.numpy())
    return out


def _grey(pictures: Tensor) -> Tensor:
    """(N, 3, h, w) -> (N, 1, h, w), in the memory that its pictures came in."""
    return torch.einsum("nchw,c->nhw", pictures, torch.tensor(LUMA))[:, None]


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> Sequence[int]:
    order: list[int] = np.random.default_rng((seed, epoch, 1)).permutation(count).tolist()
    return order
