"""What comes out of a shard, and what is refused: a tar file from outside is data, never a command or a path."""

import functools
import gzip
import http.server
import io
import os
import pickle
import shutil
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.train.data import tars
from cyclegan_edge.train.data.tars import Entry, entries

WriteTar = Callable[[Path, Mapping[str, bytes]], Path]


def everything(shard: Path | str) -> list[Entry]:
    return list(entries(str(shard), lambda domain, place: True))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address at which `tmp_path` is served."""
    if shutil.which("curl") is None:
        pytest.skip("curl, which webdataset reads addresses with, is not installed")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_pictures_come_with_their_domain_and_place(tmp_path: Path, write_tar: WriteTar) -> None:
    contents = {"trainA/1.jpg": b"1", "trainB/2.PNG": b"2", "./trainA/3.v2.webp": b"3", "h2z/trainB/4.bmp": b"4"}
    shard = write_tar(tmp_path / "0.tar", contents)

    assert everything(shard) == [
        Entry("trainA", 0, "trainA/1.jpg", b"1"),
        Entry("trainB", 0, "trainB/2.PNG", b"2"),
        Entry("trainA", 1, "./trainA/3.v2.webp", b"3"),
        Entry("trainB", 1, "h2z/trainB/4.bmp", b"4"),
    ]
    assert [entry.data for entry in entries(str(shard), lambda domain, place: place == 1)] == [b"3", b"4"]


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)

    def __init__(self, mark: Path) -> None:
        self.mark = mark


def test_nothing_is_unpickled_and_nothing_but_pictures_comes_out(tmp_path: Path, write_tar: WriteTar) -> None:
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    suffixes = ("pyd", "pickle", "pkl", "pth", "pt", "npy", "npz", "ten", "mp", "cbor", "json", "cls", "gz", "jpg")
    shard = write_tar(tmp_path / "0.tar", {f"trainA/{suffix}.{suffix}": bomb for suffix in suffixes})

    found = everything(shard)

    assert found == [Entry("trainA", 0, "trainA/jpg.jpg", bomb)]
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists()  # it would have


def test_links_hidden_files_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as tar:
        for name, kind in (("trainA/link.jpg", tarfile.SYMTYPE), ("trainA/device.jpg", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in ("trainA/._1.jpg", "testA/1.jpg", "1.jpg", "trainA/1.jpg"):
            tar.addfile(tarfile.TarInfo(name))

    assert [entry.name for entry in everything(shard)] == ["trainA/1.jpg"]


@pytest.mark.parametrize("name", ["/trainA/1.jpg", "../trainA/1.jpg", "trainA/../../1.jpg", "/etc/passwd"])
def test_names_that_lead_out_are_refused(tmp_path: Path, write_tar: WriteTar, name: str) -> None:
    shard = write_tar(tmp_path / "0.tar", {"trainA/0.jpg": b"", name: b""})

    with pytest.raises(DataError, match=r"0\.tar holds the name '.*', which leads out of it; do not trust it"):
        everything(shard)


def test_a_shard_that_is_cut_off_anywhere_is_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    whole = write_tar(tmp_path / "0.tar", {f"trainA/{number}.jpg": b"x" * 700 for number in range(3)}).read_bytes()
    end = 3 * 1536  # of the last entry

    for length in (0, 100, 512, 900, 1536, 1600, 2048, 2400, end - 100, end):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tar cannot be read \(.*\); copy or pack it again"):
            everything(tmp_path / "cut.tar")
        with pytest.raises(DataError, match=r"cut\.tar cannot be read"):
            list(entries(str(tmp_path / "cut.tar"), lambda domain, place: False))


def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path: Path, write_tar: WriteTar) -> None:
    shard = write_tar(tmp_path / "0.tar", {f"trainA/{number}.jpg": b"x" * 700 for number in range(3)})
    content = bytearray(shard.read_bytes())
    content[1536 + 150] ^= 1  # in the second header's sum
    shard.write_bytes(content)

    with pytest.raises(DataError, match=r"0\.tar cannot be read \(no whole tar file: bad checksum\)"):
        everything(shard)


def test_a_missing_and_a_compressed_shard_are_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    shard = write_tar(tmp_path / "0.tar", {"trainA/1.jpg": b""})
    shard.write_bytes(gzip.compress(shard.read_bytes()))

    with pytest.raises(DataError, match="as an uncompressed tar"):
        everything(shard)
    with pytest.raises(DataError, match=r"none\.tar cannot be read \(.*No such file"):
        everything(tmp_path / "none.tar")


def test_entries_that_are_too_large_are_refused_unread(tmp_path: Path) -> None:
    large, sparse = tarfile.TarInfo("trainA/1.jpg"), tarfile.TarInfo("trainA/2.jpg")
    large.size = 5 << 30
    (tmp_path / "large.tar").write_bytes(large.tobuf())
    sparse.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}
    (tmp_path / "sparse.tar").write_bytes(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024))

    with pytest.raises(DataError, match=r"trainA/1\.jpg in the shard .*large\.tar has 5120 MiB, expected at most 1024"):
        everything(tmp_path / "large.tar")
    with pytest.raises(DataError, match=r"trainA/2\.jpg in the shard .*sparse\.tar has 1048576 MiB of holes"):
        everything(tmp_path / "sparse.tar")


@pytest.mark.parametrize("seekable", [True, False])
def test_headers_without_end_are_refused_before_they_fill_the_memory(seekable: bool) -> None:
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30

    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return header.tobuf() if self.given == size else b"x" * size

        def seekable(self) -> bool:
            return seekable

        def tell(self) -> int:
            return self.given

    tracemalloc.start()
    stream = Endless()
    with pytest.raises(OSError, match="its headers are longer"), tars._opened_tar(stream) as (tar, _):  # type: ignore[arg-type]
        tar.next()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 << 20


def test_an_address_gives_what_the_file_gives(tmp_path: Path, write_tar: WriteTar, server: str) -> None:
    contents = {f"train{'AB'[number % 2]}/{number}.jpg": bytes([number]) * 50_000 for number in range(20)}
    shard = write_tar(tmp_path / "0.tar", contents)

    assert everything(f"{server}/0.tar") == everything(shard)


def test_an_address_can_be_left_early(tmp_path: Path, write_tar: WriteTar, server: str) -> None:
    write_tar(tmp_path / "0.tar", {f"trainA/{number}.jpg": bytes(1 << 20) for number in range(8)})

    stream = entries(f"{server}/0.tar", lambda domain, place: True)
    first = next(stream)
    stream.close()

    assert first.name == "trainA/0.jpg"


@pytest.mark.parametrize(("path", "reason"), [("none.tar", "curl: the server does not give it"), ("cut.tar", "")])
def test_an_address_that_fails_is_one_sentence(
    tmp_path: Path, write_tar: WriteTar, server: str, path: str, reason: str
) -> None:
    shard = write_tar(tmp_path / "0.tar", {"trainA/0.jpg": bytes(1 << 18)})
    (tmp_path / "cut.tar").write_bytes(shard.read_bytes()[:100_000])

    with pytest.raises(DataError, match=rf"{path} cannot be read \(.*{reason}.*\); copy or pack it again"):
        everything(f"{server}/{path}")
