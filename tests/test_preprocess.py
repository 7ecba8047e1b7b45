"""The data path against Pillow 12 and torchvision: the largest difference allowed is 0, on every instruction set."""

import ctypes
from pathlib import Path
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


@every_isa
@settings(deadline=None, max_examples=10)
@given(
    source=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
def test_resize_equals_pillow_at_large_sizes(isa: str, source: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*source)

    ours = preprocess.resize(image, size, isa=isa)

    np.testing.assert_array_equal(ours, pillow(image, size))


@every_isa
@settings(deadline=None, max_examples=25)
@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)), times=st.tuples(st.integers(1, 20), st.integers(1, 20))
)
def test_enlarging_equals_pillow(isa: str, source: tuple[int, int], times: tuple[int, int]) -> None:
    image = noise(*source)
    size = source[0] * times[0], source[1] * times[1]

    ours = preprocess.resize(image, size, isa=isa)

    np.testing.assert_array_equal(ours, pillow(image, size))


@every_isa
def test_resize_equals_pillow_on_photographs(isa: str, test_data: Path) -> None:
    horses = sorted((test_data / "horse2zebra" / "testA").glob("*"))[:8]
    paths = sorted((test_data / "photos").glob("skimage_*")) + horses
    assert paths

    for path in paths:
        with Image.open(path) as opened:
            image = np.asarray(opened.convert("RGB"))
        for size in [(286, 286), (128, 200)]:
            ours = preprocess.resize(image, size, isa=isa)
            np.testing.assert_array_equal(ours, pillow(image, size), err_msg=path.name)


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


def test_an_array_over_memory_of_ctypes_is_taken() -> None:
    """Its dtype equals numpy's uint8 but is another object."""
    memory = (ctypes.c_uint8 * (16 * 16 * 3))(*range(256), *range(256), *range(256))
    image = np.ctypeslib.as_array(memory).reshape(16, 16, 3)
    assert image.dtype is not np.dtype(np.uint8)

    np.testing.assert_array_equal(
        preprocess.resize(image, (8, 8)), preprocess.resize(np.array(image, np.uint8), (8, 8))
    )


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


@every_isa
def test_bgr_frames_come_out_as_rgb_and_go_back(isa: str) -> None:
    image = noise(90, 120)
    frame = np.ascontiguousarray(image[..., ::-1])

    small = preprocess.resize(frame, (64, 64), bgr=True, isa=isa)
    back = preprocess.resize(small, (90, 120), bgr=True, isa=isa)

    np.testing.assert_array_equal(small, pillow(image, (64, 64)))
    np.testing.assert_array_equal(back, pillow(small, (90, 120))[..., ::-1])


def test_out_may_be_a_window_of_a_larger_array() -> None:
    image = noise(90, 120)
    letterbox = np.full((2, 3, 64, 64), -1, np.float32)

    returned = preprocess.resize_crop(image, (48, 64), (0, 0, 48, 64), out=letterbox[1, :, 8:56])

    assert returned.base is letterbox
    np.testing.assert_array_equal(letterbox[1, :, 8:56], preprocess.resize_crop(image, (48, 64), (0, 0, 48, 64)))
    assert (letterbox[0] == -1).all()
    assert (letterbox[1, :, :8] == -1).all()
    assert (letterbox[1, :, 56:] == -1).all()


def test_out_may_be_the_memory_of_a_torch_tensor() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    image = noise(90, 120)
    batch = torch.zeros(2, 3, 32, 32)

    preprocess.resize_crop(image, (32, 32), (0, 0, 32, 32), True, out=batch[1].numpy())

    np.testing.assert_array_equal(batch[1].numpy(), preprocess.resize_crop(image, (32, 32), (0, 0, 32, 32), True))


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


READ_ONLY = np.zeros((3, 4, 4), np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        (np.zeros((3, 4, 5), np.float32), r"out has shape \(3, 4, 5\), expected \(3, 4, 4\)"),
        (np.zeros((3, 4, 4), np.float64), 'out has the buffer format "d", expected float32'),
        (np.zeros((3, 4, 8), np.float32)[..., ::2], r"out has strides \(128, 32, 8\), expected packed rows"),
        (np.zeros((3, 4, 4), np.float32)[:, ::-1], r"out has strides \(64, -16, 4\), expected packed rows"),
        (READ_ONLY, "out is read-only"),
        ("memory", "out is a str, expected None or a numpy array"),
    ],
)
def test_a_bad_output_is_a_sentence(out: Any, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence):
        preprocess.resize_crop(IMAGE, READABLE, (0, 0, 4, 4), out=out)


def test_writing_over_the_picture_is_refused() -> None:
    memory = np.zeros(400, np.float32)
    image, out = memory[:48].view(np.uint8).reshape(8, 8, 3), memory[40:88].reshape(3, 4, 4)

    with pytest.raises(ImageError, match="out shares memory with the picture"):
        preprocess.resize_crop(image, READABLE, (0, 0, 4, 4), out=out)


def test_an_unknown_instruction_set_is_a_sentence() -> None:
    with pytest.raises(ImageError, match='isa is "mmx", but this CPU and this build have: auto, scalar'):
        preprocess.resize(IMAGE, READABLE, isa="mmx")


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLEGAN_EDGE_ISA", "scalar")
    assert preprocess.default_isa() == "scalar"

    monkeypatch.setenv("CYCLEGAN_EDGE_ISA", "mmx")
    with pytest.raises(ImageError, match='CYCLEGAN_EDGE_ISA is "mmx"'):
        preprocess.resize(IMAGE, READABLE)


@pytest.mark.parametrize("option", [{"isa": 3}, {"bgr": "yes"}])
def test_an_option_of_a_wrong_type_is_one_sentence(option: dict[str, Any]) -> None:
    with pytest.raises(
        ImageError, match=r"^An option has a wrong type, expected .* correct the one that has another\.$"
    ):
        preprocess.resize(np.zeros((4, 4, 3), np.uint8), (2, 2), **option)
