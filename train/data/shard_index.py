"""Where shards are, and how many pictures of each domain each of them holds.

index.json, which `cyclegan-edge data pack` writes beside the shards, answers the second question. Without it every
shard is walked once: in files that reads the headers only, over HTTP it downloads everything.

    {"schema": 1, "shards": [{"file": "0000.tar", "bytes": 268431360, "trainA": 5120, "trainB": 6400}, ...]}
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cyclegan_edge.errors import DataError, first_line
from cyclegan_edge.train.data.pairs import DOMAINS
from cyclegan_edge.train.data.tars import entries, opened

INDEX = "index.json"
SCHEMA = 1

_MAX_INDEX = 1 << 26  # bytes, some 700,000 shards
_MAX_SHARDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file."""

    location: str  # absolute path, or HTTP address
    counts: Mapping[str, int]  # domain -> pictures


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of an index."""

    file: str  # bare name
    size: int  # bytes of the tar file
    counts: Mapping[str, int]  # domain -> pictures


def is_shards(data: str | Path) -> bool:
    """Whether `data` is meant as `find_shards` takes it: tar files, an address, or a folder with an index."""
    text = str(data)
    if Path(text).is_dir():
        return (Path(text) / INDEX).is_file()
    return _scheme(text) is not None or re.search(r"\.tar\b", text) is not None


def find_shards(data: str, *, warn: Callable[[str], None] = lambda sentence: None) -> tuple[Shard, ...]:
    """The shards that `data` names, in that order.

    data   `shards/{0000..0099}.tar`, or a folder with an index; either of them at a path, http:// or https://
    warn   hears a sentence when there is no index, and the shards are counted instead

    Raises DataError when a shard or the index is missing or damaged, or the pattern names none.
    """
    scheme = _scheme(data)
    if scheme == "pipe":
        raise DataError(f"{data} would run a command, which data must not do; name files, or http:// addresses.")
    if scheme not in {None, "http", "https"}:
        raise DataError(f"{data} is neither a path nor an http:// or https:// address; copy the shards to one of them.")
    names = [data] if scheme is None and Path(data).is_dir() else _expand(data)
    located = names if scheme else [str(Path(name).absolute()) for name in names]
    locations = located if all(_split(name)[1].endswith(".tar") for name in located) else _in_folder(data, located)
    missing = [] if scheme else [location for location in locations if not Path(location).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(locations)} shards are not there, {missing[0]} for one; check the pattern {data}."
        )
    return _counted(locations, warn)


def parse_index(text: str, name: str) -> dict[str, Listed]:
    """file -> its line; `name` is what errors call the index."""
    try:
        content = json.loads(text)
        if content["schema"] != SCHEMA:
            raise DataError(f"{name} has schema {content['schema']}, expected {SCHEMA}; pack the shards again.")
        listed = [_parse_line(line) for line in content["shards"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{name} is no index of shards ({first_line(error)}); pack the shards again.") from error
    if len({line.file for line in listed}) < len(listed):
        raise DataError(f"{name} names a shard twice; pack the shards again.")
    return {line.file: line for line in listed}


def index_text(shards: Sequence[Listed]) -> str:
    """What `parse_index` reads."""
    lines = [{"file": shard.file, "bytes": shard.size, **shard.counts} for shard in shards]
    return json.dumps({"schema": SCHEMA, "shards": lines}, indent=1) + "\n"


def _parse_line(line: Mapping[str, object]) -> Listed:
    file, numbers = line["file"], [line[key] for key in ("bytes", *DOMAINS)]
    if not isinstance(file, str) or not re.fullmatch(r"\w[\w.-]*\.tar", file):
        raise ValueError(f"{file!r} is no name of a shard")
    whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool) and number >= 0]
    if len(whole) < len(numbers):
        raise ValueError(f"{file} has a count that is none")
    return Listed(file, whole[0], dict(zip(DOMAINS, whole[1:], strict=True)))


def _in_folder(data: str, located: list[str]) -> list[str]:
    base = located[0].rstrip("/") + "/"
    index = _index_of(base) if len(located) == 1 else None
    if index is None:
        raise DataError(
            f"{data} names no .tar files and is no folder with an {INDEX}; "
            f"name the shards, as in 'shards/{{0000..0099}}.tar', or make some with `cyclegan-edge data pack`."
        )
    return [base + file for file in index]


def _expand(pattern: str) -> list[str]:
    from braceexpand import braceexpand  # what webdataset expands patterns with

    try:
        ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)", pattern)
        huge = any(abs(int(last) - int(first)) >= _MAX_SHARDS for first, last in ranges)  # it would list them all first
        found = [] if huge else list(islice(braceexpand(pattern), _MAX_SHARDS + 1))
    except ValueError:
        raise DataError(f"The braces of the pattern {pattern} do not match; write it as in {{0000..0099}}.") from None
    if huge or len(found) > _MAX_SHARDS:
        raise DataError(f"The pattern {pattern} names more than {_MAX_SHARDS} shards; check its numbers.")
    if len(set(found)) < len(found):
        raise DataError(f"The pattern {pattern} names a shard twice; name each once.")
    return found


def _counted(locations: list[str], warn: Callable[[str], None]) -> tuple[Shard, ...]:
    indexes = {base: _index_of(base) for base in dict.fromkeys(_split(location)[0] for location in locations)}
    shards, walked = [], 0
    for location in locations:
        base, file = _split(location)
        listed = (indexes[base] or {}).get(file)
        if listed is None:
            if not walked:
                warn(f"{location} is in no {INDEX}, so its pictures are counted first; `data pack` writes an index.")
            walked += 1
        elif _scheme(location) is None and Path(location).stat().st_size != listed.size:
            raise DataError(
                f"{location} has {Path(location).stat().st_size} bytes, its index says {listed.size}; "
                f"copy both again, or pack again."
            )
        shards.append(Shard(location, listed.counts if listed else _walk(location)))
    return tuple(shards)


def _walk(location: str) -> Mapping[str, int]:
    counts = dict.fromkeys(DOMAINS, 0)

    def count(domain: str, place: int) -> bool:
        counts[domain] = place + 1
        return False

    for _ in entries(location, count):
        pass
    return counts


def _index_of(base: str) -> dict[str, Listed] | None:
    """The index beside shards; None when there is none. `base` ends with a slash."""
    location = base + INDEX
    if _scheme(base) is None and not Path(location).exists():
        return None
    try:
        with opened(location) as stream:
            text = stream.read(_MAX_INDEX + 1)
    except OSError as error:
        if _scheme(base):  # missing, or the server is: then the shards will say so
            return None
        raise DataError(f"{location} cannot be read ({error.strerror}); check its permissions.") from error
    if len(text) > _MAX_INDEX:
        raise DataError(f"{location} has more than {_MAX_INDEX >> 20} MiB; use larger shards.")
    return parse_index(text.decode(errors="replace"), location) if text else None


def _split(location: str) -> tuple[str, str]:
    """Folder, with a slash at its end, and file name; what follows the path of an address belongs to neither."""
    path = re.split(r"[?#]", location)[0] if _scheme(location) else location
    folder, slash, file = path.rpartition("/")
    return folder + slash, file


def _scheme(data: str) -> str | None:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", data)
    return found[1].lower() if found else None
