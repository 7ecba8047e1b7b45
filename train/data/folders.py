"""Pairs of pictures from the folders of two domains, in an order that is a function of the seed alone.

A   the pictures in an order drawn once an epoch; the smaller domain starts over within the epoch
B   a picture drawn at random for each pair
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path

import numpy as np

from cyclegan_edge.contract import Picture
from cyclegan_edge.errors import DataError, ImageError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.train.data.layout import require_folder
from cyclegan_edge.train.data.pairs import DOMAINS, MIN_PICTURES, Pair, ProgressCallback, ignore_progress

Read = Callable[[Path], Picture]


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
        """Every pair from position `start` on, without end."""
        a, b = self.folders.a, self.folders.b
        for position in count(start):
            epoch, place = divmod(position, len(self))
            path_a = a[shuffled(len(self), self.seed, epoch)[place] % len(a)]
            path_b = b[np.random.default_rng((self.seed, position, 2)).integers(len(b))]
            yield Pair(position, partial(self.read, path_a), partial(self.read, path_b))


def find_pictures(
    data: Path,
    *,
    domains: str = "",
    workers: int = 2,
    read: Read = read_image,
    on_progress: ProgressCallback = ignore_progress,
) -> PictureFolders:
    """List the pictures of trainA and trainB, see `layout`, and decode each once, which fills the cache behind `read`.

    Raises DataError when a folder is missing or fewer than two readable pictures are left in it.
    """
    places = {domain: require_folder(data, domain, domains) for domain in DOMAINS}
    listed = {domain: list_images(folder) for domain, folder in places.items()}
    files = [path for paths in listed.values() for path in paths]
    problems: dict[Path, str] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, (path, problem) in enumerate(zip(files, pool.map(partial(_problem, read), files), strict=True), 1):
            if problem is not None:
                problems[path] = problem
            on_progress(done, len(files))
    kept = {domain: tuple(path for path in paths if path not in problems) for domain, paths in listed.items()}
    for domain, paths in kept.items():
        require_pictures(places[domain], len(paths), [problems[path] for path in listed[domain] if path in problems])
    return PictureFolders(kept["trainA"], kept["trainB"], tuple(problems.items()))


def require_pictures(folder: Path, count: int, problems: Sequence[str]) -> None:
    """Raise DataError when a folder has fewer than two readable pictures, with the reasons why others are not."""
    if count < MIN_PICTURES:
        reasons = f" ({'; '.join(problems)})" if problems else ""
        raise DataError(
            f"{folder} holds {count} readable pictures, expected at least {MIN_PICTURES}; "
            f"add JPEG or PNG files{reasons}."
        )


def _problem(read: Read, path: Path) -> str | None:
    try:
        read(path)
    except ImageError as error:
        return str(error)
    return None


@lru_cache(maxsize=4)
def shuffled(count: int, seed: int, epoch: int) -> Sequence[int]:
    """The order in which an epoch goes through `count` pictures."""
    order: list[int] = np.random.default_rng((seed, epoch, 1)).permutation(count).tolist()
    return order
