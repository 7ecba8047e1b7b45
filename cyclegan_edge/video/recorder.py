"""Sinks that are files: a recording of what happens, and a video of every frame.

`Recorder` writes to its final name from the first picture on, never over another file, and what is written survives a
kill. `open_video` is for work that can be repeated: its file appears whole or not at all.
"""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SinkError
from cyclegan_edge.files import atomic_file
from cyclegan_edge.video.captures import quiet_opencv
from cyclegan_edge.video.clip import AvClip
from cyclegan_edge.video.encode import VideoWriter, check_suffix, open_writer
from cyclegan_edge.video.frames import Notify, Rendered
from cyclegan_edge.video.streams import has_av

_RESERVE = 32 << 20  # bytes left free: a video can only be finished while there is room
_LOOK = 30  # pictures between two looks at the disk


class Recorder:
    """A sink that records while it is on; `start` and `stop` may be called from any thread.

    With `segment` a new file begins every so many seconds, and whenever pictures change their size.
    """

    name = "the recording"

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        segment: float | None = None,
        on: bool = True,
        notify: Notify = lambda _: None,
        today: Callable[[str], str] = time.strftime,
    ) -> None:
        """Raises SinkError for a name that cannot be written to."""
        check_suffix(path)
        if not has_av() and path.suffix.lower() == ".mp4":
            path = path.with_suffix(".mkv")
            notify(
                f"Without PyAV it is recorded to {path}, as MJPEG, which survives a kill but plays in no browser; for "
                f"H.264 in .mp4 `pip install 'cyclegan-edge[video]'`."
            )
        self.path: Path | None = None  # of the file that is being written
        self._asked, self._fps, self._segment, self._notify, self._today = path, fps, segment, notify, today
        self._lock = threading.Lock()
        self._on = on
        self._writer: VideoWriter | None = None
        self._size: Size = (0, 0)
        self._first = 0.0  # s, when the first picture of the file was captured
        self._written = 0  # pictures in the file

    @property
    def on(self) -> bool:
        return self._on

    def start(self) -> None:
        with self._lock:
            self._on = True

    def stop(self) -> None:
        """Finish the file, if there is one. Raises SinkError."""
        with self._lock:
            self._on = False
            self._finish()

    def show(self, rendered: Rendered) -> bool:
        picture, captured = rendered.picture, rendered.frame.captured
        with self._lock:
            if self._on and rendered.notice is None:
                if self._writer is not None and self._is_over(picture.shape[:2], captured):
                    self._finish()
                if self._writer is None:
                    self._begin(picture.shape[:2], captured)
                self._check_disk()
                assert self._writer is not None
                self._writer.write(picture, captured - self._first)
                self._written += 1
        return True

    def _is_over(self, size: tuple[int, ...], captured: float) -> bool:
        return size != self._size or (self._segment is not None and captured - self._first >= self._segment)

    def _begin(self, size: tuple[int, ...], captured: float) -> None:
        path = self._asked
        if self._segment is not None:
            path = path.with_stem(f"{path.stem}-{self._today('%Y%m%d-%H%M%S')}")
        path = _unused(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{path} cannot be written ({error.strerror}); name a video in another folder.") from error
        self._size = (size[0], size[1])
        self._writer = open_writer(path, size=self._size, fps=self._fps, survives=True)
        self.path, self._first, self._written = path, captured, 0
        self._notify(f"Recording to {path}.")

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            self._notify(f"{self.path} is finished: {self._written} pictures.")

    def _check_disk(self) -> None:
        assert self.path is not None
        if self._written % _LOOK == 0 and (free := shutil.disk_usage(self.path.parent).free) < _RESERVE:
            self._on = False
            self._finish()
            raise SinkError(f"{self.path} ends here: its disk has {free >> 20} MB left; make room before the next one.")


@contextlib.contextmanager
def open_recording(recorder: Recorder) -> Iterator[Recorder]:
    """`recorder`, finished when the block ends, however it ends."""
    try:
        yield recorder
    finally:
        recorder.stop()


class VideoFile:
    """A sink that writes each picture as one frame, made by `open_video`."""

    def __init__(self, path: Path, writer: VideoWriter, size: Size, fps: float | None) -> None:
        """Without `fps` a picture is shown when its frame was captured."""
        self.name, self.written = str(path), 0  # frames
        self._path, self._writer, self._size, self._fps = path, writer, size, fps

    def show(self, rendered: Rendered) -> bool:
        picture = rendered.picture
        if picture.shape[:2] != self._size:
            raise SinkError(
                f"{self._path} holds pictures of {self._size[1]}x{self._size[0]}, but frame {rendered.frame.index} is "
                f"{picture.shape[1]}x{picture.shape[0]}; record it again from here."
            )
        if self.written % _LOOK == 0 and (free := shutil.disk_usage(self._path.parent).free) < _RESERVE:
            raise SinkError(
                f"{self._path} ends here: its disk has {free >> 20} MB left; make room before the next one."
            )
        self._writer.write(picture, self.written / self._fps if self._fps else rendered.frame.captured)
        self.written += 1
        return True


@contextlib.contextmanager
def open_video(path: Path, *, size: Size, fps: float, clip: AvClip | None = None) -> Iterator[VideoFile]:
    """A video file of pictures of `size`, whole or not at all: it appears at `path` when the block ends well.

    The suffix chooses the format, see `encode`. Pictures from a `clip` keep its times, its sound and its pixel aspect;
    others are 1 / `fps` apart. Raises SinkError.
    """
    check_suffix(path)
    try:
        with atomic_file(path) as partial:
            writer = open_writer(partial, size=size, fps=fps, survives=False, clip=clip)
            video = VideoFile(path, writer, size, None if clip else fps)
            try:
                yield video
            finally:
                writer.close()
            if not video.written:
                raise SinkError(f"{path} was not written: there was no frame to put in it.")
            _check_video(partial, path, video.written)
    except OSError as error:
        raise SinkError(f"{path} cannot be written ({error.strerror}); name a video in another folder.") from error


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


def _unused(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that is not there."""
    number, unused = 1, path
    while unused.exists():
        number += 1
        unused = path.with_stem(f"{path.stem}-{number}")
    return unused
