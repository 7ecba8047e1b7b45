"""The virtual camera, against a stand-in for pyvirtualcam: it needs a kernel module that test machines lack."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video import virtual_camera
from cyclegan_edge.video.frames import BgrPicture, Frame, Rendered
from cyclegan_edge.video.virtual_camera import open_virtual_camera


class Camera:
    """What pyvirtualcam.Camera does, with a list instead of a device."""

    opened: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        if options["device"] == "/dev/video99":
            raise RuntimeError("'/dev/video99' is not a virtual camera")
        self.device, self.sent = options["device"] or "/dev/video7", list[BgrPicture]()
        Camera.opened = options

    def send(self, picture: BgrPicture) -> None:
        self.sent.append(picture)

    def __enter__(self) -> "Camera":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def pyvirtualcam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_camera, "find_spec", lambda _: object())
    module = SimpleNamespace(Camera=Camera, PixelFormat=SimpleNamespace(BGR="bgr"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)


def rendered(size: tuple[int, int]) -> Rendered:
    picture = np.zeros((*size, 3), np.uint8)
    return Rendered(Frame(picture, 0.0, 0), picture, picture)


@pytest.mark.usefixtures("pyvirtualcam")
def test_pictures_are_sent_in_the_size_of_the_camera() -> None:
    with open_virtual_camera(None, size=(48, 64), fps=30) as camera:
        assert camera.show(rendered((48, 64)))
        assert camera.show(rendered((96, 128)))

    assert camera.device == "/dev/video7"
    assert [picture.shape for picture in camera._camera.sent] == [(48, 64, 3)] * 2
    assert (Camera.opened["width"], Camera.opened["height"], Camera.opened["fmt"]) == (64, 48, "bgr")


@pytest.mark.usefixtures("pyvirtualcam")
def test_a_device_that_is_none_is_a_sentence_with_the_module_that_makes_one() -> None:
    with pytest.raises(SinkError, match=r"modprobe v4l2loopback"):
        open_virtual_camera("/dev/video99", size=(48, 64), fps=30).__enter__()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_camera, "find_spec", lambda _: None)

    with pytest.raises(SinkError, match="pip install pyvirtualcam"):
        open_virtual_camera(None, size=(48, 64), fps=30).__enter__()
