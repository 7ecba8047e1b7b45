"""The data path against Pillow 12 and torchvision: the largest difference allowed is 0, on every instruction set."""

from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cyclegan_edge import preprocess
from cyclegan_edge.errors import ImageError

every_isa = pytest.mark.parametrize("isa", preprocess.available_isas())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def checkerboard(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.indices((height, width))
    return np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)


def line(height: int, width: int) -> NDArray[np.uint8]:
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2] = 255
    image[:, width // 3] = (255, 0, 255)
    return image


def pillow(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def test_pillow_is_the_version_whose_order_we_follow() -> None:
    assert PIL.__version__.startswith("12."), "13 resizes some shapes vertically first"


@every_isa
@pytest.mark.parametrize("draw", [noise, checkerboard, line])
@pytest.mark.parametrize("source", [(256, 256), (97, 143), (480, 640), (1, 1), (1, 300), (211, 1), (2, 3), (301, 3)])
@pytest.mark.parametrize("size", [(286, 286), (256, 256), (97, 10), (1, 1), (7, 300), (301, 1), (128, 128)])
def test_resize_equals_pillow(draw: Any, source: tuple[int, int], size: tuple[int, int], isa: str) -> None:
    image = draw(*source)

    ours = preprocess.resize(image, size, isa=isa)

    np.testing.assert_array_equal(ours, pillow(image, size))


@every_isa
@pytest.mark.parametrize("crop", [(0, 0, 99, 256), (11, 100, 7, 30)])
def test_a_very_tall_picture_shrinks_vertically_first(crop: tuple[int, int, int, int], isa: str) -> None:
    image = noise(301, 3)
    top, left, height, width = crop

    ours = preprocess.resize_crop(image, (99, 256), crop, isa=isa)

    part = pillow(image, (99, 256))[top : top + height, left : left + width]
    np.testing.assert_array_equal(np.rint(ours * 127.5 + 127.5), part.transpose(2, 0, 1))


@every_isa
@settings(deadline=None, max_examples=150)
@given(
    source=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    seed=st.integers(0, 2**32 - 1),
)
def test_resize_equals_pillow_at_any_size(isa: str, source: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    image = noise(*source, seed=seed)

    ours = preprocess.resize(image, size, isa=isa)

    np.testing.assert_array_equal(ours, pillow(image, size))


def hex_rows(channel: NDArray[np.uint8]) -> str:
    return "\n".join(" ".join(f"{value:02x}" for value in row) for row in channel)


def image_of(rows: str) -> NDArray[np.uint8]:
    channel = np.array([[int(value, 16) for value in row.split()] for row in rows.strip().splitlines()], np.uint8)
    return np.repeat(channel[..., None], 3, axis=2)


@every_isa
def test_a_square_shrinks_with_a_soft_edge(isa: str) -> None:
    image = image_of("""
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
        e1 e1 e1 e1 e1 e1 3c 3c 3c 3c 3c 3c
    """)

    small = preprocess.resize(image, (2, 6), isa=isa)

    assert hex_rows(small[..., 0]) == "e1 e3 d6 47 3a 3c\ne1 e3 d6 47 3a 3c"


@every_isa
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [(0, 0, 286, 286), (30, 30, 256, 256), (5, 17, 100, 33), (285, 0, 1, 1)])
def test_resize_crop_equals_resize_then_crop(crop: tuple[int, int, int, int], flip: bool, isa: str) -> None:
    image = noise(300, 400)
    top, left, height, width = crop

    ours = preprocess.resize_crop(image, (286, 286), crop, flip, isa=isa)

    part = pillow(image, (286, 286))[top : top + height, left : left + width]
    part = part[:, ::-1] if flip else part
    values = (part.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    np.testing.assert_array_equal(ours, values.transpose(2, 0, 1))


@every_isa
def test_floats_are_those_of_torchvision(isa: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="torchvision is not installed")
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)

    ours = preprocess.resize_crop(image, (16, 16), (0, 0, 16, 16), isa=isa)

    to_tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, to_tensor(Image.fromarray(image)).numpy())


@every_isa
def test_a_crop_of_a_larger_array_needs_no_copy(isa: str) -> None:
    image = noise(120, 200)
    window = image[10:90, 31:160]

    ours = preprocess.resize(window, (50, 60), isa=isa)

    assert not window.flags.c_contiguous
    np.testing.assert_array_equal(ours, pillow(np.ascontiguousarray(window), (50, 60)))


@every_isa
def test_a_read_only_image_is_accepted(isa: str) -> None:
    image = noise(20, 20)
    image.flags.writeable = False

    assert preprocess.resize(image, (10, 10), isa=isa).shape == (10, 10, 3)


IMAGE = noise(8, 8)
READABLE = (4, 4)


@pytest.mark.parametrize(
    ("image", "size", "sentence"),
    [
        (None, READABLE, "image is a NoneType, expected a numpy array"),
        ([[1]], READABLE, "image is a list, expected a numpy array"),
        (IMAGE.astype(np.float32), READABLE, "image has dtype float32, expected uint8"),
        (IMAGE[..., 0], READABLE, r"image has shape \(8, 8\), expected \(height, width, 3\) with no empty side"),
        (IMAGE[:0], READABLE, r"image has shape \(0, 8, 3\), expected \(height, width, 3\) with no empty side"),
        (IMAGE[..., :1], READABLE, r"image has shape \(8, 8, 1\), expected"),
        (IMAGE[::-1], READABLE, r"image has strides \(-24, 3, 1\), expected packed pixels"),
        (IMAGE[:, ::2], READABLE, r"image has strides \(24, 6, 1\), expected packed pixels"),
        (IMAGE[..., ::-1], READABLE, r"image has strides \(24, 3, -1\), expected packed pixels"),
        (IMAGE, (0, 4), r"size is \(0, 4\), expected \(height, width\), each from 1 to 16777216"),
        (IMAGE, (4, 2**80), r"size is \(4, \d+\), expected \(height, width\), each from 1 to 16777216"),
        (IMAGE, (4,), r"size is \(4,\), expected \(height, width\) as whole numbers"),
        (IMAGE, (4, float("nan")), r"size is \(4, nan\), expected \(height, width\) as whole numbers"),
        (IMAGE, 4, r"size is a int, expected \(height, width\) as whole numbers"),
    ],
)
def test_a_bad_image_or_size_is_a_sentence(image: Any, size: Any, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        preprocess.resize(image, size)


@pytest.mark.parametrize(
    ("crop", "sentence"),
    [
        ((0, 0, 5, 4), r"crop is \(0, 0, 5, 4\), expected \(top, left, height, width\) inside the resized picture of"),
        ((-1, 0, 1, 1), "inside the resized picture"),
        ((0, 2**70, 1, 1), "inside the resized picture"),
        ((0, 0, 0, 1), "with no empty side"),
        ((0, 0, float("nan"), 1), "as whole numbers"),
        (None, "crop is a NoneType"),
    ],
)
def test_a_bad_crop_is_a_sentence(crop: Any, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        preprocess.resize_crop(IMAGE, READABLE, crop)


def test_an_unknown_instruction_set_is_a_sentence() -> None:
    with pytest.raises(ImageError, match='isa is "mmx", but this CPU and this build have: auto, scalar'):
        preprocess.resize(IMAGE, READABLE, isa="mmx")


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLEGAN_EDGE_ISA", "scalar")
    assert preprocess.default_isa() == "scalar"

    monkeypatch.setenv("CYCLEGAN_EDGE_ISA", "mmx")
    with pytest.raises(ImageError, match='CYCLEGAN_EDGE_ISA is "mmx"'):
        preprocess.resize(IMAGE, READABLE)
