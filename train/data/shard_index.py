"""Which shards a name means, and how many pictures of each domain each of them holds.

index.json, which `cyclegan-edge data pack` writes beside the shards, answers the second question.

    {"schema": 1, "shards": [{"file": "0000.tar", "bytes": 268431360, "trainA": 5120, "trainB": 6400}, ...]}
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.errors import ConfigError, DataError, first_line
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.data.tars import read_at, scheme_of

INDEX = "index.json"
SCHEMA = 1

_MAX_INDEX = 1 << 26  # bytes, some 700,000 shards
_MAX_SHARDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One shard in an index."""

    file: str  # bare name
    bytes: int
    trainA: int  # pictures  # noqa: N815  # as in the file
    trainB: int  # noqa: N815

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*\.tar", self.file):
            raise DataError(f"{self.file!r} is not the name of a shard.")
        if min(self.bytes, self.trainA, self.trainB) < 0:
            raise DataError(f"a count of {self.file} is negative.")

    @property
    def counts(self) -> dict[str, int]:
        """domain -> pictures."""
        return {"trainA": self.trainA, "trainB": self.trainB}


@dataclass(frozen=True, slots=True)
class Index:
    """The content of index.json."""

    schema: int
    shards: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file."""

    location: str  # absolute path, or HTTP address
    counts: Mapping[str, int]  # domain -> pictures


def is_shards(data: str | Path) -> bool:
    """Whether `data` is meant as `find_shards` takes it: tar files, an address, or a folder with an index."""
    text = str(data)
    if Path(text).is_dir():
        return (Path(text) / INDEX).is_file()
    return scheme_of(text) is not None or re.search(r"\.tar\b", text) is not None


def find_shards(data: str) -> tuple[Shard, ...]:
    """The shards that `data` names, in that order: `shards/{0000..0099}.tar`, or all of a folder.

    It is a path, http:// or https://; what follows the path of an address, as a signature does, goes for all of them.
    Raises DataError when a shard or the index is missing or damaged, or the pattern names none.
    """
    if (scheme := scheme_of(data)) not in {None, "http", "https"}:
        raise DataError(f"{data} is neither a path nor an http:// or https:// address; copy the shards to one of them.")
    path, query = str(Path(data).absolute()), ""
    if scheme:
        path = re.split(r"[?#]", data)[0]
        query = data[len(path) :]
    folder, _, pattern = path.rpartition("/")
    if not pattern.endswith(".tar"):
        folder, pattern = path.rstrip("/"), ""
    index = _read_index(f"{folder}/{INDEX}{query}", data)
    files = expand_range(pattern) if pattern else list(index)
    unknown = [file for file in files if file not in index]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(files)} shards are not in {folder}/{INDEX}, {unknown[0]} for one; "
            f"check the pattern {data}."
        )
    shards = [(Path(f"{folder}/{file}"), index[file].bytes) for file in files]
    for shard, size in [] if scheme else shards:
        if not shard.is_file() or shard.stat().st_size != size:
            raise DataError(f"{shard} is not the file of {size} bytes that its index names; copy or pack both again.")
    return tuple(Shard(f"{folder}/{file}{query}", index[file].counts) for file in files)


def expand_range(pattern: str) -> list[str]:
    """`{0000..0099}.tar` as a shell expands it; a plain name stays alone."""
    found = re.fullmatch(r"([^{}]*)\{(\d+)\.\.(\d+)\}([^{}]*)", pattern)
    if found is None:
        if {*"{}"} & {*pattern}:
            raise DataError(f"The pattern {pattern} is not understood; write its braces as in {{0000..0099}}.tar.")
        return [pattern]
    head, first, last, tail = found.groups()
    numbers = range(int(first), int(last) + 1)[: _MAX_SHARDS + 1]
    if not 0 < len(numbers) <= _MAX_SHARDS:
        raise DataError(f"The pattern {pattern} names no shard or more than {_MAX_SHARDS}; check its numbers.")
    return [f"{head}{number:0{len(first)}d}{tail}" for number in numbers]


def parse_index(text: str, name: str) -> dict[str, Listed]:
    """file -> its line; `name` is what errors call the index."""
    try:
        index = from_mapping(Index, json.loads(text))
    except (ConfigError, DataError, ValueError, RecursionError) as error:
        raise DataError(f"{name} is not an index of shards ({first_line(error)}); pack the shards again.") from error
    if index.schema != SCHEMA:
        raise DataError(f"{name} has schema {index.schema}, expected {SCHEMA}; pack the shards again.")
    return {shard.file: shard for shard in index.shards}


def index_text(shards: Sequence[Listed]) -> str:
    """What `parse_index` reads."""
    return json.dumps(to_mapping(Index(SCHEMA, tuple(shards))), indent=1) + "\n"


def _read_index(location: str, data: str) -> dict[str, Listed]:
    try:
        text = read_at(location, 0, _MAX_INDEX + 1)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{data} is no shards with an {INDEX} beside them ({location}: {first_line(error)}); "
            f"make some with `cyclegan-edge data pack`."
        ) from error
    if len(text) > _MAX_INDEX:
        raise DataError(f"{location} has more than {_MAX_INDEX >> 20} MiB; use larger shards.")
    return parse_index(text.decode(errors="replace"), location)
