"""A sink that is a web page.

    GET /                       page.html, with page.css and page.js
    GET /stream.mjpg            the newest picture, again and again
    GET /stats.json             rate, latency, drops and stages

The loop only leaves its newest picture; a thread of its own encodes it, once for all who watch, and sends each of them
the newest one whenever their connection has room. Whoever is slow skips pictures and slows nobody.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.frames import BgrPicture, Frame
from cyclegan_edge.video.timings import Recent

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LOOPBACK = "127.0.0.1"

_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site may embed the camera
}
_BOUNDARY = b"picture"
_QUALITY = 85  # JPEG, 0..100
_SEND_BUFFER = 1 << 17  # bytes on their way to one watcher: a few pictures, where Linux would queue seconds of them
_STOP = 3.0  # s to wait for the server at the end


@contextlib.contextmanager
def open_page(host: str, port: int, *, about: Mapping[str, str], stats: Callable[[], Recent]) -> Iterator["Page"]:
    """Serve a page at `host`:`port` (0: any free port) until the block ends.

    `about` is what the page says of the run (model, engine, device, source); `stats` is asked after each picture.
    Raises SinkError when the extra is missing or the address cannot be had.
    """
    check_web()
    page = Page(_listen(host, port), host, dict(about), stats)
    try:
        yield page
    finally:
        page.close()


def check_web() -> None:
    """Raise SinkError unless the packages of the extra are there."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise SinkError(f"The page needs {' and '.join(missing)}; add them with `pip install 'cyclegan-edge[web]'`.")


class Page:
    """The sink, made by `open_page`."""

    def __init__(self, listening: socket.socket, host: str, about: dict[str, str], stats: Callable[[], Recent]) -> None:
        import uvicorn

        self.url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        self._about, self._stats = about, stats
        self._shown: tuple[int, BgrPicture] | None = None  # number and picture; replaced whole, so no lock
        self._recent: Recent | None = None
        self._last = time.monotonic()
        self._encoded: tuple[int, bytes] = (0, b"")  # from here on, touched by the server's thread only
        self._encoding = asyncio.Lock()
        self._arrived = asyncio.Event()
        self._closed = False
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._application(host),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(listening,), name="web", daemon=True)
        self._thread.start()

    def show(self, picture: BgrPicture, frame: Frame) -> bool:
        """Leave the picture for whoever watches; it must not be written to afterwards. Raises SinkError."""
        if not self._thread.is_alive():
            raise SinkError(
                f"The server behind {self.url} has ended; start again, with another --port if it ends again."
            )
        self._shown = ((self._shown[0] if self._shown else 0) + 1, picture)
        self._recent, self._last = self._stats(), time.monotonic()
        self._loop.call_soon_threadsafe(self._wake)
        return True

    def close(self) -> None:
        self._closed = True
        self._server.should_exit = True
        with contextlib.suppress(RuntimeError):  # the server's loop has ended already
            self._loop.call_soon_threadsafe(self._wake)
        self._thread.join(_STOP)

    def _serve(self, listening: socket.socket) -> None:
        with listening, contextlib.closing(self._loop):
            self._loop.run_until_complete(self._server.serve([listening]))

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _application(self, host: str) -> "Starlette":
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route

        # On the loopback address the name must be ours, or a foreign site could point its own name at this machine.
        hosts = [LOOPBACK, "localhost"] if host in {LOOPBACK, "localhost"} else ["*"]
        return Starlette(
            routes=[
                *(Route(path, self._file) for path in _FILES),
                Route("/stream.mjpg", self._stream),
                Route("/stats.json", self._numbers),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        )

    async def _file(self, request: "Request") -> "Response":
        from starlette.responses import FileResponse

        return FileResponse(Path(__file__).with_name(_FILES[request.url.path]), headers=_HEADERS)

    async def _numbers(self, request: "Request") -> "Response":
        from starlette.responses import JSONResponse

        recent = self._recent
        content = {
            "about": self._about,
            "frames": recent.frames if recent else 0,
            "dropped": recent.dropped if recent else 0,
            "fps": recent.fps if recent else None,
            "median_ms": recent.median._asdict() if recent and recent.fps else None,
            "idle_s": time.monotonic() - self._last,  # since the last picture
        }
        return JSONResponse(content, headers=_HEADERS)

    async def _stream(self, request: "Request") -> "Response":
        from starlette.responses import StreamingResponse

        media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        return StreamingResponse(self._pictures(), media_type=media_type, headers=_HEADERS)

    async def _pictures(self) -> AsyncIterator[bytes]:
        """The parts of a stream; starlette asks for the next one when the connection has room for it."""
        sent = 0
        while not self._closed:
            if self._shown is None or self._shown[0] == sent:
                await self._arrived.wait()
                continue
            sent, jpeg = await self._newest()
            yield b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (_BOUNDARY, len(jpeg), jpeg)

    async def _newest(self) -> tuple[int, bytes]:
        """The newest picture, encoded by the first who asks for it."""
        async with self._encoding:
            shown = self._shown
            if shown is not None and shown[0] != self._encoded[0]:
                self._encoded = (shown[0], await asyncio.to_thread(_jpeg, shown[1]))
            return self._encoded


def _jpeg(picture: BgrPicture) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise SinkError(f"The page cannot be served at port {port}; ports go from 0 to 65535, try 8080.")
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SinkError(
            f"The page cannot be served at {host}:{port} ({error.strerror}); choose another with --port or --host."
        ) from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # each connection inherits it
    return listening
