import hashlib
from pathlib import Path

import pytest

from cyclegan_edge.files import atomic_file, newest, sha256


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"

    with atomic_file(target) as partial:
        partial.write_text("whole")
        assert not target.exists()

    assert target.read_text() == "whole"
    assert names(target.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_file(target) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()

    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1_000_000)

    assert sha256(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_newest_of_nothing_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path, "manifest.json") is None
    assert newest(tmp_path / "none", "manifest.json") is None
