"""One browser, over one WebSocket: pictures and numbers to it, acknowledgements, settings and camera pictures from it.

    to the browser     text    {"about": …}, {"pong": …, "now": …}, {"error": …}; each 0.5 s {"state": …, "stats": …}
                       binary  a header, then a JPEG: the translation, or with `both` input and translation side by side
    from the browser   text    {"ack": number, "age": ms}, {"ping": ms}, {"set": [name, value]}, {"both": bool}
                       binary  uint32 tag, then a JPEG from its camera

One picture is on its way at a time: the next is sent when the browser says that it shows the one before, and then it is
the newest. How long that took decides size and quality of the next: a slow link gets smaller pictures, not older ones.
"""

import asyncio
import contextlib
import json
import struct
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2

from cyclegan_edge.errors import CycleGanEdgeError
from cyclegan_edge.video.frames import BgrPicture, Rendered
from cyclegan_edge.video.overlay import side_by_side
from cyclegan_edge.web.camera import BrowserSource

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

HEADER = struct.Struct("<IIBd")  # number of the picture, tag of the camera picture + 1 or 0, both, captured (s)
TAG = struct.Struct("<I")

LEVELS = (  # scale and JPEG quality, the best first
    *((1.0, 85), (1.0, 70), (1.0, 50), (0.75, 55), (0.5, 60), (0.5, 40), (0.35, 40), (0.25, 40), (0.18, 40)),
)
FIRST_LEVEL = 4
LATE, SOON = 0.12, 0.06  # s until a picture is acknowledged: worse pictures above, better ones below
PATIENCE, LONGEST_PATIENCE = 5, 320  # acknowledgements in a row that were soon, until a better one is tried

_NUMBERS = 0.5  # s between two messages with numbers; the page takes a longer silence for a lost connection
_UNANSWERED = 10.0  # s until a browser that acknowledges nothing is given up
_MOST_SETTINGS = 20  # changes a second that one browser may ask for


class LinkQuality:
    """Which of LEVELS a link carries, from how soon pictures are acknowledged."""

    def __init__(self) -> None:
        self.level = FIRST_LEVEL
        self._soon, self._patience = 0, PATIENCE

    def acknowledged(self, seconds: float) -> None:
        if seconds > LATE:
            self._soon = 0
            if self.level < len(LEVELS) - 1:
                self.level += 1
                self._patience = min(2 * self._patience, LONGEST_PATIENCE)  # not back up at once
        elif seconds < SOON:
            self._soon += 1
            if self._soon >= self._patience and self.level > 0:
                self.level -= 1
                self._soon = 0
        else:
            self._soon = 0


class Encoded(NamedTuple):
    """A picture at one quality, for all who watch at that quality."""

    number: int
    level: int
    both: bool
    jpeg: bytes


def encode(rendered: Rendered, level: int, both: bool) -> bytes:
    """The picture as the page shows it."""
    scale, quality = LEVELS[level]
    picture: BgrPicture = rendered.translated
    if both:
        picture = side_by_side(rendered.frame.image, picture)
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Controls(Protocol):
    """What the page may change; `cyclegan_edge.video.session.Session` is one."""

    def state(self) -> dict[str, Any]: ...

    def set(self, name: str, value: object) -> None: ...

    def png(self) -> bytes | None: ...


class Watcher:
    """The server's end of one WebSocket."""

    def __init__(
        self,
        connection: "ServerConnection",
        *,
        newest: Callable[[int], Awaitable[tuple[int, Rendered]]],
        encoded: Callable[[int, Rendered, int, bool], Awaitable[bytes]],
        numbers: Callable[[], dict[str, Any]],
        about: dict[str, Any],
        controls: Controls | None,
        camera: BrowserSource | None,
    ) -> None:
        """`newest` waits for a picture after a number; `encoded` is `encode`, once for all who want the same."""
        self._connection, self._newest, self._encoded = connection, newest, encoded
        self._numbers, self._about, self._controls, self._camera = numbers, about, controls, camera
        self._quality = LinkQuality()
        self._both = False
        self._acknowledged = asyncio.Event()
        self._sent = 0
        self._settings = 0  # asked for since the last numbers
        self.age: float | None = None  # ms, of the picture that the browser showed last, as it measured it

    async def serve(self) -> None:
        """Until the browser goes."""
        from websockets.exceptions import ConnectionClosed

        tasks = [asyncio.create_task(work()) for work in (self._listen, self._send_pictures, self._send_numbers)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(ConnectionClosed, TimeoutError, asyncio.TimeoutError):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._camera is not None:
                self._camera.release(self)

    async def _send_pictures(self) -> None:
        number = 0
        while True:
            number, rendered = await self._newest(number)
            both, frame = self._both, rendered.frame
            jpeg = await self._encoded(number, rendered, self._quality.level, both)
            tag = 0 if frame.tag is None else frame.tag + 1
            self._acknowledged.clear()
            self._sent = number
            began = time.monotonic()
            await self._connection.send(HEADER.pack(number % (1 << 32), tag, both, frame.captured) + jpeg)
            await asyncio.wait_for(self._acknowledged.wait(), _UNANSWERED)
            self._quality.acknowledged(time.monotonic() - began)

    async def _send_numbers(self) -> None:
        await self._connection.send(json.dumps({"about": self._about}))
        while True:
            state = self._controls.state() if self._controls else {}
            await self._connection.send(json.dumps({"stats": self._numbers(), "state": state}))
            self._settings = 0
            await asyncio.sleep(_NUMBERS)

    async def _listen(self) -> None:
        async for message in self._connection:
            if isinstance(message, bytes):
                self._take_camera_picture(message)
                continue
            try:
                content = json.loads(message)
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(content, dict):
                await self._answer(content)

    async def _answer(self, content: dict[str, Any]) -> None:
        match content:
            case {"ack": int(number), **rest}:
                if number == self._sent % (1 << 32):
                    self._acknowledged.set()
                    age = rest.get("age")
                    self.age = float(age) if isinstance(age, int | float) else None
            case {"ping": int() | float() as sent}:
                await self._connection.send(json.dumps({"pong": sent, "now": time.monotonic()}))
            case {"both": bool(both)}:
                self._both = both
            case {"set": [str(name), value]} if self._controls is not None and self._settings < _MOST_SETTINGS:
                self._settings += 1
                try:
                    await asyncio.to_thread(self._controls.set, name, value)
                except CycleGanEdgeError as error:
                    await self._connection.send(json.dumps({"error": str(error)}))

    def _take_camera_picture(self, message: bytes) -> None:
        if self._camera is not None and len(message) > TAG.size:
            (tag,) = TAG.unpack_from(message)
            self._camera.put(self, min(tag, (1 << 32) - 2), message[TAG.size :])
