"""A sink that other programs, video calls and OBS, see as a camera. On Linux it needs v4l2loopback."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SinkError, first_line
from cyclegan_edge.video.frames import Rendered


class VirtualCamera:
    """The sink, made by `open_virtual_camera`; pictures of another size are scaled to its own."""

    def __init__(self, camera: Any, size: Size) -> None:
        self.name = f"the virtual camera {camera.device}"
        self.device: str = camera.device
        self._camera, self._size = camera, size

    def show(self, rendered: Rendered) -> bool:
        picture = rendered.picture
        if picture.shape[:2] != self._size:
            picture = cv2.resize(picture, self._size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        self._camera.send(picture)
        return True


@contextlib.contextmanager
def open_virtual_camera(device: str | None, *, size: Size, fps: float) -> Iterator[VirtualCamera]:
    """A camera of pictures of `size`; `device` is its /dev/video*, None the first that is free. Raises SinkError."""
    if find_spec("pyvirtualcam") is None:
        raise SinkError("A virtual camera needs pyvirtualcam; add it with `pip install pyvirtualcam`.")
    import pyvirtualcam

    try:
        camera = pyvirtualcam.Camera(
            width=size[1], height=size[0], fps=fps, device=device, fmt=pyvirtualcam.PixelFormat.BGR
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise SinkError(
            f"There is no virtual camera {device or ''} here ({first_line(error)}); on Linux make one with "
            f"`sudo modprobe v4l2loopback exclusive_caps=1`."
        ) from error
    with camera:
        yield VirtualCamera(camera, size)
