"""Picture files: uint8 (H, W, 3) RGB in memory, whatever Pillow reads of `SUFFIXES` on disk.

Whatever the file holds becomes three 8-bit channels of sRGB the way a person would see it:

    profile       converted to sRGB; one within 2 levels of sRGB is left out, and so is a damaged one
    greyscale     three equal channels
    CMYK          RGB by its profile, or by Pillow's formula where it has none
    alpha         composited over white
    16 bits       the high byte, within one level of v / 257 rounded
    EXIF          turned and mirrored upright, all 8 orientations
    animation     the first picture

Pillow reads the header, so a file is judged by its content, never by its name, and by what decoding it would take
(`image_limits`) before anything is decoded. OpenCV decodes plain JPEGs, bit for bit as Pillow does but several at once;
Pillow decodes the rest, and refuses half a file. What libjpeg and libtiff print about damage is heard and not shown.
Raises ImageError, one sentence that names the file.
"""

import contextlib
import io
import threading
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from cyclegan_edge.errors import DataError, ImageError, first_line
from cyclegan_edge.files import write_file
from cyclegan_edge.hearing import Hearing
from cyclegan_edge.image_limits import MAX_PIXELS, TooLargeError, check_cost

WRITABLE = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SUFFIXES = WRITABLE | {".avif", ".gif", ".j2k", ".jfif", ".jp2", ".pbm", ".pgm", ".ppm", ".tga"}
MAX_BYTES = 1 << 30  # of a file

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "TGA")  # of the many Pillow knows
_JPEG_QUALITY = 95
_ORIENTATION = 0x112  # EXIF tag
_SRGB = ImageCms.createProfile("sRGB")
_SAME = 2  # levels: sRGB profiles of several makers differ from each other by as much
_LARGE = 1 << 24  # px; of larger pictures, one is decoded at a time
_BAND = 1 << 20  # px that are converted at a time
_one_at_a_time = threading.Lock()
_CUBE = (np.indices((18, 18, 18), np.uint8) * 15).reshape(3, 18, -1).transpose(1, 2, 0)  # RGB, every hue


class Inspected(NamedTuple):
    """A picture, and what is odd about its file."""

    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    transparent: bool  # white shows through somewhere
    damage: str  # what its decoder says is wrong with it, though it goes on; empty for a whole file


def list_images(folder: str | Path, *, most: int | None = None) -> list[Path]:
    """The picture files directly in `folder`, by suffix and sorted by name; hidden files are skipped.

    With `most`, up to that many of them, spread over the folder by name.

    Raises DataError when the folder is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one that holds pictures.")
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    files = sorted(path for path in found if path.is_file())
    if most is None:
        return files
    return [files[index] for index in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int).tolist()]


def other_kinds(folder: Path) -> str:
    """The files directly in `folder` that are neither hidden nor listed, as `name_kinds`; empty for none."""
    listed = set(list_images(folder))
    return name_kinds(p.name for p in folder.iterdir() if p.is_file() and p not in listed and p.name[0] != ".")


def name_kinds(names: Iterable[str]) -> str:
    """ "3 .heic, 1 .txt": files counted by suffix, the commonest kind first."""
    kinds = Counter(Path(name).suffix.lower() or "without a suffix" for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """The picture in a file as uint8 (H, W, 3) RGB."""
    return decode_image(read_encoded(Path(path)), str(path))


def from_pillow(picture: Image.Image, name: str = "picture") -> npt.NDArray[np.uint8]:
    """A picture of Pillow's as `read_image` would read it. Raises ImageError, which calls it `name`."""
    try:
        _check_mode(picture)
        picture.load()
        return _upright(_to_rgb(picture)[0], _orientation(picture))
    except Exception as error:
        raise ImageError(f"{name} cannot be converted ({first_line(error)}); convert it to RGB.") from error


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
    return inspect_image(data, name).rgb


def inspect_image(data: bytes, name: str) -> Inspected:
    """The picture as `decode_image` gives it, and what is odd about its file."""
    hearing = Hearing()
    try:
        with hearing:
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            check_cost(picture, data)
            with _one_at_a_time if picture.width * picture.height > _LARGE else contextlib.nullcontext():
                rgb, transparent = _decode(picture, data)
    except (TooLargeError, Image.DecompressionBombError) as error:
        found = error if isinstance(error, TooLargeError) else f"more than the {MAX_PIXELS / 1e6:.0f} megapixels"
        raise ImageError(f"{name} has {found}; make it smaller, or save it in another way.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is damaged, or none of {', '.join(_FORMATS)}; copy it again, or convert it to PNG."
        ) from error
    except Exception as error:  # a file that lies can raise anything there
        if "truncated" in str(error).lower():
            raise ImageError(f"{name} is truncated ({len(data)} bytes are there); copy it again.") from error
        reason = hearing.said.removeprefix("tempfile.tif: ") or first_line(error)  # as Pillow calls what it reads
        raise ImageError(f"{name} cannot be decoded ({reason}); copy it again, or convert it to PNG.") from error
    return Inspected(rgb, transparent, hearing.said)


