"""A shard is an uncompressed tar file at a path or an HTTP address; each of its pictures is read where it lies.

    trainA/zebra_17.jpg   a picture of domain A: a folder in its name says the domain, its suffix that it is a picture

Nothing is unpacked or unpickled, and whatever a header claims, at most MAX_BYTES of a picture are read. Extended
headers are passed over: `pack` writes none. An address needs a server that answers range requests, as object storage
does: one for each picture, so more threads (pictures.workers) hide a distant server's latency.
"""

import re
import tarfile
import time
from collections.abc import Iterator
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cyclegan_edge.errors import DataError, first_line
from cyclegan_edge.images import MAX_BYTES, SUFFIXES
from cyclegan_edge.train.data.pairs import DOMAINS

BLOCK = 512  # bytes: of a header, and what a member's data is padded to

_WINDOW = 4 << 20  # bytes of one request for headers, a multiple of BLOCK
_TIMEOUT = 60  # s without an answer
_PAUSES = (1.0, 4.0, 16.0, None)  # s before a request is tried again

Span = tuple[int, int]  # offset of a member's data in its shard, and its size, bytes


def find_pictures_in(shard: str) -> dict[str, list[Span]]:
    """domain -> where each of its pictures lies, in the order of the shard; only headers are read, over HTTP all of it.

    Raises DataError when the shard is missing, damaged, cut off or compressed.
    """
    found: dict[str, list[Span]] = {domain: [] for domain in DOMAINS}
    try:
        for name, offset, size in _members(shard):
            if (domain := _domain(name)) is None:
                continue
            if size > MAX_BYTES:
                raise DataError(
                    f"{name} in the shard {shard} has {size >> 20} MiB, "
                    f"expected at most {MAX_BYTES >> 20}; pack the shard without it."
                )
            found[domain].append((offset, size))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise _unreadable(shard, error) from error
    return found


def read_picture(shard: str, span: Span) -> tuple[str, bytes]:
    """The name and the encoded bytes of a picture that `find_pictures_in` found. Raises DataError."""
    offset, size = span
    try:
        member = read_at(shard, offset - BLOCK, BLOCK + size)
        name = _parse_header(member[:BLOCK]).name
    except (OSError, tarfile.TarError, ValueError) as error:
        raise _unreadable(shard, error) from error
    return f"{shard}:{name}", member[BLOCK:]


def read_at(location: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, of a path or an HTTP address; fewer at its end. Raises OSError, ValueError."""
    if scheme_of(location) is None:
        with Path(location).open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size)
    for pause in _PAUSES:
        try:
            return _request(location, offset, size)
        except (OSError, HTTPException) as error:
            refused = isinstance(error, HTTPError) and error.code < 500
            if refused or pause is None:
                raise OSError(str(error)) from error
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def scheme_of(location: str) -> str | None:
    """What stands before the colon of an address; None for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", location)
    return found[1].lower() if found else None


def _members(shard: str) -> Iterator[tuple[str, int, int]]:
    """Name of every regular file, and offset and size of its data."""
    offset = 0
    while (header := _read_header(shard, offset)) != bytes(BLOCK):  # which ends a tar file
        member = _parse_header(header)
        if member.size < 0:
            raise ValueError("a member has a negative size")
        if member.isreg():
            yield member.name, offset + BLOCK, member.size
        offset += BLOCK + -(-member.size // BLOCK) * BLOCK


def _parse_header(header: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(header, "utf-8", "replace")


def _domain(name: str) -> str | None:
    """The domain of a picture; None for any other file."""
    path = PurePosixPath(name)
    return next((part for part in path.parts if part in DOMAINS), None) if path.suffix.lower() in SUFFIXES else None


def _read_header(shard: str, offset: int) -> bytes:
    """A block; an address is read a window at a time, since headers lie close to each other."""
    if scheme_of(shard) is None:
        return read_at(shard, offset, BLOCK)
    number, start = divmod(offset, _WINDOW)
    return _read_window(shard, number)[start : start + BLOCK]


@lru_cache(maxsize=2)
def _read_window(address: str, number: int) -> bytes:
    return read_at(address, number * _WINDOW, _WINDOW)


def _request(address: str, offset: int, size: int) -> bytes:
    """One range request; empty behind the end. Raises OSError, HTTPException, ValueError."""
    request = Request(address, headers={"Range": f"bytes={offset}-{offset + size - 1}"})
    try:
        with urlopen(request, timeout=_TIMEOUT) as answer:
            promised = re.fullmatch(rf"bytes {offset}-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if promised is None:
                raise ValueError("the server does not answer range requests")
            data: bytes = answer.read(size)
    except HTTPError as error:
        if error.code == 416:
            return b""
        raise
    if len(data) != min(size, int(promised[1]) - offset):
        raise OSError("the transfer broke off")
    return data


def _unreadable(shard: str, error: Exception) -> DataError:
    return DataError(
        f"The shard {shard} cannot be read ({first_line(error)}); copy or pack it again, as an uncompressed tar."
    )
