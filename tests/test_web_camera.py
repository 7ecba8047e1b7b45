"""The camera of a browser: the newest picture wins, one browser has it, and nothing dubious is decoded."""

import struct
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from cyclegan_edge.web.camera import MAX_BYTES, BrowserSource


def jpeg(level: int, size: tuple[int, int] = (48, 64)) -> bytes:
    return cv2.imencode(".jpg", np.full((*size, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def camera() -> Iterator[BrowserSource]:
    source = BrowserSource()
    yield source
    source.close()


def test_of_the_pictures_that_a_browser_sends_the_newest_wins(camera: BrowserSource) -> None:
    for tag in range(5):
        assert camera.put("phone", tag, jpeg(10 * tag))

    frame = camera.read()

    assert frame is not None
    assert frame.tag == 4


def test_one_browser_has_the_camera_until_it_goes(camera: BrowserSource) -> None:
    assert camera.trouble() is not None
    assert camera.put("phone", 0, jpeg(10))
    assert camera.trouble() is None
    assert not camera.put("laptop", 0, jpeg(10))

    camera.release("phone")

    assert camera.put("laptop", 0, jpeg(10))


@pytest.mark.parametrize(
    "sent",
    [b"", b"GIF89a", jpeg(1)[:10], b"\xff\xd8\xff" + bytes(100), jpeg(1, (16, 4000)), jpeg(1) + bytes(MAX_BYTES)],
)
def test_what_is_too_large_or_no_jpeg_is_not_decoded(camera: BrowserSource, sent: bytes) -> None:
    assert not camera.put("phone", 0, sent)


def test_a_camera_picture_that_is_cut_is_passed_over(camera: BrowserSource) -> None:
    whole = jpeg(50, (200, 200))
    header_only = whole[: whole.index(b"\xff\xda")]
    camera.put("phone", 0, header_only)
    camera.close()

    assert camera.read() is None


def test_a_picture_that_claims_enormous_sides_is_refused(camera: BrowserSource) -> None:
    bomb = bytearray(jpeg(50))
    at = bomb.index(b"\xff\xc0")
    struct.pack_into(">HH", bomb, at + 5, 65500, 65500)

    assert not camera.put("phone", 0, bytes(bomb))


def test_stray_bytes_of_a_browser_print_nothing(camera: BrowserSource, capfd: pytest.CaptureFixture[str]) -> None:
    whole = jpeg(50)
    assert camera.put("phone", 0, whole[:-2] + bytes(40) + whole[-2:])

    assert camera.read() is not None
    assert capfd.readouterr().err == ""
