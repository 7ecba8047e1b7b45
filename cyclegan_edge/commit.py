"""Several files of one folder replaced together: after a crash at any moment, all of them are new or all are old.

    with open_stage(folder) as stage:          a hidden folder inside `folder`
        ...                                    write the new files there
        with locked(folder):
            commit(stage)                      they take the places of the old ones

The commit is the rename of the stage to `.committed`, one system call. The files are moved to their places after that;
whoever opens the folder first after a crash calls `finish_commit`, which moves what is left. So file names stay what
they are, and `folder` itself never moves: it may be a mount point, somebody's working directory, or on a file system
that cannot exchange two folders.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cyclegan_edge.files import sync

_COMMITTED = ".committed"
_STAGE = ".partial"  # suffix


@contextlib.contextmanager
def open_stage(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder inside `folder`; both are made, and are removed again when nothing is committed."""
    with locked(folder):
        stage = Path(tempfile.mkdtemp(prefix=".", suffix=_STAGE, dir=folder))
        handle = os.open(stage, os.O_RDONLY)
        _try_lock(handle)  # until this process ends, however it does
    try:
        yield stage
    finally:
        os.close(handle)
        shutil.rmtree(stage, ignore_errors=True)
        with contextlib.suppress(OSError), locked(folder):
            folder.rmdir()  # refuses when there is anything in it


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one caller at a time into the block, of all processes that lock `folder`, which is made if need be.

    No commit is half done inside: one that a crash interrupted is completed first. The lock ends with its process; on a
    file system without locks, everyone is let in. It cannot be nested.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            if is_still(folder, handle):
                _move_committed(folder)
                yield
                return
        finally:
            os.close(handle)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside `target`; when the block ends well, it gets that name.

    `target` is not there, or an empty folder. What killed processes left of it is removed first. Raises OSError.
    """
    short = f".{target.name[:32]}."  # a name may be 255 bytes long, and this one must be no longer
    with locked(target.parent):
        for left in target.parent.iterdir():
            if left.name.startswith(short) and left.name.endswith(_STAGE) and left.is_dir():
                _remove_if_dead(left)
        partial = Path(tempfile.mkdtemp(prefix=short, suffix=_STAGE, dir=target.parent))
        handle = os.open(partial, os.O_RDONLY)
        _try_lock(handle)  # until this process ends, however it does
    partial.chmod(0o755)  # mkdtemp makes it private
    try:
        yield partial
        partial.rename(target)
        sync(target.parent)
    finally:
        os.close(handle)
        shutil.rmtree(partial, ignore_errors=True)


def commit(stage: Path) -> None:
    """Let every file in `stage` take its place in the folder around it, which is locked. Returns once it is on disk.

    Raises OSError, for instance on a full disk; unless it comes from moving the files, nothing has changed then.
    """
    folder = stage.parent
    for path in stage.iterdir():
        sync(path)
    sync(stage)
    stage.rename(folder / _COMMITTED)
    sync(folder)
    sync(folder.parent)  # `folder` itself may be new
    _move_committed(folder)


def finish_commit(folder: Path) -> None:
    """Complete a commit that a crash interrupted, or wait for one that is on its way; usually there is none.

    Raises OSError where `folder` cannot be written.
    """
    if (folder / _COMMITTED).is_dir():
        with locked(folder):
            pass


def remove_dead_stages(folder: Path) -> None:
    """Delete the stages of processes that were killed, while `folder` is locked."""
    for stage in folder.glob(f".*{_STAGE}"):
        if stage.is_dir():
            _remove_if_dead(stage)


def _remove_if_dead(stage: Path) -> None:
    handle = os.open(stage, os.O_RDONLY)
    dead = _try_lock(handle)
    os.close(handle)
    if dead:
        shutil.rmtree(stage, ignore_errors=True)


def _move_committed(folder: Path) -> None:
    committed = folder / _COMMITTED
    if not committed.is_dir():
        return
    for path in committed.iterdir():
        path.replace(folder / path.name)
    sync(folder)
    committed.rmdir()
    sync(folder)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody holds it, or the file system has no locks
        return False
    return True


def is_still(folder: Path, handle: int) -> bool:
    """Whether the opened folder is the one that has the name, and not one that was removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), folder.stat())
    return False
