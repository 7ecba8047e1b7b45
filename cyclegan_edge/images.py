"""Picture files: uint8 (H, W, 3) RGB in memory, JPEG, PNG, WebP, BMP or TIFF on disk.

Whatever the file holds becomes three 8-bit channels the way a person would see it:

    greyscale     three equal channels
    CMYK          RGB by libjpeg's and libtiff's formula, without the profile
    alpha         composited over white
    16 bits       the high byte, as Pillow and libpng do; within one level of v / 257 rounded
    EXIF          turned and mirrored upright, all 8 orientations

A file is judged by its content, never by its name, and before anything is decoded: its size in pixels, and whether it
ends where it says it does, because decoders return half a picture for half a file. Damage inside a complete JPEG scan
is not detected. Raises ImageError, one sentence that names the file; TruncatedError when it ends too early.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagesize
import numpy as np
import numpy.typing as npt

from cyclegan_edge.errors import DataError, ImageError, TruncatedError
from cyclegan_edge.files import write_file

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 1 << 27  # 134 megapixels, 400 MB decoded: above every camera, below what a small device can hold
MAX_BYTES = 1 << 30  # of a file

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_TIFF = (b"II*\0", b"MM\0*")
_JPEG_QUALITY = 95
_JPEG_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length: TEM, RST0..7
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: neither a stuffed byte nor a restart
_ORIENTATION, _PHOTOMETRIC = 0x112, 0x106  # TIFF tags
_CMYK = 5  # value of the photometric tag


def list_images(folder: Path, *, most: int | None = None) -> list[Path]:
    """The picture files directly in `folder`, by suffix and sorted by name; hidden files are skipped.

    With `most`, up to that many of them, spread over the folder by name.

    Raises DataError when the folder is not there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds pictures.")
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    files = sorted(path for path in found if path.is_file())
    if most is None:
        return files
    return [files[index] for index in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int).tolist()]


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """The picture in a file as uint8 (H, W, 3) RGB."""
    return decode_image(read_encoded(path), str(path))


def read_encoded(path: Path) -> bytes:
    """A picture file as it is, for `decode_image`; refused when it is too large."""
    if not path.is_file():
        raise ImageError(f"{path} is not there or is no file; check the name.")
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(
            f"{path} has {path.stat().st_size >> 20} MiB, expected at most {MAX_BYTES >> 20}; make it smaller."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def decode_image(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """The picture in `data` as uint8 (H, W, 3) RGB; `name` is what errors call it."""
    return inspect_image(data, name)[0]


def inspect_image(data: bytes, name: str) -> tuple[npt.NDArray[np.uint8], bool]:
    """The picture as `decode_image` gives it, and whether white shows through it somewhere."""
    exif = _check_whole(data, name)
    width, height = _header_size(data)
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no readable size in its header; it is damaged, copy it again.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width}x{height} pixels, more than the {MAX_PIXELS / 1e6:.0f} megapixels "
            f"that are decoded; make it smaller first."
        )
    tiff = data.startswith(_TIFF)
    cmyk_tiff = tiff and _tag(data, _PHOTOMETRIC) == _CMYK  # unchanged, its ink would pass for alpha
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if cmyk_tiff else cv2.IMREAD_UNCHANGED)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ImageError(f"{name} cannot be decoded; it is damaged, copy it again.")
    premultiplied = tiff and decoded.dtype == np.uint8  # libtiff's doing
    if decoded.dtype == np.uint16:
        decoded = (np.asarray(decoded, np.uint16) >> 8).astype(np.uint8)
    if decoded.dtype != np.uint8:
        raise ImageError(f"{name} holds {decoded.dtype} values, expected 8 or 16 bits per channel; convert it to PNG.")
    stored = np.asarray(decoded, np.uint8)
    transparent = stored.ndim == 3 and stored.shape[2] == 4 and bool(stored[:, :, 3].min() < 255)
    rgb = _to_rgb(stored, premultiplied=premultiplied)
    return _upright(rgb, _tag(exif, _ORIENTATION) or 1), transparent