def encode_image(rgb: npt.NDArray[np.uint8], suffix: str, name: str, *, quality: int | None = None) -> bytes:
    """uint8 (H, W, 3) RGB in the format of `suffix`; `name` is what errors call it.

    `quality`, 1 to 100, is for JPEG, 95 without it, and WebP, lossless without it.

    Raises ImageError for an array or a suffix that cannot be written.
    """
    check_rgb(rgb)
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"{name} has the suffix {suffix!r}, expected one of {', '.join(sorted(WRITABLE))}.")
    options = []
    if suffix in {".jpg", ".jpeg"}:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality or _JPEG_QUALITY]
    elif suffix == ".webp" and quality:
        options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    try:
        stored, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    except cv2.error:  # how older versions say it
        stored = False
    if not stored:
        raise ImageError(f"{name} cannot hold {rgb.shape[1]}x{rgb.shape[0]} pixels; write a .png instead.")
    return encoded.tobytes()


def write_image(path: str | Path, rgb: npt.NDArray[np.uint8], *, quality: int | None = None) -> None:
    """Write uint8 (H, W, 3) RGB to `path`, whole or not at all, in the format its suffix names, as `encode_image`.

    Raises ImageError for an array or a suffix that cannot be written, SinkError when the disk refuses.
    """
    path = Path(path)
    write_file(path, encode_image(rgb, path.suffix, str(path), quality=quality))


def check_rgb(image: npt.NDArray[np.uint8], name: str = "image") -> None:
    """Raise ImageError unless `image` is uint8 (H, W, 3) with no empty side."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{name} is {found}, expected a uint8 array of RGB values 0..255.")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"{name} has shape {image.shape}, expected (height, width, 3) with no empty side.")


def _decode(picture: Image.Image, data: bytes) -> tuple[npt.NDArray[np.uint8], bool]:
    """An opened picture as uint8 (H, W, 3) RGB, upright, and whether white shows through it somewhere."""
    rgb, transparent = _plain_jpeg(picture, data), False
    if rgb is None:
        _check_mode(picture)
        picture.load()
        rgb, transparent = _to_rgb(picture)
    orientation = _orientation(picture)
    picture.close()  # its pixels are no longer needed
    return _upright(rgb, orientation), transparent


def _check_mode(picture: Image.Image) -> None:
    """Raise ValueError for values that have no natural range."""
    if picture.mode in {"F", "LAB"} or (picture.mode == "I" and picture.format != "PPM"):
        raise ValueError(f"it holds {picture.mode} values, expected 8 or 16 bits of grey, RGB or CMYK")


def _plain_jpeg(picture: Image.Image, data: bytes) -> npt.NDArray[np.uint8] | None:
    """A whole JPEG that needs no conversion as uint8 (H, W, 3) RGB, not turned yet; None for any other picture."""
    if picture.format not in {"JPEG", "MPO"} or picture.mode not in {"L", "RGB"}:
        return None
    if _transform(picture) or not _is_regular(data):
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if decoded is None else np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _is_regular(data: bytes) -> bool:
    """Whether a JPEG has no stray bytes between its segments, of which libjpeg warns, and its last scan ends."""
    at = 2
    while data[at : at + 1] == b"\xff":
        if data[at + 1 : at + 2] == b"\xda":
            return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _to_rgb(picture: Image.Image) -> tuple[npt.NDArray[np.uint8], bool]:
    """A picture as uint8 (H, W, 3), alpha over white, and whether white shows through.

    It is converted a band at a time, so that beside its pixels and the result there is little in memory.
    """
    transform, transparent = _transform(picture), False
    rgb = np.empty((picture.height, picture.width, 3), np.uint8)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        band = picture if rows >= picture.height else picture.crop((0, top, picture.width, bottom))
        rgb[top:bottom], shows = _band_to_rgb(band, transform)
        transparent |= shows
    return rgb, transparent


def _band_to_rgb(
    picture: Image.Image, transform: ImageCms.ImageCmsTransform | None
) -> tuple[npt.NDArray[np.uint8], bool]:
    transparent = False
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        transparent = bool(np.asarray(rgba.getchannel("A")).min() < 255)
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    if transform:
        picture = transform.apply(picture.convert(transform.input_mode))
    return np.asarray(picture.convert("RGB")), transparent


def _transform(picture: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """What turns a picture into sRGB by its profile; None when it needs nothing."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return None
    grey = picture.mode in {"1", "L", "LA"} or picture.mode.startswith("I;16")
    return _transform_of(profile, "L" if grey else "CMYK" if picture.mode == "CMYK" else "RGB")


@lru_cache(maxsize=16)
def _transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None when it is sRGB, damaged, or one of other channels than `mode`."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode != "CMYK":
        probe = Image.fromarray(_CUBE).convert(mode)
        shown = np.asarray(transform.apply(probe)).astype(int)
        if np.abs(shown - np.asarray(probe.convert("RGB"))).max() <= _SAME:
            return None
    return transform


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF; the picture itself is fine
        return 1


def _upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Undo an EXIF orientation: 1 is upright, 5 to 8 have rows and columns exchanged."""
    if orientation in {5, 6, 7, 8}:
        image = image.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
