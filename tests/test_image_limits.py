"""Files that ask for too much memory or time are refused before they get it; the others get little."""

import contextlib
import io
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from cyclegan_edge import images
from cyclegan_edge.errors import ImageError
from cyclegan_edge.image_limits import MAX_PIXELS
from cyclegan_edge.images import decode_image

WEBP = "524946461a000000574542505650384c0e0000002f7ffee104071011fd0f4444ff03"  # lossless, 16000x5000 px of one colour
PEAK = """
import sys
from pathlib import Path
from cyclegan_edge.images import read_image

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

before = peak()
height, width, _ = read_image(sys.argv[1]).shape
print((peak() - before) / (height * width))
"""


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "RGB"])
def test_decoding_takes_few_bytes_a_pixel(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "flat.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((3000, 4000, len(mode)), np.uint8))[1].tobytes())

    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)

    assert 4 < float(done.stdout) < 9.5  # 4 in Pillow, 3 of the result, and what does not grow


def test_a_tag_given_twice_is_refused() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[65000], tags.tagtype[65000] = 8, 4
    data = encoded(Image.new("RGB", (8, 8)), "TIFF", compression="tiff_lzw", tiffinfo=tags)
    assert decode_image(data, "once.tif").shape == (8, 8, 3)

    twice = data.replace(struct.pack("<HH", 65000, 4), struct.pack("<HH", 257, 4))

    with pytest.raises(ImageError, match=r"twice\.tif cannot be decoded \(it has a tag twice\)"):
        decode_image(twice, "twice.tif")


def test_a_strip_or_tile_counts_with_the_pixels_of_a_tiff() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, tag in enumerate((65000, 65001)):
        tags[tag], tags.tagtype[tag] = 40_000 + number, 4
    data = encoded(Image.new("RGB", (8, 8)), "TIFF", compression="tiff_lzw", tiffinfo=tags)

    for tag, tile in ((65000, 322), (65001, 323)):
        data = data.replace(struct.pack("<HH", tag, 4), struct.pack("<HH", tile, 4))

    with pytest.raises(ImageError, match=r"tile\.tif has more than the .* megapixels that are decoded of this kind"):
        decode_image(data, "tile.tif")


def test_kinds_whose_decoders_take_more_may_have_fewer_pixels() -> None:
    data = bytes.fromhex(WEBP)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width * picture.height < MAX_PIXELS

    with pytest.raises(ImageError, match=r"small\.webp has more than the 68\.2 megapixels"):
        decode_image(data, "small.webp")


@pytest.mark.parametrize(("size", "most"), [(16, 1000), (4096, 128)])
def test_a_jpeg_of_many_scans_is_refused_unless_they_cost_little(size: int, most: int) -> None:
    data = encoded(Image.new("L", (size, size)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    once_more = data[data.rindex(b"\xff\xc4", 0, last) : -2]

    few = data[:-2] + once_more * 20 + data[-2:]
    many = data[:-2] + once_more * most + data[-2:]

    assert decode_image(few, "few.jpg").shape == (size, size, 3)
    with pytest.raises(ImageError, match=rf"many\.jpg has \d+ scans, expected at most {most}"):
        decode_image(many, "many.jpg")


def test_only_one_large_picture_is_decoded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    @contextlib.contextmanager
    def turn():  # type: ignore[no-untyped-def]
        turns.append("begun")
        yield
        turns.append("over")

    monkeypatch.setattr(images, "_one_at_a_time", turn())
    monkeypatch.setattr(images, "_LARGE", 8 * 8)

    decode_image(encoded(Image.new("RGBA", (8, 8)), "PNG"), "small.png")
    assert turns == []

    decode_image(encoded(Image.new("RGBA", (9, 8)), "PNG"), "large.png")
    assert turns == ["begun", "over"]


def test_a_picture_of_several_bands_is_converted_as_in_one(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = Image.fromarray(rng.integers(0, 256, (37, 50, 4), dtype=np.uint8))
    kinds = [
        encoded(pixels, "PNG"),
        encoded(pixels.convert("RGB").convert("P"), "PNG", transparency=3),
        encoded(Image.fromarray(rng.integers(0, 1 << 16, (37, 50), dtype=np.uint16)), "PNG"),
        encoded(pixels.convert("CMYK"), "JPEG"),
    ]
    whole = [images.inspect_image(data, "whole") for data in kinds]

    monkeypatch.setattr(images, "_BAND", 7 * 50)

    for data, (rgb, transparent, _) in zip(kinds, whole, strict=True):
        np.testing.assert_array_equal(images.inspect_image(data, "bands").rgb, rgb)
        assert images.inspect_image(data, "bands").transparent == transparent
