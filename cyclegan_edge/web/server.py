"""A sink that is a web page.

    GET /                  the page; /?bare is the picture alone, for OBS
    GET /page.css, /page.js
    GET /stats.json        rate, latency, drops and stages
    GET /metrics           the same for Prometheus
    GET /snapshot.png      the newest picture, in full
    WebSocket /live        pictures and controls, see `watcher`

The pipeline only leaves its newest picture here; a thread of its own serves everyone who watches.
"""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cyclegan_edge.errors import SinkError
from cyclegan_edge.video.frames import Rendered
from cyclegan_edge.video.timings import Recent
from cyclegan_edge.web.access import COOKIE, AccessPolicy, ConnectionLimit, lan_address
from cyclegan_edge.web.camera import MAX_BYTES, BrowserSource
from cyclegan_edge.web.prometheus import prometheus
from cyclegan_edge.web.watcher import Controls, Encoded, Watcher, encode

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site may embed the camera
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable"}
_REFUSALS = {
    400: "This page answers to this machine's own names and addresses only.",
    401: "This page needs the link with the token that the command printed.",
    403: "Another site may not use this page.",
    404: "There is no such page here.",
    503: "There is no picture yet.",
}
_SEND_BUFFER = 1 << 16  # bytes on their way to one browser: a picture, where Linux would queue seconds of them
_HEADERS_WITHIN = 5.0  # s until a connection that has not sent its request is closed
_STOP = 3.0  # s to wait for the server at the end


