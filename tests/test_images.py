"""Pictures are compared with Pillow 12, which shows them as people see them; profiles with LittleCMS."""

import io
import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from cyclegan_edge import images
from cyclegan_edge.errors import DataError, ImageError, SinkError
from cyclegan_edge.images import decode_image, encode_image, list_images, read_image, write_image
from cyclegan_edge.metrics import psnr

PROFILED_PHOTOS = ["me_CMYK_multiICC.jpg", "sharp_gray_icc_400x267.jpg"]
WHOLE_PHOTOS = [  # name, height and width upright, largest difference from Pillow in levels
    ("exif_Landscape_6.jpg", 1200, 1800, 0),
    ("exif_Portrait_5.jpg", 1800, 1200, 0),
    ("me_1x1.jpg", 1, 1, 0),
    ("me_E10_2240x1680.jpg", 1680, 2240, 0),
    ("me_E950_800x600.jpg", 600, 800, 0),
    ("me_EOS1000D_exif6_3888x2592.jpg", 3888, 2592, 0),
    ("sharp_16bit_rgb_32x32.png", 32, 32, 0),
    ("sharp_CMYK_noprofile_500x333.jpg", 333, 500, 0),
    ("sharp_LA_400x300.png", 300, 400, 0),
    ("sharp_alpha_300x300.webp", 300, 300, 0),
    ("sharp_testchart_320x240.jpg", 240, 320, 0),
    ("skimage_astronaut.png", 512, 512, 0),
    ("skimage_camera.png", 512, 512, 0),
    ("skimage_chelsea.png", 300, 451, 0),
    ("skimage_coffee.png", 400, 600, 0),
    ("skimage_horse.png", 328, 400, 0),
]
REFUSED_PHOTOS = [
    ("sharp_giant_20000x14000_gray.jpg", "more than the 134 megapixels"),
    ("sharp_truncated.jpg", r"is truncated \(10000 bytes are there\); copy it again"),
]


def by_pillow(data: bytes) -> np.ndarray:
    """uint8 (H, W, 3) RGB: upright, alpha over white."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    return np.asarray(picture.convert("RGB"))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def picture(rng: np.random.Generator) -> Image.Image:
    """RGBA, 47x30, smooth enough that JPEG keeps it, with every alpha somewhere."""
    coarse = Image.fromarray(rng.integers(0, 256, (4, 6, 4), dtype=np.uint8))
    return coarse.resize((47, 30), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("name", "height", "width", "levels"), WHOLE_PHOTOS)
def test_photos_look_as_in_pillow(name: str, height: int, width: int, levels: int, test_data: Path) -> None:
    path = test_data / "photos" / name

    ours = read_image(path)

    assert ours.shape == (height, width, 3)
    assert ours.flags.c_contiguous
    np.testing.assert_allclose(ours.astype(int), by_pillow(path.read_bytes()).astype(int), rtol=0, atol=levels)


@pytest.mark.parametrize(("name", "sentence"), REFUSED_PHOTOS)
def test_photos_that_cannot_be_used_are_refused(name: str, sentence: str, test_data: Path) -> None:
    with pytest.raises(ImageError, match=sentence) as refusal:
        read_image(test_data / "photos" / name)

    assert name in str(refusal.value)


def test_every_photo_has_its_case(test_data: Path) -> None:
    cases = PROFILED_PHOTOS + [name for name, *_ in WHOLE_PHOTOS] + [name for name, _ in REFUSED_PHOTOS]

    assert [path.name for path in list_images(test_data / "photos")] == sorted(cases)


@pytest.mark.parametrize("name", PROFILED_PHOTOS)
def test_photos_with_a_profile_become_srgb(name: str, test_data: Path) -> None:
    picture = Image.open(test_data / "photos" / name)

    ours = read_image(test_data / "photos" / name)

    np.testing.assert_array_equal(ours, np.asarray(by_profile(picture)))
    assert np.abs(ours.astype(int) - np.asarray(picture.convert("RGB"))).mean() > 1


def by_profile(picture: Image.Image) -> Image.Image:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    converted = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return converted


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_is_converted_and_a_damaged_one_ignored(kind: str, picture: Image.Image) -> None:
    rgb = picture.convert("RGB")
    wide = ImageCms.ImageCmsProfile(io.BytesIO(gamma_profile(1.0)))
    linear = encoded(rgb, kind, icc_profile=wide.tobytes())
    same = encoded(rgb, kind, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    damaged = encoded(rgb, kind, icc_profile=wide.tobytes()[:100])
    plain = decode_image(encoded(rgb, kind), "plain")

    np.testing.assert_array_equal(decode_image(same, "same"), plain)
    np.testing.assert_array_equal(decode_image(damaged, "damaged"), plain)
    brightened = decode_image(linear, "linear")
    np.testing.assert_array_equal(brightened, np.asarray(by_profile(Image.open(io.BytesIO(linear)))))
    assert brightened.mean() > plain.mean() + 20


def gamma_profile(gamma: float) -> bytes:
    """sRGB's own profile with another tone curve: 1.0 is linear light."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, offset = struct.unpack_from(">4sI", profile, 132 + 12 * index)
        if tag in {b"rTRC", b"gTRC", b"bTRC"}:
            struct.pack_into(">4sIHHi", profile, offset, b"para", 0, 0, 0, round(gamma * 65536))
    return bytes(profile)


