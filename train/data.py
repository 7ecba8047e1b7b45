"""Unpaired pictures from trainA/ and trainB/, in an order that is a function of the seed alone.

Pair number p of a run (counted from 0 over all epochs) is always the same two crops, whatever was read before it, by
how many threads, in how many pieces. So a run can be continued from a step number and nothing else.

    per pair   A: the shuffled larger epoch, taken modulo the number of A pictures;  B: drawn at random
    per crop   bicubic resize to (load_size, load_size), random crop of (size, size), flip with probability 1/2
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cyclegan_edge.errors import DataError, ImageError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize_crop

FEWEST = 2  # readable pictures a domain must have
_AHEAD = 2  # batches that lie ready while one is used

Picture = npt.NDArray[np.uint8]
Read = Callable[[Path], Picture]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class PictureFolders:
    """The readable pictures of both domains, and the files that were left out with the reason."""

    a: tuple[Path, ...]
    b: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...] = ()

    def __len__(self) -> int:
        """Pairs in an epoch: as many as the larger domain has pictures."""
        return max(len(self.a), len(self.b))


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
    """How a picture becomes a training crop."""

    load_size: int  # px, side of the square the picture is resized to
    size: int  # px, side of the random crop
    seed: int


def load_batch(
    folders: PictureFolders, crops: Crops, positions: Sequence[int], *, read: Read = read_image, pin: bool = False
) -> Batch:
    """The pairs of `positions`: A and B, each (len(positions), 3, size, size) float32 in -1..1.

    The crops are written straight into the batch; with `pin` it lies in page-locked memory, which CUDA reads faster.
    """
    shape = (len(positions), 3, crops.size, crops.size)
    batch = torch.empty(shape, pin_memory=pin), torch.empty(shape, pin_memory=pin)
    rows_a, rows_b = (half.numpy() for half in batch)
    for row, position in enumerate(positions):
        epoch, place = divmod(position, len(folders))
        random = np.random.default_rng((crops.seed, position))
        path_a = folders.a[_shuffled(len(folders), crops.seed, epoch)[place] % len(folders.a)]
        path_b = folders.b[random.integers(len(folders.b))]
        _cut(read(path_a), crops, random, rows_a[row])
        _cut(read(path_b), crops, random, rows_b[row])
    return batch


def batches(
    folders: PictureFolders,
    crops: Crops,
    *,
    batch: int,
    start: int,
    stop: int,
    workers: int,
    read: Read = read_image,
    pin: bool = False,
) -> Generator[Batch, None, None]:
    """Batches number `start` to `stop` (excluded), as `load_batch` makes them, prepared ahead in `workers` threads.

    Decoding and resizing release the GIL, so threads do: nothing is pickled, and a crash here is an exception there.
    """
    wanted = (range(number * batch, (number + 1) * batch) for number in range(start, stop))
    if workers == 0:
        for positions in wanted:
            yield load_batch(folders, crops, positions, read=read, pin=pin)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
    waiting: deque[Future[Batch]] = deque()
    try:
        for positions in wanted:
            waiting.append(pool.submit(load_batch, folders, crops, positions, read=read, pin=pin))
            if len(waiting) == workers + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
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


def _cut(picture: Picture, crops: Crops, random: np.random.Generator, out: npt.NDArray[np.float32]) -> None:
    top, left = random.integers(crops.load_size - crops.size + 1, size=2).tolist()
    flip = bool(random.integers(2))
    load, size = crops.load_size, crops.size
    resize_crop(picture, (load, load), (top, left, size, size), flip, out=out)


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> Sequence[int]:
    order: list[int] = np.random.default_rng((seed, epoch, 1)).permutation(count).tolist()
    return order
