"""Which shards a name means, and how many pictures of each domain each of them holds.

index.json, which `cyclegan-edge data pack` writes beside the shards, answers the second question. Without it the
headers of every shard are read first, which over HTTP downloads everything.

    {"schema": 1, "shards": [{"file": "0000.tar", "bytes": 268431360, "trainA": 5120, "trainB": 6400}, ...]}
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclegan_edge.errors import ConfigError, DataError, first_line
from cyclegan_edge.schema import from_mapping, to_mapping
from cyclegan_edge.train.data.pairs import WarningCallback, ignore_warning
from cyclegan_edge.train.data.tars import find_pictures_in, read_at, scheme_of

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


def find_shards(data: str, *, on_warning: WarningCallback = ignore_warning) -> tuple[Shard, ...]:
    """The shards that `data` names, in that order.

    data         `shards/{0000..0099}.tar`, or a folder with an index; at a path, http:// or https://
    on_warning   gets a sentence when there is no index, and the shards are counted instead

    Raises DataError when a shard or the index is missing or damaged, or the pattern names none.
    """
    scheme = scheme_of(data)
    if scheme not in {None, "http", "https"}:
        raise DataError(f"{data} is neither a path nor an http:// or https:// address; copy the shards to one of them.")
    locations = [data] if scheme is None and Path(data).is_dir() else expand_braces(data)
    if len(set(locations)) < len(locations):
        raise DataError(f"The pattern {data} names a shard twice; name each once.")
    if scheme is None:
        locations = [str(Path(location).absolute()) for location in locations]
    if not all(_split(location)[1].endswith(".tar") for location in locations):
        locations = _in_folder(data, locations)
    missing = [] if scheme else [location for location in locations if not Path(location).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(locations)} shards are not there, {missing[0]} for one; check the pattern {data}."
        )
    return tuple(_counted(locations, on_warning))


def expand_braces(pattern: str) -> list[str]:
    """`{0000..0099}` and `{a,b}` as a shell expands them, but not inside one another."""
    head, brace, rest = pattern.partition("{")
    inside, end, tail = rest.partition("}")
    if "}" in head or "{" in inside or (brace and not end):
        raise DataError(f"The braces of the pattern {pattern} do not match; write it as in {{0000..0099}}.")
    if not brace:
        return [pattern]
    names: Sequence[str] = inside.split(",")
    if bounds := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        numbers = range(int(bounds[1]), int(bounds[2]) + 1)[: _MAX_SHARDS + 1]
        names = [f"{number:0{len(bounds[1])}d}" for number in numbers]
    tails = expand_braces(tail)
    if not 0 < len(names) * len(tails) <= _MAX_SHARDS:
        raise DataError(f"The pattern {pattern} names no shard or more than {_MAX_SHARDS}; check its numbers.")
    return [head + name + tail for name in names for tail in tails]


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


def _in_folder(data: str, locations: Sequence[str]) -> list[str]:
    base = locations[0].rstrip("/") + "/"
    index = _read_index(base) if len(locations) == 1 else {}
    if not index:
        raise DataError(
            f"{data} names no .tar files and is no folder with an {INDEX}; "
            f"name the shards, as in 'shards/{{0000..0099}}.tar', or make some with `cyclegan-edge data pack`."
        )
    return [base + file for file in index]


def _counted(locations: Sequence[str], on_warning: WarningCallback) -> Iterator[Shard]:
    indexes = {base: _read_index(base) for base in dict.fromkeys(_split(location)[0] for location in locations)}
    warned = False
    for location in locations:
        base, file = _split(location)
        listed = indexes[base].get(file)
        if listed is None:
            if not warned:
                on_warning(
                    f"{location} is in no {INDEX}, so its pictures are counted first; `data pack` writes an index."
                )
            warned = True
            yield Shard(location, {domain: len(spans) for domain, spans in find_pictures_in(location).items()})
            continue
        size = listed.bytes if scheme_of(location) else Path(location).stat().st_size
        if size != listed.bytes:
            raise DataError(
                f"{location} has {size} bytes, its index says {listed.bytes}; copy both again, or pack again."
            )
        yield Shard(location, listed.counts)


def _read_index(base: str) -> dict[str, Listed]:
    """The index beside shards, empty when there is none. `base` ends with a slash."""
    location = base + INDEX
    if scheme_of(base) is None and not Path(location).exists():
        return {}
    try:
        text = read_at(location, 0, _MAX_INDEX + 1)
    except (OSError, ValueError) as error:
        if scheme_of(base):  # missing, or the server is: then the shards will say so
            return {}
        raise DataError(f"{location} cannot be read ({first_line(error)}); check its permissions.") from error
    if len(text) > _MAX_INDEX:
        raise DataError(f"{location} has more than {_MAX_INDEX >> 20} MiB; use larger shards.")
    return parse_index(text.decode(errors="replace"), location)


def _split(location: str) -> tuple[str, str]:
    """Folder, with a slash at its end, and file name; what follows the path of an address belongs to neither."""
    path = re.split(r"[?#]", location)[0] if scheme_of(location) else location
    folder, slash, file = path.rpartition("/")
    return folder + slash, file
