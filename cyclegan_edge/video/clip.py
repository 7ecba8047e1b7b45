"""A video file that is translated as a whole, through PyAV: what OpenCV alone loses is kept.

    time     of every picture, also where the rate varies
    turn     pictures are upright
    aspect   of pixels that are not square
    sound    the first track: as it is where browsers play that in .mp4, else as AAC

Other tracks, subtitles, chapters and titles are not kept.
"""

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SourceError
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.streams import DEFAULT_FPS

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

    Packets = Generator[Packet[Any], None, None]

_COPIED = {"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"}  # sound in .mp4 as it is


class AvClip:
    """The pictures of a video file, each `captured` at its time in seconds since the start of the file."""

    live = False
    stamp = "it is shown"

    def __init__(self, path: Path) -> None:
        """Raises SourceError for a file without a picture that can be decoded."""
        import av

        self.name, self._path, self._index = str(path), path, -1
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise _no_video(path) from error
        if not self._container.streams.video:
            self._container.close()
            raise _no_video(path)
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self.fps = float(stream.average_rate or DEFAULT_FPS)
        self.aspect: Fraction | None = stream.sample_aspect_ratio or None
        self.length: int | None = stream.frames or None
        self._start = (self._container.start_time or 0) / av.time_base  # s
        self._turns = 0  # quarters, counterclockwise, that make the last picture upright
        self._pictures = self._decoded()
        first = next(self._pictures, None)
        if first is None:
            self._container.close()
            raise _no_video(path)
        self._first: tuple[BgrPicture, float] | None = first
        if self.aspect and self._turns % 2:
            self.aspect = 1 / self.aspect
        self.size: Size = (first[0].shape[0], first[0].shape[1])

    def read(self) -> Frame | None:
        """The next picture; None at the end. Raises SourceError when pictures change their size."""
        read, self._first = self._first or next(self._pictures, None), None
        if read is None:
            return None
        picture, seconds = read
        self._index += 1
        if picture.shape[:2] != self.size:
            raise SourceError(
                f"{self.name} changes from {self.size[1]}x{self.size[0]} to {picture.shape[1]}x{picture.shape[0]} at "
                f"picture {self._index}; convert it to one size first."
            )
        return Frame(picture, seconds, self._index)

    def sound(self, output: "OutputContainer") -> "Sound | None":
        """Its first sound track with a place in another file, which nothing has been written to yet."""
        return Sound(self._path, self._start, output) if self._container.streams.audio else None

    def close(self) -> None:
        self._pictures.close()
        self._container.close()

    def _decoded(self) -> Generator[tuple[BgrPicture, float], None, None]:
        import av

        seconds = -1 / self.fps
        for packet in _packets(self._container, "video"):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:  # damaged; the pictures after it may be whole
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                seconds = seconds + 1 / self.fps if frame.time is None else frame.time - self._start
                self._turns = round(frame.rotation / 90)
                picture = np.rot90(frame.to_ndarray(format="bgr24"), self._turns)
                yield np.ascontiguousarray(picture, np.uint8), seconds


class Sound:
    """A sound track on its way from one file into another."""

    def __init__(self, path: Path, start: float, output: "OutputContainer") -> None:
        """`start`: seconds in `path` that are 0 in `output`."""
        import av

        self._input, self._start = av.open(str(path)), start
        track = self._input.streams.audio[0]
        if track.codec_context.name in _COPIED:
            self._packets = self._copied(output.add_stream_from_template(track))
        else:
            stream = output.add_stream("aac", rate=track.rate or 48_000)
            stream.codec_context.layout = "mono" if track.channels == 1 else "stereo"
            self._packets = self._encoded(stream)
        self._waiting = next(self._packets, None)

    def until(self, seconds: float) -> "Packets":
        """What belongs before a time in the other file."""
        while (packet := self._waiting) is not None:
            if packet.dts is not None and packet.time_base and packet.dts * packet.time_base > seconds:
                return
            self._waiting = next(self._packets, None)
            yield packet

    def close(self) -> None:
        self._input.close()

    def _copied(self, stream: Any) -> "Packets":
        for packet in _packets(self._input, "audio"):
            if packet.dts is not None and packet.pts is not None and packet.time_base:
                shift = round(self._start / packet.time_base)
                packet.dts, packet.pts, packet.stream = packet.dts - shift, packet.pts - shift, stream
                yield packet

    def _encoded(self, stream: Any) -> "Packets":
        import av

        for packet in _packets(self._input, "audio"):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:  # damaged
                continue
            for frame in frames:
                if frame.pts is not None and frame.time_base:
                    frame.pts -= round(self._start / frame.time_base)
                yield from stream.encode(frame)
        yield from stream.encode(None)


def _packets(container: "InputContainer", kind: str) -> "Packets":
    """The packets of the first track of a kind, as far as the file can be read."""
    import av

    try:
        yield from container.demux(**{kind: 0})
    except (av.error.FFmpegError, OSError):
        return


def _no_video(path: Path) -> SourceError:
    return SourceError(f"{path} holds no video that can be decoded; see whether it plays elsewhere, or copy it again.")
