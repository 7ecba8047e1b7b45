"""A folder of pictures becomes shards: tar files that are read from front to back, and an index.

    0000.tar ...   trainA/zebra_17.jpg: domain, name, format; both domains evenly, in an order drawn once
    index.json     how many pictures of each domain every shard holds

The same pictures give the same bytes on every machine. Every picture is decoded once, so that no damaged one gets in.
"""

import contextlib
import os
import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cyclegan_edge.errors import DataError, ImageError, SinkError
from cyclegan_edge.files import atomic_folder
from cyclegan_edge.images import decode_image, encode_image, list_images, read_encoded
from cyclegan_edge.train.data.pairs import DOMAINS, MIN_PICTURES
from cyclegan_edge.train.data.shard_index import INDEX, Listed, index_text

PackFormat = Literal["keep", "jpeg"]

_AHEAD = 4  # pictures that lie ready while one is written
_BLOCK = 512  # bytes: of a header, and what an entry is padded to
_LONGEST_NAME = 80  # characters; with domain, number and suffix still a plain tar name


_LeftOut = tuple[Path, str]  # a file, and what is wrong with it


@dataclass(frozen=True, slots=True)
class _Planned:
    domain: str
    key: str  # of its sample, unique in its domain
    path: Path


@dataclass(frozen=True, slots=True)
class _Content:
    suffix: str
    data: bytes

    @property
    def room(self) -> int:
        """Bytes it takes in a tar file."""
        return _BLOCK + -(-len(self.data) // _BLOCK) * _BLOCK


@dataclass(frozen=True, slots=True)
class Packed:
    """What `pack` wrote, and the files that were left out with the reason."""

    shards: tuple[Listed, ...]
    skipped: tuple[_LeftOut, ...]

    @property
    def pattern(self) -> str:
        """The file names of the shards as one pattern."""
        first, last = (shard.file.removesuffix(".tar") for shard in (self.shards[0], self.shards[-1]))
        return f"{{{first}..{last}}}.tar" if first != last else f"{first}.tar"


def pack(
    data: Path,
    out: Path,
    *,
    shard_mb: int = 256,
    to: PackFormat = "keep",
    workers: int = 2,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write the pictures of data/trainA and data/trainB as shards to the folder `out`, whole or not at all.

    shard_mb   MiB a shard holds at most, unless one picture is larger
    to         keep: files as they are;  jpeg: what is no JPEG becomes one, at quality 95
    report     hears of the count done and in all

    Raises DataError when a folder is missing, fewer than two readable pictures are left in it, or `out` is not empty;
    SinkError when the disk refuses.
    """
    if shard_mb < 1:
        raise DataError(f"A shard of {shard_mb} MiB holds nothing, expected at least 1; 256 suits most disks.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is there already, expected an empty folder or none; choose another place.")
    planned = _plan(data)
    left_out: list[_LeftOut] = []
    try:
        with atomic_folder(out) as folder, ThreadPoolExecutor(max(1, workers)) as pool:
            prepared = _prepared(pool, planned, to, max(1, workers) + _AHEAD, report)
            shards = tuple(_write(folder, shard_mb << 20, prepared, left_out))
            _refuse_few(data, shards, left_out)
            (folder / INDEX).write_text(index_text(shards), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{out} cannot be written ({error.strerror}); check the folder and the free space.") from error
    return Packed(shards, tuple(left_out))


def _plan(data: Path) -> list[_Planned]:
    """Every picture in the order they are written: each domain at an even pace, from the first shard to the last."""
    spread: list[tuple[float, _Planned]] = []
    for domain in DOMAINS:
        if not (data / domain).is_dir():
            raise DataError(f"{data} has no folder {domain}; name the folder that holds trainA and trainB.")
        files = _keys(list_images(data / domain))
        generator = random.Random(domain)
        drawn = sorted(files, key=lambda key: generator.random())  # names often sort by scene
        spread += [((place + 0.5) / len(drawn), _Planned(domain, key, files[key])) for place, key in enumerate(drawn)]
    return [picture for _, picture in sorted(spread, key=lambda one: (one[0], one[1].domain))]


def _keys(files: Sequence[Path]) -> dict[str, Path]:
    """Plain names without a dot, which would end the key of a sample, that differ also where case does not count."""
    keys: dict[str, Path] = {}
    taken: set[str] = set()
    for path in files:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)[:_LONGEST_NAME]
        key, number = plain, 1
        while key.lower() in taken:
            number += 1
            key = f"{plain}-{number}"
        taken.add(key.lower())
        keys[key] = path
    return keys


def _prepared(
    pool: ThreadPoolExecutor,
    planned: Sequence[_Planned],
    to: PackFormat,
    ahead: int,
    report: Callable[[int, int], None],
) -> Iterator[tuple[_Planned, _Content | ImageError]]:
    """Every picture with its content, or what is wrong with it; only `ahead` of them are in memory."""
    waiting: deque[tuple[_Planned, Future[_Content | ImageError]]] = deque()
    for done, picture in enumerate(planned, 1):
        waiting.append((picture, pool.submit(_content, picture.path, to)))
        while waiting and (len(waiting) == ahead or done == len(planned)):
            first, ready = waiting.popleft()
            yield first, ready.result()
            report(done - len(waiting), len(planned))


def _content(path: Path, to: PackFormat) -> _Content | ImageError:
    try:
        data = read_encoded(path)
        rgb = decode_image(data, str(path))
        if to == "keep":
            return _Content(path.suffix.lower(), data)
        jpeg = data.startswith(b"\xff\xd8\xff")  # keeps what it has, and its orientation
        return _Content(".jpg", data if jpeg else encode_image(rgb, ".jpg", str(path)))
    except ImageError as error:
        return error


def _write(
    folder: Path, limit: int, prepared: Iterator[tuple[_Planned, _Content | ImageError]], left_out: list[_LeftOut]
) -> Iterator[Listed]:
    """Fill one shard after the other; what cannot be read goes to `left_out`."""
    sound = _sound(prepared, left_out)
    following = next(sound, None)
    number = 0
    while following is not None:
        file = folder / f"{number:04d}.tar"
        counts = dict.fromkeys(DOMAINS, 0)
        size = 0
        with _tar(file) as tar:
            while following is not None and (size == 0 or size + following[1].room <= limit):
                picture, content = following
                tar.write({"__key__": f"{picture.domain}/{picture.key}", content.suffix[1:]: content.data})
                counts[picture.domain] += 1
                size += content.room
                following = next(sound, None)
        yield Listed(file.name, file.stat().st_size, counts)
        number += 1


def _sound(
    prepared: Iterator[tuple[_Planned, _Content | ImageError]], left_out: list[_LeftOut]
) -> Iterator[tuple[_Planned, _Content]]:
    for picture, content in prepared:
        if isinstance(content, ImageError):
            left_out.append((picture.path, str(content)))
        else:
            yield picture, content


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[Any]:
    """webdataset's writer, with nothing in the headers that another machine or hour would change."""
    from webdataset import TarWriter

    with path.open("wb") as file:
        with TarWriter(file, encoder=False, mtime=0) as tar:
            yield tar
        file.flush()
        os.fsync(file.fileno())


def _refuse_few(data: Path, shards: Sequence[Listed], left_out: Sequence[_LeftOut]) -> None:
    for domain in DOMAINS:
        count = sum(shard.counts[domain] for shard in shards)
        if count < MIN_PICTURES:
            reasons = "; ".join(reason for path, reason in left_out if path.parent.name == domain)
            raise DataError(
                f"{data / domain} holds {count} readable pictures, expected at least {MIN_PICTURES}; "
                f"add JPEG or PNG files{f' ({reasons})' if reasons else ''}."
            )
