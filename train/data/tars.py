"""What a shard is: a tar file of encoded pictures, read from front to back, at a path or over HTTP.

    trainA/zebra_17.jpg   a picture of domain A: a folder in its name says the domain, its suffix that it is a picture

The library `webdataset` opens shards, over HTTP with curl. Their entries are walked here, because its own reader takes
entries of any size, compressed and sparse ones too, and takes a damaged header for the end of the shard. Nothing is
unpacked, decoded or unpickled: an entry is bytes, or it is passed over.
"""

import contextlib
import tarfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from cyclegan_edge.errors import DataError, first_line
from cyclegan_edge.images import MAX_BYTES, SUFFIXES
from cyclegan_edge.train.data.pairs import DOMAINS

_HEADERS = 1 << 20  # bytes of headers before an entry, and what tarfile reads ahead
_CURL = {6: "no such host", 7: "no connection", 18: "the transfer broke off", 22: "the server does not give it"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoded picture of a shard."""

    domain: str  # one of DOMAINS
    place: int  # how many of its domain lie before it in the shard
    name: str
    data: bytes


def entries(shard: str, wanted: Callable[[str, int], bool]) -> Generator[Entry, None, None]:
    """The pictures of a shard, in its order; `wanted` is asked for each with its domain and place.

    What is not wanted costs no memory; in a file it is not read either, over HTTP it is.

    Raises DataError when the shard is missing, damaged, cut off, compressed, or holds a name that leads out of it.
    """
    places = dict.fromkeys(DOMAINS, 0)
    try:
        with opened(shard) as stream, _opened_tar(stream) as (tar, metered):
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # they would all be kept
                metered.allow(member.size)
                domain = _domain(shard, member)
                if domain is None:
                    continue
                place, places[domain] = places[domain], places[domain] + 1
                if wanted(domain, place):
                    yield Entry(domain, place, member.name, _read(shard, tar, member))
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise DataError(
            f"The shard {shard} cannot be read ({first_line(error)}); copy or pack it again, as an uncompressed tar."
        ) from error


@contextlib.contextmanager
def opened(location: str) -> Iterator[IO[bytes]]:
    """A path or an HTTP address as webdataset opens it. Raises OSError."""
    from webdataset import gopen
    from webdataset.gopen import set_options

    stream = gopen(location, "rb")
    try:
        yield stream
    finally:
        if set_options(stream, ignore_errors=True):  # curl, which may wait for a server for minutes
            stream.proc.terminate()
        stream.close()


@contextlib.contextmanager
def _opened_tar(stream: IO[bytes]) -> "Iterator[tuple[tarfile.TarFile, _Metered]]":
    """Files can be skipped in; a pipe is read through."""
    metered = _Metered(stream)
    mode = "r:" if getattr(stream, "seekable", lambda: False)() else "r|"
    with tarfile.open(fileobj=metered, mode=mode, tarinfo=_StrictInfo) as tar:  # type: ignore[call-overload]
        yield tar, metered


def _domain(shard: str, member: tarfile.TarInfo) -> str | None:
    """The domain of a picture; None for any other entry."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"The shard {shard} holds the name {member.name!r}, which leads out of it; "
            f"do not trust it, get it from its maker again."
        )
    if not member.isreg() or path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
        return None
    return next((part for part in path.parts[:-1] if part in DOMAINS), None)


def _read(shard: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.issparse() or member.size > MAX_BYTES:
        raise DataError(
            f"{member.name} in the shard {shard} has {member.size >> 20} MiB{' of holes' * member.issparse()}, "
            f"expected at most {MAX_BYTES >> 20} in one piece; pack the shard without it."
        )
    content = tar.extractfile(member)
    return content.read() if content else b""


class _StrictInfo(tarfile.TarInfo):
    """Damaged and missing headers are errors: tarfile takes them for the end, unless they come first."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_StrictInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the proper end: a block of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no whole tar file: {error}") from error


class _Metered:
    """Gives no more bytes than were allowed since the last header, which can claim any length."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = _HEADERS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def allow(self, size: int) -> None:
        self._left = size + _HEADERS

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise OSError("its headers are longer than any picture needs")
        try:
            data = self._stream.read(size)
        except OSError as error:
            raise self._refusal() or error from error
        if not data and (refusal := self._refusal()):
            raise refusal
        return data

    def _refusal(self) -> OSError | None:
        """What curl ended with, when the stream comes from curl and that was an error."""
        process = getattr(self._stream, "proc", None)
        code = process.wait() if process else 0
        return OSError(f"curl: {_CURL.get(code, f'error {code}')}") if code else None