def encode_image(rgb: npt.NDArray[np.uint8], suffix: str, name: str) -> bytes:
    """uint8 (H, W, 3) RGB in the format of `suffix`, JPEG at quality 95; `name` is what errors call it.

    Raises ImageError for an array or a suffix that cannot be written.
    """
    check_rgb(rgb)
    if suffix.lower() not in SUFFIXES:
        raise ImageError(f"{name} has the suffix {suffix!r}, expected one of {', '.join(sorted(SUFFIXES))}.")
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix.lower() in {".jpg", ".jpeg"} else []
    try:
        stored, encoded = cv2.imencode(suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)
    except cv2.error:  # how older versions say it
        stored = False
    if not stored:
        raise ImageError(f"{name} cannot hold {rgb.shape[1]}x{rgb.shape[0]} pixels; write a .png instead.")
    return encoded.tobytes()


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write uint8 (H, W, 3) RGB to `path`, whole or not at all, in the format its suffix names.

    Raises ImageError for an array or a suffix that cannot be written, SinkError when the disk refuses.
    """
    write_file(path, encode_image(rgb, path.suffix, str(path)))


def check_rgb(image: npt.NDArray[np.uint8], name: str = "image") -> None:
    """Raise ImageError unless `image` is uint8 (H, W, 3) with no empty side."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{name} is {found}, expected a uint8 array of RGB values 0..255.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"{name} has shape {image.shape}, expected (height, width, 3) with no empty side.")


def _header_size(data: bytes) -> tuple[int, int]:
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except Exception:  # a header that lies can raise anything there
        return -1, -1
    return int(width), int(height)


def _to_rgb(decoded: npt.NDArray[np.uint8], *, premultiplied: bool) -> npt.NDArray[np.uint8]:
    """OpenCV's grey, BGR or BGRA -> RGB, alpha over white."""
    channels = 1 if decoded.ndim == 2 else decoded.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB), np.uint8)
    if channels == 3:
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    wide = decoded.astype(np.uint16)  # sums reach 65152
    rgb, alpha = wide[:, :, 2::-1], wide[:, :, 3:]  # (H, W, 3), (H, W, 1)
    over_white = rgb * (255 if premultiplied else alpha) + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


def _upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undo an EXIF orientation: 1 is upright, 5 to 8 have rows and columns exchanged."""
    if orientation in {5, 6, 7, 8}:
        image = image.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _check_whole(data: bytes, name: str) -> bytes:
    """Refuse what is no picture or ends too early; return its EXIF block, b"" when there is none."""
    try:
        if data.startswith(_JPEG):
            return _jpeg_exif(data)
        if data.startswith(_PNG):
            return _png_exif(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_exif(data)
    except (IndexError, struct.error) as error:
        raise TruncatedError(f"{name} is truncated or damaged ({len(data)} bytes are there); copy it again.") from error
    if data.startswith((_BMP, *_TIFF)):
        return b""  # their decoders refuse a file that is too short
    raise ImageError(f"{name} is no JPEG, PNG, WebP, BMP or TIFF picture; convert it to one of these.")


def _jpeg_exif(data: bytes) -> bytes:
    """Walk the segments to the end-of-image marker; IndexError or struct.error when it is not there."""
    exif, at = b"", 2
    while True:
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise IndexError
        if marker == 0xD9:
            return exif
        if marker in _JPEG_BARE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif = exif or data[at + 10 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA:  # a scan follows, of unknown length
            found = _JPEG_MARKER.search(data, at)
            if found is None:
                raise IndexError
            at = found.start()


def _png_exif(data: bytes) -> bytes:
    """Walk the chunks to IEND and check every sum; IndexError or struct.error when one is wrong or missing."""
    exif, at, kind = b"", len(_PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        (expected,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(memoryview(data)[at + 4 : at + 8 + length]) != expected:
            raise IndexError
        if kind == b"eXIf":
            exif = data[at + 8 : at + 8 + length]
        at += 12 + length
    return exif


def _webp_exif(data: bytes) -> bytes:
    """Walk the RIFF chunks; IndexError when the file is shorter than it says."""
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise IndexError
    exif = b""
    for kind, block in _riff_chunks(data[12 : size + 8]):
        if kind == b"EXIF":
            exif = block.removeprefix(b"Exif\0\0")
    return exif


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > len(data):
            raise IndexError
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _tag(tiff: bytes, wanted: int) -> int | None:
    """A 16-bit tag of the first directory of a TIFF file, which is also what an EXIF block is; None when absent."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if (tag, kind) == (wanted, 3):
                return int(value)
    except struct.error:  # no EXIF, or a damaged one: the picture itself may be fine
        return None
    return None