@pytest.mark.parametrize("kind", ["GIF", "AVIF", "JPEG2000", "PPM", "TGA"])
def test_other_formats_look_as_in_pillow(kind: str, picture: Image.Image) -> None:
    data = encoded(picture.convert("RGB"), kind)

    np.testing.assert_array_equal(decode_image(data, "picture"), by_pillow(data))


def test_the_first_picture_of_an_animation_is_read(picture: Image.Image) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")

    read = decode_image(encoded(first, "GIF", save_all=True, append_images=[second]), "two.gif")

    assert read[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("bits", "header"), [(32, 40), (24, 12)])
def test_bmps_without_alpha_mask_and_of_os2_keep_their_colours(bits: int, header: int) -> None:
    pixels = bytes([10, 20, 200, 0][: bits // 8]) * 4 * 3
    if header == 12:
        described = struct.pack("<IHHHH", header, 4, 3, 1, bits)
    else:
        described = struct.pack("<IiiHHIIiiII", header, 4, 3, 1, bits, 0, len(pixels), 0, 0, 0, 0)
    start = 14 + header
    data = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + described + pixels

    read = decode_image(data, "old.bmp")

    assert read.shape == (3, 4, 3)
    assert (read == [200, 20, 10]).all()


@pytest.mark.parametrize("before", [b"\xff\xdb", b"\xff\xda"])
def test_stray_bytes_in_a_jpeg_change_nothing_and_are_not_complained_of(
    before: bytes, picture: Image.Image, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(picture.convert("RGB"), "JPEG")
    at = data.index(before)

    read = decode_image(data[:at] + b"\0\0\0" + data[at:], "stray.jpg")

    np.testing.assert_array_equal(read, decode_image(data, "whole.jpg"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_quality_decides_the_size(suffix: str, picture: Image.Image) -> None:
    rgb = np.asarray(picture.convert("RGB"))

    small, large = (encode_image(rgb, suffix, "picture", quality=quality) for quality in (30, 90))

    assert len(small) < len(large)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientations_are_undone(kind: str, mode: str, orientation: int, picture: Image.Image) -> None:
    if kind == "JPEG" and mode == "RGBA":
        mode = "CMYK"
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"tiffinfo": {0x112: orientation}} if kind == "TIFF" else {"exif": exif}
    data = encoded(picture.convert(mode), kind, **options)

    ours = decode_image(data, "picture")

    np.testing.assert_allclose(ours.astype(int), by_pillow(data).astype(int), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *product(["PNG", "WEBP", "BMP", "TIFF"], ["1", "L", "P", "RGB"]),
        *product(["PNG", "WEBP", "TIFF"], ["RGBA"]),
        *product(["PNG", "WEBP"], ["LA"]),
        *product(["PNG", "TIFF"], ["I;16"]),
    ],
)
def test_modes_look_as_in_pillow(kind: str, mode: str, picture: Image.Image) -> None:
    grey = np.asarray(picture.convert("L"))
    source = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
    data = encoded(source, kind)

    ours = decode_image(data, "picture")

    theirs = np.stack([grey] * 3, axis=2) if mode == "I;16" else by_pillow(data)
    np.testing.assert_array_equal(ours, theirs)


def test_cmyk_tiff_is_ink_not_alpha(picture: Image.Image) -> None:
    data = encoded(picture.convert("CMYK"), "TIFF")

    np.testing.assert_array_equal(decode_image(data, "picture"), by_pillow(data))


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_half_a_file_is_refused(
    kind: str, options: dict[str, object], kept: float, picture: Image.Image, rng: np.random.Generator
) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    data = encoded(noise, kind, **options)

    with pytest.raises(ImageError, match=r"half\.picture"):
        decode_image(data[: int(len(data) * kept)], "half.picture")


def test_what_follows_a_whole_jpeg_does_not_matter(picture: Image.Image) -> None:
    data = encoded(picture.convert("RGB"), "JPEG")

    np.testing.assert_array_equal(decode_image(data + b"maker's notes", "a"), decode_image(data, "b"))


def test_a_thumbnail_does_not_hide_that_the_picture_is_cut(picture: Image.Image) -> None:
    thumbnail = encoded(picture.convert("RGB"), "JPEG")
    exif = b"Exif\0\0" + thumbnail
    data = encoded(picture.convert("RGB"), "JPEG", exif=exif)
    assert thumbnail in data

    with pytest.raises(ImageError, match="is truncated"):
        decode_image(data[:-2], "cut.jpg")


def test_a_damaged_png_is_refused(picture: Image.Image) -> None:
    data = bytearray(encoded(picture, "PNG"))
    data[len(data) // 2] ^= 1

    with pytest.raises(ImageError, match=r"bad\.png cannot be decoded"):
        decode_image(bytes(data), "bad.png")


def test_an_enormous_header_is_refused_before_decoding() -> None:
    header = b"\x89PNG\r\n\x1a\n"
    for chunk in [b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0), b"IEND"]:
        header += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))

    with pytest.raises(ImageError, match=r"bomb\.png has more than the 134 megapixels"):
        decode_image(header, "bomb.png")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8\xff", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0", b"hello", b"<svg/>", b"BM", b"II*\0", b"RIFF"],
)
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(content)

    with pytest.raises(ImageError, match=r"notes\.jpg"):
        read_image(path)


