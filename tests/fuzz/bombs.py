"""Small picture files that ask for much memory or time: each is read in a process of its own, whose peak is printed.

python tests/fuzz/bombs.py [NAME...]      all of them, or those named; none may take more than LIMIT
"""

import io
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from cyclegan_edge.errors import CycleGanEdgeError
from cyclegan_edge.images import read_image
from cyclegan_edge.train.data.check import check

LIMIT = 6 << 30  # bytes of address space beyond which a reader gets no memory
WAIT = 120  # s


def png(width: int, height: int, *, colour: int = 6, depth: int = 8) -> bytes:
    """A PNG of one colour; `colour` 6 has alpha, 2 has none, 0 is grey."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = bytes(1 + width * channels * depth // 8)
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + packed, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def tiff(entries: list[tuple[int, int, list[int]]], strip: bytes) -> bytes:
    """A little-endian TIFF: (tag, type, values) in this order, also twice, and the one strip or tile they point to.

    Tags 273 and 324, where the pixels are, and 279 and 325, how many bytes, get their values here.
    """
    sizes = {3: 2, 4: 4}
    start = 8 + 2 + 12 * len(entries) + 4
    extra, table = b"", b""
    for tag, kind, values in entries:
        if tag in (279, 325):
            values = [len(strip)]
        packed = b"".join(value.to_bytes(sizes[kind], "little") for value in values)
        if tag in (273, 324):
            packed = b"AT.."
        if len(packed) > 4:
            table += struct.pack("<HHII", tag, kind, len(values), start + len(extra))
            extra += packed
        else:
            table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    body = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + bytes(4) + extra
    return body.replace(b"AT..", struct.pack("<I", len(body))) + strip


def plain_tiff(width: int, height: int, *, bits: list[int], form: int = 1, strip_rows: int = 0) -> bytes:
    """Deflated zeros; `form` 1 unsigned, 3 floating point."""
    strip = zlib.compress(bytes(width * sum(bits) // 8 * height), 9)
    return tiff(
        [
            (256, 4, [width]),
            (257, 4, [height]),
            (258, 3, bits),
            (259, 3, [8]),
            (262, 3, [1 if len(bits) < 3 else 2]),
            (273, 4, [0]),
            (277, 3, [len(bits)]),
            (278, 4, [strip_rows or height]),
            (279, 4, [0]),
            *([(338, 3, [2])] if len(bits) == 4 else []),
            (339, 3, [form] * len(bits)),
        ],
        strip,
    )


def tags_twice() -> bytes:
    """First 20000x20000, then 256x256, in the same directory."""
    side, small = 20_000, 256
    strip = zlib.compress(bytes(side * side // 8), 9)
    return tiff(
        [
            (256, 4, [side]),
            (257, 4, [side]),
            (256, 4, [small]),
            (257, 4, [small]),
            (258, 3, [8]),
            (259, 3, [8]),
            (262, 3, [1]),
            (273, 4, [0]),
            (277, 3, [1]),
            (278, 4, [side]),
            (279, 4, [0]),
        ],
        strip,
    )


def huge_tile() -> bytes:
    """A picture of 16x16 in a tile of 32768x32768."""
    return tiff(
        [
            (256, 4, [16]),
            (257, 4, [16]),
            (258, 3, [8]),
            (259, 3, [8]),
            (262, 3, [1]),
            (277, 3, [1]),
            (322, 4, [32768]),
            (323, 4, [32768]),
            (324, 4, [0]),
            (325, 4, [0]),
        ],
        zlib.compress(bytes(1 << 20), 9),
    )


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG with its last scan again and again."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    tables = data.rindex(b"\xff\xc4", 0, last)
    return data[:tables] + data[tables:-2] * scans + b"\xff\xd9"


def by_pillow(kind: str, width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, kind, **options)
    return stream.getvalue()


W, H = 16_384, 8_191  # just inside the limit of pixels
HALF = 4_095  # and with W for kinds that may have half as many
BOMBS: dict[str, Callable[[], bytes]] = {
    "tiff-tags-twice": tags_twice,
    "tiff-huge-tile": huge_tile,
    "tiff-float64": lambda: plain_tiff(W, H, bits=[64], form=3),
    "tiff-float32": lambda: plain_tiff(W, HALF, bits=[32], form=3),
    "tiff-rgba16": lambda: plain_tiff(W, 5_500, bits=[16] * 4),
    "tiff-rgb8": lambda: plain_tiff(W, H, bits=[8] * 3),
    "png-alpha": lambda: png(W, H),
    "png-alpha-16": lambda: png(W, H, depth=16),
    "png-alpha-twice": lambda: png(W, H),  # through `data check`, in two threads
    "png-grey-16": lambda: png(W, H, colour=0, depth=16),
    "jpeg-20000-scans": lambda: many_scans(1024, 20_000),
    "jpeg-900-scans": lambda: many_scans(1024, 900),
    "jpeg-100-scans": lambda: many_scans(4096, 100),
    "jpeg-progressive": lambda: by_pillow("JPEG", W, H, progressive=True, subsampling=0),
    "jpeg-cmyk": lambda: by_pillow("JPEG", W, 6_900, "CMYK", progressive=True),
    "gif": lambda: by_pillow("GIF", W, 6_900, "P"),
    "webp-large": lambda: by_pillow("WEBP", 16_383, H, "RGBA", lossless=True, method=0, quality=0),
    "webp": lambda: by_pillow("WEBP", 16_383, HALF, "RGBA", lossless=True, method=0, quality=0),
    "jpeg2000": lambda: by_pillow("JPEG2000", W, HALF),
    "bmp": lambda: by_pillow("BMP", W, H, "1"),
    "tga": lambda: by_pillow("TGA", W, H, "RGBA", compression="tga_rle"),
    "avif": lambda: by_pillow("AVIF", W, HALF, "RGBA", speed=10),
}


def read(path: Path) -> None:
    """Read a picture, or check a folder, and print what it took."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    before, start = peak(), time.monotonic()
    try:
        if path.is_dir():
            said = " and ".join(f"{one.width}x{one.height}" for one in check(path).folders[0].pictures)
        else:
            said = "x".join(map(str, read_image(path).shape))
    except CycleGanEdgeError as error:
        said = str(error).replace(str(path), "FILE")
    sys.stdout.write(f"{peak() - before:6.0f} MiB {time.monotonic() - start:5.1f} s  {said}\n")


def peak() -> float:
    """MiB, of this program alone: ru_maxrss begins with that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(names: list[str]) -> None:
    for name in names or BOMBS:
        with tempfile.TemporaryDirectory() as folder:
            twice = name == "png-alpha-twice"
            path = Path(folder) / "trainA" / "one.png"
            path.parent.mkdir()
            path.write_bytes(BOMBS[name]())
            if twice:
                path.with_stem("two").write_bytes(path.read_bytes())
            command = [sys.executable, __file__, "--read", folder if twice else str(path)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
                said = (done.stdout or done.stderr or f"ended by {done.returncode}").strip().splitlines()[-1]
            except subprocess.TimeoutExpired:
                said = f"not read after {WAIT} s"
            sys.stdout.write(f"{name:17} {path.stat().st_size:9} bytes {said}\n")
            sys.stdout.flush()


if sys.argv[1:2] == ["--read"]:
    read(Path(sys.argv[2]))
else:
    main(sys.argv[1:])
