"""Where pictures go: a window or a video file. (The page in a browser is `cyclegan_edge.web`.)

Each is a context manager that gives a `Sink` and tidies up. Raises SinkError with what is missing and what to do.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SinkError
from cyclegan_edge.files import atomic_file
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.sources import quiet_opencv

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # what every build of OpenCV can write

_QUIT_KEYS = (ord("q"), ord("Q"), 27)  # 27: Esc
_RESERVE = 32 << 20  # bytes left free: a video can only be finished while there is room
_LOOK = 30  # frames between two looks at the disk
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
_PROBE_TIMEOUT = 20  # s; a small device takes a few to import cv2


class Sink(Protocol):
    """Takes pictures, uint8 (H, W, 3) BGR, with the frame each was made from."""

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        """Show one picture; False when the person wants no more."""


class TeeSink:
    """Shows every picture in several places, or in none; the first that has had enough ends it for all."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        wanted = [sink.show(picture, frame) for sink in self._sinks]  # every sink, also after a False
        return all(wanted)


@contextlib.contextmanager
def open_window(title: str, size: Size) -> Iterator[Sink]:
    """A window of `size` at first, which a person may resize; q, Esc or its close button end the show."""
    check_display()
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")  # Qt misses fonts that no window here needs
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, size[1], size[0])
    try:
        yield _Window(title)
    finally:
        cv2.destroyAllWindows()


def check_display() -> None:
    """Raise SinkError when this machine cannot open a window.

    A window is tried in a child process: where there is no usable display, Qt ends the whole process.
    """
    instead = "use --headless, --web or --out FILE"
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise SinkError(
            f"This OpenCV ({cv2.__version__}) was built without windows; install opencv-python instead of "
            f"opencv-python-headless, or {instead}."
        )
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError(f"There is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); {instead}.")
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT, check=True)
        return
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    raise SinkError(
        f"The display {display} does not let OpenCV open a window; start from a desktop session (with ssh: `ssh -X`), "
        f"or {instead}."
    )


@contextlib.contextmanager
def open_video(path: Path, *, size: Size, fps: float, live: bool) -> Iterator[Sink]:
    """A video file of pictures of `size`, whole or not at all: it appears at `path` when the block ends well.

    With `live` a picture is repeated, or left out, so that the video plays as fast as it happened; without, each
    picture is one frame. The suffix chooses the codec: .mp4 or .avi.
    """
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise SinkError(
            f"The video {path} should end in {' or '.join(CODECS)}, not in {path.suffix!r}; name it {path.stem}.mp4."
        )
    try:
        with atomic_file(path) as partial:
            with quiet_opencv():
                writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*codec), fps, (size[1], size[0]))
            if not writer.isOpened():
                raise SinkError(f"{path} cannot be written; check that its folder may be written and has room.")
            video = _Video(path, writer, size, fps, live)
            try:
                yield video
            finally:
                writer.release()
            if not video.written:
                raise SinkError(f"{path} was not written: there was no frame to put in it.")
            _check_video(partial, path, video.written)
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); name a video in another folder.") from error


class _Window:
    def __init__(self, title: str) -> None:
        self._title = title

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        cv2.imshow(self._title, picture)
        if cv2.waitKey(1) & 0xFF in _QUIT_KEYS:
            return False
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1


class _Video:
    def __init__(self, path: Path, writer: cv2.VideoWriter, size: Size, fps: float, live: bool) -> None:
        self.written = 0  # frames
        self._path, self._writer, self._size, self._fps, self._live = path, writer, size, fps, live
        self._first: float | None = None  # when the first frame was captured

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        if picture.shape[:2] != self._size:
            raise SinkError(
                f"{self._path} holds pictures of {self._size[1]}x{self._size[0]}, but frame {frame.index} is "
                f"{picture.shape[1]}x{picture.shape[0]}; record it again from here."
            )
        if self.written % _LOOK == 0 and (free := shutil.disk_usage(self._path.parent).free) < _RESERVE:
            raise SinkError(
                f"{self._path} ends here: its disk has {free >> 20} MB left; make room before the next one."
            )
        if self._first is None:
            self._first = frame.captured
        due = round((frame.captured - self._first) * self._fps) + 1 if self._live else self.written + 1  # frames so far
        for _ in range(due - self.written):
            self._writer.write(picture)
        self.written = max(due, self.written)
        return True


def _check_video(partial: Path, path: Path, written: int) -> None:
    """OpenCV does not report a failed write, so see that the frames are there."""
    with quiet_opencv():
        capture = cv2.VideoCapture(str(partial), cv2.CAP_FFMPEG)
    found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if found != written:
        free = shutil.disk_usage(path.parent).free >> 20
        raise SinkError(
            f"{path} was not written: {found} of {written} frames reached the disk, which has {free} MB left; "
            f"make room and record again."
        )
