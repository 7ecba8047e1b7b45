"""Files and folders written whole or not at all, and the hashes that prove it."""

import contextlib
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.errors import SinkError

_PARTIAL_STEM = 32  # characters
_REFUSES_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def write_file(path: Path, content: str | bytes) -> None:
    """Write `path`, whole or not at all; text as UTF-8. Raises SinkError when the disk refuses."""
    try:
        with atomic_file(path) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise _refused(path, error) from error


def check_writable(path: Path) -> None:
    """Raise SinkError before anything slow is done for `path`, which could not be written after it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise _refused(path, error) from error


def refuses_all(error: SinkError) -> bool:
    """Whether what kept one file from being written keeps every other: a full or read-only disk."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _REFUSES_ALL


def _refused(path: Path, error: OSError) -> SinkError:
    return SinkError(f"{path} cannot be written ({error.strerror}); check the folder and the free space.")


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block ends well, it is flushed and renamed onto `target`.

    When the block raises, or the process dies, the old `target` is untouched. Raises OSError: a full disk, no rights.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = secrets.token_hex(4)  # two must not write into one file, also not from machines that share a disk
    short = target.stem[:_PARTIAL_STEM]  # a name may be 255 bytes long, and the partial one must be no longer
    partial = target.with_name(f".{short}.{writer}.partial{target.suffix}")
    try:
        yield partial
        sync(partial)
        partial.replace(target)
        sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def user_cache(name: str) -> Path:
    """This package's folder `name` in the user's cache: under $XDG_CACHE_HOME, else ~/.cache. It need not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cyclegan-edge" / name


def newest(folder: Path, marker: str) -> Path | None:
    """The subfolder of `folder` whose file `marker` was written last; None when there is none."""
    found = [path for path in folder.glob(f"*/{marker}") if not path.parent.name.startswith(".")]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, are on the disk. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
