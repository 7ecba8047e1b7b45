"""What it would take to decode a picture file, judged by its header before anything is decoded.

34 bytes can stand for 134 megapixels, decoders need up to five times the memory of the picture they make, and a JPEG
goes over all its pixels once for each of its scans. `tests/fuzz/bombs.py` measures the peaks of such files.
"""

import struct
from math import prod

from PIL import Image

MAX_PIXELS = 1 << 27  # 134 megapixels, 400 MB decoded: above every camera, below what a small device can hold
MAX_MEMORY = 1300 << 20  # bytes that decoding takes at its peak, the result included
MAX_SCANS = 1000  # of a JPEG; encoders write about ten
MAX_SCANNED = 1 << 31  # pixels times scans of a JPEG: seconds

_OTHERS = 7  # bytes per px: 4 in Pillow and 3 of the result
_BYTES = {"JPEG": 9, "MPO": 9, "AVIF": 19, "WEBP": 20, "JPEG2000": 20}  # bytes per px, as measured
_BITS, _CHANNELS, _STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT = 258, 277, 278, 322, 323  # tags of TIFF


class TooLargeError(Exception):
    """What a picture has, and what was expected; it continues "FILE has"."""


def check_cost(picture: Image.Image, data: bytes) -> None:
    """Raise TooLargeError for an opened picture that takes more than the limits above, ValueError for a contradiction.

    `data` is its file.
    """
    pixels = picture.width * picture.height
    per_pixel = 12 if picture.mode == "CMYK" else _BYTES.get(picture.format or "", _OTHERS)
    memory = pixels * per_pixel
    if picture.format == "TIFF":
        memory += _tiff_buffer(picture, data)
    if pixels > MAX_PIXELS or memory > MAX_MEMORY:
        most = min(MAX_PIXELS, MAX_MEMORY * pixels // memory)
        raise TooLargeError(f"more than the {most / 1e6:.3g} megapixels that are decoded of this kind")
    if picture.format in {"JPEG", "MPO"}:
        scans, most = data.count(b"\xff\xda"), min(MAX_SCANS, MAX_SCANNED // pixels)
        if scans > most:
            raise TooLargeError(f"{scans} scans, expected at most {most} at {picture.width}x{picture.height} px")


def _tiff_buffer(picture: Image.Image, data: bytes) -> int:
    """Bytes of a strip or tile, which libtiff unpacks as a whole."""
    tags = _first_tags(data)
    if len(tags) != len(set(tags)):  # of two, Pillow takes the last and libtiff the first
        raise ValueError("it has a tag twice")
    tag: dict[int, object] = getattr(picture, "tag_v2", {})
    width, height = tag.get(_TILE_WIDTH, picture.width), tag.get(_TILE_HEIGHT, tag.get(_STRIP_ROWS, picture.height))
    if _TILE_HEIGHT not in tag and isinstance(height, int):
        height = min(height, picture.height)
    bits, channels = tag.get(_BITS, (1,)), tag.get(_CHANNELS, 1)
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(channels, int) and bits):
        raise ValueError("its tags have values of the wrong kind")
    deepest = max(bits) if isinstance(bits, tuple) else 1
    return prod((width, height, channels, deepest)) // 8


def _first_tags(data: bytes) -> list[int]:
    """The tags of the first directory of a TIFF or BigTIFF file, as often as they are there. Raises ValueError."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
        first, size = start + (8 if big else 2), 20 if big else 12
        count = min(count, len(data) // size)
        return [struct.unpack_from(f"{order}H", data, first + number * size)[0] for number in range(count)]
    except struct.error as error:
        raise ValueError("its directory is cut off") from error
