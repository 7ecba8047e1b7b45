"""Streams and screens through PyAV, which tells when each picture arrived; needs the extra [video].

FFmpeg is asked to hold nothing back: no buffer in front of the decoder, no threads that each keep a frame. A frame
counts as captured at the earliest moment at which its picture can have arrived, whatever decoding takes after that.
What the camera, its encoder and the network took before cannot be seen from here.
"""

import os
import sys
import time
from collections.abc import Generator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from cyclegan_edge.contract import Size
from cyclegan_edge.errors import SourceError, first_line
from cyclegan_edge.video.frames import Clock, Frame

if TYPE_CHECKING:
    import av.container

OPEN_TIMEOUT, READ_TIMEOUT = 10.0, 5.0  # s to reach a stream; s without a packet until it counts as lost
DEFAULT_FPS = 30.0

_LOW_DELAY = {"fflags": "nobuffer", "flags": "low_delay", "rtsp_transport": "tcp", "analyzeduration": "500000"}
_PARSED = frozenset({"h264", "hevc", "mpeg4"})
_MAX_WAITING = 64  # packets without a picture yet


def has_av() -> bool:
    """Whether PyAV is installed."""
    return find_spec("av") is not None


class AvSource:
    """A live stream or screen. Raises SourceError when it cannot be opened or breaks."""

    live = True
    length: int | None = None

    def __init__(self, name: str, container: "av.container.InputContainer", clock: Clock) -> None:
        import av.codec.context

        video = container.streams.video[0]
        video.codec_context.flags |= av.codec.context.Flags.low_delay
        video.codec_context.thread_count = 1
        self.name = name
        self.size: Size = (video.codec_context.height, video.codec_context.width)
        rate = video.average_rate or video.guessed_rate
        self.fps = float(rate) if rate and 0 < rate <= 1000 else DEFAULT_FPS
        self._container, self._clock, self._index = container, clock, -1
        # FFmpeg finds the end of such a picture by the beginning of the next one, so it gives each a picture late.
        self._one_late = container.format.name == "rtsp" and video.codec_context.name in _PARSED
        self.stamp = "its first packet arrived" if self._one_late else "its packet arrived"
        self._arrived: dict[int | None, float] = {}  # presentation time of a packet: when it came
        self._frames = self._decoded()

    def read(self) -> Frame:
        import av

        try:
            frame: Frame | None = next(self._frames, None)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self.name} was lost ({first_line(error)}).") from error
        if frame is None:
            raise SourceError(f"{self.name} was lost: it ended.")
        return frame

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def _decoded(self) -> Generator[Frame, None, None]:
        before = self._clock()
        for packet in self._container.demux(video=0):
            now = self._clock()
            self._arrived[packet.pts] = before if self._one_late else now
            before = now
            for picture in packet.decode():
                image = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
                self._index += 1
                captured = self._arrived.pop(picture.pts, None)
                yield Frame(image, self._clock() if captured is None else captured, self._index)
            while len(self._arrived) > _MAX_WAITING:
                self._arrived.pop(next(iter(self._arrived)))


def open_stream(url: str, name: str, *, clock: Clock = time.monotonic) -> AvSource | None:
    """Connect to a stream; None where it turns out to be a file on a server, which has an end.

    Raises SourceError, which tells a wrong password from a wrong address.
    """
    import av

    try:
        container = av.open(url, options=_LOW_DELAY, timeout=(OPEN_TIMEOUT, READ_TIMEOUT))
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError):
        raise SourceError(
            f"{name} refuses the name or password; put them into the address, …://NAME:PASSWORD@…"
        ) from None
    except av.error.HTTPNotFoundError:
        raise SourceError(f"{name} is not on that server, which answers; check what comes after its name.") from None
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(
            f"{name} does not answer with a video ({first_line(error)}); check the address and that it is sending."
        ) from None
    if not container.streams.video or container.duration is not None:
        container.close()
        return None
    return AvSource(name, container, clock)


def open_screen(*, fps: float, clock: Clock = time.monotonic) -> AvSource:
    """What is on the screen. Raises SourceError where there is none, or no X server behind it."""
    if not has_av():
        raise SourceError("The source screen needs PyAV; add it with `pip install 'cyclegan-edge[video]'`.")
    import av

    display = os.environ.get("DISPLAY")
    if sys.platform != "linux" or not display:
        raise SourceError("There is no screen to read here (DISPLAY is not set); start from a desktop session under X.")
    try:
        container = av.open(display, format="x11grab", options={"framerate": f"{fps:g}", "draw_mouse": "0"})
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(
            f"The screen {display} cannot be read ({first_line(error)}); use a session under X."
        ) from error
    return AvSource("screen", container, clock)
