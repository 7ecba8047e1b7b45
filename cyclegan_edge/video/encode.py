"""Writes pictures with their times into a video file.

    AvWriter       H.264 in .mp4 or .mkv through PyAV, every picture at its own time; browsers play it
    OpenCvWriter   MJPEG in .avi or .mkv, or MPEG-4 in .mp4, at a constant rate: pictures are repeated, or left out

With `survives` whatever was written plays even when the process is killed in the next moment: .mp4 in fragments of a
second, .mkv and .avi without an end. A plain .mp4 is nothing until it is closed, but can be searched in faster.
"""

import contextlib
import ctypes
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SinkError, first_line
from cyclegan_edge.video.captures import quiet_opencv
from cyclegan_edge.video.frames import BgrPicture
from cyclegan_edge.video.streams import has_av

if TYPE_CHECKING:
    from cyclegan_edge.video.clip import AvClip

SUFFIXES = (".mp4", ".mkv", ".avi")

_TIME_BASE = Fraction(1, 90_000)  # s, what H.264 is timed in everywhere
_KEYFRAME = 1.0  # s between two, and so of a fragment
_QUALITY = "20"  # x264's constant rate factor: hardly to be told from the picture itself
_PRESET = "superfast"  # 720p takes 5 ms of one core; a device that translates has no more to spare
_ONE_THREAD = 1280 * 720  # pixels that one thread encodes in a few ms
_BT709 = 1  # FFmpeg's number, for the matrix, the primaries and the transfer: what browsers assume
_LONGEST_GAP = 3600.0  # s that OpenCvWriter fills with repeated pictures: of a longer outage only this much


class VideoWriter(Protocol):
    """An open video file."""

    def write(self, picture: BgrPicture, seconds: float) -> None:
        """Add a picture at its time since the first one. Raises SinkError."""

    def close(self) -> None:
        """Finish the file. Raises SinkError."""


def open_writer(path: Path, *, size: Size, fps: float, survives: bool, clip: "AvClip | None" = None) -> VideoWriter:
    """Start the video `path`; `fps` is what it will be about, or exactly for OpenCvWriter.

    `clip` is where sound and pixel aspect come from. Raises SinkError.
    """
    if has_av() and path.suffix.lower() != ".avi":
        return AvWriter(path, size=size, fps=fps, survives=survives, clip=clip)
    return OpenCvWriter(path, size=size, fps=fps)


def check_suffix(path: Path) -> None:
    """Raise SinkError for a name that no writer can write to."""
    if path.suffix.lower() not in SUFFIXES:
        raise SinkError(
            f"The video {path} should end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, not in {path.suffix!r}; "
            f"name it {path.stem}.mp4."
        )


class AvWriter:
    """H.264 through PyAV."""

    def __init__(self, path: Path, *, size: Size, fps: float, survives: bool, clip: "AvClip | None" = None) -> None:
        import av

        flags = "frag_keyframe+empty_moov+default_base_moof" if survives else "faststart"
        movflags = {"movflags": flags} if path.suffix.lower() == ".mp4" else {}
        self._path, self._survives = path, survives
        self._last = -1  # time of the last picture, in units of _TIME_BASE
        self._keyframe: int | None = None  # time of the last keyframe
        try:
            self._container: Any = av.open(str(path), "w", options={**movflags, "flush_packets": "1"})
            self._stream: Any = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(
                f"{path} cannot be written ({first_line(error)}); name a video in another folder."
            ) from error
        self._pad = size[0] % 2, size[1] % 2  # colours are stored at half the size
        stream = self._stream
        stream.height, stream.width = size[0] + self._pad[0], size[1] + self._pad[1]
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": _PRESET, "crf": _QUALITY, **({"tune": "zerolatency"} if survives else {})}
        codec = stream.codec_context
        codec.time_base = _TIME_BASE
        codec.thread_count = 1 if size[0] * size[1] <= _ONE_THREAD else 0  # threads of its own scatter the heap
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        if clip and clip.aspect:
            codec.sample_aspect_ratio = clip.aspect
        self._sound = clip.sound(self._container) if clip else None

    def write(self, picture: BgrPicture, seconds: float) -> None:
        import av

        if any(self._pad):
            below, right = self._pad
            picture = np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
            format="yuv420p", dst_colorspace=av.video.reformatter.Colorspace.ITU709
        )
        frame.pts = self._last = max(self._last + 1, round(seconds / _TIME_BASE))
        frame.time_base = _TIME_BASE
        if self._survives and (self._keyframe is None or self._last - self._keyframe >= _KEYFRAME / _TIME_BASE):
            frame.pict_type, self._keyframe = av.video.frame.PictureType.I, self._last
        self._mux(frame, seconds)

    def close(self) -> None:
        try:
            self._mux(None, math.inf)
            if self._sound:
                self._sound.close()
            self._container.close()
        except OSError as error:
            raise self._unwritten(error) from error
        finally:
            self._container = self._stream = None
            _give_back_memory()

    def _mux(self, frame: Any, seconds: float) -> None:
        """Encode a frame, or what the encoder still holds, and write it after the sound before its time."""
        import av

        try:
            for packet in self._sound.until(seconds) if self._sound else ():
                self._container.mux(packet)
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> SinkError:
        return SinkError(f"{self._path} cannot be written any more ({first_line(error)}); make room on its disk.")


def _give_back_memory() -> None:
    """An encoder leaves tens of MB in the heap, where the next one's do not fit between the frames: hand them back."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class OpenCvWriter:
    """What OpenCV alone can write."""

    def __init__(self, path: Path, *, size: Size, fps: float) -> None:
        codec = "mp4v" if path.suffix.lower() == ".mp4" else "MJPG"
        with quiet_opencv():
            self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (size[1], size[0]))
        if not self._writer.isOpened():
            raise SinkError(f"{path} cannot be written; check that its folder may be written and has room.")
        self._fps, self._written, self._left_out = fps, 0, 0.0

    def write(self, picture: BgrPicture, seconds: float) -> None:
        gap = seconds - self._left_out - self._written / self._fps
        self._left_out += max(0.0, gap - _LONGEST_GAP)
        due = round((seconds - self._left_out) * self._fps) + 1  # pictures in the file by then
        for _ in range(due - self._written):
            self._writer.write(picture)
        self._written = max(due, self._written)

    def close(self) -> None:
        self._writer.release()
