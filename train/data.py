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
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cyclegan_edge.errors import DataError, ImageError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.preprocess import resize_crop

FEWEST = 2  # readable pictures a domain must have
_AHEAD = 4  # batches that are prepared while one is used


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
    data: Path, *, workers: int = 2, report: Callable[[int, int], None] = lambda done, total: None
) -> PictureFolders:
    """List data/trainA and data/trainB and decode every file once; `report` hears of the count done and in all.

    Raises DataError when a folder is missing or fewer than two readable pictures are left in it.
    """
    listed = {name: _list(data, name) for name in ("trainA", "trainB")}
    files = [path for paths in listed.values() for path in paths]
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, (path, problem) in enumerate(zip(files, pool.map(_problem, files), strict=True), 1):
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


def load_pair(folders: PictureFolders, crops: Crops, position: int) -> tuple[Tensor, Tensor]:
    """Pair number `position` of the run: two (3, size, size) float32 tensors in -1..1."""
    epoch, place = divmod(position, len(folders))
    random = np.random.default_rng((crops.seed, position))
    path_a = folders.a[_shuffled(len(folders), crops.seed, epoch)[place] % len(folders.a)]
    path_b = folders.b[random.integers(len(folders.b))]
    return _load(path_a, crops, random), _load(path_b, crops, random)


def batches(
    folders: PictureFolders, crops: Crops, *, batch: int, start: int, stop: int, workers: int
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Batches number `start` to `stop` (excluded): two (batch, 3, size, size) tensors each, prepared ahead in threads.

    Decoding and resizing release the GIL, so threads do: nothing is pickled, and a crash here is an exception there.
    """
    positions = range(start * batch, stop * batch)
    if workers == 0:
        for first in range(0, len(positions), batch):
            yield _stack([load_pair(folders, crops, position) for position in positions[first : first + batch]])
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="pictures") as pool:
        waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
        ahead = iter(positions)
        try:
            for position in ahead:
                waiting.append(pool.submit(load_pair, folders, crops, position))
                if len(waiting) == max(_AHEAD * batch, workers + batch):
                    yield _stack([waiting.popleft().result() for _ in range(batch)])
            while waiting:
                yield _stack([waiting.popleft().result() for _ in range(batch)])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _list(data: Path, name: str) -> Sequence[Path]:
    folder = data / name
    if not folder.is_dir():
        raise DataError(
            f"{data} has no folder {name}, expected trainA and trainB with the pictures of the two domains; "
            f"name the folder that holds them, or make one with `cyclegan-edge data scenes --out scenes`."
        )
    return list_images(folder)


def _problem(path: Path) -> str | None:
    try:
        read_image(path)
    except ImageError as error:
        return str(error)
    return None


def _load(path: Path, crops: Crops, random: np.random.Generator) -> Tensor:
    top, left = random.integers(crops.load_size - crops.size + 1, size=2).tolist()
    flip = bool(random.integers(2))
    load, size = crops.load_size, crops.size
    return torch.from_numpy(resize_crop(read_image(path), (load, load), (top, left, size, size), flip))


@lru_cache(maxsize=4)
def _shuffled(count: int, seed: int, epoch: int) -> Sequence[int]:
    order: list[int] = np.random.default_rng((seed, epoch, 1)).permutation(count).tolist()
    return order


def _stack(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    a, b = zip(*pairs, strict=True)
    return torch.stack(a), torch.stack(b)
