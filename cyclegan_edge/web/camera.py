"""The camera of a browser as the source: a phone or laptop sends pictures to the page and sees them translated.

The page sends its next picture when it has shown the translation of the one before, so nothing queues on the way,
however slow the engine is. One browser at a time has the camera.
"""

import io
import threading
import time
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from cyclegan_edge.contract import Size
from cyclegan_edge.hearing import Hearing
from cyclegan_edge.video.frames import Clock, Frame
from cyclegan_edge.video.mailbox import Mailbox

MAX_BYTES = 1 << 21  # of one JPEG
MAX_SIDE = 1920  # px

_LOOK = 0.2  # s between two looks at whether the run has ended


class _Sent(NamedTuple):
    tag: int
    jpeg: bytes
    arrived: float


class BrowserSource:
    """The newest picture that a browser sent, as JPEG."""

    name = "a browser's camera"
    live = True
    length: int | None = None
    fps = 30.0
    stamp = "it arrived from the browser"

    SIZE: Size = (360, 640)

    def __init__(
        self, size: Size = SIZE, *, stopping: threading.Event | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.size = size  # what the page asks its camera for; it may give another
        self._clock, self._index = clock, -1
        self._mailbox: Mailbox[_Sent] = Mailbox()
        self._owner: object | None = None
        self._stopping = stopping or threading.Event()

    def put(self, sender: object, tag: int, jpeg: bytes) -> bool:
        """A picture from `sender`; False when another browser has the camera, or it is too large or no JPEG."""
        if self._owner not in (None, sender) or not _is_decodable(jpeg):
            return False
        self._owner = sender
        return self._mailbox.put(_Sent(tag, jpeg, self._clock()))

    def release(self, sender: object) -> None:
        """Let another browser have the camera."""
        if self._owner is sender:
            self._owner = None

    def read(self) -> Frame | None:
        while not (self._stopping.is_set() or self._mailbox.ended):
            sent = self._mailbox.take(_LOOK)
            if sent is None:
                continue
            with Hearing():  # what libjpeg has to say of it
                image = cv2.imdecode(np.frombuffer(sent.jpeg, np.uint8), cv2.IMREAD_COLOR)
            if image is not None:
                self._index += 1
                return Frame(np.asarray(image, np.uint8), sent.arrived, self._index, sent.tag)
        return None

    def close(self) -> None:
        self._mailbox.close(discard=True)

    def trouble(self) -> str | None:
        """Why no frames come."""
        return "no browser offers its camera; open the page and press Camera" if self._owner is None else None


def _is_decodable(jpeg: bytes) -> bool:
    """Whether the header promises a picture that can be decoded in little time and memory."""
    if len(jpeg) > MAX_BYTES or not jpeg.startswith(b"\xff\xd8\xff"):
        return False
    try:
        width, height = Image.open(io.BytesIO(jpeg), formats=["JPEG"]).size
    except Exception:  # a header that lies can raise anything there
        return False
    return bool(8 <= width <= MAX_SIDE and 8 <= height <= MAX_SIDE)