@contextlib.contextmanager
def open_page(
    host: str,
    port: int,
    *,
    about: Mapping[str, Any],
    stats: Callable[[], Recent],
    controls: Controls | None = None,
    camera: BrowserSource | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator["Page"]:
    """Serve a page at `host`:`port` (0: any free port) until the block ends.

    `about` is what the page says of the run (model, engine, device, source); `stats` is asked twice a second;
    `certificate` is a PEM chain and its key, for https.

    Raises SinkError when the extra is missing, or the address or certificate cannot be had.
    """
    check_web()
    tls = _tls(*certificate) if certificate else None
    page = Page(_listen(host, port), host, tls, dict(about), stats, controls, camera)
    try:
        yield page
    finally:
        page.close()


def check_web() -> None:
    """Raise SinkError unless the packages of the extra are there."""
    missing = [name for name in ("websockets", "segno") if find_spec(name) is None]
    if missing:
        raise SinkError(f"The page needs {' and '.join(missing)}; add them with `pip install 'cyclegan-edge[web]'`.")


class Page:
    """The sink, made by `open_page`."""

    name = "the page"

    def __init__(
        self,
        listening: socket.socket,
        host: str,
        tls: ssl.SSLContext | None,
        about: dict[str, Any],
        stats: Callable[[], Recent],
        controls: Controls | None,
        camera: BrowserSource | None,
    ) -> None:
        self._access, self._connections = AccessPolicy(host), ConnectionLimit()
        shown = lan_address() if host in ("0.0.0.0", "::") else host
        address = f"{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}"
        self.url = f"{'https' if tls else 'http'}://{address}"
        self.link = f"{self.url}/?token={self._access.token}" if self._access.token else self.url
        self._about = {**about, "camera": camera is not None}
        self._stats, self._controls, self._camera = stats, controls, camera
        self._shown: tuple[int, Rendered] | None = None  # number and picture; replaced whole, so no lock
        self._last = time.monotonic()
        self._watchers: set[Watcher] = set()  # from here on, touched by the server's thread only
        self._encoded: dict[tuple[int, bool], asyncio.Task[Encoded]] = {}
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listening, tls), name="web", daemon=True)
        self._thread.start()

    def show(self, rendered: Rendered) -> bool:
        """Leave the picture for whoever watches. Raises SinkError."""
        if not self._thread.is_alive():
            raise SinkError(
                f"The server behind {self.url} has ended; start again, with another --port if it ends again."
            )
        if rendered.notice is None:  # the page itself says why there is nothing new
            self._shown = ((self._shown[0] if self._shown else 0) + 1, rendered)
            self._last = time.monotonic()
            self._loop.call_soon_threadsafe(self._wake)
        return True

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the server's loop has ended already
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_STOP)

    def numbers(self) -> dict[str, Any]:
        """What the page shows, and /stats.json gives."""
        recent = self._stats()
        ages = [watcher.age for watcher in list(self._watchers) if watcher.age is not None]
        return {
            "frames": recent.frames,
            "dropped": recent.dropped,
            "fps": recent.fps,
            "median_ms": recent.median._asdict() if recent.fps else None,
            "idle_s": time.monotonic() - self._last,  # since the last picture
            "watchers": len(self._watchers),
            "oldest_watcher_ms": max(ages, default=None),  # of the picture, as the browsers measured it
        }

    def _run(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve(listening, tls))

    async def _serve(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        from websockets.asyncio.server import serve

        quiet = logging.getLogger("cyclegan_edge.web")
        quiet.setLevel(logging.CRITICAL + 1)  # what a client does wrong is the client's to know
        async with serve(
            self._watch,
            sock=listening,
            ssl=tls,
            process_request=self._answer,
            create_connection=self._connections.factory(),
            open_timeout=_HEADERS_WITHIN,
            close_timeout=1,
            ping_interval=5,
            ping_timeout=10,
            max_size=MAX_BYTES + 4,
            max_queue=4,
            write_limit=_SEND_BUFFER,
            compression=None,  # pictures are compressed already
            server_header=None,
            logger=quiet,
        ):
            await self._ended.wait()
        for task in self._encoded.values():
            task.cancel()
        await asyncio.gather(*self._encoded.values(), return_exceptions=True)

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()
        self._encoded = {key: task for key, task in self._encoded.items() if not task.done()}

    async def _watch(self, connection: "ServerConnection") -> None:
        watcher = Watcher(
            connection,
            newest=self._newest,
            encoded=self._encode_once,
            numbers=self.numbers,
            about=self._about,
            controls=self._controls,
            camera=self._camera,
        )
        self._watchers.add(watcher)
        try:
            await watcher.serve()
        finally:
            self._watchers.discard(watcher)

    async def _newest(self, after: int) -> tuple[int, Rendered]:
        """The newest picture, waiting for one with a number above `after`."""
        while (shown := self._shown) is None or shown[0] <= after:
            await self._arrived.wait()
        return shown

    async def _encode_once(self, number: int, rendered: Rendered, level: int, both: bool) -> bytes:
        """The picture at this quality, encoded by the first who asks for it."""
        task = self._encoded.get((level, both))
        if task is None or (task.done() and task.result().number != number):
            task = asyncio.create_task(_encode(number, rendered, level, both))
            self._encoded[level, both] = task
        encoded = await asyncio.shield(task)
        return encoded.jpeg if encoded.number == number else (await _encode(number, rendered, level, both)).jpeg

    async def _answer(self, connection: "ServerConnection", request: "Request") -> "Response | None":
        """Answer a request; None lets a WebSocket open."""
        path = urlsplit(request.path).path
        if status := self._access.refusal(request):
            return _response(status, _REFUSALS[status].encode())
        if path == "/live":
            return None
        if path == "/" and self._access.brings_token(request):
            bare = "/?bare" if "bare" in urlsplit(request.path).query else "/"
            secure = "; Secure" if self.url.startswith("https") else ""
            cookie = f"{COOKIE}={self._access.token}; HttpOnly; SameSite=Strict; Path=/{secure}"
            return _response(303, b"", **{"Location": bare, "Set-Cookie": cookie})
        if path in _FILES:
            name, kind = _FILES[path]
            return _response(200, Path(__file__).with_name(name).read_bytes(), kind)
        if path == "/stats.json":
            content = {"about": self._about, **self.numbers()}
            return _response(200, json.dumps(content).encode(), "application/json")
        if path == "/metrics":
            return _response(200, prometheus(self.numbers()).encode(), "text/plain; version=0.0.4")
        if path == "/snapshot.png" and self._controls is not None:
            png = await asyncio.to_thread(self._controls.png)
            return _response(503, _REFUSALS[503].encode()) if png is None else _response(200, png, "image/png")
        return _response(404, _REFUSALS[404].encode())


async def _encode(number: int, rendered: Rendered, level: int, both: bool) -> Encoded:
    return Encoded(number, level, both, await asyncio.to_thread(encode, rendered, level, both))


def _response(status: int, body: bytes, kind: str = "text/plain; charset=utf-8", **more: str) -> "Response":
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    headers = {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **more}
    return Response(status, _REASONS.get(status, "OK" if status == 200 else "See Other"), Headers(headers), body)


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


def _tls(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(chain, key)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(
            f"{chain} and {key} cannot be used ({error.strerror or error}); give a PEM certificate and its key."
        ) from error
    return context
