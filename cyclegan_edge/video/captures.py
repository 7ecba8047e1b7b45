"""Cameras and files through OpenCV: V4L2, GStreamer on a Jetson, FFmpeg. Frames are uint8 (H, W, 3) BGR.

Raises SourceError with what was found and what to do.
"""

import contextlib
import os
import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SourceError
from cyclegan_edge.hearing import Hearing
from cyclegan_edge.video.frames import BgrPicture, Clock, Frame, Source

DEFAULT_FPS = 30.0

_LOW_DELAY = "flags;low_delay|rtsp_transport;tcp"  # FFmpeg's options, as OpenCV takes them
_NO_BUFFER = "|fflags;nobuffer"  # of a file on a server it would give no frame at all
_OPEN_TIMEOUT = 10_000  # ms, to reach a stream
_READ_TIMEOUT = 5_000  # ms without a frame until a stream counts as lost
_CSI_TIMEOUT = 15.0  # s; the sensor takes one or two
_SILENT = 0  # OpenCV's level for nothing at all
_OLDEST_STAMP = 1.0  # s: a driver's time stamp older than this is on another clock


class Capture(Protocol):
    """The part of cv2.VideoCapture that is used here."""

    def read(self) -> tuple[bool, Any]: ...

    def get(self, prop: int, /) -> float: ...

    def release(self) -> None: ...


class FileSource:
    """A video file, or a stream that has an end: every frame, in order."""

    live = False
    stamp = "it was decoded"

    def __init__(self, name: str, capture: Capture, first: BgrPicture, clock: Clock) -> None:
        self.name = name
        self.size: Size = (first.shape[0], first.shape[1])
        self.fps = _stated_fps(capture)
        self.length = _stated_length(capture)
        self._capture, self._clock = capture, clock
        self._first: BgrPicture | None = first
        self._index = -1

    def read(self) -> Frame | None:
        image, self._first = self._first, None
        if image is None:
            image = _grab(self._capture)
        if image is None:
            return None
        self._index += 1
        return Frame(image, self._clock(), self._index)

    def close(self) -> None:
        self._capture.release()


class CameraSource:
    """A camera. With `driver_stamps` a frame is as old as V4L2 says, where its clock is ours."""

    live = True
    length: int | None = None

    def __init__(
        self, name: str, capture: Capture, first: BgrPicture, clock: Clock, *, driver_stamps: bool = False
    ) -> None:
        self.name = name
        self.size: Size = (first.shape[0], first.shape[1])
        self.fps = _stated_fps(capture)
        self._capture, self._clock, self._driver_stamps = capture, clock, driver_stamps
        self._index = -1
        self.stamp = "the driver stamped it" if self._driver_stamp() is not None else "it was read"

    def read(self) -> Frame:
        image = _grab(self._capture)
        if image is None:
            raise SourceError(f"{self.name} stopped giving pictures; check its cable, then start again.")
        self._index += 1
        captured = self._driver_stamp()
        return Frame(image, self._clock() if captured is None else captured, self._index)

    def close(self) -> None:
        self._capture.release()

    def _driver_stamp(self) -> float | None:
        """When the driver took the frame: what V4L2 says through CAP_PROP_POS_MSEC, unless that is another clock."""
        if not self._driver_stamps:
            return None
        taken, now = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, self._clock()
        return taken if now - _OLDEST_STAMP < taken <= now else None


def csi_pipeline(sensor: int, size: Size, fps: float) -> str:
    """GStreamer's words for a Jetson camera; the appsink holds one frame and drops the older one."""
    height, width = size
    return (
        f"nvarguscamerasrc sensor-id={sensor}"
        f" ! video/x-raw(memory:NVMM), width={width}, height={height}, format=NV12, framerate={round(fps)}/1"
        f" ! nvvidconv ! video/x-raw, format=BGRx"
        f" ! videoconvert ! video/x-raw, format=BGR"
        f" ! appsink drop=true max-buffers=1 sync=false"
    )


def open_camera(text: str, size: Size, fps: float, clock: Clock) -> Source:
    device = Path(f"/dev/video{text}") if text.isdecimal() else Path(text)
    if not device.exists():
        found = f"found {', '.join(cameras())}" if cameras() else "this machine has no /dev/video*"
        raise SourceError(f"There is no camera {device}: {found}; plug one in, or try `--source synthetic`.")
    number = re.fullmatch(r"/dev/video(\d+)", str(device.resolve()))  # by-id names are links; V4L2 takes the number
    if number is None:
        raise SourceError(f"{device} is no camera, expected a /dev/video*.")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(
            f"{device} may not be opened by this user; join its group with `sudo usermod -aG video $USER`, "
            f"then log in again."
        )
    height, width = size
    compressed = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")]
    wanted = [
        *(compressed if height * width > 640 * 480 else []),  # plain, USB 2 carries larger pictures at 5 to 10 fps only
        *(cv2.CAP_PROP_FRAME_WIDTH, width),
        *(cv2.CAP_PROP_FRAME_HEIGHT, height),
        *(cv2.CAP_PROP_FPS, round(fps)),
    ]  # no smaller CAP_PROP_BUFFERSIZE: the capture thread empties the queue, and a driver with one buffer skips frames
    opened = _open(int(number[1]), cv2.CAP_V4L2, wanted)
    if opened is None:
        raise SourceError(
            f"{device} is there but gives no pictures; close other programs that use it, "
            f"or try another of {', '.join(cameras())}."
        )
    return CameraSource(f"camera {device}", *opened, clock, driver_stamps=True)


