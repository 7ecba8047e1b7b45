"""Where the pictures of a shard lie, and what is refused: a tar file from outside is data, not a command or a path."""

import gzip
import http.server
import os
import pickle
import random
import re
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from cyclegan_edge.errors import DataError
from cyclegan_edge.train.data import tars
from cyclegan_edge.train.data.tars import find_pictures_in, read_at, read_picture

WriteTar = Callable[[Path, Mapping[str, bytes]], Path]


def everything(shard: Path | str) -> dict[str, list[tuple[str, bytes]]]:
    """domain -> name and data of its pictures."""
    found = {
        domain: [read_picture(str(shard), span) for span in spans]
        for domain, spans in find_pictures_in(str(shard)).items()
    }
    return {domain: [(name.removeprefix(f"{shard}:"), data) for name, data in ones] for domain, ones in found.items()}


def names(shard: Path) -> list[str]:
    return [name for ones in everything(shard).values() for name, _ in ones]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Serves `tmp_path`: `serve(fail=n, ranges=True)` gives an address where the first n requests of a path fail."""
    monkeypatch.setattr(tars, "_WINDOW", 1 << 16)
    monkeypatch.setattr(tars, "_PAUSES", (0.0, 0.0, None))
    tars._read_window.cache_clear()
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*, failures: int = 0, ranges: bool = True, cut: int | None = None) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            left = failures

            def do_GET(self) -> None:
                file = tmp_path / self.path.partition("?")[0].lstrip("/")
                content = file.read_bytes() if file.is_file() else b""
                first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
                part = content[first : last + 1]
                if Handler.left or not part:
                    code = 503 if Handler.left else 416 if file.is_file() else 404
                    Handler.left = max(0, Handler.left - 1)
                    self.send_error(code)
                    return
                self.send_response(206 if ranges else 200)
                if ranges:
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
                self.end_headers()
                self.wfile.write(part[:cut])

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_pictures_come_by_domain_in_the_order_of_the_shard(tmp_path: Path, write_tar: WriteTar) -> None:
    contents = {"trainA/1.jpg": b"1", "trainB/2.PNG": b"", "./trainA/3.v2.webp": b"3" * 600, "h2z/trainB/4.bmp": b"4"}

    found = everything(write_tar(tmp_path / "0.tar", contents))

    assert found == {
        "trainA": [("trainA/1.jpg", b"1"), ("./trainA/3.v2.webp", b"3" * 600)],
        "trainB": [("trainB/2.PNG", b""), ("h2z/trainB/4.bmp", b"4")],
    }


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

    assert found == {"trainA": [("trainA/jpg.jpg", bomb)], "trainB": []}
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists()  # it would have


def test_links_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    shard = tmp_path / "0.tar"
    with tarfile.open(shard, "w") as tar:
        for name, kind in (("trainA/link.jpg", tarfile.SYMTYPE), ("trainA/device.jpg", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in ("testA/1.jpg", "1.jpg", "trainA/1.jpg"):
            tar.addfile(tarfile.TarInfo(name))

    assert names(shard) == ["trainA/1.jpg"]


def test_a_shard_that_is_cut_off_anywhere_is_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    whole = write_tar(tmp_path / "0.tar", {f"trainA/{number}.jpg": b"x" * 700 for number in range(3)}).read_bytes()
    end = 3 * 1536  # of the last member

    for length in (0, 100, 512, 900, 1536, 1600, 2048, 2400, end - 100, end):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tar cannot be read.*pack it again"):
            find_pictures_in(str(tmp_path / "cut.tar"))


def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path: Path, write_tar: WriteTar) -> None:
    shard = write_tar(tmp_path / "0.tar", {f"trainA/{number}.jpg": b"x" * 700 for number in range(3)})
    content = bytearray(shard.read_bytes())
    content[1536 + 150] ^= 1  # in the second header's sum
    shard.write_bytes(content)

    with pytest.raises(DataError, match=r"0\.tar.*bad checksum"):
        find_pictures_in(str(shard))


def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        for name in ("trainA/1.jpg", f"trainB/{'n' * 150}.jpg", "trainB/马.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    whole = (tmp_path / "whole.tar").read_bytes()
    draw = random.Random(0)

    for _ in range(200):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / "0.tar").write_bytes(content)
        try:
            found = find_pictures_in(str(tmp_path / "0.tar"))
        except DataError:
            continue
        assert sum(map(len, found.values())) <= 3


def test_a_missing_and_a_compressed_shard_are_refused(tmp_path: Path, write_tar: WriteTar) -> None:
    shard = write_tar(tmp_path / "0.tar", {"trainA/1.jpg": b""})
    shard.write_bytes(gzip.compress(shard.read_bytes()))

    with pytest.raises(DataError, match="uncompressed tar"):
        find_pictures_in(str(shard))
    with pytest.raises(DataError, match=r"none\.tar.*No such file"):
        find_pictures_in(str(tmp_path / "none.tar"))


def test_members_that_are_too_large_are_refused_unread(tmp_path: Path) -> None:
    large, negative = (tarfile.TarInfo(f"trainA/{number}.jpg") for number in range(2))
    large.size, negative.size = 5 << 30, -512
    (tmp_path / "large.tar").write_bytes(large.tobuf())
    (tmp_path / "negative.tar").write_bytes(negative.tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    with pytest.raises(DataError, match=r"trainA/0\.jpg.*large\.tar has 5120 MiB.* 1024;"):
        find_pictures_in(str(tmp_path / "large.tar"))
    with pytest.raises(DataError, match=r"negative\.tar.*negative size"):
        find_pictures_in(str(tmp_path / "negative.tar"))


def test_the_holes_of_a_sparse_member_are_not_filled(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("trainA/1.jpg")
    sparse.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}
    (tmp_path / "0.tar").write_bytes(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024))

    assert everything(tmp_path / "0.tar")["trainA"] == [("trainA/1.jpg", b"")]


def test_headers_that_claim_a_gigabyte_fill_no_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with (tmp_path / "0.tar").open("wb") as shard:
        shard.write(header.tobuf())
        shard.truncate(2 << 30)

    tracemalloc.start()
    assert everything(tmp_path / "0.tar") == {"trainA": [], "trainB": []}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 << 20


def test_an_address_gives_what_the_file_gives(tmp_path: Path, write_tar: WriteTar, serve: Callable[..., str]) -> None:
    contents = {f"train{'AB'[number % 2]}/{number}.jpg": bytes([number]) * 50_000 for number in range(20)}
    shard = write_tar(tmp_path / "0.tar", contents)

    assert everything(f"{serve()}/0.tar?signature=1") == everything(shard)


def test_bytes_of_an_address_end_where_the_file_ends(tmp_path: Path, serve: Callable[..., str]) -> None:
    content = random.Random(0).randbytes(2 << 16)
    (tmp_path / "0.bin").write_bytes(content)
    address = f"{serve()}/0.bin"

    for offset, size in ((0, 10), ((1 << 16) - 5, 10), (0, 1 << 20), ((2 << 16) - 3, 10), (2 << 16, 10)):
        assert read_at(address, offset, size) == content[offset : offset + size]


def test_a_server_that_stumbles_is_asked_again(tmp_path: Path, write_tar: WriteTar, serve: Callable[..., str]) -> None:
    shard = write_tar(tmp_path / "0.tar", {"trainA/0.jpg": b"x" * 100})

    assert everything(f"{serve(failures=2)}/0.tar") == everything(shard)
    with pytest.raises(DataError, match="503"):
        find_pictures_in(f"{serve(failures=9)}/0.tar")


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("none.tar", {}, "404"),
        ("0.tar", {"cut": 1000}, "broke off"),
        ("0.tar", {"ranges": False}, "does not answer range requests"),
    ],
)
def test_an_address_that_fails_is_one_sentence(
    tmp_path: Path,
    write_tar: WriteTar,
    serve: Callable[..., str],
    path: str,
    options: Mapping[str, object],
    reason: str,
) -> None:
    write_tar(tmp_path / "0.tar", {"trainA/0.jpg": bytes(1 << 18)})

    with pytest.raises(DataError, match=rf"{path}.*{reason}.*pack it again"):
        find_pictures_in(f"{serve(**options)}/{path}")
