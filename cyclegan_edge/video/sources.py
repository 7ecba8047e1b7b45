"""Where frames come from. `open_source` tells the kinds apart by their text alone:

    0, /dev/video0      a camera, through V4L2
    csi://0             a camera on a Jetson's ribbon connector, through GStreamer
    rtsp://…, http://…  a stream, through FFmpeg
    screen              what is on the screen, under X
    synthetic           an endless pan over a summer landscape, where there is no camera
    a folder            its pictures, one after the other
    anything else       a video file

Frames are uint8 (H, W, 3) BGR. Raises SourceError with what was found and what to do.
"""

import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import ImageError, SourceError
from cyclegan_edge.images import list_images, read_image
from cyclegan_edge.video import synthetic
from cyclegan_edge.video.captures import DEFAULT_FPS, open_camera, open_csi, open_file, open_stream_with_opencv
from cyclegan_edge.video.frames import BgrPicture, Clock, Frame, Source
from cyclegan_edge.video.streams import has_av, open_screen, open_stream

CAMERA_SIZE: Size = (480, 640)  # what every camera can do
CSI_SIZE: Size = (720, 1280)  # Argus scales what the sensor sees
FOLDER_FPS = 1.0

_KINDS = "a camera's number, /dev/video0, csi://0, rtsp://…, http://…, screen, synthetic, a folder or a video file"


def open_source(
    text: str, *, size: Size | None = None, fps: float | None = None, clock: Clock = time.monotonic
) -> Source:
    """Open what `text` names (see the top of this file).

    `size` and `fps` are asked of a camera, which may give others, and of `synthetic`; `fps` of a screen and a folder.
    A file or stream has its own.
    """
    match text.partition("://"):
        case ("synthetic", "", ""):
            return synthetic.SyntheticSource(size=size or synthetic.SIZE, fps=fps or synthetic.FPS, clock=clock)
        case ("screen", "", ""):
            _refuse_settings(text, size, None)
            return open_screen(fps=fps or DEFAULT_FPS, clock=clock)
        case ("csi", _, sensor) if sensor.isdecimal():
            return open_csi(int(sensor), size or CSI_SIZE, fps or DEFAULT_FPS, clock)
        case ("rtsp" | "rtsps" | "http" | "https", "://", _):
            _refuse_settings(text, size, fps)
            return _open_stream(text, clock)
        case (_, "://", _):
            raise SourceError(f"The source {text} is of no known kind; use {_KINDS}.")
        case _ if text.isdecimal() or text.startswith("/dev/"):
            return open_camera(text, size or CAMERA_SIZE, fps or DEFAULT_FPS, clock)
        case _ if Path(text).is_dir():
            _refuse_settings(text, size, None)
            return FolderSource(Path(text), fps or FOLDER_FPS, clock)
        case _ if Path(text).is_file():
            _refuse_settings(text, size, fps)
            return open_file(Path(text), clock)
        case _:
            raise SourceError(f"The source {text} is not there; use {_KINDS}.")


class FolderSource:
    """The pictures of a folder, by name, each fitted into the size of the first on black."""

    live = False
    stamp = "it was read"

    def __init__(self, folder: Path, fps: float, clock: Clock) -> None:
        """Raises SourceError for a folder without pictures."""
        self._files = list_images(folder)
        if not self._files:
            raise SourceError(f"{folder} holds no picture; name a folder that does, or a video file.")
        self.name, self.fps = str(folder), fps
        self.length: int | None = len(self._files)
        first = read_image(self._files[0])
        self.size: Size = (first.shape[0], first.shape[1])
        self._clock, self._index = clock, -1

    def read(self) -> Frame | None:
        if self._index + 1 == self.length:
            return None
        self._index += 1
        try:
            image = read_image(self._files[self._index])
        except ImageError as error:
            raise SourceError(str(error)) from error
        return Frame(
            _letterboxed(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8), self.size),
            self._clock(),
            self._index,
        )

    def close(self) -> None:
        pass


def _open_stream(url: str, clock: Clock) -> Source:
    name = without_password(url)
    stream = open_stream(url, name, clock=clock) if has_av() else None
    return stream or open_stream_with_opencv(url, name, clock)


def _refuse_settings(text: str, size: Size | None, fps: float | None) -> None:
    if size is not None or fps is not None:
        raise SourceError(
            f"{without_password(text)} has its own size and rate; only a camera or synthetic can be asked for one."
        )


def _letterboxed(picture: BgrPicture, size: Size) -> BgrPicture:
    """The whole picture as large as `size` holds it, on black."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    whole = np.zeros((*size, 3), np.uint8)
    whole[top : top + height, left : left + width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return whole


def without_password(url: str) -> str:
    """An address as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.scheme else url