def test_floating_point_pictures_are_refused(picture: Image.Image) -> None:
    with pytest.raises(ImageError, match=r"deep\.tif .* holds F values, expected 8 or 16 bits"):
        decode_image(encoded(picture.convert("F"), "TIFF"), "deep.tif")


def test_missing_files_folders_and_large_files_are_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(images.MAX_BYTES + (1 << 20))

    with pytest.raises(ImageError, match="is not there or is no file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is not there or is no file"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="has 1025 MiB, expected at most 1024"):
        read_image(large)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".JPEG"])
def test_written_pictures_are_read_back(suffix: str, picture: Image.Image, tmp_path: Path) -> None:
    rgb = np.asarray(picture.convert("RGB"))

    write_image(tmp_path / f"out{suffix}", rgb)

    back = read_image(tmp_path / f"out{suffix}")
    assert psnr(back, rgb) > (25 if suffix in {".jpg", ".JPEG"} else 99)  # JPEG halves the colours of this tiny picture
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]


def test_writing_refuses_other_formats_and_arrays(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"has the suffix '.txt', expected one of .bmp"):
        write_image(tmp_path / "a.txt", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError, match=r"image has shape \(4, 4\)"):
        write_image(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="cannot hold 20000x1 pixels"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))


def test_a_file_where_the_folder_should_be_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SinkError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), np.uint8))


def test_pictures_are_listed_by_suffix_and_sorted(tmp_path: Path) -> None:
    for name in ["b.JPG", "a.png", "c.tiff", ".hidden.png", "notes.txt", "e.GIF", "d.webp"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()

    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG", "c.tiff", "d.webp", "e.GIF"]


def test_listing_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        list_images(tmp_path / "none")