def open_csi(sensor: int, size: Size, fps: float, clock: Clock) -> Source:
    if not has_gstreamer():
        raise SourceError(
            f"csi://{sensor} needs an OpenCV with GStreamer, and this one ({cv2.__version__}) has none; on a Jetson "
            f"use JetPack's: `pip uninstall opencv-python` in an environment made with --system-site-packages."
        )
    opened = _open_within(_CSI_TIMEOUT, csi_pipeline(sensor, size, fps), cv2.CAP_GSTREAMER)
    if opened is None:
        raise SourceError(
            f"csi://{sensor} gives no pictures; check the ribbon cable, restart the camera service with "
            f"`sudo systemctl restart nvargus-daemon`, and see that `nvarguscamerasrc` is installed."
        )
    return CameraSource(f"csi://{sensor}", *opened, clock)


def open_stream_with_opencv(url: str, name: str, clock: Clock) -> Source:
    """A stream through OpenCV's FFmpeg, where PyAV is missing; or a file on a server, which has an end."""
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT]
    with _capture_options(_LOW_DELAY + (_NO_BUFFER if url.startswith("rtsp") else "")):
        opened = _open(url, cv2.CAP_FFMPEG, timeouts)
    if opened is None:
        raise SourceError(f"{name} does not answer with a video; check the address and that it is sending.")
    if _stated_length(opened[0]) is not None:
        return FileSource(name, *opened, clock)
    return CameraSource(name, *opened, clock)


def open_file(path: Path, clock: Clock) -> Source:
    """A video file."""
    opened = _open(str(path), cv2.CAP_FFMPEG)
    if opened is None:
        raise SourceError(
            f"{path} holds no video that can be decoded; see whether it plays elsewhere, or copy it again."
        )
    return FileSource(str(path), *opened, clock)


def cameras() -> list[str]:
    """The video devices of this machine, /dev/video0 first."""
    return [str(path) for path in sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name))]


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer, which `csi://` needs."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from explaining a failure on stderr while this package does it in one sentence."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when FFmpeg is first used; a person's own value stands
    level = _set_log_level(_SILENT)
    try:
        yield
    finally:
        _set_log_level(level)


@contextlib.contextmanager
def _capture_options(options: str) -> Iterator[None]:
    """Give FFmpeg options, unless a person did. OpenCV reads them from the environment each time it opens something."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    own = name not in os.environ
    os.environ.setdefault(name, options)
    try:
        yield
    finally:
        if own:
            del os.environ[name]


def _set_log_level(level: int) -> int:
    """Set OpenCV's log level and return the old one. OpenCV 4, which JetPack has, keeps it at the top."""
    if hasattr(cv2, "setLogLevel"):
        return int(cv2.setLogLevel(level))
    return cv2.utils.logging.setLogLevel(level)


def _open(what: str | int, api: int, settings: list[int] | None = None) -> tuple[Capture, BgrPicture] | None:
    """An open capture and its first picture, or None: a device that opens may still give nothing."""
    with quiet_opencv():
        capture = cv2.VideoCapture(what, api, settings or [])
        first = _grab(capture) if capture.isOpened() else None
    if first is None:
        capture.release()
        return None
    return capture, first


def _open_within(seconds: float, what: str, api: int) -> tuple[Capture, BgrPicture] | None:
    """`_open`, but None when it takes longer: GStreamer waits for ever for a missing element or a stuck service."""
    opened: queue.SimpleQueue[tuple[Capture, BgrPicture] | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: opened.put(_open(what, api)), name="open", daemon=True).start()
    try:
        return opened.get(timeout=seconds)
    except queue.Empty:
        return None


def _grab(capture: Capture) -> BgrPicture | None:
    with Hearing():  # many USB cameras send JPEGs with stray bytes, of which libjpeg would print a line each
        given, image = capture.read()
    return image if given else None


def _stated_fps(capture: Capture) -> float:
    stated = capture.get(cv2.CAP_PROP_FPS)
    return stated if 0 < stated <= 1000 else DEFAULT_FPS  # streams and some drivers say 0, or their tick rate


def _stated_length(capture: Capture) -> int | None:
    stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return stated if stated > 0 else None
