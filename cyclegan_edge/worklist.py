"""What `translate` still has to do: which files, where each result goes, which share of them is this machine's.

    photos/a.png        -> OUT/a.png
    photos/trip/a.png   -> OUT/trip/a.png    with recursion: the tree below the folder that was named is kept
    a.gif               -> OUT/a.png         as what is read but not written; or whatever format is asked for
    clip.mov            -> OUT/clip.mp4      a name that is taken becomes clip-2.mp4

A result's name depends on the listing alone, never on the share or on what is done, so machines that share a disk agree
on it. A result carries the version of its source as its modification time, set once it is whole: the second in which
the source was changed, and in place of its nanoseconds a hash of them and of its size. Without a result of that time,
it is made. That needs no clock that machines share, and no list that two of them could write at once.

Nothing in OUT says which model made it: give every model a folder of its own.
"""

# ruff: noqa: PTH116, PTH118, PTH122  (a million Path objects take half a gigabyte, so names stay strings)

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cyclegan_edge.errors import ConfigError, DataError, SinkError, SourceError
from cyclegan_edge.images import SUFFIXES, WRITABLE

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})

_WANTED = SUFFIXES | VIDEO_SUFFIXES
_STEPS = (1, 100, 1000, 10_000_000, 1_000_000_000, 2_000_000_000)  # ns between the times that file systems keep


class Job(NamedTuple):
    """One file to translate, and where its result goes."""

    file: str
    result: str

    @property
    def source(self) -> Path:
        return Path(self.file)

    @property
    def target(self) -> Path:
        return Path(self.result)

    def is_done(self) -> bool:
        """Whether the result is there and was made from the source as it is now."""
        try:
            kept, version = os.stat(self.result).st_mtime_ns, _version(os.stat(self.file))
        except OSError:
            return False
        return any(kept == version - version % step for step in _STEPS)

    def version(self) -> int:
        """What `mark_done` is given, to be taken before the source is read. Raises SourceError."""
        try:
            return _version(os.stat(self.file))
        except OSError as error:
            raise SourceError(
                f"{self.file} cannot be read ({error.strerror}); see whether it is still there."
            ) from error

    def mark_done(self, version: int) -> None:
        """Say on the result that it is whole and from this version of the source. Raises SinkError."""
        try:
            os.utime(self.result, ns=(version, version))
        except OSError as error:
            raise SinkError(f"{self.result} cannot be marked as done ({error.strerror}); check its folder.") from error


def _version(source: os.stat_result) -> int:
    """A time in ns that differs when the modification time or the size does."""
    digest = hashlib.sha256(f"{source.st_mtime_ns} {source.st_size}".encode()).digest()
    second = source.st_mtime_ns // 10**9
    return second * 10**9 + int.from_bytes(digest[:8], "big") % 10**9


class Share(NamedTuple):
    """One of some equal shares of a list, by name."""

    number: int = 1  # which one
    shares: int = 1  # how many there are

    def holds(self, name: str) -> bool:
        """Whether the result `name`, relative to OUT, is in this share."""
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.shares == self.number - 1


def parse_share(text: str | None) -> Share:
    """Read "2/8", the second of eight shares; None is everything. Raises ConfigError."""
    if text is None:
        return Share()
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"shard is {text!r}, expected I/N with I from 1 to N; try 1/4 on the first of four machines.")
    return Share(int(match[1]), int(match[2]))


def plan(
    inputs: Sequence[Path],
    out: Path,
    *,
    recursive: bool = False,
    share: Share = Share(),  # noqa: B008
    suffix: str | None = None,
    on_skip: Callable[[str], None] = lambda _: None,
) -> Iterator[Job]:
    """Each file of `share` to translate once, and where its result goes: over no input and no other result.

    A folder's files count by suffix, hidden ones never, and recursion stays out of `out`; `on_skip` is given the names
    of the others. `suffix` is that of the results that are pictures; None keeps theirs. Only names are held, at most
    some 450 bytes a file. Raises DataError for an input that is not there, a folder with nothing to translate, or an
    input folder that is also `out`.
    """
    place = out.resolve()
    names: dict[str, str] = {}  # absolute path of each file, once: the name it would like below `out`
    for given in inputs:
        for file, name in _files(given, place, recursive=recursive, on_skip=on_skip):
            name = name if _is_video(name) or not suffix else f"{os.path.splitext(name)[0]}{suffix}"
            names.setdefault(file, name)
    inside = f"{place}{os.sep}"
    taken = {file.removeprefix(inside) for file in names if file.startswith(inside)}
    for file, wanted in names.items():
        stem, suffix = os.path.splitext(wanted)
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        taken.add(name)
        if share.holds(name):
            yield Job(file, str(out / name))


def _files(given: Path, out: Path, *, recursive: bool, on_skip: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """The absolute path of each file that `given` means, and the name its result would like."""
    folder = given.resolve() if given.is_dir() else None
    if folder is None:
        if not given.exists():
            raise DataError(f"{given} is not there; name pictures, videos or folders of them.")
        yield os.path.join(given.parent.resolve(), given.name), _renamed(given.name)
        return
    if folder == out:
        raise DataError(f"{given} is both an input and the folder for the results; choose another one with --out.")
    empty = True
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(it for it in folders if recursive and _is_seen(it) and os.path.join(path, it) != str(out))
        below = os.path.relpath(path, folder)
        for name in sorted(files):
            if not _is_seen(name):
                continue
            if os.path.splitext(name)[1].lower() in _WANTED:
                empty = False
                yield os.path.join(path, name), os.path.normpath(os.path.join(below, _renamed(name)))
            else:
                on_skip(name)
    if empty:
        hint = "" if recursive else ", or add --recursive for the folders in it"
        raise DataError(f"{given} holds no picture and no video; name a folder that does{hint}.")


def _renamed(name: str) -> str:
    """The name of the result of the file `name`: .mp4 for a video, .png for a picture that is not written as it is."""
    stem, suffix = os.path.splitext(name)
    if _is_video(name):
        return f"{stem}.mp4"
    return name if suffix.lower() in WRITABLE else f"{stem}.png"


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _is_seen(name: str) -> bool:
    return not name.startswith(".")
