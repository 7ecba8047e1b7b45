"""A folder of pictures becomes shards: tar files of neighbours that are wanted together, and an index.

    0000.tar ...   trainA/zebra_17.jpg: domain, name, format; both domains evenly, in an order drawn once
    index.json     how many pictures of each domain every shard holds

The same pictures give the same bytes on every machine. Every picture is decoded once, so that no damaged one gets in.
"""

import io
import os
import random
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from cyclegan_edge.commit import atomic_folder
from cyclegan_edge.errors import DataError, ImageError, SinkError
from cyclegan_edge.images import decode_image, list_images, read_encoded
from cyclegan_edge.train.data.folders import require_pictures
from cyclegan_edge.train.data.layout import require_folder
from cyclegan_edge.train.data.pairs import DOMAINS, ProgressCallback, ignore_progress
from cyclegan_edge.train.data.shard_index import INDEX, Listed, index_text
from cyclegan_edge.train.data.tars import BLOCK
from cyclegan_edge.train.data.threads import map_ahead

_AHEAD = 4  # pictures that lie ready while one is written
_LONGEST_NAME = 80  # characters; with domain, number and suffix still a plain tar name


@dataclass(frozen=True, slots=True)
class Packed:
    """What `pack` wrote, and the files that were left out with the reason."""

    shards: tuple[Listed, ...]
    skipped: tuple[tuple[Path, str], ...]

    @property
    def pattern(self) -> str:
        """The file names of the shards as one pattern."""
        first, last = (shard.file.removesuffix(".tar") for shard in (self.shards[0], self.shards[-1]))
        return f"{{{first}..{last}}}.tar" if first != last else f"{first}.tar"


class _Member(NamedTuple):
    path: Path
    domain: str
    key: str  # name without suffix, unique in its domain
    data: bytes = b""
    problem: str = ""  # why it is left out


def pack(
    data: Path,
    out: Path,
    *,
    domains: str = "",
    shard_mb: int = 256,
    workers: int = 2,
    on_progress: ProgressCallback = ignore_progress,
) -> Packed:
    """Write the pictures of trainA and trainB as shards to the folder `out`, whole or not at all.

    `domains` as in `layout`: whatever the folders are called, the shards call them trainA and trainB.
    A shard holds `shard_mb` MiB at most, unless one picture is larger. Raises DataError when a folder is missing, fewer
    than two readable pictures are left in it, or `out` is not empty; SinkError when the disk refuses.
    """
    if shard_mb < 1:
        raise DataError(f"A shard of {shard_mb} MiB holds nothing, expected at least 1; 256 suits most disks.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is there already, expected an empty folder or none; choose another place.")
    places = {domain: require_folder(data, domain, domains) for domain in DOMAINS}
    planned = _plan(places)
    skipped: list[_Member] = []

    def readable() -> Iterator[_Member]:
        members = map_ahead(_read, planned, workers=max(1, workers), ahead=_AHEAD)
        for done, member in enumerate(members, 1):
            if member.problem:
                skipped.append(member)
            else:
                yield member
            on_progress(done, len(planned))

    try:
        with atomic_folder(out) as folder:
            numbered = groupby(_numbered(readable(), shard_mb << 20), key=itemgetter(0))
            shards = tuple(
                _write(folder / f"{number:04d}.tar", (member for _, member in group)) for number, group in numbered
            )
            for domain in DOMAINS:
                reasons = [member.problem for member in skipped if member.domain == domain]
                require_pictures(places[domain], sum(shard.counts[domain] for shard in shards), reasons)
            (folder / INDEX).write_text(index_text(shards), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{out} cannot be written ({error.strerror}); check the folder and the free space.") from error
    return Packed(shards, tuple((member.path, member.problem) for member in skipped))


def _plan(places: Mapping[str, Path]) -> list[_Member]:
    """Every picture in the order they are written: each domain at an even pace, from the first shard to the last."""
    spread: list[tuple[float, _Member]] = []
    for domain, folder in places.items():
        keyed = _unique_keys(list_images(folder))
        generator = random.Random(domain)
        drawn = sorted(keyed, key=lambda _: generator.random())  # names often sort by scene
        spread += [((place + 0.5) / len(drawn), _Member(path, domain, key)) for place, (key, path) in enumerate(drawn)]
    return [member for _, member in sorted(spread, key=lambda one: (one[0], one[1].domain))]


def _unique_keys(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Plain names without a dot, with which WebDataset ends a key, that differ also where case does not count."""
    keyed: list[tuple[str, Path]] = []
    taken: set[str] = set()
    for path in files:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem)[:_LONGEST_NAME]
        key, number = plain, 1
        while key.lower() in taken:
            number += 1
            key = f"{plain}-{number}"
        taken.add(key.lower())
        keyed.append((key, path))
    return keyed


def _read(member: _Member) -> _Member:
    """The member with its data, or with what is wrong with it."""
    try:
        data = read_encoded(member.path)
        decode_image(data, str(member.path))
        return member._replace(data=data)
    except ImageError as error:
        return member._replace(problem=str(error))


def _numbered(members: Iterable[_Member], limit: int) -> Iterator[tuple[int, _Member]]:
    """Each member with the number of its shard; a shard is full when the next would take it beyond `limit` bytes."""
    number, size = 0, 0
    for member in members:
        room = BLOCK + -(-len(member.data) // BLOCK) * BLOCK
        if size and size + room > limit:
            number, size = number + 1, 0
        size += room
        yield number, member


def _write(file: Path, members: Iterable[_Member]) -> Listed:
    """One shard, with nothing in its headers that another machine or hour would change."""
    counts = dict.fromkeys(DOMAINS, 0)
    with file.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for member in members:
                info = tarfile.TarInfo(f"{member.domain}/{member.key}{member.path.suffix.lower()}")
                info.size, info.mode = len(member.data), 0o444
                info.uname = info.gname = "bigdata"  # as WebDataset's writer has it
                tar.addfile(info, io.BytesIO(member.data))
                counts[member.domain] += 1
        stream.flush()
        os.fsync(stream.fileno())
    return Listed(file.name, file.stat().st_size, **counts)
